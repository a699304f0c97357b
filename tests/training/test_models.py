"""Which stage of a fold predicts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment, Training
from salt_ray.training.models import fold_models, other_predictions, trained_stages


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path)


@pytest.fixture
def training(tiny: Experiment) -> Training:
    """Two stages, plateau and cosine."""
    return tiny.trainings[0]


def finish(run: RunDirectory, snapshots: tuple[str, ...] = (), **scores: float) -> None:
    for stage, score in scores.items():
        folder = run.stage("random", 0, stage)
        folder.mkdir(parents=True)
        marker = {"epochs": 5, "best_epoch": 3, "best_score": score}
        if stage in snapshots:
            marker["snapshots"] = [{"epoch": epoch, "score": score - epoch / 100} for epoch in (2, 4)]
        (folder / "done.json").write_text(json.dumps(marker))


def predict(run: RunDirectory, stage: str, snapshots: bool = False) -> None:
    folder = run.prediction("random", 0, stage, snapshots)
    folder.mkdir(parents=True)
    (folder / "inputs.json").write_text("{}")


def chosen(run: RunDirectory, training: Training, choice: str = "best") -> list[str]:
    return [model.stage for model in fold_models(run, training, 0, choice)]


@pytest.mark.parametrize(
    ("plateau", "cosine", "best"), [(0.6014, 0.5942, "plateau"), (0.5, 0.6, "cosine"), (0.5, 0.5, "plateau")]
)
def test_the_best_stage_predicts(
    plateau: float, cosine: float, best: str, run: RunDirectory, training: Training
) -> None:
    finish(run, plateau=plateau, cosine=cosine)
    assert chosen(run, training) == [best]
    assert chosen(run, training, "last") == ["cosine"]
    (model,) = fold_models(run, training, 0, "best")
    assert model.checkpoints == (run.stage("random", 0, best) / "best.pt",) and model.remark is None


def test_a_fold_has_no_model_before_its_last_stage_has_ended(run: RunDirectory, training: Training) -> None:
    assert chosen(run, training) == []
    finish(run, plateau=0.9)
    assert [stage.stage for stage in trained_stages(run, training, 0)] == ["plateau"]
    assert chosen(run, training) == []
    assert other_predictions(run, training, 0, "best") == []


def test_what_has_predicted_stays_until_it_is_asked_for_again(run: RunDirectory, training: Training) -> None:
    finish(run, plateau=0.7, cosine=0.6)
    predict(run, "cosine")
    assert chosen(run, training) == ["cosine"]
    (model,) = fold_models(run, training, 0, "best")
    assert "stage cosine (scored 0.6000 in epoch 3); best is plateau (scored 0.7000" in model.remark
    (model,) = fold_models(run, training, 0, "last")
    assert model.remark is None
    (folder,) = other_predictions(run, training, 0, "best")
    assert folder == run.prediction("random", 0, "cosine")
    (folder / "inputs.json").unlink()
    assert chosen(run, training) == ["plateau"]


def test_a_later_stage_that_does_better_takes_over(run: RunDirectory, training: Training) -> None:
    finish(run, plateau=0.5, cosine=0.6)
    predict(run, "plateau")
    assert chosen(run, training) == ["cosine"]


def test_the_snapshots_of_the_last_stage_that_keeps_some_are_one_model(run: RunDirectory, training: Training) -> None:
    finish(run, ("plateau", "cosine"), plateau=0.9, cosine=0.6)
    (model,) = fold_models(run, training, 0, "snapshots")
    stage = run.stage("random", 0, "cosine")
    assert model.checkpoints == (stage / "snapshot-00002.pt", stage / "snapshot-00004.pt")
    assert model.epochs == pytest.approx({2: 0.58, 4: 0.56}) and model.score == pytest.approx(0.57)
    assert model.text == "cosine (scored 0.5700 in snapshots of epochs 2, 4)" and model.remark is None
    assert model.predictions(run) != run.prediction("random", 0, "cosine")
    assert chosen(run, training) == ["plateau"] and chosen(run, training, "last") == ["cosine"]


def test_a_training_that_keeps_no_snapshots_predicts_with_its_best(run: RunDirectory, training: Training) -> None:
    finish(run, plateau=0.9, cosine=0.6)
    assert fold_models(run, training, 0, "snapshots") == fold_models(run, training, 0, "best")


def test_who_asks_for_snapshots_gets_them_and_who_asks_for_others_does_not(
    run: RunDirectory, training: Training
) -> None:
    finish(run, ("cosine",), plateau=0.5, cosine=0.6)
    predict(run, "cosine", snapshots=True)
    (best,), (snapshots,) = (fold_models(run, training, 0, choice) for choice in ("best", "snapshots"))
    assert (best.stage, best.of_snapshots, snapshots.of_snapshots) == ("cosine", False, True)
    assert other_predictions(run, training, 0, "snapshots") == []
    assert other_predictions(run, training, 0, "best") == [snapshots.predictions(run)]
    predict(run, "cosine")
    assert fold_models(run, training, 0, "snapshots") == [snapshots]
    assert other_predictions(run, training, 0, "snapshots") == [best.predictions(run)]
