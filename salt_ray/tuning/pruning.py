"""Which trials end early: by epochs in the first fold, then fold by fold.

Optuna's pruners, not Ray Tune's schedulers, decide within the first fold: they look at the study's storage only, so a
search that was killed goes on pruning as if nothing had happened, while a scheduler's memory dies with the driver.
"""

from __future__ import annotations

from statistics import median

from optuna.pruners import BasePruner, MedianPruner, SuccessiveHalvingPruner
from optuna.study import Study
from optuna.trial import FrozenTrial

from salt_ray.config import Tune


class FoldPruner(BasePruner):
    """Asks ``epochs`` in the first fold; after a fold it prunes a mean below the median of the others' after as many.

    Optuna's Wilcoxon pruner compares folds in pairs with the best trial's, but its p-value cannot fall below 0.1 before
    the fourth fold, when five folds are nearly done. Optuna's median pruner takes the highest mean that a trial ever
    had, which is that of its easiest folds.

    Args:
        epochs: judges within the first fold; None: nothing is pruned at all.
        first_end: the step at which the first fold ends.
        others: trials that must have come as far before a fold's mean is compared.
    """

    def __init__(self, epochs: BasePruner | None, first_end: int, others: int) -> None:
        self._epochs, self._first_end, self._others = epochs, first_end, others

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
        return len(means) >= self._others and trial.intermediate_values[step] < median(means)


def build_pruner(tune: Tune, first_end: int) -> FoldPruner:
    """The pruner that ``tune`` names."""
    match tune.pruner:
        case "asha":
            epochs = SuccessiveHalvingPruner(tune.grace_epochs, tune.reduction_factor)
        case "median":
            epochs = MedianPruner(tune.startup_trials, n_warmup_steps=tune.grace_epochs)
        case "none":
            epochs = None
    return FoldPruner(epochs, first_end, tune.startup_trials)
