"""Folds that tests train: their task, and what they leave behind."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import torch

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment
from salt_ray.survey.folds import FoldTable
from salt_ray.training.progress import Progress
from salt_ray.training.task import FoldTask


class Interrupted(Exception):
    pass


def task_of(experiment: Experiment, folds: FoldTable, fold: int = 0) -> FoldTask:
    return FoldTask(experiment, experiment.trainings[0], fold, folds)


def result_of(task: FoldTask, run: RunDirectory) -> dict:
    """Everything that a finished fold left behind, byte for byte, but for how long its epochs took."""
    files = {}
    for stage in task.training.stages:
        folder = run.stage(task.training.name, task.fold, stage.name)
        files |= {(stage.name, path.name): path.read_bytes() for path in sorted(folder.iterdir())}
        del files[stage.name, "times.csv"]
    return files


def trained(reports: Sequence[Progress]) -> list[Progress]:
    """Reports of epochs that this start has trained; the one that it began with is said again, without a speed."""
    return [progress for progress in reports if not math.isnan(progress.tiles_per_second)]


def history(files: dict, stage: str) -> list[dict]:
    newest = max(file for name, file in files if name == stage and file.startswith("epoch-"))
    return torch.load(io.BytesIO(files[stage, newest]), weights_only=True)["history"]
