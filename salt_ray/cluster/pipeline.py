"""The road from tiles to a submission: each stage skips what is done and finishes what was begun.

PyTorch and timm are imported by the stages that compute with them, so that the others answer at once.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from salt_ray.cluster.session import connect  # isort: skip (sets Ray's environment)
import numpy as np

from salt_ray import __version__
from salt_ray.artifacts import Folder, RunDirectory
from salt_ray.cluster.folds import train_folds
from salt_ray.cluster.postprocessing import Postprocessing, PostprocessingFailed
from salt_ray.cluster.prediction import PredictionTask, predict_models
from salt_ray.cluster.visibility import check_nodes_see
from salt_ray.compatibility import ADDED
from salt_ray.config import Experiment, Folds, FullTiles, Training
from salt_ray.decision import Decision, validation_decision
from salt_ray.errors import RunError, TrainingFailed
from salt_ray.inference.ensemble import ModelPrediction
from salt_ray.inference.scores import read_test_truth, run_scores, survey_masks
from salt_ray.inference.stored import CHUNK, StoredPrediction, StoredRecords
from salt_ray.model.weights import weights_digest
from salt_ray.mosaic.corrections import Corrections, correct_with_each
from salt_ray.mosaic.folds import mosaic_folds
from salt_ray.mosaic.histogram import histograms, match, matching_tables
from salt_ray.mosaic.predicted import MosaicTiles, PredictedMosaic, positions
from salt_ray.mosaic.table import MosaicTable, load_mosaics
from salt_ray.record import RunRecord, is_older
from salt_ray.report.finished import FinishedRun, check_finished, load_scores
from salt_ray.report.terminal import Terminal
from salt_ray.storage import StoragePath, fields_if_there, load_fields, readable, remove_tree, write_atomically
from salt_ray.survey.folds import FoldTable
from salt_ray.survey.labels import full_tiles
from salt_ray.survey.meaning import Meaning
from salt_ray.survey.prepared import PreparedSurvey, prepare_survey
from salt_ray.survey.problems import shown
from salt_ray.survey.submission import write_masks, write_submission
from salt_ray.survey.tiles import load_survey
from salt_ray.training.checkpoint import read_checkpoint
from salt_ray.training.metrics import score
from salt_ray.training.models import Choice, FoldModel, fold_models, other_predictions, passed_over
from salt_ray.training.task import FoldTask, begun_decision, fold_name
from salt_ray.tuning.folder import study_folder

if TYPE_CHECKING:
    import torch

PROJECT = Path(__file__).parents[2]  # where this code lies; a report asks it for its commit


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

    def with_seed(self, seed: int) -> Pipeline:
        """The same road with another seed, in a run directory of its own inside this one."""
        experiment, run = self.experiment.replace(seed=seed), self.run.seed(seed)
        return Pipeline(experiment, self.data, run, self.terminal, skip_bad=self._skip_bad, address=self._address)

    def __enter__(self) -> Pipeline:
        self._open.enter_context(self.run.lock())
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()

    @functools.cached_property
    def prepared(self) -> PreparedSurvey:
        meaning = Meaning.of(self.experiment)
        survey = load_survey(self.data, meaning, skip_bad=self._skip_bad, report=self.terminal.say)
        return prepare_survey(survey, self.experiment, self.terminal.say)

    @property
    def record(self) -> RunRecord:
        """What the run has noted of itself."""
        return RunRecord.load(self.run.record)

    @functools.cached_property
    def full_tiles(self) -> FullTiles:
        """What a prediction that fills its tile becomes: as set, as the run has it, or as its labels say.

        Raises:
            RunError: there are too few labels to say.
        """
        noted = self.experiment.labels.full_tiles or self.record.full_tiles
        if noted is None and is_older(self.run):
            return "empty"
        return noted or full_tiles(self.prepared.survey.masks[self.prepared.trainable])

    @functools.cached_property
    def decision(self) -> Decision:
        """How predictions become masks."""
        return Decision.of(self.experiment.prediction, self.full_tiles)

    @functools.cached_property
    def mosaics(self) -> MosaicTable:
        """The tiles' places, assembled once per run."""
        survey, settings = self.prepared.survey, self.experiment.mosaics
        folder = Folder(self.run.mosaics, {"survey": survey.key, "settings": settings.model_dump(mode="json")})
        path = folder.path / "mosaics.csv"
        if folder.done is None:
            from salt_ray.mosaic.assemble import assemble

            folder.open()
            self.terminal.say(f"assembling mosaics of {(~survey.constant).sum():,} tiles")
            images = np.asarray(survey.images)
            say = self.terminal.say
            table = assemble(images, survey.ids, survey.constant, settings, say, _device().type, survey.sections)
            table.save(path)
            folder.finish(tiles=len(table.ids), mosaics=table.count)
        table = load_mosaics(path)
        unknown = np.setdiff1d(table.ids, survey.ids)
        if len(unknown):
            raise RunError(
                f"{path} holds {len(unknown)} tiles that are not in this survey (first: {shown(str(unknown[0]))}): "
                f"delete {path.parent} to assemble them anew"
            )
        return table

    @functools.cached_property
    def tables(self) -> dict[str, FoldTable]:
        """The fold table of every training."""
        return {training.name: self._fold_table(training) for training in self.experiment.trainings}

    def _fold_table(self, training: Training) -> FoldTable:
        inputs = training.folds.model_dump(mode="json") | {"survey": self.prepared.survey.key}
        if training.folds.kind == "mosaic":
            inputs["checkpoint"] = None
            if training.folds.checkpoint is not None:  # by content: its place does not matter
                inputs["checkpoint"] = weights_digest(training.folds.checkpoint)
                read_checkpoint(training.folds.checkpoint)  # what is wrong with it is said before mosaics are assembled
            inputs["mosaics"] = self.mosaics.digest
        folder = Folder(self.run.folds(training.name), inputs)
        path = folder.path / "folds.csv"
        if folder.done is None:
            folds = self._new_folds(training.folds)
            folder.open()
            folds.save(path)
            folder.finish()
        return self.prepared.load_folds(path, training.folds.count)

    def _new_folds(self, folds: Folds) -> FoldTable:
        prepared = self.prepared
        if folds.kind == "random":
            return prepared.random_folds(folds.count)
        if folds.kind == "section":
            return prepared.section_folds(folds.count)
        from salt_ray.mosaic.embedding import encoder_embeddings, image_embeddings

        trainable, survey = prepared.trainable, prepared.survey
        if folds.checkpoint is None:
            varied = np.flatnonzero(~survey.constant)
            tables = matching_tables(histograms(survey.images[varied]))
            embeddings = image_embeddings(match(tables[np.searchsorted(varied, trainable)], survey.images[trainable]))
        else:
            crops = prepared.images[trainable]
            embeddings = encoder_embeddings(self.experiment, folds.checkpoint, crops, prepared.frame, _device())
        coverage = survey.masks[trainable].mean(axis=(1, 2))
        return mosaic_folds(survey.ids[trainable], coverage, self.mosaics, embeddings, folds.count)

    @functools.cached_property
    def validation(self) -> Decision:
        """How validation decides: as the run's trainings began, or as the experiment says where none has begun."""
        wanted = validation_decision(self.experiment, self.full_tiles)
        begun = begun_decision(self.run, self.experiment)
        if begun is not None and begun != wanted:
            self.terminal.say(f"epochs are chosen as the run began: {begun.text}; predictions: {self.decision.text}")
        return begun or wanted

    @functools.cached_property
    def tasks(self) -> list[FoldTask]:
        """Every fold of every training."""
        weights = weights_digest(self.experiment.network.pretrained)
        return [
            FoldTask(self.experiment, training, fold, self.tables[training.name], weights, self.validation)
            for training in self.experiment.trainings
            for fold in range(training.folds.count)
        ]

    def prepare(self) -> None:
        """Check, cache and pad the tiles, and save the folds."""
        self.terminal.account(self.prepared)
        self.terminal.survey(self.data, self.prepared)
        self.terminal.full_tiles(self.full_tiles, self.prepared)
        if not self.run.experiment.exists():  # a network that cannot be used begins no run; nothing is downloaded yet
            from salt_ray.model.network import try_network

            try_network(self.experiment.network, self.prepared.frame.crop_px, download=False)
        for task in self.tasks:  # what lies here already must come from the same settings, before anything is written
            for stage in range(len(task.training.stages)):
                _ = task.stage_folder(self.run, stage, self.prepared.survey.key).done
        if all(self._models(task) for task in self.tasks):
            _ = [prediction.folder.done for prediction in self._prediction_tasks]
            if self.experiment.postprocessing.rules != "none" and self.run.postprocessing.exists():
                _ = self._postprocessing_folder.done
        if self.run.study.exists():
            _ = self.study_folder.done
        for name, table in self.tables.items():
            path = self.run.folds(name) / "folds.csv"
            self.terminal.say(f"folds {name}: {table.count}, {len(table.ids):,} tiles, {path}")
        version = None if is_older(self.run) else __version__
        if self.run.record.exists():  # of what made the run, not of what goes on with it
            version = self.record.version
        record = RunRecord.of(self.prepared.survey, self.full_tiles, version)
        if record != self.record:
            record.save(self.run.record)
        write_atomically(self.run.experiment, self.experiment.model_dump_json(indent=1))

    def assemble(self) -> None:
        """Find the tiles' places, and say what came out."""
        table, sizes = self.mosaics, np.bincount(self.mosaics.mosaics)
        if not self.run.experiment.exists():
            write_atomically(self.run.experiment, self.experiment.model_dump_json(indent=1))
        self.terminal.say(
            f"{len(table.ids):,} of {len(self.prepared.survey.ids):,} tiles lie in {table.count:,} mosaics"
            + (f", the largest of {sizes.max()}" if len(sizes) else "")
            + f": {self.run.mosaics / 'mosaics.csv'}"
        )

    def train(self) -> None:
        """Train every fold that is not finished.

        Raises:
            TrainingFailed: naming every fold that failed, after the others have finished.
        """
        unfinished = [task for task in self.tasks if not self._models(task)]
        skipped = len(self.tasks) - len(unfinished)
        if skipped:
            self.terminal.say(f"{skipped} of {len(self.tasks)} folds are trained already")
        if not unfinished:
            return
        from salt_ray.model.network import try_network

        # What is wrong with it is said here, not by K workers.
        try_network(self.experiment.network, self.prepared.frame.crop_px, download=True)
        self.connect()
        with self.terminal.folds([task.name for task in unfinished]) as report:
            outcomes = train_folds(unfinished, self.prepared.training_tiles(), self.run, report, self.terminal.say)
        failures = [outcome.failure for outcome in outcomes if outcome.marker is None]
        if failures:
            error = TrainingFailed("; ".join(failures))
            for outcome in outcomes:
                if outcome.traceback:  # shown by --debug
                    error.add_note(f"{outcome.task.name}: {outcome.traceback}")
            raise error

    def predict(self, arrived: Callable[[np.ndarray], None] = lambda tiles: None) -> None:
        """Predict with every fold's model: all unlabelled and held-out tiles, and those of its own fold.

        Args:
            arrived: called with positions of tiles that one model has predicted, also in an earlier run.
        """
        pending = []
        self._check_begun()
        for task in self.tasks:
            line = passed_over(self.run, task.training, task.fold, self.experiment.prediction.models)
            if line is not None:
                self.terminal.say(line)
        for task in self._prediction_tasks:
            if task.folder.done is None:
                pending.append(task)
                self._say_outdated(task.folder)
            else:
                arrived(task.tiles)
        if len(pending) < len(self.tasks):
            self.terminal.say(f"{len(self.tasks) - len(pending)} of {len(self.tasks)} models have predicted already")
        if not pending:
            return
        total = sum(len(task.tiles) for task in pending)
        self.connect()
        with self.terminal.bar("predicting", total, "tiles") as advance:

            def follow(tiles: np.ndarray) -> None:
                advance(len(tiles))
                arrived(tiles)

            padded, say = np.asarray(self.prepared.images), self.terminal.say
            predict_models(
                pending, padded, self.prepared.frame, self.experiment, self.run, self._seen_by_nodes, follow, say
            )

    def predict_again(self) -> None:
        """Forget the predictions of other models than would be taken today, so that ``predict`` makes them again."""
        for task in self.tasks:
            for folder in other_predictions(self.run, task.training, task.fold, self.experiment.prediction.models):
                self.terminal.say(f"{task.name}: predictions of stage {folder.name} are left behind")
                remove_tree(folder)

    def _say_outdated(self, folder: Folder) -> None:
        if folder.outdated:
            self.terminal.say(f"{folder.path} is made again ({'; '.join(folder.outdated[:4])})")

    def postprocess(self) -> None:
        """Let mosaic neighbours correct the predictions; needs all of them.

        Raises:
            RunError: a model has not predicted yet.
            PostprocessingFailed: naming the mosaics that keep their masks as predicted.
        """
        _ = self._predictions
        self._predict_and_postprocess()
        self._check_postprocessing()

    def _predict_and_postprocess(self) -> None:
        """Predict what is missing, and post-process every mosaic as soon as its tiles are predicted."""
        if self.experiment.postprocessing.rules == "none":
            self.predict()
            self.terminal.say("masks stay as predicted: postprocessing.rules is none")
            return
        folder = self._postprocessing_folder
        if folder.done is not None and not folder.done["failed"]:
            self.predict()
            self.terminal.say(f"the masks are post-processed already: {folder.path}")
            return
        self._say_outdated(folder)
        folder.reopen()
        missing = np.zeros(len(self.prepared.survey.ids), np.int64)
        for task in self._prediction_tasks:
            missing[task.tiles] += 1
        self.connect()
        models = []
        for task in self._prediction_tasks:
            stored = StoredPrediction.open(task.folder, task.tiles)
            models.append(ModelPrediction.of(stored.tiles, StoredRecords(task.folder.path)))
        _ = self._seen_by_nodes
        work = Postprocessing(self.experiment, self.prepared, self.mosaics, models, missing, self.decision, folder)
        self.predict(work.arrived)
        self.terminal.rules(work.finish(), folder.path)

    def submit(self) -> Path:
        """Average, decide, correct and write ``submission.csv`` and ``masks.zip``."""
        unlabelled, survey = self.prepared.unlabelled, self.prepared.survey
        masks = survey_masks(self.prepared, self._predictions.values(), unlabelled, self.decision)
        masks = self._corrections.apply(unlabelled, masks)
        ids = survey.ids[unlabelled]
        left_out = np.setdiff1d(survey.submission_ids, ids) if self._skip_bad else ids[:0]
        if len(left_out):
            self.terminal.say(f"{len(left_out)} damaged tiles that were left out are submitted as empty")
            ids = np.concatenate([ids, left_out])
            masks = np.concatenate([masks, np.zeros((len(left_out), *masks.shape[1:]), bool)])
        write_submission(self.run.submission, ids, masks, survey.submission_ids)
        write_masks(self.run.masks, ids, masks)
        salt = masks.any(axis=(1, 2)).sum()
        self.terminal.say(f"{len(masks):,} tiles, {salt:,} with salt: {self.run.submission}, {self.run.masks}")
        return self.run.submission

    def score(self) -> dict[str, Any]:
        """Score the predictions before and after the rules, write ``scores.json`` and show the table."""
        survey, decision = self.prepared.survey, self.decision
        truth = read_test_truth(self.data, survey.ids[self.prepared.unlabelled], Meaning.of(self.experiment))
        models, corrections = self._predictions, self._corrections
        scores = run_scores(self.prepared, models, self.tables, decision, truth, corrections.apply)
        if self.experiment.postprocessing.rules != "none":
            folder = self._postprocessing_folder.path
            rules = load_fields(folder / "rules.json", folder, "kept", "alone", "together")
            scores["rules"] |= rules | {"changed_tiles": len(corrections.tiles)}
            if truth is not None:
                scores["rules"]["test_of_each"] = self._test_of_each_rule(truth)
        write_atomically(self.run.scores, json.dumps(scores, indent=1))
        self.terminal.scores(scores)
        return scores

    def report(self) -> StoragePath:
        """Write ``report.html``.

        Raises:
            RunError: the run is not finished, or its scores belong to other predictions.
        """
        from salt_ray.report.page import write_report  # matplotlib: only pictures need it

        check_finished(self.run)
        models, scores = self._predictions, load_scores(self.run.scores)
        mosaics = self.mosaics if (self.run.mosaics / "mosaics.csv").exists() else None
        finished = FinishedRun(
            self.run,
            self.experiment,
            self.prepared,
            models,
            self.tables,
            mosaics,
            self._corrections,
            scores,
            PROJECT,
            self.decision,
            self.validation,
        )
        path = write_report(finished)
        self.terminal.say(f"report, to be opened in a browser: {path}")
        return path

    def _test_of_each_rule(self, truth: np.ndarray) -> dict[str, float]:
        """The score on a known test truth after each rule alone; nothing is chosen by it."""
        prepared, decision = self.prepared, self.decision
        models = list(self._predictions.values())
        masks = survey_masks(prepared, models, prepared.unlabelled, decision)
        mosaics = (
            PredictedMosaic.gather(MosaicTiles.gather(number, members, self.mosaics, prepared), models)
            for number, members in enumerate(self.mosaics.members())
        )
        alone = correct_with_each(mosaics, decision, prepared.frame.tile_px)
        return {name: score(truth, corrected.apply(prepared.unlabelled, masks)) for name, corrected in alone.items()}

    def all(self) -> dict[str, Any]:
        """The whole road in order."""
        self.prepare()
        self.train()
        self._predict_and_postprocess()
        self.submit()
        scores = self.score()
        self.report()
        self._check_postprocessing()
        return scores

    def _check_postprocessing(self) -> None:
        if self.experiment.postprocessing.rules == "none":
            return
        failed = self._postprocessing_folder.done["failed"]
        if failed:
            number, reason = next(iter(failed.items()))
            raise PostprocessingFailed(
                f"{len(failed)} mosaics keep their masks as predicted (mosaic {number}: {reason}): "
                "the same command tries them again"
            )

    def connect(self) -> None:
        """Connect to Ray when the first stage needs it; the connection ends with the block."""
        if not self._connected:
            self.terminal.dashboard(self._open.enter_context(connect(self._address)))
            self._connected = True

    def _models(self, task: FoldTask) -> list[FoldModel]:
        """What a fold predicts with; empty while it is not trained to its end."""
        return fold_models(self.run, task.training, task.fold, self.experiment.prediction.models)

    @functools.cached_property
    def _prediction_tasks(self) -> list[PredictionTask]:
        """What every model predicts, mosaic by mosaic so that they are complete early, and lone tiles last."""
        survey_ids = self.prepared.survey.ids
        priority = np.full(len(survey_ids), np.iinfo(np.int64).max)
        if self.experiment.postprocessing.rules != "none":
            priority[positions(self.mosaics.ids, survey_ids)] = self.mosaics.mosaics
        return [self._prediction_task(task, priority) for task in self.tasks]

    def _prediction_task(self, task: FoldTask, priority: np.ndarray) -> PredictionTask:
        models = self._models(task)
        if not models:
            raise RunError(f"{task.name} is not trained in {self.run.path}: run train first")
        (model,) = models
        stage = task.stage_folder(self.run, model.index, self.prepared.survey.key)
        labelled = self.prepared.survey.labelled
        _, own = task.folds.split(task.fold, self.prepared.survey.ids[:labelled])
        candidates = np.concatenate([own, np.flatnonzero(self.prepared.held_out), self.prepared.unlabelled])
        tiles = np.sort(candidates[~self.prepared.survey.constant[candidates]])
        inputs = {
            "model": stage.inputs,
            "trained": stage.done,  # a model that was trained anew has other weights
            "flip": self.experiment.prediction.flip,
            "tiles": len(tiles),
            "chunk": CHUNK,
        }
        path = self.run.prediction(task.training.name, task.fold, model.stage)
        tiles = tiles[np.argsort(priority[tiles], kind="stable")]
        return PredictionTask(model.checkpoint, tiles, Folder(path, inputs, again=frozenset({"flip"})))

    @functools.cached_property
    def _seen_by_nodes(self) -> str:
        """The run directory's identity, once every node has seen it."""
        return check_nodes_see(self.run)

    @functools.cached_property
    def _predictions(self) -> dict[tuple[str, int], ModelPrediction]:
        """Every model's predictions by (training, fold); kept, because what is whole stays as it is.

        Raises:
            RunError: a model has not predicted yet.
        """
        predictions = {}
        self._check_begun()
        for task, prediction in zip(self.tasks, self._prediction_tasks, strict=True):
            if prediction.folder.done is None:
                changed = _changed(prediction.folder)
                raise RunError(f"{task.name} has not predicted{changed} in {self.run.path}: run predict first")
            folder = prediction.folder.path
            model = ModelPrediction.load(folder, self.prepared.frame.tile_px)
            with readable(folder / "tiles.npy", folder):
                if not np.array_equal(model.tiles, np.sort(prediction.tiles)):
                    raise ValueError("its tiles are not those that the model predicts")
            predictions[task.training.name, task.fold] = model
        return predictions

    def _check_begun(self) -> None:
        """Make sure that commands which only read a run begin none.

        Raises:
            RunError: a training has no folds here yet.
        """
        for training in self.experiment.trainings:
            if not (self.run.folds(training.name) / "inputs.json").exists():
                raise RunError(f"{fold_name(training.name, 0)} is not trained in {self.run.path}: run train first")

    @functools.cached_property
    def trial_judgement(self) -> tuple[Decision, Choice]:
        """How the trials of a search validate, and which of a fold's stages counts: as the search began."""
        begun = fields_if_there(self.run.study / "inputs.json", self.run.study)
        if begun is None:
            return self.validation, self.experiment.prediction.models
        return Decision(**begun.get("decision", ADDED["decision"])), begun.get("models", ADDED["models"])

    @property
    def study_folder(self) -> Folder:
        """Where a search of this experiment is in the run."""
        decision, models = self.trial_judgement
        inputs = {
            "survey": self.prepared.survey.key,
            "folds": {name: table.digest for name, table in self.tables.items()},
            "weights": weights_digest(self.experiment.network.pretrained),
            "decision": decision.model_dump(mode="json"),
            "models": models,
        }
        return study_folder(self.experiment, self.run, inputs)

    @property
    def _postprocessing_folder(self) -> Folder:
        inputs = {
            "predictions": [prediction.folder.inputs for prediction in self._prediction_tasks],
            "mosaics": self.mosaics.digest,
            "held out": int(self.prepared.held_out.sum()),
            "prediction": self.decision.model_dump(mode="json"),
            "postprocessing": self.experiment.postprocessing.model_dump(mode="json"),
        }
        return Folder(self.run.postprocessing, inputs, again=None)

    @property
    def _corrections(self) -> Corrections:
        """What the rules changed.

        Raises:
            RunError: the mosaics are not post-processed yet.
        """
        if self.experiment.postprocessing.rules == "none":
            return Corrections.none(self.prepared.frame.tile_px)
        folder = self._postprocessing_folder
        if folder.done is None:
            changed = _changed(folder)
            raise RunError(f"the masks in {self.run.path} are not post-processed{changed}: run postprocess first")
        return Corrections.load(folder.path)


def _changed(folder: Folder) -> str:
    """What makes results outdated, for the middle of a message; nothing where they are only missing."""
    return f" with these settings ({'; '.join(folder.outdated[:4])})" if folder.outdated else ""


def _device() -> torch.device:
    """Where this process itself computes."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
