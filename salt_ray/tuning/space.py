"""What a search varies: parameters of an experiment as Optuna's suggestions, and samples as experiments.

And what it depends on: what all its trials have in common, and what another search would have otherwise.
"""

from __future__ import annotations

from typing import Any

from optuna.trial import BaseTrial

from salt_ray.artifacts import Folder, RunDirectory
from salt_ray.config import Choice, Experiment, FloatRange, IntRange, Parameter
from salt_ray.experiment_file import assign, values_at
from salt_ray.section import ExperimentError

BASELINE = 0  # the number of the trial with the experiment's own values
#: What may differ when a search resumes: it can be made longer, or wider.
CHANGEABLE = {"trials", "confirm", "trials_per_gpu", "max_concurrent", "kept_checkpoints"}


class Space:
    """The parameters that ``experiment.tune`` switches on.

    Called with an Optuna trial it makes its suggestions (what Optuna calls define-by-run).

    Raises:
        ExperimentError: nothing is to be searched, a parameter names no field, its range is not allowed there or leaves
            out the experiment's own value, or it would change what all trials share.
    """

    def __init__(self, experiment: Experiment) -> None:
        if experiment.tune is None:
            raise ExperimentError(
                f"{experiment.name} does not say what to search: add a tune section, as experiments/tune.py does"
            )
        self.experiment = experiment
        self.parameters = [parameter for parameter in experiment.tune.parameters if parameter.on]
        #: The experiment's own values: the first trial.
        self.baseline = {parameter.name: self._own_value(parameter) for parameter in self.parameters}
        for parameter in self.parameters:
            for value in _extremes(parameter):
                self._check(parameter, value)
        self._check_apart()

    def __call__(self, trial: BaseTrial) -> None:
        for parameter in self.parameters:
            match parameter:
                case FloatRange(name=name, low=low, high=high, log=log):
                    trial.suggest_float(name, low, high, log=log)
                case IntRange(name=name, low=low, high=high, log=log):
                    trial.suggest_int(name, low, high, log=log)
                case Choice(name=name, values=values):
                    trial.suggest_categorical(name, values)

    def encoders(self) -> list[str]:
        """Every encoder that a trial may have."""
        searched = [p.values for p in self.parameters if isinstance(p, Choice) and "network.encoder" in p.fields]
        return list(searched[0]) if searched else [self.experiment.network.encoder]

    def effective(self, sample: dict[str, Any]) -> Experiment:
        """The experiment with a sample's values.

        Raises:
            ExperimentError: the values are not allowed together.
        """
        return assign(
            self.experiment,
            {field: sample[parameter.name] for parameter in self.parameters for field in parameter.fields},
        )

    def _own_value(self, parameter: Parameter) -> Any:
        own = [value for field in parameter.fields for value in values_at(self.experiment, field)]
        where = f"tune.parameters.{parameter.name}"
        if any(value != own[0] for value in own):
            raise ExperimentError(f"{where}: its fields differ in the experiment ({own}); give them one value")
        value = own[0]
        if isinstance(parameter, Choice):
            inside = any(value == choice and type(value) is type(choice) for choice in parameter.values)
            allowed = ", ".join(map(repr, parameter.values))
        else:
            kind = int if isinstance(parameter, IntRange) else float
            inside = type(value) is kind and parameter.low <= value <= parameter.high
            allowed = f"{parameter.low:g} … {parameter.high:g}"
        if not inside:
            raise ExperimentError(
                f"{where}: the experiment's own {parameter.fields[0]} = {value!r} is the first trial's and must be "
                f"one of {allowed}: change one of them"
            )
        return value

    def _check(self, parameter: Parameter, value: Any) -> None:
        try:
            changed = assign(self.experiment, dict.fromkeys(parameter.fields, value))
        except ExperimentError as error:
            raise ExperimentError(f"tune.parameters.{parameter.name} allows {value!r}: {error}") from error
        if shared(changed) != shared(self.experiment):
            raise ExperimentError(
                f"tune.parameters.{parameter.name}: {parameter.fields[0]} cannot be searched: trials share their "
                "tiles, folds and numbers of epochs; search fields of network, augmentation or stages"
            )

    def _check_apart(self) -> None:
        """No two parameters may set one field: the second would count, and the first be believed."""
        other = {p.name: next(v for v in _extremes(p) if v != self.baseline[p.name]) for p in self.parameters}
        changed = self.effective(other)
        for parameter in self.parameters:
            for field in parameter.fields:
                if any(value != other[parameter.name] for value in values_at(changed, field)):
                    raise ExperimentError(
                        f"tune.parameters.{parameter.name}: another parameter sets {field} too; let only one do it"
                    )


def shared(experiment: Experiment) -> dict[str, Any]:
    """What all trials of a search have in common besides the values that are not searched."""
    varied = {"network", "augmentation", "precision", "trainings"}
    return experiment.model_dump(mode="json", exclude=varied) | {
        "trainings": [
            (training.name, training.folds.model_dump(mode="json"), [(s.name, s.epochs) for s in training.stages])
            for training in experiment.trainings
        ]
    }


def study_folder(experiment: Experiment, run: RunDirectory, inputs: dict[str, Any]) -> Folder:
    """The folder of an experiment's search.

    Args:
        inputs: what trials depend on besides the experiment: tiles, folds, first weights.
    """
    chosen = {"seed", "geometry", "augmentation", "network", "precision", "trainings"}
    tune = experiment.tune and experiment.tune.model_dump(mode="json", exclude=CHANGEABLE)
    return Folder(run.study, {"experiment": experiment.model_dump(mode="json", include=chosen), "tune": tune, **inputs})


def _extremes(parameter: Parameter) -> tuple[Any, ...]:
    return parameter.values if isinstance(parameter, Choice) else (parameter.low, parameter.high)
