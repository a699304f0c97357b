"""The models of a finished run on another survey: tiles that came later, or from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from salt_ray.artifacts import Folder, RunDirectory
from salt_ray.config import Experiment
from salt_ray.decision import Decision
from salt_ray.errors import RunError
from salt_ray.inference.ensemble import ModelPrediction
from salt_ray.inference.scores import survey_masks
from salt_ray.inference.stored import chunk_path
from salt_ray.pipeline.engine import Engine, Predicting
from salt_ray.pipeline.prediction import PredictionTask, predict_missing
from salt_ray.record import RunRecord
from salt_ray.report.terminal import Terminal
from salt_ray.storage import load_array, load_fields, write_atomically
from salt_ray.survey.folds import load_folds
from salt_ray.survey.meaning import Meaning
from salt_ray.survey.prepared import prepare_survey
from salt_ray.survey.submission import write_masks, write_submission
from salt_ray.survey.tiles import load_survey
from salt_ray.training.metrics import score, trivial_scores
from salt_ray.training.models import FoldModel, fold_models, passed_over
from salt_ray.training.task import decisive, fold_name


class Application:
    """A trained run's models, a survey that they have not seen, and where its masks go.

    The results are ``masks.zip``, ``submission.csv`` and ``summary.json``, of all tiles, with a score where some are
    labelled that the run was not trained on (by their ids). No mosaics are made and no rule is applied: rules earn
    their place in a run of their own.

    Args:
        trained: the run; it is only read.
        experiment: the run's, with other settings for prediction and resources where they are wanted.
        to: where the results go; what an interrupted call left there is used.
        skip_bad: leave damaged tiles out instead of refusing the survey.
        own_range: measure the range of amplitudes in this survey instead of taking the run's.

    Raises:
        RunError: the run is not trained to its end, was trained with another experiment, or on these very tiles; or
            these are of another size, type or range of amplitudes.
        SurveyError: the survey cannot be used.
    """

    def __init__(
        self,
        trained: RunDirectory,
        experiment: Experiment,
        data: Path,
        to: RunDirectory,
        terminal: Terminal,
        *,
        skip_bad: bool = False,
        own_range: bool = False,
    ) -> None:
        self._trained, self._experiment, self._to = trained, experiment.replace(holdout=None), to
        self._terminal = terminal
        models = _models(trained, experiment, terminal.say)
        folders = [_folder(trained, experiment, model) for model in models]
        record = _record(trained, models)
        meaning = Meaning.of(experiment, None if own_range else record.amplitudes)
        survey = load_survey(data, meaning, skip_bad=skip_bad, report=terminal.say)
        if any(folder.inputs["survey"] == survey.key for folder in folders):
            raise RunError(f"{trained.path} was trained on the tiles in {data}: predict and submit are for those")
        for line in record.check_applies(survey, str(data), own_range=own_range):
            terminal.say(line)
        # Runs older than their record had one answer.
        full_tiles = experiment.labels.full_tiles or record.full_tiles or "empty"
        self._decision = Decision.of(experiment.prediction, full_tiles)
        self._prepared = prepare_survey(survey, self._experiment, terminal.say)
        terminal.account(self._prepared, for_training=False)
        terminal.survey(data, self._prepared)
        self._known = _trained_ids(trained, experiment)
        tiles = np.flatnonzero(~survey.constant)
        flip, tiles = experiment.prediction.flip, np.flatnonzero(~survey.constant)
        self._tasks = [
            PredictionTask.of(model, folder, tiles, flip, to, {"survey": survey.key})
            for model, folder in zip(models, folders, strict=True)
        ]

    def run(self, engine: Engine) -> dict[str, Any]:
        """Predict what is missing, average, decide and write; returns the content of ``summary.json``.

        Raises:
            RunError: another process writes there, or a run or other results lie there.
        """
        if self._to.experiment.exists():
            raise RunError(f"{self._to.path} holds a run, whose results would be replaced: use another --to")
        with self._to.lock():
            padded = np.asarray(self._prepared.images)
            work = Predicting(self._experiment, self._prepared.frame, padded, (self._trained, self._to))
            predict_missing(self._tasks, work, engine, self._terminal)
            models = [ModelPrediction.load(task.folder.path, self._prepared.frame.tile_px) for task in self._tasks]
            survey = self._prepared.survey
            masks = survey_masks(self._prepared, models, np.arange(len(survey.ids)), self._decision)
            write_submission(self._to.submission, survey.ids, masks, survey.ids)
            write_masks(self._to.masks, survey.ids, masks)
            summary = self._summary(masks)
            write_atomically(self._to.path / "summary.json", json.dumps(summary, indent=1))
        self._terminal.say(
            f"{summary['tiles']:,} tiles, {summary['with_salt']:,} with salt: {self._to.masks}, {self._to.submission}"
        )
        if summary["known"]:
            self._terminal.say(f"{summary['known']:,} labelled tiles have ids that the run was trained on: not scored")
        if "score" in summary:
            self._terminal.say(
                f"score on the {summary['scored']:,} labelled ones: {summary['score']:.4f} "
                f"(all empty {summary['all_empty']:.4f})"
            )
        return summary

    def _summary(self, masks: np.ndarray) -> dict[str, Any]:
        survey, labelled = self._prepared.survey, self._prepared.survey.labelled
        known = np.isin(survey.ids[:labelled], self._known)
        truth, own = np.asarray(survey.masks)[~known], masks[:labelled][~known]
        summary = {
            "run": str(self._trained.path),
            "survey": survey.key,
            "models": len(self._tasks),
            "prediction": self._experiment.prediction.model_dump(mode="json"),
            "full_tiles": self._decision.full_tiles,
            "tiles": len(masks),
            "with_salt": int(masks.any(axis=(1, 2)).sum()),
            "labelled": labelled,
            "known": int(known.sum()),
        }
        if len(truth):
            scores = {"score": score(truth, own), "all_empty": trivial_scores(truth, truth)["all_empty"]}
            summary |= {"scored": len(truth)} | scores
        return summary


def _record(trained: RunDirectory, models: Sequence[FoldModel]) -> RunRecord:
    """The run's record; the size of its tiles is that of its own predictions where the record does not say."""
    record = RunRecord.load(trained.record)
    for model in models if record.tile_px is None else ():
        path = chunk_path(trained.prediction(model.training, model.fold, model.stage), 0)
        if path.exists():
            return record.model_copy(update={"tile_px": load_array(path)["mask"].shape[-1]})
    return record


def _trained_ids(trained: RunDirectory, experiment: Experiment) -> np.ndarray:
    """Ids (n,) str of the tiles that any of the models may have been trained on.

    Raises:
        FoldError: a table of folds is damaged.
    """
    tables = [
        load_folds(trained.folds(training.name) / "folds.csv", training.folds.count)
        for training in experiment.trainings
    ]
    return np.concatenate([table.ids for table in tables])


def _models(trained: RunDirectory, experiment: Experiment, say: Callable[[str], None]) -> list[FoldModel]:
    """The models of every fold, those that the run itself has predicted with.

    Raises:
        RunError: a fold is not trained to its end, or a marker is damaged.
    """
    found = []
    for training in experiment.trainings:
        for fold in range(training.folds.count):
            models = fold_models(trained, training, fold, experiment.prediction.models)
            if not models:
                seeds = sorted(path.name for path in trained.path.glob("seed-*"))
                if seeds:
                    one = trained.path / seeds[0]
                    raise RunError(f"{trained.path} holds a run for each seed: apply one of them, {one}")
                name = fold_name(training.name, fold)
                raise RunError(f"{name} is not trained in {trained.path}: finish that run with pipeline")
            line = passed_over(trained, training, fold, experiment.prediction.models)
            if line is not None:
                say(line)
            found += models
    return found


def _folder(trained: RunDirectory, experiment: Experiment, model: FoldModel) -> Folder:
    """The folder of the model's stage.

    Raises:
        RunError: it is damaged, or was trained with another experiment.
    """
    path = trained.stage(model.training, model.fold, model.stage)
    inputs = load_fields(path / "inputs.json", path, "experiment", "survey")
    folder = Folder(path, inputs | {"experiment": decisive(experiment)})
    _ = folder.done
    return folder
