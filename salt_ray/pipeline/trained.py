"""A trained run: its models, settings for prediction, and results as tables.

Needs neither the run's survey nor Ray; PyTorch is imported when something is predicted.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from salt_ray.artifacts import Folder, RunDirectory
from salt_ray.compatibility import in_todays_names
from salt_ray.config import Experiment
from salt_ray.decision import Decision
from salt_ray.errors import RunError
from salt_ray.experiment_file import load_experiment
from salt_ray.inference.predictor import Predictor, TilesToPredict
from salt_ray.inference.stored import chunk_path
from salt_ray.inference.thresholds import Thresholds
from salt_ray.metric import has_label, tile_scores
from salt_ray.pipeline.workplace import own_device
from salt_ray.record import RunRecord, chosen_folds
from salt_ray.report.finished import FinishedRun
from salt_ray.report.html import facts_html
from salt_ray.report.mosaics import Mosaics
from salt_ray.report.scores import Scores
from salt_ray.report.terminal import Terminal
from salt_ray.report.tiles import PredictedTiles, Tiles
from salt_ray.report.verdicts import SCORE_TITLES
from salt_ray.storage import StoragePath, fields_if_there, load_array, load_fields, readable, storage_path
from salt_ray.survey.folds import load_folds
from salt_ray.training.models import FoldModel, fold_models
from salt_ray.training.task import decisive, fold_name

if TYPE_CHECKING:
    from salt_ray.report.style import Drawing


def load_run(path: str | StoragePath, settings: Iterable[str] = ()) -> TrainedRun:
    """Load a trained run, to predict with it or to read its results.

    Args:
        path: the run directory, or ``s3://BUCKET/PREFIX``.
        settings: ``FIELD.SUB=VALUE`` as with ``--set``, for example ``prediction.flip=false``.

    Raises:
        RunError: there is no run, or its training is not finished.
        ExperimentError: a setting is invalid.

    ::

        run = salt_ray.load_run("runs/demo")
        prediction = run.predict(tile)          # an array (S, S), several, or a folder
        prediction.masks, prediction.probabilities, prediction.salt, prediction.spread
    """
    directory = RunDirectory(storage_path(path))
    if not directory.experiment.exists():
        raise RunError(f"there is no run in {directory.path}: pass one made by train or pipeline")
    return TrainedRun(directory, load_experiment(directory.experiment, settings))


class TrainedRun:
    """The models of a run whose training is finished.

    Args:
        experiment: the run's experiment, possibly with other prediction settings.
        data: the survey that it was trained on, if known.

    Attributes:
        models: the models of every fold, as used for the run's own predictions.

    Raises:
        RunError: a fold is not finished, was trained with another experiment, or is damaged.
    """

    def __init__(self, directory: RunDirectory, experiment: Experiment, data: Path | None = None) -> None:
        self.directory, self.experiment, self._data = directory, experiment, data
        self._finished: dict[Path, FinishedRun] = {}
        self.models: list[FoldModel] = []
        for training, fold in chosen_folds(directory, experiment):
            found = fold_models(directory, training, fold, experiment.prediction.models)
            if not found:
                raise self._untrained(fold_name(training.name, fold))
            self.models += found
        self.folders = [self._folder(model) for model in self.models]

    def _untrained(self, fold: str) -> RunError:
        path = self.directory.path
        if seeds := self.directory.seed_numbers():
            first = self.directory.seed(seeds[0]).path
            return RunError(f"{path} contains a run for each seed: pass one of them, such as {first}")
        return RunError(f"{fold} is not trained in {path}: finish it with pipeline")

    def _folder(self, model: FoldModel) -> Folder:
        """The folder of the model's stage, checked against the experiment."""
        path = self.directory.stage(model.training, model.fold, model.stage)
        inputs = in_todays_names(load_fields(path / "inputs.json", path, "experiment", "survey"))
        folder = Folder(path, inputs | {"experiment": decisive(self.experiment)})
        _ = folder.done
        return folder

    @property
    def remarks(self) -> list[str]:
        """A message for each fold that has a better model by now."""
        return [model.remark for model in self.models if model.remark is not None]

    @functools.cached_property
    def record(self) -> RunRecord:
        """What the run recorded about its survey; if the tile size is missing, it is taken from predictions."""
        record = RunRecord.load(self.directory.record)
        for model in self.models if record.tile_px is None else ():
            path = chunk_path(model.predictions(self.directory), 0)
            if path.exists():
                return record.model_copy(update={"tile_px": load_array(path)["mask"].shape[-1]})
        return record

    @functools.cached_property
    def decision(self) -> Decision:
        """How the run's probabilities become masks. Runs older than the record treated full tiles as empty.

        Raises:
            RunError: thresholds are to be chosen, but have not been for these models and settings.
        """
        full_tiles = self.experiment.labels.full_tiles or self.record.full_tiles or "empty"
        given = Decision.of(self.experiment.prediction, full_tiles)
        return given if self.experiment.prediction.thresholds == "given" else self._chosen(given)

    def _chosen(self, given: Decision) -> Decision:
        """The thresholds that the run chose from the predictions of exactly these models."""
        path = self.directory.thresholds
        inputs = in_todays_names(fields_if_there(path / "inputs.json", path) or {})
        with readable(path / "inputs.json", path):
            before = inputs.get("predictions", [])
            predictions = [{"model": folder.inputs, "trained": folder.done} for folder in self.folders]
            if len(before) == len(predictions):
                predictions = [old | own for old, own in zip(before, predictions, strict=True)]
        folder = Folder(path, inputs | {"prediction": given.model_dump(mode="json"), "predictions": predictions}, None)
        if folder.done is None:
            why = f" with these settings ({'; '.join(folder.outdated[:4])})" if folder.outdated else ""
            raise RunError(
                f"the thresholds in {self.directory.path} are not chosen{why}: run predict first, or set "
                "prediction.thresholds=given"
            )
        return Thresholds.load(path / "thresholds.json").final

    @functools.cached_property
    def trained_ids(self) -> np.ndarray:
        """Ids (n,) str of the tiles that any of the models may have been trained on.

        Raises:
            FoldError: a table of folds is damaged.
        """
        trainings = self.experiment.trainings
        tables = [load_folds(self.directory.folds(t.name) / "folds.csv", t.folds.count) for t in trainings]
        return np.concatenate([table.ids for table in tables])

    @functools.cached_property
    def predictor(self) -> Predictor:
        """The run's models in this process, on a GPU if available; each is loaded once."""
        checkpoints = [model.checkpoints for model in self.models]
        record = self.record
        return Predictor(self.experiment, checkpoints, self.decision, record.tile_px, record.amplitudes, own_device())

    def predict(self, tiles: TilesToPredict) -> PredictedTiles:
        """Predict tiles with the mean of the run's models: see ``Predictor.predict``."""
        return PredictedTiles(**vars(self.predictor.predict(tiles)))

    def tiles(self, data: str | Path | None = None) -> Tiles:
        """The labelled tiles as models predict them that were not trained on them, with score and doubt of each.

        Args:
            data: the survey that the run was trained on; None: the one that ``train`` was given.

        Raises:
            RunError: the run is not scored, or ``data`` is needed or is another survey.
            SurveyError: the survey cannot be used.
        """
        return Tiles.of_run(self._with_survey(data))

    def mosaics(self, data: str | Path | None = None) -> Mosaics:
        """The run's mosaics, as predicted and after the rules; arguments and errors are those of ``tiles``."""
        return Mosaics(self._with_survey(data))

    def _with_survey(self, data: str | Path | None) -> FinishedRun:
        """What a report is made of, of the run as it was made, whatever the settings for prediction are here."""
        from salt_ray.pipeline import steps
        from salt_ray.pipeline.run import Run

        where = self._data if data is None else Path(data)
        if where is None:
            raise RunError(f"the survey of the run in {self.directory.path} is needed: name its folder with data=")
        where = where.absolute()
        if where not in self._finished:
            experiment = load_experiment(self.directory.experiment)
            run = Run(experiment, where, self.directory, Terminal(quiet=True))
            self._finished[where] = steps.finished(run)
        return self._finished[where]

    def evaluate(self, tiles: TilesToPredict, masks: np.ndarray) -> pd.DataFrame:
        """Predict and score tiles with known masks that the run was not trained on.

        Args:
            masks: (n, S, S), the truth: bool; or int8, with 1 for salt, 0 for none and -1 for pixels to ignore.

        Returns:
            ``Prediction.table`` with a column ``score``: the metric (mean over IoU thresholds 0.50 … 0.95) of each
            tile; its mean is the overall score.
        """
        prediction = self.predict(tiles)
        truth = np.asarray(masks)
        truth = truth if truth.dtype == np.int8 else truth.astype(bool)
        if truth.shape != prediction.masks.shape:
            raise RunError(f"masks have shape {truth.shape}, tiles {prediction.masks.shape}: give one mask per tile")
        table = prediction.table()
        edges = truth.shape[-2:]
        truth = truth.reshape(-1, *edges)
        if not has_label(truth).all():
            raise RunError("a tile without a labelled pixel has no score: exclude it")
        scores = tile_scores(truth, prediction.masks.reshape(-1, *edges))
        return table.assign(score=scores)

    def model_table(self) -> pd.DataFrame:
        """One row per model: ``training``, ``fold``, ``stage``, and ``epoch``, ``score`` and file of its best
        checkpoint, or one row per snapshot.
        """
        rows = [
            (model.training, model.fold, model.stage, epoch, score, str(checkpoint))
            for model in self.models
            for (epoch, score), checkpoint in zip(model.epochs.items(), model.checkpoints, strict=True)
        ]
        return pd.DataFrame(rows, columns=["training", "fold", "stage", "epoch", "score", "checkpoint"])

    def history(self) -> pd.DataFrame:
        """All epochs: ``history.csv`` of all folds and stages, after columns ``training``, ``fold`` and ``stage``."""
        found = []
        for training, fold in chosen_folds(self.directory, self.experiment):
            for stage in training.stages:
                folder = self.directory.stage(training.name, fold, stage.name)
                with readable(folder / "history.csv", folder):
                    table = pd.read_csv(io.BytesIO((folder / "history.csv").read_bytes()))
                table.insert(0, "training", training.name)
                table.insert(1, "fold", fold)
                table.insert(2, "stage", stage.name)
                found.append(table)
        return pd.concat(found, ignore_index=True)

    def scores(self) -> Scores:
        """The content of ``scores.json``, a dict, which shows itself as a table and has ``plot``.

        Raises:
            RunError: the run is not scored.
        """
        if not self.directory.scores.exists():
            raise RunError(f"the run in {self.directory.path} is not scored: run score")
        return Scores(self.directory)

    def score_table(self) -> pd.DataFrame:
        """One row per scored set of tiles: its ``name`` ("fold 0", "oof", "holdout", "test"), the number of ``tiles``
        (missing for folds) and the ``score``.
        """
        return self.scores().sets()

    def plot(self) -> Drawing:
        """How each fold learned: score, losses and learning rate over the epochs, those of all trainings.

        Returns:
            A matplotlib figure; ``figure.savefig`` writes it.
        """
        from salt_ray.report.charts import CURVES, draw_curves  # matplotlib: only pictures need it
        from salt_ray.report.style import Drawing, styled

        history = self.history().assign(fold=lambda table: "fold " + table["fold"].astype(str))
        trainings = list(history.groupby("training", sort=False))
        with styled():
            columns = 2
            rows = len(CURVES) // columns
            figure = Drawing((4 * columns, 2.8 * rows * len(trainings)), facecolor="white")
            grid = figure.subplots(rows * len(trainings), columns).reshape(len(trainings), -1)
            for (name, table), row in zip(trainings, grid, strict=True):
                table = table.assign(epoch=table.groupby("fold").cumcount() + 1)
                for axes, kind in zip(row, CURVES, strict=True):
                    draw_curves(axes, table, kind)
                    if len(trainings) > 1:
                        axes.set_title(name)
        return figure

    def _repr_html_(self) -> str:
        folds = pd.DataFrame([(model.training, model.fold) for model in self.models], columns=["training", "fold"])
        trained = {name: sorted(set(table["fold"])) for name, table in folds.groupby("training", sort=False)}
        counts = {training.name: training.folds.count for training in self.experiment.trainings}
        facts = {"run": Path(str(self.directory.path)).name, "experiment": self.experiment.name}
        for name, numbers in trained.items():
            facts[f"folds of {name}"] = f"{', '.join(map(str, numbers))} ({len(numbers)} of {counts[name]} trained)"
        if self.directory.scores.exists():
            scores = self.scores()
            facts |= {title: scores.text(name) for name, title in SCORE_TITLES.items() if name in scores}
            facts["every mask empty"] = f"{scores['trivial']['all_empty']:.3f}"
        else:
            facts["score"] = "not scored yet: run score"
        return facts_html(facts | {"path": self.directory.path})

    def __repr__(self) -> str:
        return f"TrainedRun({Path(str(self.directory.path)).name}: {len(self.models)} models of {self.experiment.name})"
