"""A run whose thresholds the labels choose: after all predictions, before the rules, and for all that comes later."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from road import results

import salt_ray
from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment, Folds
from salt_ray.decision import Decision, FoldDecisions
from salt_ray.errors import RunError
from salt_ray.inference.probabilities import Probabilities
from salt_ray.inference.scores import survey_masks
from salt_ray.inference.stored import StoredPrediction, as_records
from salt_ray.mosaic.table import MosaicTable
from salt_ray.pipeline import steps
from salt_ray.pipeline.application import apply
from salt_ray.pipeline.local import LocalEngine, LocalTasks
from salt_ray.pipeline.run import Run
from salt_ray.report.status import run_status
from salt_ray.report.terminal import Terminal
from salt_ray.storage import save_array
from salt_ray.survey.synthetic import write_survey
from salt_ray.survey.tiles import load_survey
from salt_ray.training.models import fold_models

pytestmark = pytest.mark.usefixtures("one_thread")
CHOSEN, GIVEN = "prediction.thresholds=chosen", "prediction.thresholds=given"


def opened(survey: Path, path: Path, *settings: str) -> Run:
    experiment = salt_ray.load_experiment(path / "experiment.json", settings)
    return Run(experiment, survey, RunDirectory(path), Terminal())


@pytest.fixture
def path(undisturbed: Path, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    return Path(shutil.copytree(undisturbed, tmp_path / "run"))


@pytest.fixture
def timid(survey: Path, path: Path) -> Path:
    """The run with mosaics of three tiles, whose models know the labels and are not sure: 0.3 is salt, 0.1 is none."""
    run = opened(survey, path)
    prepared = run.prepared
    varied = prepared.survey.ids[~prepared.survey.constant]
    place = np.arange(len(varied) // 3 * 3)
    table = MosaicTable(varied[place], place // 3, np.zeros_like(place), place % 3, np.ones(len(place)))
    table.save(path / "mosaics" / "mosaics.csv")
    truth = np.zeros((len(prepared.survey.ids), 33, 33), bool)
    truth[: prepared.survey.labelled] = prepared.survey.masks
    truth[prepared.unlabelled, 5:20, 5:20] = True
    for task in run.prediction_tasks:
        for tiles, chunk, _ in StoredPrediction.open(task.folder, task.tiles).chunks():
            masks = np.where(truth[tiles], 0.3, 0.1).astype(np.float16)
            salt = np.where(truth[tiles].any(axis=(1, 2)), 0.3, 0.1).astype(np.float32)
            save_array(chunk, as_records(Probabilities(masks, salt)))
    return path


def test_scores_masks_and_other_surveys_are_decided_by_what_was_chosen(
    tiny: Experiment, survey: Path, timid: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    run = opened(survey, timid, CHOSEN)
    scores = steps.pipeline(run, LocalEngine())
    said, written = capfd.readouterr().out, timid / "thresholds" / "thresholds.json"
    found = run.thresholds
    assert found.adopted and found.given == Decision.of(tiny.prediction)
    assert 0.1 <= found.final.mask_threshold <= 0.3 and 0.1 <= found.final.salt_threshold <= 0.3
    assert "thresholds chosen: mask threshold" in said and said.count(str(written)) == 1
    assert said.count("2 of 2 models have already predicted") == 1
    assert scores["oof"] == pytest.approx(found.gain.second) and found.gain.second > found.gain.first
    assert json.loads(written.read_text())["gain"]["first"] == found.gain.first
    page = (timid / "report.html").read_text()
    assert f"out of fold {found.gain.first:.4f} before, {found.gain.second:.4f} with each fold" in page

    unlabelled, models = run.prepared.unlabelled, run.predictions.values()
    assert survey_masks(run.prepared, models, unlabelled, found.final).any()
    assert not survey_masks(run.prepared, models, unlabelled, found.given).any()
    assert f"{len(unlabelled):,} tiles, 0 with salt" not in said
    inputs = json.loads((timid / "postprocessing" / "inputs.json").read_text())
    assert inputs["prediction"] == found.final.model_dump(mode="json") and set(inputs["of_folds"]) == {"0", "1"}

    other, trained = tmp_path / "other", salt_ray.load_run(timid)
    write_survey(other, 40, seed=9, tile_px=33)
    assert trained.decision == found.final
    summary = apply(trained, other, RunDirectory(tmp_path / "to"), LocalEngine(), Terminal(quiet=True))
    assert summary["prediction"]["mask_threshold"] == found.final.mask_threshold
    thresholds = [f"prediction.{name}={getattr(found.final, name)}" for name in ("mask_threshold", "salt_threshold")]
    images = load_survey(other).images[:3]
    same = salt_ray.load_run(timid, [GIVEN, *thresholds])
    assert (trained.predict(images).masks == same.predict(images).masks).all()


def test_other_settings_or_models_than_they_were_chosen_with_are_refused(survey: Path, timid: Path) -> None:
    with pytest.raises(RunError, match=r"thresholds in .* are not chosen: run predict first, or set .*given"):
        _ = salt_ray.load_run(timid, [CHOSEN]).decision
    steps.predict(opened(survey, timid, CHOSEN), None)
    assert salt_ray.load_run(timid, [CHOSEN]).decision.mask_threshold <= 0.3
    with pytest.raises(RunError, match=r"mask_threshold: 0\.4 before, 0\.6 now\): run predict first"):
        _ = salt_ray.load_run(timid, [CHOSEN, "prediction.mask_threshold=0.6"]).decision
    assert salt_ray.load_run(timid, [GIVEN, "prediction.mask_threshold=0.6"]).decision.mask_threshold == 0.6
    run = RunDirectory(timid)
    (model,) = fold_models(run, opened(survey, timid).experiment.trainings[0], 1, "best")
    marker = run.stage("random", 1, model.stage) / "done.json"
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"best_epoch": 77}))
    with pytest.raises(RunError, match=r"predictions\.1\.trained\.best_epoch: \d before, 77 now"):
        _ = salt_ray.load_run(timid, [CHOSEN]).decision


@pytest.mark.parametrize("fold", [0, 1])
def test_a_fold_s_labels_have_no_part_in_how_it_is_decided(survey: Path, timid: Path, fold: int) -> None:
    """Its own tiles, in the run itself; those of the other fold are decided otherwise."""

    def chosen(run: Run) -> list[Decision]:
        shutil.rmtree(timid / "thresholds", ignore_errors=True)
        return [run.thresholds.folds[number].decision for number in (0, 1)]

    first, second = opened(survey, timid, CHOSEN), opened(survey, timid, CHOSEN)
    before, prepared = chosen(first), second.prepared
    masks = np.asarray(prepared.survey.masks).copy()
    own = second.fold_of_tiles[: len(masks)] == fold
    masks[own] = ~masks[own]
    second.__dict__["prepared"] = dataclasses.replace(
        prepared, survey=dataclasses.replace(prepared.survey, masks=masks)
    )
    after = chosen(second)
    assert after[fold] == before[fold] and after[1 - fold] != before[1 - fold]


class Watched(LocalEngine):
    """Notes in which order it predicts and corrects."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def predict(self, *arguments: object) -> Iterator:
        for chunk in super().predict(*arguments):
            self.done.append("predicted")
            yield chunk

    def tasks(self, *arguments: object) -> LocalTasks:
        self.done.append("rules begin")
        return super().tasks(*arguments)


def test_rules_wait_for_the_thresholds_and_for_nothing_where_they_are_given(survey: Path, path: Path) -> None:
    orders = {}
    for settings in (CHOSEN, GIVEN):
        for folder in (path / "predictions", path / "postprocessing"):
            shutil.rmtree(folder)
        engine = Watched()
        steps.pipeline(opened(survey, path, settings), engine)
        orders[settings] = engine.done
    assert orders == {
        CHOSEN: ["predicted", "predicted", "rules begin"],
        GIVEN: ["rules begin", "predicted", "predicted"],
    }


def test_given_again_the_run_is_as_it_was(
    undisturbed: Path, survey: Path, path: Path, capfd: pytest.CaptureFixture
) -> None:
    steps.pipeline(opened(survey, path, CHOSEN), LocalEngine())
    states = {step.name: step.state for step in run_status(RunDirectory(path)).steps}
    assert states["thresholds"] == states["postprocess"] == "done"
    steps.pipeline(opened(survey, path, CHOSEN, "prediction.mask_threshold=0.45"), LocalEngine())
    assert f"regenerating {path / 'thresholds'} (prediction.mask_threshold: 0.4 before" in capfd.readouterr().out
    settings = "prediction.mask_threshold=0.4"
    steps.pipeline(opened(survey, path, GIVEN, settings), LocalEngine())
    shutil.rmtree(path / "thresholds")
    assert results(path) == results(undisturbed)


def test_one_fold_alone_chooses_nothing_and_says_so(survey: Path, timid: Path, capfd: pytest.CaptureFixture) -> None:
    run = opened(survey, timid, CHOSEN)
    only = {key: model for key, model in run.predictions.items() if key[1] == 0}
    run.__dict__["predictions"] = only
    assert run.decisions.final == run.given and not run.decisions.of_folds
    (line,) = [line for line in capfd.readouterr().out.splitlines() if "thresholds" in line]
    assert "thresholds stay as given (mask threshold 0.4, salt threshold 0.5): choosing them needs" in line


def test_of_several_trainings_the_folds_count_that_keep_neighbours_together(
    tiny: Experiment, survey: Path, tmp_path: Path
) -> None:
    (random,) = tiny.trainings
    mosaic = random.replace(name="mosaic", folds=Folds(kind="mosaic", count=2))
    run = Run(tiny.replace(trainings=(random, mosaic)), survey, RunDirectory(tmp_path), Terminal(quiet=True))
    folds, ids = run.fold_of_tiles, run.prepared.survey.ids
    assert dict(zip(ids[folds >= 0], folds[folds >= 0], strict=True)) == dict(
        zip(run.tables["mosaic"].ids, run.tables["mosaic"].folds, strict=True)
    )
    assert (
        run.tables["mosaic"].digest != run.tables["random"].digest
        and run.decisions.final == FoldDecisions(run.given).final
    )
