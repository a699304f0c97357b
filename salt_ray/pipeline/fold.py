"""One fold, trained by whoever does a run's work: how it ended, and whether another try could end otherwise."""

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
    """How a fold ended: its last stage's marker, or why it has none."""

    task: FoldTask
    marker: dict[str, Any] | None
    failure: str | None = None
    #: Where an error ended it that is no ``SaltRayError``.
    traceback: str | None = None


def try_fold(
    task: FoldTask,
    tiles: TrainingTiles,
    run: RunDirectory,
    device: Callable[[], torch.device],
    report: Callable[[Progress | StepProgress], None],
    say: Callable[[str], None],
) -> Outcome:
    """Train a fold from its newest checkpoint. An error that a retry cannot cure is its outcome; others are raised.

    One that was superseded is raised: the worker that is waited for takes the fold over again when it is begun again,
    and one that was forgotten has nobody who would begin it.

    Args:
        report: told of every epoch, and of the steps of those that take long.
        device: says what to compute on; a ``SaltRayError`` that it raises is the fold's outcome.
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
    """What another try would end with as well, in words; None: it may pass by itself."""
    if isinstance(error, Superseded | StorageError):
        return None
    if isinstance(error, SaltRayError):
        return str(error)
    if isinstance(error, OSError):
        return incurable(error)
    return fault(error) if repeats(error) else None
