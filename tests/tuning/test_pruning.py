"""Trials end early where they fall behind: by epochs in the first fold, fold by fold after it."""

from __future__ import annotations

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from salt_ray.config import FloatRange, Tune
from salt_ray.tuning.pruning import FOLD_OTHERS, build_pruner

FIRST_END = 10
SPACE = (FloatRange(name="lr", fields=("lr",), low=0.1, high=1.0),)


def study_of(tune: Tune, others: list[dict[int, float]]) -> optuna.Study:
    """A study whose ended trials had these partial means by step."""
    study = optuna.create_study(direction="maximize", pruner=build_pruner(tune, FIRST_END))
    for means in others:
        study.add_trial(create_trial(state=TrialState.COMPLETE, value=means[max(means)], intermediate_values=means))
    return study


def pruned(study: optuna.Study, means: dict[int, float]) -> bool:
    trial = study.ask()
    for step, mean in means.items():
        trial.report(mean, step)
    return trial.should_prune()


OTHERS = [{10: 0.5, 20: 0.40}, {10: 0.6, 20: 0.50}, {10: 0.7, 20: 0.60}, {10: 0.8}]


@pytest.mark.parametrize("name", ["asha", "median"])
def test_after_a_fold_the_mean_is_compared_with_means_after_as_many(name: str) -> None:
    tune = Tune(parameters=SPACE, pruner=name, startup_trials=3)
    assert pruned(study_of(tune, OTHERS), {10: 0.64})  # the others' median is 0.65
    assert not pruned(study_of(tune, OTHERS), {10: 0.65})
    # 0.9 on an easy first fold does not save it, nor does a poor one condemn it
    assert pruned(study_of(tune, OTHERS), {10: 0.9, 20: 0.49})
    assert not pruned(study_of(tune, OTHERS), {10: 0.65, 20: 0.50})


def test_few_others_are_no_median() -> None:
    tune = Tune(parameters=SPACE)
    assert pruned(study_of(tune, OTHERS[:FOLD_OTHERS]), {10: 0.1})
    assert not pruned(study_of(tune, OTHERS[: FOLD_OTHERS - 1]), {10: 0.1})
    assert not pruned(study_of(tune, OTHERS), {10: 0.7, 20: 0.6, 30: 0.1})  # none has come as far


def test_nothing_is_pruned_where_none_is_asked() -> None:
    assert not pruned(study_of(Tune(parameters=SPACE, pruner="none", startup_trials=1), OTHERS), {10: 0.0, 20: 0.0})


def test_asha_lets_a_share_pass_each_rung() -> None:
    study = study_of(Tune(parameters=SPACE, grace_epochs=3, reduction_factor=2), [])
    values = [0.50, 0.40, 0.60, 0.45, 0.70, 0.30]
    assert [pruned(study, {1: value, 2: value}) for value in values] == [False] * 6  # before the first rung
    study = study_of(Tune(parameters=SPACE, grace_epochs=3, reduction_factor=2), [])
    assert [pruned(study, {3: value}) for value in values] == [False, True, False, True, False, True]


def test_asha_asks_once_a_rung_and_again_where_nothing_is_new() -> None:
    tune = Tune(parameters=SPACE, grace_epochs=2, reduction_factor=2)  # rungs at 2, 4, 8
    study = study_of(tune, [{2: 0.5, 4: 0.6, 8: 0.7, 10: 0.7}, {2: 0.6, 4: 0.7, 8: 0.8, 10: 0.8}])
    trial = study.ask()
    trial.report(0.9, 2)
    assert not trial.should_prune()
    trial.report(0.1, 3)
    assert not trial.should_prune()  # no rung
    trial.report(0.1, 4)
    assert trial.should_prune()
    assert trial.should_prune()  # a resumed trial is judged as it was


def test_asha_lets_a_trial_that_stopped_early_compete_with_what_it_had() -> None:
    tune = Tune(parameters=SPACE, grace_epochs=2, reduction_factor=2)
    stopped = {2: 0.5, 3: 0.8, FIRST_END: 0.8}  # after three epochs; its fold's end says so
    assert pruned(study_of(tune, [stopped]), {2: 0.6, 4: 0.7})
    assert not pruned(study_of(tune, [stopped]), {2: 0.6, 4: 0.8})


def test_median_waits_for_its_trials_and_its_epochs() -> None:
    tune = Tune(parameters=SPACE, pruner="median", startup_trials=3, grace_epochs=4)
    others = [{3: value, 4: value, 5: value} for value in (0.5, 0.6, 0.7)]
    assert not pruned(study_of(tune, others), {3: 0.1})
    assert pruned(study_of(tune, others), {4: 0.1})
    assert not pruned(study_of(tune, others[:2]), {4: 0.1})
