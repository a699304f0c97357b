"""Trains one trial of a search on behalf of an engine, and tells its own failures from general ones."""

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
    """A search cannot continue now; its results so far are kept."""

    def __init__(self, obstacle: str) -> None:
        super().__init__(f"{obstacle}; then run the same command again to resume the search")


@dataclass(frozen=True)
class SearchWork:
    """Data shared by all trials of a search.

    Attributes:
        tables: fold tables by training.
        decision: how predictions become masks in validation.
    """

    experiment: Experiment
    tables: Mapping[str, FoldTable]
    run: RunDirectory
    decision: Decision

    def tasks(self, values: Mapping[str, Any]) -> list[FoldTask]:
        """The folds of a trial with these values."""
        effective = Space(self.experiment).effective(dict(values))
        weights = first_weights(effective.network)
        return [
            FoldTask(effective, training, fold, self.tables[training.name], weights, self.decision)
            for training, fold in folds_of(effective)
        ]


@dataclass(frozen=True)
class TrialEnd:
    """How a trial ended: normally, by a failure of its own, or by an obstacle to all trials."""

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

    A NaN loss is the trial's own failure, and so is an error that its values would raise again. Errors that would
    affect every trial (no GPU, a full disk, a damaged checkpoint) are an obstacle to the search. Errors that may be
    temporary are raised, as in ``fold.try_fold``.

    Args:
        device: returns the device to use; a ``SaltRayError`` from it is an obstacle to the search.
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
