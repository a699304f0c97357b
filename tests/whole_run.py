"""Whole runs and searches without Ray: the commands' own code, with the work that Ray would place done in this process.

What Ray does is replaced where the product calls it: folds, predictions and mosaics are computed one after the other by
the same functions that workers call, on one thread. Everything else, and every byte of the results, is the commands'.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from salt_ray.artifacts import RunDirectory
from salt_ray.cluster import application, folds, pipeline, postprocessing, session
from salt_ray.cluster.folds import FoldWork, Outcome
from salt_ray.cluster.pipeline import Pipeline
from salt_ray.cluster.prediction import PredictionTask, predict_chunk
from salt_ray.cluster.trials import TrialWork
from salt_ray.config import Experiment, FloatRange, Tune
from salt_ray.errors import TrainingFailed
from salt_ray.inference.predict import Model
from salt_ray.inference.stored import StoredPrediction
from salt_ray.report.study import report_study
from salt_ray.report.terminal import Terminal
from salt_ray.survey.padding import Frame
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training.progress import Progress
from salt_ray.training.task import FoldTask
from salt_ray.tuning.study import Study
from salt_ray.tuning.trial import Step, fold_ends, run_trial

import ray  # isort: skip (after the session, which sets Ray's environment)
import ray.train  # isort: skip

CPU = torch.device("cpu")
NODE = {"Alive": True, "Resources": {"CPU": 2.0}}


@dataclass(frozen=True, eq=False)
class Reference:
    """In place of a reference into Ray's object store: the object."""

    value: Any


@contextlib.contextmanager
def without_ray() -> Iterator[None]:
    """While the block lasts the work of commands is done in this process, as on one machine of two cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray, "nodes", lambda: [NODE])
        patch.setattr(ray, "cluster_resources", lambda: NODE["Resources"])
        patch.setattr(ray, "get", lambda reference: reference.value)
        patch.setattr(ray, "wait", lambda references, **options: (references, []))
        patch.setattr(ray.train, "report", lambda metrics: None)
        patch.setattr(session, "node_types", list)
        for module in (pipeline, application):
            patch.setattr(module, "connect", lambda address: contextlib.nullcontext())
            patch.setattr(module, "check_nodes_see", lambda run: run.identity())
            patch.setattr(module, "predict_models", _predict_models)
        patch.setattr(pipeline, "train_folds", _train_folds)
        for name in ("try_in_mosaics", "correct_mosaics"):
            patch.setattr(postprocessing, name, _at_once(getattr(postprocessing, name)))
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _at_once(task: ray.remote_function.RemoteFunction) -> SimpleNamespace:
    """A remote function that answers where it is called."""
    return SimpleNamespace(remote=lambda *arguments: Reference(task._function(*arguments)))


def _train_folds(
    tasks: Sequence[FoldTask],
    tiles: TrainingTiles,
    run: RunDirectory,
    report: Callable[[Progress], None],
    say: Callable[[str], None],
) -> list[Outcome]:
    experiment = tasks[0].experiment
    wanted = session.fold_resources(experiment.resources, sum(t.folds.count for t in experiment.trainings))
    board = SimpleNamespace(post=SimpleNamespace(remote=report), say=SimpleNamespace(remote=say))
    work = FoldWork(Reference(tiles), run, run.identity(), board, wanted)
    ends = [folds._train_in_worker({"task": task, "work": work}) for task in tasks]
    return [Outcome(task, end.get("marker"), end.get("failure")) for task, end in zip(tasks, ends, strict=True)]


def _predict_models(
    tasks: Sequence[PredictionTask],
    padded: np.ndarray,
    frame: Frame,
    experiment: Experiment,
    run: RunDirectory,
    identity: str,
    arrived: Callable[[np.ndarray], None],
    say: Callable[[str], None],
) -> None:
    for task in tasks:
        stored = StoredPrediction.open(task.folder, task.tiles)
        model = Model(experiment, task.checkpoint, frame, CPU, say)
        for tiles, chunk, done in stored.chunks():
            if not done:
                predict_chunk(model, task.checkpoint, padded[tiles], chunk)
            arrived(tiles)
        stored.finish_if_whole()


def shortened(tiny: Experiment) -> Experiment:
    """The tiny experiment with an epoch a stage, all rules applied, and a learning rate to search."""
    (training,) = tiny.trainings
    stages = tuple(stage.replace(epochs=1, early_stopping=None) for stage in training.stages)
    rate = FloatRange(name="lr", fields=("trainings.all.stages.plateau.lr",), low=0.001, high=0.1, log=True)
    return tiny.replace(
        trainings=(training.replace(stages=stages),),
        prediction=tiny.prediction.replace(models="last"),  # cases name the files of the second stage
        postprocessing=tiny.postprocessing.replace(rules="seed"),
        tune=Tune(parameters=(rate,), trials=1, pruner="none"),
    )


def make_run(experiment: Experiment, data: Path, path: Path) -> None:
    """``pipeline``, stage by stage, up to the report."""
    with without_ray(), Pipeline(experiment, data, RunDirectory(path), Terminal()) as road:
        road.prepare()
        road.train()
        road.predict()
        road.postprocess()
        road.submit()
        road.score()


def make_search(experiment: Experiment, data: Path, path: Path) -> None:
    """``tune``: one trial, which is given a score instead of training."""
    run = RunDirectory(path)
    with Pipeline(experiment, data, run, Terminal()) as road:
        road.prepare()
        study = Study(experiment, run, road.study_folder)
        trial = study.ask()
        study.begin(trial)
        study.record(trial.number, Step(fold_ends(experiment)[-1], 0.7, True, None))
        study.complete(trial.number)


class Pruned(Exception):
    """A trial has fallen behind."""


def search_in_turn(experiment: Experiment, data: Path, path: Path) -> None:
    """``tune`` with its trials one after the other: what a search on one place at a time comes to, without Ray Tune."""
    run = RunDirectory(path)
    with without_ray(), Pipeline(experiment, data, run, Terminal(quiet=True)) as road:
        road.prepare()
        study, tiles = Study(experiment, run, road.study_folder), road.prepared.training_tiles()
        work = TrialWork(experiment, road.tables, run, road.validation, run.identity(), threads=1, gpu=False)
        while (trial := study.ask()) is not None:
            number = trial.number
            study.begin(trial)

            def judge(step: Step, number: int = number) -> None:
                if study.record(number, step):
                    raise Pruned

            try:
                run_trial(work.tasks(trial.params), tiles, run.trial(number), CPU, judge)
            except Pruned:
                study.prune(number)
            except TrainingFailed as error:
                study.fail(number, str(error))
            else:
                study.complete(number)
        report_study(run, road.terminal)
