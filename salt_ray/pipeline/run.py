"""The parts of a run: tiles, mosaics, folds, models, predictions and corrections, each computed or read once.

The steps are in ``steps``. PyTorch and timm are imported only where a network is used, so that everything else starts
quickly.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from salt_ray.artifacts import Folder, RunDirectory
from salt_ray.compatibility import ADDED
from salt_ray.config import Experiment, Folds, FullTiles, HoldoutShare, Training
from salt_ray.decision import Decision, FoldDecisions, validation_decision
from salt_ray.errors import RunError
from salt_ray.inference.ensemble import ModelPrediction, judged_tiles
from salt_ray.inference.thresholds import Thresholds, choose_thresholds, score_thresholds
from salt_ray.metric import salt_share
from salt_ray.model.weights import first_weights, weights_digest
from salt_ray.mosaic.folds import mosaic_folds, whole_mosaics
from salt_ray.mosaic.histogram import match, matching_tables
from salt_ray.mosaic.table import MosaicTable, load_mosaics
from salt_ray.pipeline.engine import Predicting
from salt_ray.pipeline.prediction import PredictionTask, say_outdated
from salt_ray.pipeline.workplace import own_device
from salt_ray.postprocessing.corrections import Corrections
from salt_ray.postprocessing.predicted import positions
from salt_ray.record import RunRecord, check_ignored, chosen_folds, is_older
from salt_ray.report.terminal import Terminal
from salt_ray.report.verdicts import thresholds_text
from salt_ray.storage import StoragePath, fields_if_there, readable, write_atomically
from salt_ray.survey.folds import FoldTable, line_blocks
from salt_ray.survey.holdout import drawn
from salt_ray.survey.labels import full_tiles
from salt_ray.survey.meaning import Meaning
from salt_ray.survey.prepared import PreparedSurvey, prepare_survey
from salt_ray.survey.problems import shown
from salt_ray.survey.tiles import Survey, load_survey
from salt_ray.survey.window import Windows
from salt_ray.tracking.tracking import Tracking
from salt_ray.training.checkpoint import read_checkpoint
from salt_ray.training.models import Choice, FoldModel, fold_models
from salt_ray.training.task import FoldTask, begun_decision, fold_name
from salt_ray.tuning.space import study_folder


class Run:
    """An experiment on a survey, in a run directory.

    Args:
        data: a survey in Kaggle's layout, as a folder or zips.
        skip_bad: skip damaged tiles instead of rejecting the survey.

    Attributes:
        experiment: the experiment, adapted to windows if the survey has them (``survey.window``).
        remarks: a message for each setting that was adapted.
    """

    def __init__(
        self,
        experiment: Experiment,
        data: Path,
        directory: RunDirectory,
        terminal: Terminal,
        *,
        skip_bad: bool = False,
    ) -> None:
        windows = Windows.of(data)
        experiment, self.remarks = (experiment, []) if windows is None else windows.experiment(experiment)
        self.experiment, self.data, self.directory, self.terminal = experiment, data, directory, terminal
        self.skip_bad = skip_bad

    def with_seed(self, seed: int) -> Run:
        """The same run with another seed, in a subdirectory of this one."""
        experiment, directory = self.experiment.replace(seed=seed), self.directory.seed(seed)
        return Run(experiment, self.data, directory, self.terminal, skip_bad=self.skip_bad)

    @contextlib.contextmanager
    def held(self) -> Iterator[Run]:
        """Lock the run against other processes for the duration of the block.

        Raises:
            RunError: another process is working on it, or a tracker of the experiment cannot be used.
        """
        with self.directory.lock(), self.tracking:
            yield self

    @functools.cached_property
    def tracking(self) -> Tracking:
        """The experiment trackers, which only this process updates."""
        return Tracking(self.directory, self.experiment, self.terminal.say)

    @functools.cached_property
    def survey(self) -> Survey:
        """The survey's tiles, unpadded."""
        check_ignored(self.directory)
        meaning = Meaning.of(self.experiment)
        return load_survey(self.data, meaning, skip_bad=self.skip_bad, report=self.terminal.say)

    @functools.cached_property
    def prepared(self) -> PreparedSurvey:
        """The survey's padded tiles, with the hold-out marked."""
        experiment = self.experiment
        if isinstance(experiment.holdout, HoldoutShare):
            experiment = experiment.replace(holdout=self._drawn_holdout(experiment.holdout))
        return prepare_survey(self.survey, experiment, self.terminal.say)

    def _drawn_holdout(self, wanted: HoldoutShare) -> StoragePath:
        """A hold-out of whole mosaics or sections, sampled once per run without using masks; returns its file.

        Raises:
            RunError: it was sampled differently before; the survey has no sections; or no group is small enough.
        """
        survey, seed = self.survey, self.experiment.holdout_seed
        varied = np.flatnonzero(~survey.constant[: survey.labelled])
        too_small = RunError(f"no {wanted.kind} is as small as holdout={wanted} asks for: increase the share")
        if not round(wanted.share * len(varied)):  # known before mosaics are assembled
            raise too_small
        inputs = {"holdout": str(wanted), "seed": seed, "survey": survey.key}
        if wanted.kind == "mosaic":
            inputs["mosaics"] = self.mosaics.digest
        folder = Folder(self.directory.holdout, inputs)
        path = folder.path / "holdout.csv"
        if folder.done is None:
            ids, groups = survey.ids[varied], self._groups(wanted.kind, varied)
            chosen = drawn(groups, wanted.share, seed)
            if not chosen.any():
                raise too_small
            content = "\n".join(["id", *ids[chosen], ""])
            folder.open()
            write_atomically(path, content)
            folder.finish(sha256=_digest(content.encode()))
            self.terminal.say(
                f"hold-out {wanted} (seed {seed}): {chosen.sum():,} of {len(ids):,} tiles, whole "
                f"{wanted.kind}s: {len(np.unique(groups[chosen])):,}, {path}"
            )
        with readable(path, folder.path):
            if _digest(path.read_bytes()) != folder.done["sha256"]:
                raise ValueError("its tiles have changed")
        return path

    def _groups(self, kind: str, tiles: np.ndarray) -> np.ndarray:
        """The mosaic or section (n,) of each tile at a position (n,) in the survey. For windows, the line instead of
        the mosaic, and the block of neighbouring lines instead of the section.
        """
        survey = self.survey
        if kind == "mosaic" and survey.window is not None:
            return np.unique(survey.sections[tiles], return_inverse=True)[1]
        if kind == "mosaic":
            return whole_mosaics(survey.ids[tiles], self.mosaics)
        if survey.window is not None:  # one block has few neighbouring lines
            return line_blocks(survey.places[tiles], max(2, round(1 / self.experiment.holdout.share)))
        if survey.sections is None:
            raise RunError(
                "a hold-out of whole sections needs one folder of tiles per section, train/images/SECTION/ID.png: "
                "use holdout=mosaic:SHARE"
            )
        return survey.sections[tiles]

    @property
    def record(self) -> RunRecord:
        """The run's record."""
        return RunRecord.load(self.directory.record)

    @functools.cached_property
    def full_tiles(self) -> FullTiles:
        """How predictions that fill their tile are handled: as set, as recorded, or as the labels suggest.

        Raises:
            RunError: there are too few labels to tell.
        """
        noted = self.experiment.labels.full_tiles or self.record.full_tiles
        if noted is None and is_older(self.directory):
            return "empty"
        return noted or full_tiles(self.prepared.survey.masks[self.prepared.trainable])

    @functools.cached_property
    def given(self) -> Decision:
        """How predictions become masks with the experiment's thresholds."""
        return Decision.of(self.experiment.prediction, self.full_tiles)

    @functools.cached_property
    def decisions(self) -> FoldDecisions:
        """How the predictions of each tile become its mask.

        Raises:
            RunError: thresholds are chosen, and a model has not predicted yet.
        """
        thresholds = self.thresholds
        return FoldDecisions(self.given) if thresholds is None else thresholds.decisions(self.fold_of_tiles)

    @functools.cached_property
    def thresholds(self) -> Thresholds | None:
        """The thresholds chosen on labels once all models have predicted; None if they are given.

        Raises:
            RunError: a model has not predicted yet.
        """
        if self.experiment.prediction.thresholds == "given":
            return None
        inputs = {
            "predictions": [prediction.folder.inputs for prediction in self.prediction_tasks],
            "mosaics": self.mosaics.digest if self.survey.window is None else None,
            "prediction": self.given.model_dump(mode="json"),
        }
        models, folder = list(self.predictions.values()), Folder(self.directory.thresholds, inputs, again=None)
        path = folder.path / "thresholds.json"
        if folder.done is None:
            say_outdated(folder, self.terminal)
            folder.open()
            survey, tiles = self.prepared.survey, judged_tiles(models, self.prepared.trainable)
            scores = score_thresholds(models, tiles, np.asarray(survey.masks[tiles]), self.given)
            folds, clusters = self.fold_of_tiles[tiles], self._groups("mosaic", tiles)
            choose_thresholds(scores, folds, clusters, self.given, self.experiment.seed).save(path)
            folder.finish()
        thresholds = Thresholds.load(path)
        self.terminal.say(f"{thresholds_text(thresholds)}: {path}")
        return thresholds

    @property
    def fold_of_tiles(self) -> np.ndarray:
        """(N,) int64: the fold of every tile, -1 if it is in none.

        With several trainings, of the first one whose folds keep neighbours together, else of the first.
        """
        training = min(self.experiment.trainings, key=lambda one: one.folds.kind not in ("mosaic", "section", "lines"))
        table, ids = self.tables[training.name], self.prepared.survey.ids
        folds = np.full(len(ids), -1)
        folds[positions(table.ids, ids)] = table.folds
        return folds

    @functools.cached_property
    def validation(self) -> Decision:
        """How predictions become masks in validation: as when training began, else by the experiment."""
        wanted = validation_decision(self.experiment, self.full_tiles)
        begun = begun_decision(self.directory, self.experiment)
        if begun is not None and begun != wanted:
            self.terminal.say(
                f"epochs are compared as when the run began: {begun.text}; predictions: {self.given.text}"
            )
        return begun or wanted

    @functools.cached_property
    def mosaics(self) -> MosaicTable:
        """The positions of tiles in mosaics, assembled once per run."""
        survey, settings = self.survey, self.experiment.mosaics
        if survey.window is not None:
            raise RunError(f"the windows in {self.data} overlap: they cannot be assembled into mosaics")
        folder = Folder(self.directory.mosaics, {"survey": survey.key, "settings": settings.model_dump(mode="json")})
        path = folder.path / "mosaics.csv"
        if folder.done is None:
            from salt_ray.mosaic.assemble import assemble

            folder.open()
            self.terminal.say(f"assembling mosaics of {(~survey.constant).sum():,} tiles")
            images = np.asarray(survey.images)
            say = self.terminal.say
            table = assemble(images, survey.ids, survey.constant, settings, say, own_device().type, survey.sections)
            table.save(path)
            folder.finish(tiles=len(table.ids), mosaics=table.count)
        table = load_mosaics(path)
        unknown = np.setdiff1d(table.ids, survey.ids)
        if len(unknown):
            raise RunError(
                f"{path} contains {len(unknown)} tiles that are not in this survey (first: {shown(str(unknown[0]))}): "
                f"delete {path.parent} to regenerate them"
            )
        return table

    @functools.cached_property
    def tables(self) -> dict[str, FoldTable]:
        """The fold table of every training."""
        return {training.name: self._fold_table(training) for training in self.experiment.trainings}

    def _fold_table(self, training: Training) -> FoldTable:
        division = training.folds.with_seed(self.experiment.seed)
        inputs = division.model_dump(mode="json") | {"survey": self.prepared.survey.key}
        if division.kind == "mosaic":
            inputs["checkpoint"] = None
            if division.checkpoint is not None:  # identified by content, not by path
                inputs["checkpoint"] = weights_digest(division.checkpoint)
                read_checkpoint(division.checkpoint)  # report mistakes in it before assembling mosaics
            inputs["mosaics"] = self.mosaics.digest
        folder = Folder(self.directory.folds(training.name), inputs)
        path = folder.path / "folds.csv"
        if folder.done is None:
            folds = self._new_folds(division)
            folder.open()
            folds.save(path)
            folder.finish()
        return self.prepared.load_folds(path, division.count)

    def _new_folds(self, folds: Folds) -> FoldTable:
        prepared = self.prepared
        if folds.kind == "depth":
            return prepared.depth_folds(folds.count)
        if folds.kind == "random":
            return prepared.random_folds(folds.count, folds.seed)
        if folds.kind == "section":
            return prepared.section_folds(folds.count)
        if folds.kind == "lines":
            return prepared.line_folds(folds.count, folds.gap)
        from salt_ray.mosaic.embedding import encoder_embeddings, image_embeddings

        trainable, survey = prepared.trainable, prepared.survey
        if folds.checkpoint is None:
            varied = np.flatnonzero(~survey.constant)
            tables = matching_tables(survey.images[varied])
            embeddings = image_embeddings(match(tables[np.searchsorted(varied, trainable)], survey.images[trainable]))
        else:
            crops = prepared.images[trainable]
            embeddings = encoder_embeddings(self.experiment, folds.checkpoint, crops, prepared.frame, own_device())
        coverage = salt_share(survey.masks[trainable])
        return mosaic_folds(survey.ids[trainable], coverage, self.mosaics, embeddings, folds.count)

    @functools.cached_property
    def tasks(self) -> list[FoldTask]:
        """Every fold of every training."""
        weights = first_weights(self.experiment.network)
        return [
            FoldTask(self.experiment, training, fold, self.tables[training.name], weights, self.validation)
            for training, fold in self.experiment.all_folds
        ]

    @property
    def chosen(self) -> list[FoldTask]:
        """The folds that the run trains and predicts with."""
        chosen = chosen_folds(self.directory, self.experiment)
        return [task for task in self.tasks if (task.training, task.fold) in chosen]

    def choose(self, folds: Collection[int] | None) -> None:
        """Record the folds that the run trains and predicts with.

        Args:
            folds: these folds of every training, in addition to those chosen before; None: all. A run that began with
                all folds keeps all.

        Raises:
            RunError: there is no such fold.
        """
        last = max(task.fold for task in self.tasks)
        if unknown := [fold for fold in folds or () if not 0 <= fold <= last]:
            raise RunError(f"there is no fold {min(unknown)}: choose from 0 … {last}")
        record = self.record
        has_all = record.folds is None and begun_decision(self.directory, self.experiment) is not None
        chosen = None if folds is None or has_all else tuple(sorted({*(record.folds or ()), *folds}))
        if chosen != record.folds:
            record.model_copy(update={"folds": chosen}).save(self.directory.record)
            for made in ("prediction_tasks", "predictions"):  # computed from the previous folds
                self.__dict__.pop(made, None)

    def models(self, task: FoldTask) -> list[FoldModel]:
        """The models of a fold; empty until its training is finished."""
        return fold_models(self.directory, task.training, task.fold, self.experiment.prediction.models)

    @functools.cached_property
    def prediction_tasks(self) -> list[PredictionTask]:
        """The prediction tasks of all models, ordered so that mosaics are complete early, single tiles last.

        Raises:
            RunError: a fold is not trained.
        """
        survey_ids = self.prepared.survey.ids
        priority = np.full(len(survey_ids), np.iinfo(np.int64).max)
        if self.has_rules:
            priority[positions(self.mosaics.ids, survey_ids)] = self.mosaics.mosaics
        return [self._prediction_task(task, priority) for task in self.chosen]

    def _prediction_task(self, task: FoldTask, priority: np.ndarray) -> PredictionTask:
        models = self.models(task)
        if not models:
            raise RunError(f"{task.name} is not trained in {self.directory.path}: run train first")
        (model,) = models
        survey = self.prepared.survey
        stage = task.stage_folder(self.directory, model.index, survey.key)
        _, own = task.folds.split(task.fold, survey.ids[: survey.labelled])
        candidates = np.concatenate([own, np.flatnonzero(self.prepared.held_out), self.prepared.unlabelled])
        tiles = np.sort(candidates[~survey.constant[candidates]])
        ordered = tiles[np.argsort(priority[tiles], kind="stable")]
        flip = self.experiment.prediction.flip
        return PredictionTask.of(model, stage, ordered, flip, self.directory, {"tiles": len(tiles)})

    @property
    def predicting(self) -> Predicting:
        """Data that an engine needs to predict this run's tiles."""
        padded = np.asarray(self.prepared.images)
        return Predicting(self.experiment, self.prepared.frame, padded, (self.directory,))

    @functools.cached_property
    def predictions(self) -> dict[tuple[str, int], ModelPrediction]:
        """Every model's predictions by (training, fold); cached, as complete predictions never change.

        Raises:
            RunError: a model has not predicted yet.
        """
        predictions = {}
        self.check_begun()
        for task, prediction in zip(self.chosen, self.prediction_tasks, strict=True):
            if prediction.folder.done is None:
                changed = _changed(prediction.folder)
                raise RunError(f"{task.name} has not predicted{changed} in {self.directory.path}: run predict first")
            folder = prediction.folder.path
            model = ModelPrediction.load(folder, self.prepared.frame.tile_px)
            with readable(folder / "tiles.npy", folder):
                if not np.array_equal(model.tiles, np.sort(prediction.tiles)):
                    raise ValueError("its tiles are not those of the prediction task")
            predictions[task.training.name, task.fold] = model
        return predictions

    def check_begun(self) -> None:
        """Check that the run has begun, for commands that only read it.

        Raises:
            RunError: a training has no folds here yet.
        """
        for training in self.experiment.trainings:
            if not (self.directory.folds(training.name) / "inputs.json").exists():
                name = fold_name(training.name, 0)
                raise RunError(f"{name} is not trained in {self.directory.path}: run train first")

    @property
    def has_rules(self) -> bool:
        """Whether mosaic rules are applied."""
        return self.experiment.postprocessing.rules != "none"

    @property
    def postprocessing_folder(self) -> Folder:
        """The output folder of post-processing."""
        inputs = {
            "predictions": [prediction.folder.inputs for prediction in self.prediction_tasks],
            "mosaics": self.mosaics.digest,
            "held out": int(self.prepared.held_out.sum()),
            **self.decisions.as_json(),
            "postprocessing": self.experiment.postprocessing.model_dump(mode="json"),
        }
        return Folder(self.directory.postprocessing, inputs, again=None)

    @property
    def corrections(self) -> Corrections:
        """The changes made by the rules.

        Raises:
            RunError: the mosaics are not post-processed yet.
        """
        if not self.has_rules:
            return Corrections.none(self.prepared.frame.tile_px)
        folder = self.postprocessing_folder
        if folder.done is None:
            changed = _changed(folder)
            raise RunError(f"the masks in {self.directory.path} are not post-processed{changed}: run postprocess first")
        return Corrections.load(folder.path)

    @functools.cached_property
    def trial_judgement(self) -> tuple[Decision, Choice]:
        """How trials of a search validate, and which of a fold's stages is used: as when the search began."""
        begun = fields_if_there(self.directory.study / "inputs.json", self.directory.study)
        if begun is None:
            return self.validation, self.experiment.prediction.models
        return Decision(**begun.get("decision", ADDED["decision"])), begun.get("models", ADDED["models"])

    @property
    def study_folder(self) -> Folder:
        """The folder of a search of this experiment."""
        decision, models = self.trial_judgement
        inputs = {
            "survey": self.prepared.survey.key,
            "folds": {name: table.digest for name, table in self.tables.items()},
            "weights": first_weights(self.experiment.network),
            "decision": decision.model_dump(mode="json"),
            "models": models,
        }
        return study_folder(self.experiment, self.directory, inputs)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _changed(folder: Folder) -> str:
    """Why results are outdated, as part of a message; empty if they are missing."""
    outdated = folder.outdated
    return f" with these settings ({'; '.join(outdated[:4])})" if outdated else ""
