"""What Ray costs: folds under Ray Train and trials under Ray Tune, against the same functions called plainly.

Folds: seconds per epoch in the steady state, validation, checkpoint and reporting included, the first epochs and the
start of processes left out. Each fold has one thread. The second row runs two folds at once on both sides, so that what
two cores share (caches, memory) is the same for both.

Trials: seconds from the end of one trial to the end of the next, one at a time, the start of its process included; the
plain ones follow each other in one process. The difference is what a trial costs beyond its training.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import row, survey
from experiments.demo import experiment as demo_experiment
from salt_ray.artifacts import RunDirectory
from salt_ray.cluster.session import connect
from salt_ray.cluster.training import train_folds
from salt_ray.cluster.trials import run_trials
from salt_ray.config import Experiment, FloatRange, Tune
from salt_ray.decision import ARGUS
from salt_ray.pipeline.trial import SearchWork
from salt_ray.report.trials import TrialView
from salt_ray.survey.folds import FoldTable, depth_folds
from salt_ray.survey.padding import frame_for, operator
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training.checkpoint import CheckpointFolder
from salt_ray.training.loop import train_fold
from salt_ray.training.progress import Progress
from salt_ray.training.task import FoldTask
from salt_ray.tuning.space import study_folder
from salt_ray.tuning.study import Study
from salt_ray.tuning.trial import run_trial

TILES, EPOCHS, RUNS = 240, 24, 3
TRIAL_EPOCHS = 3
STEADY_FROM = 4  # the epochs before it share the cores with Ray's starting processes


def measure() -> Iterator[dict]:
    """Rows for one fold, for two at once, and for two at once against one alone (all under Ray)."""
    tasks, data = demo_folds(2, TILES, EPOCHS)
    alone, together, all_equal = [], [], True
    with connect("local"), tempfile.TemporaryDirectory() as folder:
        for name, chosen, ours in (
            ("one fold under Ray Train", tasks[:1], alone),
            ("two folds at once", tasks, together),
        ):
            plain, equal = [], True
            for i in range(RUNS):
                under_ray, direct = Path(folder) / f"{name}-{i}-ray", Path(folder) / f"{name}-{i}-plain"
                ours.append(under_ray(chosen, data, under_ray))
                plain.append(_plain(chosen, data, direct))
                equal &= all(_weights(task, under_ray) == _weights(task, direct) for task in chosen)
            yield row(f"overhead: {name}", ours, plain, "s/epoch", equal)
            all_equal &= equal
    yield row("overhead: two folds at once against one alone", together, alone, "s/epoch", all_equal)
    yield _trials(tasks[0].experiment, data, tasks[0].folds)


def demo_folds(count: int, tiles: int, epochs: int) -> tuple[list[FoldTask], TrainingTiles]:
    """So many folds of the demo's network, one stage each."""
    experiment = demo_experiment()
    training = experiment.trainings[0]
    stage = training.stages[0].replace(epochs=epochs)
    training = training.replace(folds=training.folds.replace(count=max(2, count)), stages=(stage,))
    experiment = experiment.replace(trainings=(training,))
    images, masks = survey(tiles)
    frame = frame_for(101, experiment.geometry)
    padding = operator(frame)
    ids = np.array([f"{i:06d}" for i in range(tiles)])
    data = TrainingTiles("bench", ids, padding.images(images), padding.masks(masks), frame)
    folds = depth_folds(ids, np.arange(tiles), max(2, count))
    return [FoldTask(experiment, training, fold, folds) for fold in range(count)], data


def _trials(experiment: Experiment, data: TrainingTiles, folds: FoldTable) -> dict:
    """The row for trials: the same samples on both sides, of a few epochs each."""
    (training,) = experiment.trainings
    stage = training.stages[0].replace(epochs=TRIAL_EPOCHS)
    lr = FloatRange(name="lr", fields=("trainings.all.stages.all.lr",), low=0.01, high=0.5, log=True)
    tune = Tune(parameters=(lr,), trials=1 + RUNS, sampler="random", pruner="none", max_concurrent=1)
    experiment = experiment.replace(trainings=(training.replace(stages=(stage,)),), tune=tune)
    tables = {training.name: folds}
    with connect("local"), tempfile.TemporaryDirectory() as folder:
        run = RunDirectory(Path(folder) / "ray")
        study = Study(experiment, run, study_folder(experiment, run, {}))
        work = SearchWork(experiment, tables, run, ARGUS)
        ended = [0.0]
        view = TrialView(["lr"], tune.trials, [], lambda view, event: None, lambda line: None)
        view.end = lambda trial: ended.append(time.monotonic())
        run_trials(study, work, data, view)
        plain, equal = [0.0], True
        torch.set_num_threads(1)
        for number, trial in enumerate(study.ended):
            direct = RunDirectory(Path(folder) / f"plain-{number}")
            run_trial(work.tasks(trial.params), data, direct, torch.device("cpu"), lambda step: None)
            plain.append(time.monotonic())
            best = [r.stage(training.name, 0, stage.name) / "done.json" for r in (run.trial(number), direct)]
            equal &= best[0].read_text() == best[1].read_text()
    # The first trial's time has the start of everything in it.
    ours, peer = (np.diff(times[1:]).tolist() for times in (ended, plain))
    return row("overhead: a trial under Ray Tune", ours, peer, "s/trial", equal)


def under_ray(tasks: Sequence[FoldTask], data: TrainingTiles, run: Path) -> float:
    """Seconds per epoch in the steady state of these folds, all at once."""
    reports: list[Progress] = []
    outcomes = train_folds(tasks, data, RunDirectory(run), reports.append, lambda line: None)
    failures = [outcome.failure for outcome in outcomes if outcome.failure]
    if failures:
        raise RuntimeError("; ".join(failures))
    return _steady(reports)


def _plain(tasks: Sequence[FoldTask], data: TrainingTiles, run: Path) -> float:
    context = multiprocessing.get_context("spawn")
    with context.Pool(len(tasks)) as pool:
        reports = pool.starmap(_train, [(task, data, run) for task in tasks], chunksize=1)
    return _steady([report for fold in reports for report in fold])


def _train(task: FoldTask, data: TrainingTiles, run: Path) -> list[Progress]:
    torch.set_num_threads(1)
    reports: list[Progress] = []
    train_fold(task, data, RunDirectory(run), torch.device("cpu"), reports.append)
    return reports


def _steady(reports: Sequence[Progress]) -> float:
    """Mean seconds per epoch in the steady state, over folds."""
    folds = {report.fold for report in reports}
    seconds = []
    for fold in folds:
        ends = {r.epoch: r.time for r in reports if r.fold == fold and r.epoch >= STEADY_FROM}
        first, last = min(ends), max(ends)
        seconds.append((ends[last] - ends[first]) / (last - first))
    return sum(seconds) / len(seconds)


def _weights(task: FoldTask, run: Path) -> bytes:
    folder = RunDirectory(run).stage(task.training.name, task.fold, task.training.stages[0].name)
    return CheckpointFolder(folder).best_path.read_bytes()
