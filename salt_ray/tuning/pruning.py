"""Which trials end early: by epochs in the first fold, then fold by fold.

Every decision is a function of the scores in the study's storage. Ray Tune's schedulers keep their rungs in memory, and
Optuna's successive halving writes a rung down before it answers: a search that is killed there would continue otherwise
than one that is not.
"""

from __future__ import annotations

from statistics import median

from optuna.pruners import BasePruner, MedianPruner
from optuna.study import Study
from optuna.trial import FrozenTrial

from salt_ray.config import Tune

FOLD_OTHERS = 3  # trials that must have ended as many folds: few get so far, and fewer would make no median


class RungPruner(BasePruner):
    """Asynchronous successive halving (ASHA, Li et al. 2018): at each rung only the best so far continue.

    A trial that stopped early, and so never stood on a rung, competes there with the score that it ended with.

    Args:
        first: the step of the first rung.
        factor: each rung is this much further, and one of so many trials passes it; the best always does.
    """

    def __init__(self, first: int, factor: int) -> None:
        self._first, self._factor = first, factor

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        steps = sorted(trial.intermediate_values)
        if not steps:
            return False
        before, rung = (steps[-2] if len(steps) > 1 else 0), self._first
        while rung <= steps[-1]:
            if rung > before and not self._passes(study, trial, rung):
                return True
            rung *= self._factor
        return False

    def _passes(self, study: Study, trial: FrozenTrial, rung: int) -> bool:
        scores = sorted(
            (_score_at(t, rung) for t in study.get_trials(deepcopy=False) if _came_to(t, rung)), reverse=True
        )
        return _score_at(trial, rung) >= scores[max(1, len(scores) // self._factor) - 1]


class FoldPruner(BasePruner):
    """Asks ``epochs`` in the first fold; after a fold it prunes a mean below the median of the others' after as many.

    Optuna's Wilcoxon pruner compares folds in pairs with the best trial's, but its p-value cannot fall below 0.1 before
    the fourth fold, when five folds are nearly done. Optuna's median pruner takes the highest mean that a trial ever
    had, which is that of its easiest folds.

    Args:
        epochs: judges within the first fold; None: nothing is pruned at all.
        first_end: the step at which the first fold ends.
    """

    def __init__(self, epochs: BasePruner | None, first_end: int) -> None:
        self._epochs, self._first_end = epochs, first_end

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        step = trial.last_step
        if step is None or self._epochs is None:
            return False
        if step < self._first_end:
            return self._epochs.prune(study, trial)
        means = [
            other.intermediate_values[step]
            for other in study.get_trials(deepcopy=False)
            if other.number != trial.number and step in other.intermediate_values
        ]
        return len(means) >= FOLD_OTHERS and trial.intermediate_values[step] < median(means)


def build_pruner(tune: Tune, first_end: int) -> FoldPruner:
    """The pruner that ``tune`` names."""
    match tune.pruner:
        case "asha":
            epochs = RungPruner(tune.grace_epochs, tune.reduction_factor)
        case "median":
            epochs = MedianPruner(tune.startup_trials, n_warmup_steps=tune.grace_epochs)
        case "none":
            epochs = None
    return FoldPruner(epochs, first_end)


def _came_to(trial: FrozenTrial, rung: int) -> bool:
    return trial.last_step is not None and trial.last_step >= rung


def _score_at(trial: FrozenTrial, rung: int) -> float:
    """The last score up to a rung."""
    step = max((step for step in trial.intermediate_values if step <= rung), default=min(trial.intermediate_values))
    return trial.intermediate_values[step]
