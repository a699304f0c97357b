"""A run whose folds predict with the mean of their snapshots: every command speaks of the same models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Cosine, Experiment
from salt_ray.experiment_file import override
from salt_ray.inference.ensemble import ModelPrediction
from salt_ray.inference.predict import Model
from salt_ray.pipeline import steps
from salt_ray.pipeline.application import apply
from salt_ray.pipeline.local import LocalEngine
from salt_ray.pipeline.run import Run
from salt_ray.pipeline.trained import load_run
from salt_ray.report.status import run_status
from salt_ray.report.terminal import Terminal
from salt_ray.survey.synthetic import write_survey

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def experiment(tiny: Experiment) -> Experiment:
    (training,) = tiny.trainings
    plateau, cosine = training.stages
    kept = cosine.replace(schedule=Cosine(epochs_per_cycle=1, snapshots=2))
    training = training.replace(stages=(plateau.replace(epochs=1), kept))
    return override(tiny.replace(trainings=(training,)), ["prediction.models=snapshots", "postprocessing.rules=none"])


@pytest.fixture(scope="module")
def run(
    experiment: Experiment, survey: Path, one_thread: None, own_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    run = Run(experiment, survey, RunDirectory(tmp_path_factory.mktemp("run")), Terminal(quiet=True))
    steps.pipeline(run, LocalEngine())
    return run


def networks(run: Run, fold: int) -> list[Path]:
    return [run.directory.stage("random", fold, "cosine") / f"snapshot-{epoch:05d}.pt" for epoch in (1, 2)]


def predicted(run: Run) -> set[str]:
    return {path.parent.name for path in (run.directory.path / "predictions").rglob("done.json")}


def test_what_is_stored_for_a_fold_is_the_mean_of_its_snapshots(run: Run) -> None:
    assert predicted(run) == {"cosine~snapshots"}
    for (_, fold), stored in run.predictions.items():
        images = run.prepared.images[stored.tiles[:8]]
        each = [
            Model(run.experiment, [path], run.prepared.frame, torch.device("cpu")).predict(images)
            for path in networks(run, fold)
        ]
        records = stored.records[stored.rows[:8]]
        assert abs(each[0].salt - each[1].salt).max() > 1e-3
        for name, found in (("masks", records["mask"]), ("salt", records["salt"])):
            mean = np.mean([getattr(one, name) for one in each], axis=0, dtype=np.float64)
            np.testing.assert_allclose(found, mean, atol=2e-3)


def test_status_report_and_table_name_them(run: Run) -> None:
    details = {step.name: (step.state, step.detail) for step in run_status(run.directory).steps}
    assert details["predict random-fold-1"][0] == "done"
    assert details["predict random-fold-1"][1].endswith("with stage cosine, snapshots")
    assert "cosine, snapshots of epochs 1, 2" in run.directory.report.read_text()
    table = load_run(run.directory.path).model_table()
    assert table["checkpoint"].tolist() == [str(path) for fold in (0, 1) for path in networks(run, fold)]
    assert table["epoch"].tolist() == [1, 2, 1, 2]


def test_the_predictor_and_apply_take_them_too(run: Run, tmp_path: Path) -> None:
    trained = load_run(run.directory.path)
    tiles = run.prepared.unlabelled[~run.prepared.survey.constant[run.prepared.unlabelled]][:5]
    found = trained.predict(run.prepared.survey.images[tiles])
    stored = [model.records[model.find(tiles)[1]] for model in run.predictions.values()]
    np.testing.assert_allclose(found.probabilities, np.mean([each["mask"] for each in stored], axis=0), atol=2e-3)
    np.testing.assert_allclose(found.salt_spread, np.std([each["salt"] for each in stored], axis=0), atol=1e-4)
    write_survey(tmp_path / "other", 40, seed=4, tile_px=33)
    to = RunDirectory(tmp_path / "to")
    apply(trained, tmp_path / "other", to, LocalEngine(), Terminal(quiet=True))
    assert ModelPrediction.load(to.prediction("random", 1, "cosine", snapshots=True)).tiles.size
    assert not to.prediction("random", 1, "cosine").exists()


def test_another_choice_predicts_beside_them_and_again_leaves_one(run: Run, survey: Path) -> None:
    before = {path: path.read_bytes() for path in (run.directory.path / "predictions").rglob("*.*")}
    others = Run(override(run.experiment, ["prediction.models=last"]), survey, run.directory, Terminal(quiet=True))
    steps.predict(others, LocalEngine())
    assert predicted(run) == {"cosine", "cosine~snapshots"}
    assert (
        before.items()
        <= {path: path.read_bytes() for path in (run.directory.path / "predictions").rglob("*.*")}.items()
    )
    steps.predict_again(run)
    assert predicted(run) == {"cosine~snapshots"}
    steps.predict(run, None)  # no engine: nothing is predicted again
