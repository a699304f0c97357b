"""Searches made for tests: trials in any state, with curves, written straight into a study in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

SPACE = {
    "lovasz_weight": FloatDistribution(0, 1),
    "lr": FloatDistribution(1e-4, 0.1, log=True),
    "factor": FloatDistribution(0.3, 0.9),
    "patience": IntDistribution(5, 40),
    "encoder": CategoricalDistribution(["resnet34", "seresnext50_32x4d", "mnasnet_small"]),
}
SECONDS = 90  # that a trial takes
EPOCHS = 20


def new_study() -> optuna.Study:
    """One without trials."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(study_name="made", direction="maximize")


def add(
    study: optuna.Study,
    state: TrialState,
    value: float | None = None,
    params: dict[str, Any] | None = None,
    space: dict[str, BaseDistribution] = SPACE,
    scores: Sequence[float] = (),
    **notes: Any,
) -> None:
    """Append a trial; ``scores`` are those of its epochs, from the first on, and ``notes`` its user attributes."""
    params = params or {}
    trial = create_trial(
        state=state,
        value=value,
        params=params,
        distributions={name: space[name] for name in params},
        intermediate_values=dict(enumerate(scores, start=1)),
        user_attrs=notes,
    )
    if trial.datetime_complete:
        trial.datetime_start = datetime(2026, 1, 1)
        trial.datetime_complete = trial.datetime_start + timedelta(seconds=SECONDS)
    study.add_trial(trial)


def sample(random: np.random.Generator) -> dict[str, Any]:
    """Values of ``SPACE``, drawn by chance."""
    return {
        "lovasz_weight": float(random.random()),
        "lr": float(10 ** random.uniform(-4, -1)),
        "factor": float(random.uniform(0.3, 0.9)),
        "patience": int(random.integers(5, 41)),
        "encoder": str(random.choice(SPACE["encoder"].choices)),
    }


def search(states: str, seed: int = 0) -> optuna.Study:
    """A search in which nothing but ``lr`` matters: 0.01 is best.

    Args:
        states: the initial of each trial's state: complete, pruned, failed, running, waiting.
    """
    random, study = np.random.default_rng(seed), new_study()
    for initial in states:
        params = sample(random)
        value = 0.84 - 0.05 * (np.log10(params["lr"]) + 2) ** 2 + 0.001 * random.normal()
        scores = [float(value - 0.4 * np.exp(-epoch / 4)) for epoch in range(1, EPOCHS)] + [float(value)]
        match initial:
            case "c":
                add(study, TrialState.COMPLETE, float(value), params, scores=scores)
            case "p":  # Optuna too gives a pruned trial its last score as a value
                add(study, TrialState.PRUNED, scores[6], params, scores=scores[:7])
            case "f":
                add(study, TrialState.FAIL, None, params, scores=scores[:3], reason="the loss is nan in epoch 4")
            case "r":
                add(study, TrialState.RUNNING, None, params, scores=scores[:5])
            case "w":
                add(study, TrialState.WAITING)
            case _:
                raise ValueError(initial)
    return study
