"""How fast a network trains, by epochs that are over: of the same run, or of the newest run of the same network.

Estimates only; no result depends on them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment
from salt_ray.errors import RunError
from salt_ray.storage import cache_folder, load_fields, write_atomically
from salt_ray.training.hardware import trained_on
from salt_ray.training.task import FoldTask
from salt_ray.training.times import read_times


@dataclass(frozen=True)
class Speed:
    """How long an epoch takes for each tile that it trains on.

    Attributes:
        seconds_per_tile: training and validation.
        source: where that is known from, for people.
    """

    seconds_per_tile: float
    source: str


def own_speed(run: RunDirectory, tasks: Sequence[FoldTask]) -> Speed | None:
    """By the epochs that a run has trained so far; None where there are none, or their times are not kept."""
    seconds = tiles = 0.0
    for task in tasks:
        for stage in task.training.stages:
            with contextlib.suppress(RunError):  # damaged
                times = read_times(run.stage(task.training.name, task.fold, stage.name))
                seconds += times["seconds"].sum()
                tiles += len(times) * np.count_nonzero(task.folds.trains(task.fold))
    return Speed(float(seconds / tiles), "epochs of this run") if tiles else None


def remember_speed(run: RunDirectory, tasks: Sequence[FoldTask]) -> None:
    """Keep a run's speed in the user's cache, for the next run of its network."""
    speed = own_speed(run, tasks)
    if speed is None:
        return
    devices: dict[str, None] = {}
    for task in tasks:
        with contextlib.suppress(RunError):
            devices |= dict.fromkeys(trained_on(run.fold(task.training.name, task.fold)))
    kept = {"seconds_per_tile": speed.seconds_per_tile, "run": str(run.path), "devices": list(devices)}
    with contextlib.suppress(OSError):  # a cache that cannot be written costs an estimate
        write_atomically(_path(tasks[0].experiment), json.dumps(kept, indent=1))


def remembered_speed(experiment: Experiment) -> Speed | None:
    """That of the newest run of the same network on this machine, whatever it was trained on."""
    path = _path(experiment)
    with contextlib.suppress(RunError, OSError, ValueError, TypeError):  # absent or damaged
        kept = load_fields(path, path, "seconds_per_tile", "run", "devices")
        devices = " and ".join(map(str, kept["devices"])) or "an unknown device"
        seconds = float(kept["seconds_per_tile"])
        if not 0 < seconds < math.inf:
            raise ValueError("no duration")
        return Speed(seconds, f"epochs of {kept['run']}, on {devices}")
    return None


def _path(experiment: Experiment) -> Path:
    settings = experiment.model_dump(mode="json", include={"network", "geometry", "precision"})
    settings["network"].pop("pretrained")
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return cache_folder("speeds") / f"{digest[:32]}.json"
