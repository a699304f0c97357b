"""Trains one fold on behalf of an engine, and decides whether a failure is worth a retry."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from salt_ray.artifacts import RunDirectory
from salt_ray.errors import SaltRayError, fault, incurable, repeats
from salt_ray.object_store import StorageError
from salt_ray.report.tensorboard import EpochLog
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training.checkpoint import Superseded
from salt_ray.training.progress import Progress, StepProgress
from salt_ray.training.task import FoldTask

if TYPE_CHECKING:
    import torch

AGAIN = "retrying would fail the same way"


@dataclass(frozen=True)
class Outcome:
    """The result of a fold: its last stage's marker, or the reason for its failure."""

    task: FoldTask
    marker: dict[str, Any] | None
    failure: str | None = None
    #: Of errors other than ``SaltRayError``.
    traceback: str | None = None


def try_fold(
    task: FoldTask,
    tiles: TrainingTiles,
    run: RunDirectory,
    device: Callable[[], torch.device],
    report: Callable[[Progress | StepProgress], None],
    say: Callable[[str], None],
) -> Outcome:
    """Train a fold from its newest checkpoint. Errors that a retry cannot fix become its outcome; others are raised.

    ``Superseded`` is raised too: the retry of an active worker takes the fold over again, and an abandoned worker is
    not retried.

    Args:
        report: called after every epoch, and during long ones.
        device: returns the device to use; a ``SaltRayError`` from it becomes the fold's outcome.
    """
    from salt_ray.training.loop import train_fold

    with contextlib.closing(EpochLog(run.tensorboard / task.name)) as log:

        def follow(progress: Progress) -> None:
            if "tensorboard" in task.experiment.tracking:
                log.write(progress)
            report(progress)

        try:
            return Outcome(task, train_fold(task, tiles, run, device(), follow, say, report))
        except Exception as error:
            if (reason := lasting(error)) is None:
                raise
            if isinstance(error, SaltRayError):
                return Outcome(task, None, reason)
            if isinstance(error, OSError):
                return Outcome(task, None, f"{task.name}: {reason}, then run the same command again to resume")
            return Outcome(task, None, f"{task.name}: {reason}; {AGAIN}", traceback.format_exc())


def lasting(error: Exception) -> str | None:
    """The reason why a retry would fail too; None if the error may be temporary."""
    if isinstance(error, Superseded | StorageError):
        return None
    if isinstance(error, SaltRayError):
        return str(error)
    if isinstance(error, OSError):
        return incurable(error)
    return fault(error) if repeats(error) else None
