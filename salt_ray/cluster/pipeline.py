"""The road from tiles to a submission: each stage skips what is done and finishes what was begun."""

from __future__ import annotations

import contextlib
import functools
import json
from pathlib import Path
from typing import Any

from salt_ray.cluster.session import connect  # isort: skip (sets Ray's environment)
import numpy as np

from salt_ray.artifacts import Folder, RunDirectory, RunError, write_atomically
from salt_ray.cluster.folds import train_folds
from salt_ray.cluster.prediction import PredictionTask, predict_models
from salt_ray.config import Experiment
from salt_ray.inference.ensemble import ModelPrediction
from salt_ray.inference.scores import read_test_truth, run_scores, survey_masks
from salt_ray.model.encoder import build_encoder, weights_digest
from salt_ray.report.terminal import Terminal
from salt_ray.survey.folds import FoldTable
from salt_ray.survey.prepared import PreparedSurvey, prepare_survey
from salt_ray.survey.submission import write_submission
from salt_ray.survey.tiles import load_survey
from salt_ray.training.checkpoint import CheckpointFolder
from salt_ray.training.loop import FoldTask, TrainingFailed


class Pipeline:
    """One run: an experiment on a survey in a run directory, held by this process alone while the block lasts.

    Args:
        data: a survey in Kaggle's layout, as a folder or zips.
        skip_bad: leave damaged tiles out instead of refusing the survey.
        address: a Ray cluster; None: the one that this process runs on, or a local one.
    """

    def __init__(
        self,
        experiment: Experiment,
        data: Path,
        run: RunDirectory,
        terminal: Terminal,
        *,
        skip_bad: bool = False,
        address: str | None = None,
    ) -> None:
        self.experiment, self.data, self.run, self.terminal = experiment, data, run, terminal
        self._skip_bad, self._address = skip_bad, address
        self._open, self._connected = contextlib.ExitStack(), False

    def __enter__(self) -> Pipeline:
        self._open.enter_context(self.run.lock())
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    @functools.cached_property
    def prepared(self) -> PreparedSurvey:
        survey = load_survey(self.data, skip_bad=self._skip_bad, report=self.terminal.say)
        return prepare_survey(survey, self.experiment, self.terminal.say)

    @functools.cached_property
    def tables(self) -> dict[str, FoldTable]:
        """The fold table of every training."""
        return {
            training.name: self.prepared.saved_folds(self.run.folds(training.name), training.folds.count)
            for training in self.experiment.trainings
        }

    @functools.cached_property
    def tasks(self) -> list[FoldTask]:
        """Every fold of every training."""
        weights = weights_digest(self.experiment.network.pretrained)
        return [
            FoldTask(self.experiment, training, fold, self.tables[training.name], weights)
            for training in self.experiment.trainings
            for fold in range(training.folds.count)
        ]

    def prepare(self) -> None:
        """Check, cache and pad the tiles, and save the folds."""
        self.terminal.survey(self.data, self.prepared)
        for task in self.tasks:  # what lies here already must come from the same settings, before anything is written
            for stage in range(len(task.training.stages)):
                _ = task.stage_folder(self.run, stage, self.prepared.survey.key).done
        for name, table in self.tables.items():
            self.terminal.say(f"folds {name}: {table.count}, {len(table.ids):,} tiles, {self.run.folds(name)}")
        write_atomically(self.run.experiment, self.experiment.model_dump_json(indent=1))

    def train(self) -> None:
        """Train every fold that is not finished.

        Raises:
            TrainingFailed: naming every fold that failed, after the others have finished.
        """
        key = self.prepared.survey.key
        unfinished = [task for task in self.tasks if self._last_stage(task, key).done is None]
        skipped = len(self.tasks) - len(unfinished)
        if skipped:
            self.terminal.say(f"{skipped} of {len(self.tasks)} folds are trained already")
        if not unfinished:
            return
        network = self.experiment.network
        build_encoder(network.encoder, network.pretrained)  # what is wrong with it is said here, not by K workers
        self._connect()
        with self.terminal.folds([task.name for task in unfinished]) as report:
            outcomes = train_folds(unfinished, self.prepared.training_tiles(), self.run, report, self.terminal.say)
        failures = [outcome.failure for outcome in outcomes if outcome.marker is None]
        if failures:
            raise TrainingFailed("; ".join(failures))

    def predict(self) -> None:
        """Predict with every fold's best model: all unlabelled and held-out tiles, and those of its own fold."""
        pending = [task for task in map(self._prediction_task, self.tasks) if task.folder.done is None]
        if len(pending) < len(self.tasks):
            self.terminal.say(f"{len(self.tasks) - len(pending)} of {len(self.tasks)} models have predicted already")
        if not pending:
            return
        total = sum(len(task.tiles) for task in pending)
        self._connect()
        with self.terminal.bar("predicting", total, "tiles") as advance:
            predict_models(pending, np.asarray(self.prepared.images), self.prepared.frame, self.experiment, advance)

    def submit(self) -> Path:
        """Average, decide and write ``submission.csv``."""
        unlabelled, survey = self.prepared.unlabelled, self.prepared.survey
        masks = survey_masks(self.prepared, self._predictions().values(), unlabelled, self.experiment.prediction)
        ids = survey.ids[unlabelled]
        left_out = np.setdiff1d(survey.submission_ids, ids) if self._skip_bad else ids[:0]
        if len(left_out):
            self.terminal.say(f"{len(left_out)} damaged tiles that were left out are submitted as empty")
            ids = np.concatenate([ids, left_out])
            masks = np.concatenate([masks, np.zeros((len(left_out), *masks.shape[1:]), bool)])
        write_submission(self.run.submission, ids, masks, survey.submission_ids)
        self.terminal.say(f"{len(masks):,} tiles, {masks.any(axis=(1, 2)).sum():,} with salt: {self.run.submission}")
        return self.run.submission

    def score(self) -> dict[str, Any]:
        """Score the predictions, write ``scores.json`` and show the table."""
        survey = self.prepared.survey
        truth = read_test_truth(self.data, survey.ids[self.prepared.unlabelled])
        scores = run_scores(self.prepared, self._predictions(), self.tables, self.experiment.prediction, truth)
        write_atomically(self.run.scores, json.dumps(scores, indent=1))
        self.terminal.scores(scores)
        return scores

    def all(self) -> dict[str, Any]:
        """The whole road in order."""
        self.prepare()
        self.train()
        self.predict()
        self.submit()
        return self.score()

    def _connect(self) -> None:
        """Connect to Ray when the first stage needs it; the connection ends with the block."""
        if not self._connected:
            dashboard = self._open.enter_context(connect(self._address))
            self._connected = True
            self.terminal.say(f"Ray dashboard: http://{dashboard}" if dashboard else "this Ray has no dashboard")

    def _last_stage(self, task: FoldTask, key: str) -> Folder:
        return task.stage_folder(self.run, len(task.training.stages) - 1, key)

    def _prediction_task(self, task: FoldTask) -> PredictionTask:
        key = self.prepared.survey.key
        stage = self._last_stage(task, key)
        if stage.done is None:
            raise RunError(f"{task.name} is not trained in {self.run.path}: run train first")
        labelled = self.prepared.survey.labelled
        _, own = task.folds.split(task.fold, self.prepared.survey.ids[:labelled])
        candidates = np.concatenate([own, np.flatnonzero(self.prepared.held_out), self.prepared.unlabelled])
        tiles = np.sort(candidates[~self.prepared.survey.constant[candidates]])
        inputs = {"model": stage.inputs, "flip": self.experiment.prediction.flip, "tiles": len(tiles)}
        folder = Folder(self.run.prediction(task.training.name, task.fold, task.training.stages[-1].name), inputs)
        return PredictionTask(CheckpointFolder(stage.path).best_path, tiles, folder)

    def _predictions(self) -> dict[tuple[str, int], ModelPrediction]:
        """Every model's predictions, by (training, fold).

        Raises:
            RunError: a model has not predicted yet.
        """
        predictions = {}
        for task in self.tasks:
            folder = self._prediction_task(task).folder
            if folder.done is None:
                raise RunError(f"{task.name} has not predicted in {self.run.path}: run predict first")
            predictions[task.training.name, task.fold] = ModelPrediction.load(folder.path)
        return predictions
