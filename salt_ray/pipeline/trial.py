"""One trial of a search, trained by whoever does the search's work: how it ended, and whose fault that was."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment
from salt_ray.decision import Decision
from salt_ray.errors import SaltRayError, TrainingFailed
from salt_ray.model.weights import first_weights
from salt_ray.pipeline.fold import lasting
from salt_ray.report.tensorboard import EpochLog
from salt_ray.section import ExperimentError
from salt_ray.survey.folds import FoldTable
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training.task import FoldTask
from salt_ray.tuning.space import Space
from salt_ray.tuning.trial import Step, folds_of, run_trial, trial_name

if TYPE_CHECKING:
    import torch


class SearchStopped(SaltRayError):
    """A search cannot continue now; nothing of it is lost."""

    def __init__(self, obstacle: str) -> None:
        super().__init__(f"{obstacle}; then run the same command again to resume the search")


@dataclass(frozen=True)
class SearchWork:
    """What the trials of a search have in common.

    Attributes:
        tables: fold tables by training.
        decision: how trials validate.
    """

    experiment: Experiment
    tables: Mapping[str, FoldTable]
    run: RunDirectory
    decision: Decision

    def tasks(self, values: Mapping[str, Any]) -> list[FoldTask]:
        """The folds of the trial with these values."""
        effective = Space(self.experiment).effective(dict(values))
        weights = first_weights(effective.network)
        return [
            FoldTask(effective, training, fold, self.tables[training.name], weights, self.decision)
            for training, fold in folds_of(effective)
        ]


@dataclass(frozen=True)
class TrialEnd:
    """How a trial ended: by itself, by a failure of its own values, or because something is in the way of all."""

    failure: str | None = None
    obstacle: str | None = None


def try_trial(
    work: SearchWork,
    number: int,
    values: Mapping[str, Any],
    tiles: TrainingTiles,
    device: Callable[[], torch.device],
    report: Callable[[Step], None],
    say: Callable[[str], None],
) -> TrialEnd:
    """Train a trial from its newest checkpoints.

    A loss that is no number is the trial's own failure, and so is an error that its values would raise again. What
    would meet every other trial as well (no GPU for PyTorch, a full disk, a checkpoint that somebody has to restore) is
    in the way of the search. What is raised may pass, as for a fold (``fold.try_fold``).

    Args:
        device: says what to compute on; a ``SaltRayError`` that it raises is in the way of the search.
    """
    name = trial_name(number)
    with contextlib.ExitStack() as open_:
        logs: dict[str, EpochLog] = {}

        def follow(step: Step) -> None:
            if step.progress is not None and "tensorboard" in work.experiment.tracking:
                fold = step.progress.name
                if fold not in logs:
                    logs[fold] = open_.enter_context(contextlib.closing(EpochLog(work.run.tensorboard / name / fold)))
                logs[fold].write(step.progress)
            report(step)

        try:
            run_trial(work.tasks(values), tiles, work.run.trial(number), device(), follow, say)
        except Exception as error:
            if (reason := lasting(error)) is None:
                raise
            in_the_way = isinstance(error, SaltRayError | OSError)
            if in_the_way and not isinstance(error, TrainingFailed | ExperimentError):
                return TrialEnd(obstacle=f"{name}: {reason}")
            return TrialEnd(failure=reason)
    return TrialEnd()
