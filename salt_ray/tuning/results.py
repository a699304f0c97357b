"""What a search has found: its trials as a table, and what they come to."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any, Self

import optuna
import pandas as pd
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from salt_ray.artifacts import RunDirectory
from salt_ray.errors import SaltRayError
from salt_ray.storage import fields_if_there, readable, write_atomically
from salt_ray.tuning.space import BASELINE
from salt_ray.tuning.trial import STATES

#: The best share of the trials, whose values are compared with those of all. Where one of four parameters mattered, a
#: quarter put it first in 97 % of 40 made searches of 20 trials, Optuna's own tenth (two trials) in 72 %.
TOP_SHARE = 0.25
#: With fewer complete trials the first place is little better than random; with 10 it was right in 75 %.
IMPORTANCE_TRIALS = 10


class ResultsError(SaltRayError):
    """A study is no search for the highest score."""


@dataclass(frozen=True)
class Best:
    """The trial with the highest value; the earliest of them where several have it."""

    number: int
    value: float
    params: dict[str, Any]


@dataclass(frozen=True)
class TrialSpread:
    """Values of complete trials; ``None`` where there are too few trials to say (``sd``: of the sample, n - 1)."""

    n: int
    mean: float | None
    sd: float | None
    min: float | None
    max: float | None


@dataclass(frozen=True)
class Summary:
    """A search in figures. The best value is the highest of many: on other folds it will be a little lower."""

    #: None while no trial is complete.
    best: Best | None
    #: The value of the experiment's own settings; None where that trial is not complete.
    baseline: float | None
    #: Best minus baseline, 0 where nothing was better.
    gain: float | None
    spread: TrialSpread
    #: Trials in each state, all five of them.
    counts: dict[str, int]
    #: Parameter to its share, highest first; they add up to 1. Empty where the trials do not tell (``importances``).
    importances: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """The fields as a dict that ``json.dumps`` takes; it holds no NaN."""
        return asdict(self)


@dataclass(frozen=True)
class Confirmation:
    """What the best trial's settings and the experiment's own score on a fold that judged no trial."""

    fold: int
    number: int
    baseline: float
    best: float

    def save(self, run: RunDirectory) -> None:
        """Write it next to the search."""
        write_atomically(run.study / "confirmation.json", json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, run: RunDirectory) -> Self | None:
        """What was written; None: nothing yet.

        Raises:
            RunError: it is damaged.
        """
        fields = fields_if_there(run.study / "confirmation.json", run.study)
        with readable(run.study / "confirmation.json", run.study):
            return None if fields is None else cls(**fields)


def summarize(study: optuna.Study) -> Summary:
    """What the trials so far come to.

    Raises:
        ResultsError: the study does not search for the highest score.
    """
    trials = complete_trials(study)
    first = max(trials, key=lambda trial: trial.value, default=None)  # of equals the earliest
    best = Best(first.number, first.value, dict(first.params)) if first else None
    own = next((trial.value for trial in trials if trial.number == BASELINE), None)
    seen = Counter(trial.state for trial in study.get_trials(deepcopy=False))
    return Summary(
        best=best,
        baseline=own,
        gain=None if own is None else best.value - own,
        spread=_spread([trial.value for trial in trials]),
        counts={name: seen[state] for state, name in STATES.items()},
        importances=importances(study),
    )


def trial_table(study: optuna.Study) -> pd.DataFrame:
    """Every trial as a row.

    Columns: ``number``; ``state``; ``value`` (of complete trials, else NaN); ``step``, the last one that was judged,
    and ``step_value``, the score there; ``seconds`` from start to end; the parameters under their names
    (``params.NAME`` where another column is called so); ``reason`` of a failure.
    """
    trials = study.get_trials(deepcopy=False)
    completed = {trial.number for trial in complete_trials(study)}
    before = {
        "number": [trial.number for trial in trials],
        "state": [STATES[trial.state] for trial in trials],
        # Optuna calls the last partial score of a pruned trial its value; beside complete ones it would mislead.
        "value": _numbers(trial.value if trial.number in completed else None for trial in trials),
        "step": pd.array([trial.last_step for trial in trials], dtype="Int64"),
        "step_value": _numbers(trial.intermediate_values.get(trial.last_step) for trial in trials),
        "seconds": _numbers(trial.duration.total_seconds() if trial.duration else None for trial in trials),
    }
    reasons = [trial.user_attrs.get("reason") if trial.state is TrialState.FAIL else None for trial in trials]
    after = {"reason": pd.Series(reasons, dtype=object)}
    parameters = {}
    for name in dict.fromkeys(name for trial in trials for name in trial.params):
        column = f"params.{name}" if name in before or name in after else name
        parameters[column] = _values([trial.params.get(name) for trial in trials])
    return pd.DataFrame(before | parameters | after)


def importances(study: optuna.Study) -> dict[str, float]:
    """How much each parameter has to do with being among the best (PED-ANOVA), highest first; shares of 1.

    A pruned trial counts with the last score that it had: where it fell behind the others.

    Empty where nothing honest can be said: fewer than ``IMPORTANCE_TRIALS`` of them all, a best quarter that is no
    better than the rest, or no parameter with two values. Parameters of one value are left out.
    """
    pruned = study.get_trials(deepcopy=False, states=(TrialState.PRUNED,))
    judged = {trial.number: (trial, trial.value) for trial in complete_trials(study)}
    judged |= {t.number: (t, t.intermediate_values[t.last_step]) for t in pruned if t.last_step is not None}
    values = sorted((value for _, value in judged.values()), reverse=True)
    if len(values) < IMPORTANCE_TRIALS or values[math.ceil(TOP_SHARE * len(values)) - 1] == values[-1]:
        return {}
    ranked = optuna.create_study(direction="maximize")
    for _, (trial, value) in sorted(judged.items()):
        ranked.add_trial(create_trial(params=trial.params, distributions=trial.distributions, value=value))
    names = {name for trial, _ in judged.values() for name in trial.params}
    varied = sorted(name for name in names if len({trial.params.get(name) for trial, _ in judged.values()}) > 1)
    evaluator = PedAnovaImportanceEvaluator(target_quantile=TOP_SHARE)
    found = get_param_importances(ranked, evaluator=evaluator, params=varied)
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def complete_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Trials with a value, by number.

    Raises:
        ResultsError: the study does not search for the highest score.
    """
    if study.directions != [StudyDirection.MAXIMIZE]:
        raise ResultsError(f"the study {study.study_name!r} does not search for the highest score: name another study")
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [trial for trial in trials if math.isfinite(trial.value)]


def _spread(values: Sequence[float]) -> TrialSpread:
    if not values:
        return TrialSpread(0, None, None, None, None)
    sd = stdev(values) if len(values) > 1 else None
    return TrialSpread(len(values), fmean(values), sd, min(values), max(values))


def _values(values: list[Any]) -> pd.Series:
    """A parameter's column; whole numbers stay whole where a trial lacks one."""
    whole = all(value is None or type(value) is int for value in values)
    return pd.Series(values, dtype="Int64") if whole else pd.Series(values, dtype=object).infer_objects()


def _numbers(values: Iterable[float | None]) -> pd.Series:
    return pd.Series(list(values), dtype="float64")
