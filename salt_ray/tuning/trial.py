"""One trial of a search: the folds of an experiment one after the other, judged by the mean of their scores.

A step is an epoch counted over all folds. In the first fold a trial is judged after every epoch, by the best score so
far; later at the end of every fold, by the mean over the folds so far: a fold that has just begun would say nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import fmean
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment, Training
from salt_ray.section import ExperimentError
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training.models import fold_models, trained_stages
from salt_ray.training.progress import Progress
from salt_ray.training.task import FoldTask

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Step:
    """How far a trial is."""

    #: Epochs, counted as if no fold before this one had stopped early.
    step: int
    #: Mean over the folds so far of their model's score; of the present fold, of the model it would have by now (where
    #: that is snapshots, of the stage's best epoch).
    value: float
    #: Whether trials may be compared at this step.
    judged: bool
    #: The epoch that ended; None at the end of a fold.
    progress: Progress | None


#: What people and files call a trial's state.
STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


def trial_name(number: int) -> str:
    """How a trial is called in messages, logs and on the dashboard."""
    return f"trial-{number:04d}"


def folds_of(experiment: Experiment) -> list[tuple[Training, int]]:
    """Which folds a trial trains, in order.

    Raises:
        ExperimentError: ``tune.folds`` names one that there is not.
    """
    folds = []
    for training in experiment.trainings:
        chosen = range(training.folds.count) if experiment.tune.folds == "all" else experiment.tune.folds
        for name, fold in [*(("folds", fold) for fold in chosen), ("confirm", experiment.tune.confirm or 0)]:
            if not 0 <= fold < training.folds.count:
                raise ExperimentError(
                    f"tune.{name}: {training.name} has no fold {fold}, only 0 … {training.folds.count - 1}"
                )
        folds += [(training, fold) for fold in chosen]
    return folds


def fold_ends(experiment: Experiment) -> list[int]:
    """The step at which each fold of a trial ends."""
    epochs = (sum(stage.epochs for stage in training.stages) for training, _ in folds_of(experiment))
    return list(accumulate(epochs))


def run_trial(
    tasks: Sequence[FoldTask],
    tiles: TrainingTiles,
    run: RunDirectory,
    device: torch.device,
    report: Callable[[Step], None],
    say: Callable[[str], None] = lambda line: None,
) -> float:
    """Train a trial's folds, or finish what was begun.

    Args:
        tasks: one a fold, of the trial's effective experiment.
        run: the trial's run directory.
        report: called after every epoch and at the end of every fold.

    Returns:
        The mean of the scores of the folds' models (``training.models``).

    Raises:
        SaltRayError: as ``train_fold``.
    """
    from salt_ray.training.loop import train_fold  # PyTorch: who only names trials and steps does not wait for it

    scores: list[float] = []
    ends = fold_ends(tasks[0].experiment)
    for task, (begin, end) in zip(tasks, pairwise([0, *ends]), strict=True):
        epochs = {stage.name: stage.epochs for stage in task.training.stages}
        begins = dict(zip(epochs, accumulate(epochs.values(), initial=begin), strict=False))

        def follow(progress: Progress, begins: dict[str, int] = begins, task: FoldTask = task) -> None:
            step = begins[progress.stage] + progress.epoch
            takes_best = task.experiment.prediction.models == "best"
            trained = trained_stages(run, task.training, task.fold) if takes_best else []
            value = max([*(stage.score for stage in trained), progress.best_score])
            judged = step < ends[0]  # the last epoch of the first fold is its end, reported below
            report(Step(step, fmean([*scores, value]), judged, progress))

        train_fold(task, tiles, run, device, follow, say)
        (model,) = fold_models(run, task.training, task.fold, task.experiment.prediction.models)
        scores.append(model.score)
        report(Step(end, fmean(scores), True, None))
    return fmean(scores)
