"""Samples become experiments, and what cannot be searched is refused before anything runs."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from salt_ray.config import Choice, Experiment, FloatRange, IntRange, Parameter, Tune
from salt_ray.experiment_file import load_experiment
from salt_ray.section import ExperimentError
from salt_ray.tuning.space import Space

ROOT = Path(__file__).parents[2]
STAGE = "trainings.all.stages.plateau"
LR = FloatRange(name="lr", fields=(f"{STAGE}.lr",), low=1e-3, high=0.1, log=True)


def with_space(tiny: Experiment, *parameters: Parameter) -> Experiment:
    return tiny.replace(tune=Tune(parameters=parameters))


@pytest.mark.parametrize("name", ["tune", "tune_demo", "tune_ingredients"])
def test_the_experiments_of_the_repository_can_be_searched(name: str) -> None:
    experiment = load_experiment(ROOT / "experiments" / f"{name}.py")
    space = Space(experiment)
    assert space.effective(space.baseline) == experiment
    everything = experiment.tune.replace(parameters=tuple(p.replace(on=True) for p in experiment.tune.parameters))
    assert len(Space(experiment.replace(tune=everything)).baseline) == len(experiment.tune.parameters)


def test_every_suggestion_reaches_its_fields_and_no_other(tiny: Experiment) -> None:
    experiment = with_space(
        tiny,
        LR,
        IntRange(name="patience", fields=(f"{STAGE}.schedule.patience",), low=0, high=9),
        FloatRange(
            name="strength", fields=("augmentation.brightness_limit", "augmentation.contrast_limit"), low=0.0, high=0.5
        ),
        Choice(name="batch", fields=("trainings.all.stages.all.batch_size",), values=(4, 8)),
        FloatRange(name="dropout", fields=("network.decoder.dropout",), low=0.0, high=0.5, on=False),
    )
    space = Space(experiment)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(5):
        trial = study.ask()
        space(trial)
        assert set(trial.params) == {"lr", "patience", "strength", "batch"}
        changed = space.effective(trial.params)
        plateau, cosine = changed.trainings[0].stages
        assert plateau.lr == trial.params["lr"] and cosine.lr == tiny.trainings[0].stages[1].lr
        assert plateau.schedule.patience == trial.params["patience"]
        assert changed.augmentation.brightness_limit == changed.augmentation.contrast_limit == trial.params["strength"]
        assert plateau.batch_size == cosine.batch_size == trial.params["batch"]
        assert changed.network == tiny.network
        back = {"lr": plateau.lr, "schedule": plateau.schedule, "batch_size": plateau.batch_size}
        own = tiny.trainings[0].stages[0]
        assert plateau.replace(**{name: getattr(own, name) for name in back}) == own


@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        (LR.replace(fields=(f"{STAGE}.lrr",)), ["unknown field 'lrr'", "did you mean 'lr'"]),
        (LR.replace(low=0.03), ["tune.parameters.lr", "0.02", "0.03 … 0.1"]),
        (LR.replace(fields=("trainings.all.stages.all.lr",)), ["tune.parameters.lr", "differ", "0.02", "0.01"]),
        (
            FloatRange(name="p", fields=("network.decoder.dropout",), low=0.0, high=1.0),
            ["tune.parameters.p allows 1.0", "less"],
        ),
        (IntRange(name="e", fields=(f"{STAGE}.epochs",), low=1, high=9), ["tune.parameters.e", "cannot be searched"]),
        (IntRange(name="k", fields=("trainings.all.folds.count",), low=2, high=9), ["cannot be searched"]),
        (Choice(name="b", fields=(f"{STAGE}.batch_size",), values=(8, 16)), ["tune.parameters.b", "4", "8, 16"]),
        (IntRange(name="i", fields=("network.decoder.dropout",), low=0, high=1), ["tune.parameters.i", "0.2", "0 … 1"]),
        (IntRange(name="t", fields=("geometry.crop_px",), low=32, high=64), ["tune.parameters.t", "None", "32 … 64"]),
    ],
)
def test_a_space_that_cannot_be_searched_is_one_sentence(
    tiny: Experiment, parameter: Parameter, words: list[str]
) -> None:
    with pytest.raises(ExperimentError) as caught:
        Space(with_space(tiny, parameter))
    for word in words:
        assert word in str(caught.value)


def test_two_parameters_do_not_set_one_field(tiny: Experiment) -> None:
    again = LR.replace(name="again", fields=("trainings.random.stages.0.lr",), low=1e-2)
    with pytest.raises(ExperimentError, match=r"tune\.parameters\.lr: another parameter sets .*plateau\.lr too"):
        Space(with_space(tiny, LR, again))


def test_without_a_tune_section_there_is_nothing_to_search(tiny: Experiment) -> None:
    with pytest.raises(ExperimentError, match=r"tiny .*experiments/tune\.py"):
        Space(tiny)


def test_ranges_and_lists_are_checked_where_they_stand(tiny: Experiment) -> None:
    for changes, words in [
        ({"low": 0.2}, "low = 0.2 is not below high = 0.1"),
        ({"low": 0.0}, "must be above 0 with log"),
        ({"fields": ()}, "fields"),
    ]:
        with pytest.raises(ExperimentError, match=words):
            LR.replace(**changes)
    for changes, words in [
        ({"parameters": (LR, LR)}, "must be unique"),
        ({"parameters": (LR.replace(on=False),)}, "there is nothing to search"),
        ({"folds": (0, 0)}, "twice"),
    ]:
        with pytest.raises(ExperimentError, match=words):
            Tune(parameters=(LR,)).replace(**changes)
    with pytest.raises(ExperimentError, match="twice"):
        Choice(name="batch", fields=("x",), values=(1, 2)).replace(values=(1, 1))
