"""One fold, trained by whoever does a run's work: how it ended, and whether another try could end otherwise."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from salt_ray.artifacts import RunDirectory
from salt_ray.errors import REPEATED, SaltRayError, fault, incurable, repeats
from salt_ray.object_store import StorageError
from salt_ray.report.tensorboard import EpochLog
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training.checkpoint import Superseded
from salt_ray.training.progress import Progress
from salt_ray.training.task import FoldTask

if TYPE_CHECKING:
    import torch

AGAIN = "another try would end the same way"


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
    report: Callable[[Progress], None],
    say: Callable[[str], None],
) -> Outcome:
    """Train a fold from its newest checkpoint. An error that a retry cannot cure is its outcome; others are raised.

    One that was superseded is raised: the worker that is waited for takes the fold over again when it is begun again,
    and one that was forgotten has nobody who would begin it.

    Args:
        device: says what to compute on; a ``SaltRayError`` that it raises is the fold's outcome.
    """
    from salt_ray.training.loop import train_fold

    with contextlib.closing(EpochLog(run.tensorboard / task.name)) as log:

        def follow(progress: Progress) -> None:
            log.write(progress)
            report(progress)

        try:
            return Outcome(task, train_fold(task, tiles, run, device(), follow, say))
        except (Superseded, StorageError):
            raise
        except SaltRayError as error:
            return Outcome(task, None, str(error))
        except OSError as error:
            if (obstacle := incurable(error)) is None:
                raise
            return Outcome(task, None, f"{task.name}: {obstacle}, then the same command goes on")
        except REPEATED as error:
            if not repeats(error):
                raise
            return Outcome(task, None, f"{task.name}: {fault(error)}; {AGAIN}", traceback.format_exc())
