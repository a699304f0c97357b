"""The plan of a training and its duration, estimated before it starts and again after its first steps."""

from __future__ import annotations

import contextlib
import heapq
import math
from collections import Counter
from collections.abc import Sequence
from statistics import fmean

import numpy as np

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment
from salt_ray.errors import RunError
from salt_ray.training.models import trained_stages
from salt_ray.training.progress import Progress, StepProgress
from salt_ray.training.speed import Speed
from salt_ray.training.task import FoldTask
from salt_ray.training.times import read_times
from salt_ray.tuning.trial import folds_of

UNKNOWN = "the duration will be estimated after the first steps"


class Plan:
    """The folds to train and an upper bound of their duration, as a stage may stop early.

    Args:
        tasks: unfinished folds, in order.
        run: the run directory.
        at_once: number of folds trained at a time.
        speed: known training speed, if any.
    """

    def __init__(self, tasks: Sequence[FoldTask], run: RunDirectory, at_once: int, speed: Speed | None) -> None:
        self._at_once, self._speed = at_once, speed
        self._trainings = [task.training.name for task in tasks]
        self._epochs = {task.name: epochs_left(task, run) for task in tasks}
        self._tiles = {task.name: np.count_nonzero(task.folds.trains(task.fold)) for task in tasks}
        self._after = {
            (task.name, stage.name): task.epochs_after(index)
            for task in tasks
            for index, stage in enumerate(task.training.stages)
        }
        self._newest: dict[str, Progress | StepProgress] = {}
        self._told = False

    def lines(self) -> list[str]:
        """Lines with trainings, folds and epochs, and the estimated duration with its source if known."""
        epochs = Counter[str]()
        for training, count in zip(self._trainings, self._epochs.values(), strict=True):
            epochs[training] += count
        folds, places = Counter(self._trainings), min(self._at_once, len(self._trainings))
        each = ", ".join(f"{_count(folds[name], 'fold')} of {name} ({epochs[name]:,})" for name in folds)
        first = (
            f"plan: {_count(len(folds), 'training')}, {_count(len(self._epochs), 'fold')}, {places} at a time, "
            f"at most {_count(epochs.total(), 'epoch')}: {each}"
        )
        if self._speed is None:
            return [first, f"plan: {UNKNOWN}"]
        seconds = [epochs * self._tiles[name] * self._speed.seconds_per_tile for name, epochs in self._epochs.items()]
        return [first, f"plan: at most about {duration(self._makespan(seconds))}, based on {self._speed.source}"]

    def see(self, progress: Progress | StepProgress) -> str | None:
        """Record a fold's progress; returns, once, an estimate for all folds."""
        self._newest.pop(progress.name, None)
        self._newest[progress.name] = progress
        left = self.seconds_left()
        if self._told or math.isnan(left):
            return None
        self._told = True
        unit = "steps" if isinstance(progress, StepProgress) else "epoch"
        return f"plan: at most about {duration(left)} left for all folds, based on the first {unit} of {progress.name}"

    def seconds_left(self) -> float:
        """Remaining time for all folds; NaN until the speed of one is known."""
        speeds = [one.seconds_left / left for one in self._newest.values() if (left := self._left(one)) > 0]
        known = [speed for speed in speeds if not math.isnan(speed)]
        if not known:
            return math.nan
        epoch_seconds = fmean(known)
        # Folds may stop early without notice: only the last ones to report can still be running.
        running = [self._left(one) for one in list(self._newest.values())[-self._at_once :]]
        waiting = [epochs for name, epochs in self._epochs.items() if name not in self._newest]
        return self._makespan([epochs * epoch_seconds for epochs in (*running, *waiting)])

    def _left(self, progress: Progress | StepProgress) -> float:
        """Epochs left in a fold."""
        whole = progress.epochs - progress.epoch + self._after[progress.name, progress.stage]
        return whole + (1 - progress.step / progress.steps if isinstance(progress, StepProgress) else 0)

    def _makespan(self, seconds: Sequence[float]) -> float:
        """Time until the last fold ends if folds start in order as places become free."""
        ends = [0.0] * self._at_once
        for one in seconds:
            heapq.heapreplace(ends, ends[0] + one)
        return max(ends)


def search_plan(experiment: Experiment, left: int, asked: int, tiles: int, speed: Speed | None) -> str:
    """Describe the plan of a search.

    Args:
        left: unfinished trials, of ``asked``.
        tiles: number of tiles that its first fold trains on.
    """
    folds = folds_of(experiment)
    epochs = sum(stage.epochs for training, _ in folds for stage in training.stages)
    line = (
        f"plan: {left} of {_count(asked, 'trial')} left, each {_count(len(folds), 'fold')} and at most "
        f"{_count(epochs, 'epoch')}"
    )
    if speed is None:
        return f"{line}; the duration will be estimated after the first one"
    return f"{line}: about {duration(epochs * tiles * speed.seconds_per_tile)}, based on {speed.source}"


def epochs_left(task: FoldTask, run: RunDirectory) -> int:
    """The largest number of epochs a fold may still take."""
    index = len(trained_stages(run, task.training, task.fold))
    if index == len(task.training.stages):
        return 0
    stage, begun = task.training.stages[index], 0
    with contextlib.suppress(RunError):  # damaged, but only the estimate depends on it
        begun = len(read_times(run.stage(task.training.name, task.fold, stage.name)))
    return stage.epochs - begun + task.epochs_after(index)


def duration(seconds: float) -> str:
    """Format a duration with up to two units: 2 h 05 min, 25 min, 40 s."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60:,} h {minutes % 60:02d} min"
    return f"{minutes} min" if seconds >= 60 else f"{math.ceil(seconds)} s"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
