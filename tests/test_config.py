"""Experiments: their numbers, and what they refuse."""

from pathlib import Path

import pytest

from salt_ray.config import Cosine, Experiment, HoldoutShare, Plateau, PseudoLabels
from salt_ray.experiment_file import load_experiment, override
from salt_ray.object_store import ObjectPath
from salt_ray.section import ExperimentError


@pytest.fixture
def small() -> Experiment:
    return load_experiment(Path(__file__).parents[1] / "experiments" / "from_scratch.py")


def test_the_numbers_of_the_argus_baseline() -> None:
    experiment = load_experiment(Path(__file__).parents[1] / "experiments" / "argus.py")
    (training,) = [t for t in experiment.trainings if t.name == "random"]
    plateau, cosine = training.stages
    assert training.folds.count == 5
    assert (plateau.lr, plateau.batch_size, plateau.epochs, plateau.early_stopping) == (0.01, 24, 700, 100)
    assert (plateau.lovasz_weight, plateau.bce_weight) == (0.75, 0.25)
    assert (plateau.schedule.patience, plateau.schedule.factor, plateau.schedule.min_lr) == (30, 0.64, 1e-8)
    assert (plateau.optimizer.momentum, plateau.optimizer.weight_decay) == (0.9, 1e-4)
    assert (cosine.lr, cosine.batch_size, cosine.epochs) == (0.005, 16, 300)
    assert (cosine.schedule.epochs_per_cycle, cosine.schedule.min_lr) == (50, 0.0005)
    assert (cosine.lovasz_weight, cosine.bce_weight) == (0.5, 0.5)
    assert (experiment.prediction.mask_threshold, experiment.prediction.salt_threshold) == (0.4, 0.5)
    assert experiment.network.encoder == "seresnext50_32x4d"


def test_a_stage_that_learns_nothing_is_refused(small: Experiment) -> None:
    stage = "trainings.0.stages.0"
    with pytest.raises(ExperimentError, match="no mask would be learnt"):
        override(small, [f"{stage}.lovasz_weight=0", f"{stage}.pixel_bce_weight=0"])


PSEUDO = "trainings.0.stages.1.pseudo_labels={}"


def test_pseudo_labels_are_refused_where_the_labels_of_their_fold_would_choose_the_network(small: Experiment) -> None:
    """The message names all settings that have to change; with these it is allowed."""
    first, second, *others = small.trainings[0].stages
    assert first.early_stopping is None
    stages = [first.replace(schedule=Plateau(), early_stopping=5), second.replace(schedule=Plateau()), *others]
    small = small.replace(trainings=(small.trainings[0].replace(stages=tuple(stages)),))
    with pytest.raises(ExperimentError, match=r"validation labels would help to choose") as caught:
        override(small, [PSEUDO])
    _, _, remedies = str(caught.value).partition("pseudo_labels: set ")
    assert remedies.split(", ") == [
        f"{second.name}.begins=last", f"{first.name}.schedule.kind=cosine", f"{first.name}.early_stopping=null"
    ]  # fmt: skip
    settings = [f"trainings.all.stages.{remedy}" for remedy in remedies.split(", ")]
    allowed = override(small, [*settings, PSEUDO])
    assert allowed.has_pseudo_labels and not small.has_pseudo_labels
    assert allowed.trainings[0].stages[1].pseudo_labels == PseudoLabels()
    assert allowed.trainings[0].stages[1].schedule == Plateau()  # what comes after the labels may follow scores
    for setting in settings:
        with pytest.raises(ExperimentError, match=setting.removeprefix("trainings.all.stages.")):
            override(small, [*(other for other in settings if other != setting), PSEUDO])


def test_pseudo_labels_need_a_stage_before_and_a_rule_for_full_tiles(small: Experiment) -> None:
    with pytest.raises(ExperimentError, match="is the first stage: pseudo_labels need a network"):
        override(small, ["trainings.0.stages.0.pseudo_labels={}"])
    (training,) = small.trainings
    first, second, *_ = training.stages
    stages = first.replace(schedule=Cosine()), second.replace(begins="last", pseudo_labels=PseudoLabels())
    experiment = small.replace(trainings=(training.replace(stages=stages),))
    with pytest.raises(ExperimentError, match=r"pseudo_labels need labels\.full_tiles=empty \(as in TGS\) or"):
        override(experiment, ["labels.full_tiles=null"])


def test_a_checkpoint_for_folds_may_lie_in_an_object_store(small: Experiment) -> None:
    folds = "trainings.0.folds"
    for path in (ObjectPath("s3://bucket/a/best.pt"), Path("a/best.pt")):
        text = str(path)
        experiment = override(small, [f"{folds}.kind=mosaic", f"{folds}.checkpoint={text}"])
        again = Experiment.model_validate_json(experiment.model_dump_json())
        assert again == experiment == override(experiment, ["seed=0"])
        assert again.trainings[0].folds.checkpoint == path
        assert experiment.model_dump(mode="json")["trainings"][0]["folds"]["checkpoint"] == text
    with pytest.raises(ExperimentError, match=r"folds\.checkpoint = 's3://': .* write s3://BUCKET/PREFIX"):
        override(small, [f"{folds}.kind=mosaic", f"{folds}.checkpoint=s3://"])
    with pytest.raises(ExperimentError, match=r"folds\.checkpoint = 3: input should be a path"):
        override(small, [f"{folds}.kind=mosaic", f"{folds}.checkpoint=3"])


@pytest.mark.parametrize(
    ("text", "holdout"),
    [
        ("mosaic:0.1", HoldoutShare("mosaic", 0.1)),
        ("section:0.250", HoldoutShare("section", 0.25)),
        ("ids.csv", Path("ids.csv")),
        ("mosaic", Path("mosaic")),
        ("s3://bucket/ids.csv", ObjectPath("s3://bucket/ids.csv")),
    ],
)
def test_a_hold_out_is_a_share_or_a_path(small: Experiment, text: str, holdout: object) -> None:
    experiment = override(small, [f"holdout={text}", "holdout_seed=3"])
    again = Experiment.model_validate_json(experiment.model_dump_json())
    assert again == experiment == override(experiment, ["seed=0"]) == experiment.replace(seed=0)
    assert again.holdout == holdout == small.replace(holdout=holdout).holdout
    assert again.model_dump(mode="json")["holdout"] == str(holdout)


def test_experiments_cannot_be_changed_in_place(small: Experiment) -> None:
    with pytest.raises(ValueError, match="frozen"):
        small.seed = 3


def test_snapshots_are_the_last_ends_of_whole_cycles() -> None:
    stage = load_experiment(Path(__file__).parents[1] / "experiments" / "argus.py").trainings[0].stages[1]
    cosine = stage.schedule
    assert (stage.epochs, cosine.epochs_per_cycle, list(stage.snapshot_epochs)) == (300, 50, [])
    assert list(stage.replace(schedule=cosine.replace(snapshots=3)).snapshot_epochs) == [200, 250, 300]
    uneven = stage.replace(epochs=320, schedule=cosine.replace(snapshots=6))
    assert list(uneven.snapshot_epochs) == [50, 100, 150, 200, 250, 300]
    with pytest.raises(ExperimentError, match=r"schedule\.snapshots = 7, but epochs = 320 have only 6 full cycles"):
        uneven.replace(schedule=cosine.replace(snapshots=7))
    with pytest.raises(ExperimentError, match="needs the ends of cycles: unset early_stopping"):
        uneven.replace(early_stopping=100)


def test_what_an_experiment_names_and_does_not_have_is_refused_with_one_sentence(small: Experiment) -> None:
    with pytest.raises(ExperimentError, match=r"^prediction\.models is 'snapshots', but no stage saves any: set sched"):
        override(small, ["prediction.models=snapshots"])
    weight = "trainings.0.stages.1.auxiliary_weight=0.5"
    with pytest.raises(ExperimentError, match=r"^\w+ has an auxiliary_weight, but .* no auxiliary heads: set net"):
        override(small, [weight])
    assert override(small, [weight, "network.auxiliary_heads=true"]).network.auxiliary_heads
