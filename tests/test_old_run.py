"""A run of an earlier version: it still scores, submits, reports, applies and resumes.

``old_run/40f033d.tar.xz`` holds what that commit wrote for a made survey of 60 tiles: a finished run and one that was
killed in the last stage of its last fold, both of the network below; without pictures and spare checkpoints.
"""

from __future__ import annotations

import itertools
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment
from salt_ray.decision import ARGUS
from salt_ray.errors import RunError
from salt_ray.experiment_file import load_experiment, override
from salt_ray.inference.ensemble import ModelPrediction
from salt_ray.inference.predict import Model
from salt_ray.model.encoder import timm
from salt_ray.pipeline import steps
from salt_ray.pipeline.application import prepare_for
from salt_ray.pipeline.run import Run
from salt_ray.pipeline.trained import TrainedRun
from salt_ray.report.status import run_status
from salt_ray.report.terminal import Terminal
from salt_ray.section import RemovedField
from salt_ray.survey.synthetic import write_survey
from salt_ray.training.checkpoint import read_checkpoint
from salt_ray.training.loop import train_fold
from salt_ray.training.models import fold_models, trained_stages
from salt_ray.training.times import read_times, training_seconds

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::salt_ray.section.RemovedField"),
]

ARCHIVE = Path(__file__).parent / "old_run" / "40f033d.tar.xz"
NOTHING_TO_DO = None  # in place of an engine, which would fail
CPU = torch.device("cpu")


class SmallEncoder(nn.Module):
    """Five maps of few channels, so that the archive is small."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 4, 4, 4, 4, 8)
        convolutions = (nn.Conv2d(i, o, 3, 2, 1) for i, o in itertools.pairwise(widths))
        self.stages = nn.ModuleList(nn.Sequential(each, nn.ReLU()) for each in convolutions)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            images = stage(images)
            maps.append(images)
        return maps


@timm.models.register_model
def salt_ray_small(pretrained: bool = False, features_only: bool = False, **others: object) -> nn.Module:
    return SmallEncoder()


@pytest.fixture
def old(tmp_path: Path, own_cache: Path) -> Path:
    """The unpacked archive: survey, finished, interrupted."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def opened(old: Path, name: str, *changes: str) -> Run:
    run = RunDirectory(old / name)
    experiment = override(load_experiment(run.experiment), changes)
    return Run(experiment, old / "survey", run, Terminal())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def finished(old: Path) -> Run:
    return opened(old, "finished")


def test_a_finished_run_scores_submits_and_reports_as_before(finished: Run, capfd: pytest.CaptureFixture) -> None:
    run = finished.directory.path
    before, results = contents(run), ("scores.json", "submission.csv", "masks.zip", "experiment.json")
    for name in results[:-1]:
        (run / name).unlink()
    steps.prepare(finished)
    steps.predict(
        finished, NOTHING_TO_DO
    )  # nothing is predicted again, although the first stage of both folds is as good
    steps.submit(finished)
    steps.score(finished)
    steps.report(finished)
    after = contents(run)
    old, new = (json.loads(files["scores.json"]) for files in (before, after))
    assert old == new
    for name in before.keys() - results:
        assert after[name] == before[name], name
    for name in ("submission.csv", "masks.zip"):
        assert after[name] == before[name], name
    said = capfd.readouterr().out
    assert "has predicted with" not in said  # its first stage is no better
    assert "2 of 2 models have already predicted" in said
    page = (run / "report.html").read_text()
    assert ARGUS.text in page and "mask threshold 0.28, salt threshold 0.3, with flip" in page
    assert page.count("<td>not known</td>") == 2  # how long its folds trained: it kept no times


def test_its_status_is_that_of_a_finished_run(finished: Run) -> None:
    states = {step.name: step.state for step in run_status(finished.directory).steps}
    assert states.pop("report") == "waiting"  # the archive has none
    assert set(states.values()) == {"done"}


def test_asked_to_it_predicts_with_the_best_stage(finished: Run) -> None:
    steps.predict_again(finished)
    training = finished.experiment.trainings[0]
    for fold in range(2):
        assert [model.stage for model in fold_models(finished.directory, training, fold, "best")] == ["plateau"]
        assert not finished.directory.prediction("random", fold, "cosine").exists()


def test_its_models_predict_what_they_did(finished: Run) -> None:
    stored = ModelPrediction.load(finished.directory.prediction("random", 1, "cosine"))
    (model,) = fold_models(finished.directory, finished.experiment.trainings[0], 1, "last")
    padded = finished.prepared.images[stored.tiles[:4]]
    found = Model(finished.experiment, model.checkpoints, finished.prepared.frame, CPU).predict(padded)
    records = stored.records[stored.rows[:4]]
    assert np.allclose(found.masks, records["mask"], atol=2e-3)
    assert np.allclose(found.salt, records["salt"], atol=1e-4)


def test_its_models_can_be_applied(old: Path) -> None:
    write_survey(old / "other", 40, seed=2, tile_px=33)
    run = RunDirectory(old / "finished")
    experiment = load_experiment(run.experiment)
    prepare_for(TrainedRun(run, experiment), old / "other", Terminal())
    wider = override(experiment, ["network.decoder.dropout=0.5"])
    with pytest.raises(RunError, match=r"network\.decoder\.dropout: 0\.2 before, 0\.5 now"):
        TrainedRun(run, wider)


def test_thresholds_change_predictions_and_nothing_else(old: Path, capfd: pytest.CaptureFixture) -> None:
    before = json.loads((old / "finished" / "scores.json").read_text())["test"]
    changed = opened(old, "finished", "prediction.mask_threshold=0.5", "postprocessing.rules=none")
    steps.prepare(changed)
    steps.train(changed, NOTHING_TO_DO)
    steps.predict(changed, NOTHING_TO_DO)
    assert steps.score(changed)["test"] > before
    said = " ".join(capfd.readouterr().out.split())
    assert "2 of 2 folds are already trained" in said and "2 of 2 models have already predicted" in said
    assert f"as when the run began: {ARGUS.text}; predictions: mask threshold 0.5," in said
    changed = opened(old, "finished", "prediction.mask_threshold=0.5", "postprocessing.rules=evidence")
    with pytest.raises(RunError, match=r"not post-processed with these settings \(.*mask_threshold: 0\.28 before"):
        steps.submit(changed)
    changed = opened(old, "finished", "prediction.flip=false")
    with pytest.raises(RunError, match=r"random-fold-0 has not predicted with these settings \(flip: True before"):
        steps.submit(changed)


def test_other_trainings_are_still_refused(old: Path) -> None:
    changed = opened(old, "finished", "trainings.all.stages.cosine.lr=0.1")
    with pytest.raises(RunError, match=r"stages\.1\.lr: 0\.6 before, 0\.1 now"):
        steps.prepare(changed)


def test_an_interrupted_run_ends_as_it_would_have(old: Path) -> None:
    run = opened(old, "interrupted")
    steps.prepare(run)
    assert run.validation == ARGUS
    train_fold(run.tasks[1], run.prepared.training_tiles(run.experiment), run.directory, CPU)
    here, there = (old / name / "trainings" / "random" / "fold-1" / "cosine" for name in ("interrupted", "finished"))
    for name in ("done.json", "history.csv"):
        assert (here / name).read_bytes() == (there / name).read_bytes(), name
    ours, theirs = (read_checkpoint(folder / "best.pt")["network"] for folder in (here, there))
    assert all(torch.allclose(ours[name], theirs[name], rtol=1e-3, atol=1e-5) for name in theirs)
    assert read_times(here)["epoch"].iloc[-1] == json.loads((here / "done.json").read_text())["epochs"]
    assert training_seconds(trained_stages(run.directory, run.experiment.trainings[0], 1)) is None


def test_its_experiment_is_read_and_a_line_names_the_fields_that_have_gone(old: Path) -> None:
    with pytest.warns(RemovedField, match=r"postprocessing\.repeats no longer has any effect: every label"):
        assert isinstance(load_experiment(old / "finished" / "experiment.json"), Experiment)
