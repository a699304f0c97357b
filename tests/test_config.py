"""Experiments: their numbers, and what they refuse."""

from pathlib import Path

import pytest

from salt_ray.config import Experiment
from salt_ray.experiment_file import load_experiment, override
from salt_ray.object_store import ObjectPath
from salt_ray.section import ExperimentError


@pytest.fixture
def demo() -> Experiment:
    return load_experiment(Path(__file__).parents[1] / "experiments" / "demo.py")


def test_the_seeds_numbers() -> None:
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


def test_a_stage_that_learns_nothing_is_refused(demo: Experiment) -> None:
    stage = "trainings.0.stages.0"
    with pytest.raises(ExperimentError, match="no mask would be learnt"):
        override(demo, [f"{stage}.lovasz_weight=0", f"{stage}.pixel_bce_weight=0"])


def test_a_checkpoint_for_folds_may_lie_in_an_object_store(demo: Experiment) -> None:
    folds = "trainings.0.folds"
    for path in (ObjectPath("s3://bucket/a/best.pt"), Path("a/best.pt")):
        text = str(path)
        experiment = override(demo, [f"{folds}.kind=mosaic", f"{folds}.checkpoint={text}"])
        again = Experiment.model_validate_json(experiment.model_dump_json())
        assert again == experiment == override(experiment, ["seed=0"])
        assert again.trainings[0].folds.checkpoint == path
        assert experiment.model_dump(mode="json")["trainings"][0]["folds"]["checkpoint"] == text
    with pytest.raises(ExperimentError, match=r"folds\.checkpoint = 's3://': .* write s3://BUCKET/PREFIX"):
        override(demo, [f"{folds}.kind=mosaic", f"{folds}.checkpoint=s3://"])
    with pytest.raises(ExperimentError, match=r"folds\.checkpoint = 3: input should be a path"):
        override(demo, [f"{folds}.kind=mosaic", f"{folds}.checkpoint=3"])


def test_experiments_cannot_be_changed_in_place(demo: Experiment) -> None:
    with pytest.raises(ValueError, match="frozen"):
        demo.seed = 3


def test_snapshots_are_the_last_ends_of_whole_cycles() -> None:
    stage = load_experiment(Path(__file__).parents[1] / "experiments" / "argus.py").trainings[0].stages[1]
    cosine = stage.schedule
    assert (stage.epochs, cosine.epochs_per_cycle, list(stage.snapshot_epochs)) == (300, 50, [])
    assert list(stage.replace(schedule=cosine.replace(snapshots=3)).snapshot_epochs) == [200, 250, 300]
    uneven = stage.replace(epochs=320, schedule=cosine.replace(snapshots=6))
    assert list(uneven.snapshot_epochs) == [50, 100, 150, 200, 250, 300]
    with pytest.raises(ExperimentError, match=r"schedule\.snapshots = 7, but epochs = 320 hold 6 whole cycles of 50"):
        uneven.replace(schedule=cosine.replace(snapshots=7))
    with pytest.raises(ExperimentError, match="needs the ends of cycles: leave early_stopping out"):
        uneven.replace(early_stopping=100)


def test_what_an_experiment_names_and_does_not_have_is_refused_with_one_sentence(demo: Experiment) -> None:
    with pytest.raises(ExperimentError, match=r"^prediction\.models is 'snapshots', and no stage keeps any: set sched"):
        override(demo, ["prediction.models=snapshots"])
    weight = "trainings.0.stages.1.auxiliary_weight=0.5"
    with pytest.raises(ExperimentError, match=r"^auxiliary_weight of \w+ weighs heads that the network lacks: set net"):
        override(demo, [weight])
    assert override(demo, [weight, "network.auxiliary_heads=true"]).network.auxiliary_heads
