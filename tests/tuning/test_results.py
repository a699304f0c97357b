"""What a search comes to: figures that agree with the trials, and nothing said where nothing can be known."""

import json
from collections.abc import Sequence

import numpy as np
import optuna
import pandas as pd
import pytest
from made_search import SECONDS, SPACE, add, new_study, search
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState

from salt_ray.tuning.results import IMPORTANCE_TRIALS, ResultsError, TrialSpread, importances, summarize, trial_table

MIXED = "cpcfcrpcw"


def with_values(values: Sequence[float]) -> optuna.Study:
    """Complete trials with these values and one parameter that varies."""
    study = new_study()
    for number, value in enumerate(values):
        add(study, TrialState.COMPLETE, value, {"factor": 0.3 + 0.6 * number / len(values)})
    return study


def test_the_table_holds_every_trial_as_it_is() -> None:
    study = search(MIXED)
    table = trial_table(study)
    initials = {"c": "complete", "p": "pruned", "f": "failed", "r": "running", "w": "waiting"}
    assert list(table["number"]) == list(range(len(MIXED)))
    assert list(table["state"]) == [initials[letter] for letter in MIXED]
    assert list(table["value"].notna()) == [letter == "c" for letter in MIXED]
    assert list(table["step"].fillna(0)) == [{"c": 20, "p": 7, "f": 3, "r": 5, "w": 0}[letter] for letter in MIXED]
    assert list(table["seconds"].notna()) == [letter in "cpf" for letter in MIXED]
    assert set(table["seconds"].dropna()) == {SECONDS}
    assert list(table["reason"].notna()) == [letter == "f" for letter in MIXED]
    for trial in study.trials:
        row = table.loc[trial.number]
        assert {name: row[name] for name in trial.params} == trial.params
        if trial.intermediate_values:
            assert row["step_value"] == trial.intermediate_values[trial.last_step]
    assert pd.api.types.is_integer_dtype(table["patience"])  # though the waiting trial has none
    assert list(table.columns)[-len(SPACE) - 1 :] == [*SPACE, "reason"]


def test_a_parameter_may_be_called_like_a_column() -> None:
    study = new_study()
    space = {"value": FloatDistribution(0, 1)}
    add(study, TrialState.COMPLETE, 0.8, {"value": 0.25}, space)
    assert trial_table(study).loc[0, ["value", "params.value"]].tolist() == [0.8, 0.25]


def test_a_study_without_trials_has_a_table_and_a_summary() -> None:
    summary = summarize(new_study())
    assert trial_table(new_study()).empty
    assert (summary.best, summary.baseline, summary.gain, summary.importances) == (None, None, None, {})
    assert summary.spread == TrialSpread(0, None, None, None, None)
    assert set(summary.counts.values()) == {0}


def test_the_summary_agrees_with_the_table() -> None:
    study = search(MIXED)
    table, summary = trial_table(study), summarize(study)
    values = table["value"].dropna()
    assert summary.best.number == values.idxmax()
    assert summary.best.value == values.max()
    assert summary.best.params == study.trials[summary.best.number].params
    assert summary.baseline == table.loc[0, "value"]
    assert summary.gain == values.max() - table.loc[0, "value"]
    assert summary.counts == {"complete": 4, "pruned": 2, "failed": 1, "running": 1, "waiting": 1}
    assert (summary.spread.n, summary.spread.min, summary.spread.max) == (4, values.min(), values.max())
    assert (summary.spread.mean, summary.spread.sd) == pytest.approx((np.mean(values), np.std(values, ddof=1)))


@pytest.mark.parametrize(
    ("values", "best"), [((0.8, 0.7, 0.8), 0), ((0.7, 0.8, 0.8), 1), ((0.7, 0.7), 0), ((0.7, float("inf"), 0.8), 2)]
)
def test_the_earliest_of_equals_is_the_best_and_no_infinite_value_counts(values: tuple, best: int) -> None:
    summary = summarize(with_values(values))
    assert summary.best.number == best
    assert summary.gain == values[best] - values[0]


@pytest.mark.parametrize("state", "pfrw")
def test_without_a_complete_baseline_there_is_no_gain(state: str) -> None:
    summary = summarize(search(f"{state}cc"))
    assert summary.best.number in (1, 2)
    assert (summary.baseline, summary.gain) == (None, None)


def test_pruned_scores_do_not_win() -> None:
    study = search("cc")
    add(study, TrialState.PRUNED, 0.99, scores=[0.99])
    assert summarize(study).best.value < 0.99


def test_one_complete_trial_has_no_spread() -> None:
    assert summarize(with_values([0.8])).spread == TrialSpread(1, 0.8, None, 0.8, 0.8)


@pytest.mark.parametrize("seed", range(3))
def test_the_parameter_that_matters_is_found(seed: int) -> None:
    shares = importances(search("c" * 40 + "f", seed))
    assert set(shares) == set(SPACE)
    assert next(iter(shares)) == "lr"
    assert shares["lr"] > 0.5
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert sum(shares.values()) == pytest.approx(1)


@pytest.mark.parametrize("seed", range(3))
def test_pruned_trials_say_what_matters_too(seed: int) -> None:
    """Where only the best quarter of a search is complete, the rest tell what is not good."""
    whole, pruned = search("c" * 40, seed), new_study()
    level = np.quantile([trial.value for trial in whole.get_trials()], 0.75)
    for trial in whole.get_trials():
        good, scores = trial.value > level, list(trial.intermediate_values.values())
        state, value = (TrialState.COMPLETE, trial.value) if good else (TrialState.PRUNED, scores[9])
        add(pruned, state, value, trial.params, scores=scores if good else scores[:10])
    shares = importances(pruned)
    assert next(iter(shares)) == "lr" and sum(shares.values()) == pytest.approx(1)


def test_equal_importances_stand_in_the_order_of_their_names() -> None:
    study, names = new_study(), ["delta", "beta", "gamma", "alpha"]
    for value in np.linspace(0, 1, 12):
        params = dict.fromkeys(names, float(value))
        add(study, TrialState.COMPLETE, float(value), params, dict.fromkeys(names, FloatDistribution(0, 1)))
    assert list(importances(study).items()) == [(name, pytest.approx(0.25)) for name in sorted(names)]


@pytest.mark.parametrize(
    "values",
    [
        np.linspace(0.7, 0.8, IMPORTANCE_TRIALS - 1),
        [0.8] * 20,
        [0.8] * 2 + [0.7] * 18,  # the best quarter would hold three of the others, chosen by nothing
    ],
    ids=["few", "equal", "ties"],
)
def test_importances_are_not_guessed(values: Sequence[float]) -> None:
    assert importances(with_values([float(value) for value in values])) == {}


def test_importances_speak_of_varied_parameters_only() -> None:
    study, bare = new_study(), new_study()
    space = {"x": FloatDistribution(0, 1), "fixed": IntDistribution(3, 3), "stuck": FloatDistribution(0, 1)}
    for value in np.linspace(0, 1, 12):
        add(study, TrialState.COMPLETE, float(value), {"x": float(value), "fixed": 3, "stuck": 0.5}, space)
        add(bare, TrialState.COMPLETE, float(value), {"fixed": 3}, space)
    assert importances(study) == {"x": 1.0}
    assert importances(bare) == {}


@pytest.mark.parametrize("states", ["", "w", "f", "c", MIXED, "c" * 20 + "pp"])
def test_a_summary_is_json_and_the_same_every_time(states: str) -> None:
    study = search(states)
    add(study, TrialState.COMPLETE, float("inf"), scores=[float("nan")])
    text = json.dumps(summarize(study).as_json(), allow_nan=False)
    assert json.loads(text) == summarize(study).as_json()
    assert text == json.dumps(summarize(search(states)).as_json()).replace(
        f'"complete": {states.count("c")}', f'"complete": {states.count("c") + 1}'
    )


@pytest.mark.parametrize("directions", [["minimize"], ["maximize", "maximize"]])
def test_other_studies_are_refused(directions: list[str]) -> None:
    study = optuna.create_study(study_name="losses", directions=directions)
    with pytest.raises(ResultsError, match="'losses' does not search for the highest score"):
        summarize(study)
