"""What a search varies, and how (``salt_ray.tuning``)."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    field_validator,
    model_validator,
)

from salt_ray.section import Name, Section, distinct_names


class Searched(Section):
    """What a search varies, whichever values it may take."""

    name: Name
    #: The fields that take the value, as for ``--set``.
    fields: Annotated[tuple[str, ...], Field(min_length=1)]
    on: StrictBool = True


class Range(Searched):
    """From ``low`` to ``high``, both included; ``log``: equally likely at every order of magnitude."""

    log: StrictBool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low = {self.low} is not below high = {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low = {self.low} must be above 0 with log")
        return self


class FloatRange(Range):
    """A real number."""

    kind: Literal["float"] = "float"
    low: StrictFloat
    high: StrictFloat


class IntRange(Range):
    """A whole number."""

    kind: Literal["int"] = "int"
    low: StrictInt
    high: StrictInt


class Choice(Searched):
    """One of several values."""

    kind: Literal["choice"] = "choice"
    values: Annotated[tuple[StrictBool | StrictInt | StrictFloat | str, ...], Field(min_length=2)]

    @field_validator("values")
    @classmethod
    def _each_once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(values)) < len(values):
            raise ValueError("a value is listed twice")
        return values


Parameter = FloatRange | IntRange | Choice


class Tune(Section):
    """A search: which fields take which values, on which folds trials are judged, and when they end early."""

    #: What is searched; a parameter with ``on=False`` keeps the experiment's own value until it is switched on.
    parameters: tuple[Annotated[Parameter, Field(discriminator="kind")], ...]
    trials: Annotated[StrictInt, Field(ge=1)] = 50
    #: The folds that a trial trains in this order, of every training; its value is their mean score.
    folds: Annotated[tuple[StrictInt, ...], Field(min_length=1)] | Literal["all"] = (0,)
    #: A fold, of every training, that judges no trial: when the search is done, the best trial's settings and the
    #: experiment's own are trained on it. None: they are not.
    confirm: Annotated[StrictInt, Field(ge=0)] | None = None
    #: Optuna's tree-structured Parzen estimator (multivariate), Gaussian process, quasi-random numbers, or chance.
    sampler: Literal["tpe", "gp", "qmc", "random"] = "tpe"
    #: Trials drawn by chance before tpe or gp learn from them, and completed before a median prunes.
    startup_trials: Annotated[StrictInt, Field(ge=1)] = 10
    #: Ends trials whose score falls behind: successive halving (ASHA), below the median of the others, or never.
    pruner: Literal["asha", "median", "none"] = "asha"
    #: Epochs of the first fold before a trial can be pruned; with asha the first rung.
    grace_epochs: Annotated[StrictInt, Field(ge=1)] = 40
    #: Each rung of asha is this much further, and one of so many trials passes it.
    reduction_factor: Annotated[StrictInt, Field(ge=2)] = 3
    #: Trials that share a GPU, where there is one and ``resources.gpus_per_fold`` says nothing else.
    trials_per_gpu: Annotated[StrictInt, Field(ge=1)] = 2
    #: Trials at once; None: as many as there is room for. One at a time repeats a search exactly.
    max_concurrent: Annotated[StrictInt, Field(ge=1)] | None = None
    #: The best trials, of which checkpoints stay on the disk.
    kept_checkpoints: Annotated[StrictInt, Field(ge=1)] = 3

    @field_validator("parameters")
    @classmethod
    def _distinct(cls, parameters: tuple[Parameter, ...]) -> tuple[Parameter, ...]:
        if not any(parameter.on for parameter in parameters):
            raise ValueError("no parameter is on: there is nothing to search")
        return distinct_names(parameters)

    @field_validator("folds")
    @classmethod
    def _each_once(cls, folds: tuple[int, ...] | str) -> tuple[int, ...] | str:
        if len(set(folds)) < len(folds) and folds != "all":
            raise ValueError("a fold is listed twice")
        return folds

    @model_validator(mode="after")
    def _confirmed_elsewhere(self) -> Self:
        if self.confirm is not None and (self.folds == "all" or self.confirm in self.folds):
            raise ValueError(f"confirm = {self.confirm} is one of the folds that judge trials: name another one")
        return self
