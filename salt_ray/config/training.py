"""How folds are made and trained (method section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import (
    Field,
    StrictFloat,
    StrictInt,
    field_validator,
    model_validator,
)

from salt_ray.section import Name, Section, Stored, Weight, distinct_names

Seed = Annotated[StrictInt, Field(ge=0, lt=2**31)]


class Folds(Section):
    """How labelled tiles are divided (method section 4).

    ``depth`` takes rank by depth modulo count; ``random`` divides at random; ``mosaic`` keeps the tiles of a mosaic
    together and puts lone tiles to the ones that they resemble; ``section`` keeps the tiles of a section together;
    ``lines`` takes blocks of neighbouring lines of a volume, with a gap around each (windows are always divided so).

    Versions without ``seed`` called the first one ``random``: in a JSON that says ``random`` and has no ``seed``, it is
    ``depth`` (``salt_ray.compatibility``).
    """

    kind: Literal["depth", "random", "mosaic", "section", "lines"] = "depth"
    count: Annotated[StrictInt, Field(ge=2, le=100)] = 5
    #: Of random folds; None: the experiment's, so that other seeds have other folds.
    seed: Seed | None = None
    #: A trained checkpoint whose encoder says what lone tiles resemble; None: their histogram-matched image does.
    checkpoint: Stored | None = None
    #: Of folds of lines: windows that are fewer lines or traces away from those that a fold validates are not trained
    #: on; None: a window's width.
    gap: Annotated[StrictInt, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _uses_its_gap(self) -> Self:
        if self.gap is not None and self.kind != "lines":
            raise ValueError(f"gap = {self.gap} is for folds of kind 'lines' only")
        return self

    @model_validator(mode="after")
    def _uses_its_checkpoint(self) -> Self:
        if self.checkpoint is not None and self.kind != "mosaic":
            raise ValueError(f"checkpoint = {str(self.checkpoint)!r} is for folds of kind 'mosaic' only")
        return self

    @model_validator(mode="after")
    def _uses_its_seed(self) -> Self:
        if self.seed is not None and self.kind != "random":
            raise ValueError(f"seed = {self.seed} is for folds of kind 'random' only")
        return self

    def with_seed(self, seed: int) -> Folds:
        """The same, in which random folds that have no seed of their own take this one."""
        return self.replace(seed=seed) if self.kind == "random" and self.seed is None else self

    @property
    def text(self) -> str:
        """How many, and of which kind, for a line of the terminal."""
        kinds = {
            "depth": "by depth",
            "random": f"at random (seed {self.seed})",
            "mosaic": "of whole mosaics",
            "section": "of whole sections",
            "lines": "of blocks of lines" + (f" (gap {self.gap})" if self.gap is not None else ""),
        }
        return f"{self.count} {kinds[self.kind]}"


class Plateau(Section):
    """The learning rate falls by ``factor`` after ``patience`` epochs without a better score."""

    kind: Literal["plateau"] = "plateau"
    patience: Annotated[StrictInt, Field(ge=0)] = 30
    factor: Annotated[StrictFloat, Field(gt=0, lt=1)] = 0.64
    min_lr: Annotated[StrictFloat, Field(ge=0)] = 1e-8


class Cosine(Section):
    """The learning rate falls from ``Stage.lr`` to ``min_lr`` along a half cosine, then restarts."""

    kind: Literal["cosine"] = "cosine"
    epochs_per_cycle: Annotated[StrictInt, Field(ge=1)] = 50
    min_lr: Annotated[StrictFloat, Field(ge=0)] = 0.0005
    #: The networks at the ends of so many last cycles are kept, for ``Prediction.models``.
    snapshots: Annotated[StrictInt, Field(ge=0)] = 0


class OneCycle(Section):
    """The learning rate rises to ``Stage.lr``, then falls along a half cosine to ``min_lr`` at the stage's end.""" ""

    kind: Literal["one_cycle"] = "one_cycle"
    warmup_epochs: Annotated[StrictFloat, Field(ge=0)] = 1.0
    min_lr: Annotated[StrictFloat, Field(ge=0)] = 0.0


class Sgd(Section):
    """Stochastic gradient descent with momentum, as in the Argus baseline."""

    kind: Literal["sgd"] = "sgd"
    momentum: Annotated[StrictFloat, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[StrictFloat, Field(ge=0)] = 1e-4


class AdamW(Section):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    kind: Literal["adamw"] = "adamw"
    weight_decay: Annotated[StrictFloat, Field(ge=0)] = 0.01


class PseudoLabels(Section):
    """Labels that a fold's own network gives to unlabelled tiles before the stage begins, to learn from them too."""

    #: Of the tiles of an epoch, where so many are labelled. A half: SeuTao's, 4th place of TGS.
    share: Annotated[StrictFloat, Field(gt=0, lt=1)] = 0.5
    #: A tile is labelled where the network is at least so confident, in the mean over its pixels and of the whole tile:
    #: the probability of what is likelier, salt or none (Hendrycks and Gimpel, 2017), from 0.5 to 1.
    confidence: Annotated[StrictFloat, Field(ge=0.5, le=1)] = 0.9


class Stage(Section):
    """One training of a network: loss weights, optimizer, schedule and stopping (method section 4)."""

    name: Name
    epochs: Annotated[StrictInt, Field(ge=1)]
    batch_size: Annotated[StrictInt, Field(ge=1)]
    lr: Annotated[StrictFloat, Field(gt=0)]
    #: Lovász hinge of the mask.
    lovasz_weight: Weight
    #: symmetric: the mean of the hinge on the mask and on its complement.
    lovasz: Literal["hinge", "symmetric"] = "hinge"
    #: Cross-entropy of the empty head.
    bce_weight: Weight
    #: Cross-entropy of the mask's pixels: for networks that start from random weights.
    pixel_bce_weight: Weight = 0.0
    #: The mask's losses above, of ``Network.auxiliary_heads`` and on tiles with salt only.
    auxiliary_weight: Weight = 0.0
    schedule: Annotated[Plateau | Cosine | OneCycle, Field(discriminator="kind")]
    optimizer: Annotated[Sgd | AdamW, Field(discriminator="kind")] = Sgd()
    #: Largest norm of the gradient of a batch; None: whatever it is.
    clip_norm: Annotated[StrictFloat, Field(gt=0)] | None = None
    #: Decay, per step, of a moving average of the weights, which then is what is validated, kept and predicted with; 0:
    #: the weights themselves.
    average: Annotated[StrictFloat, Field(ge=0, lt=1)] = 0.0
    #: Epochs without a better score after which the stage ends; None: it runs all its epochs.
    early_stopping: Annotated[StrictInt, Field(ge=1)] | None = None
    #: From which epoch of the stage before this one starts.
    begins: Literal["best", "last"] = "best"
    #: None: it learns from labels alone.
    pseudo_labels: PseudoLabels | None = None

    renamed: ClassVar[Mapping[str, str]] = {
        "momentum": "optimizer.momentum",
        "weight_decay": "optimizer.weight_decay",
    }

    @model_validator(mode="after")
    def _learns_something(self) -> Self:
        if self.lovasz_weight + self.pixel_bce_weight == 0:
            raise ValueError("lovasz_weight and pixel_bce_weight are both 0: no mask would be learnt")
        return self

    @model_validator(mode="after")
    def _warm_in_time(self) -> Self:
        if isinstance(self.schedule, OneCycle) and self.schedule.warmup_epochs >= self.epochs:
            warmup = self.schedule.warmup_epochs
            raise ValueError(f"schedule.warmup_epochs = {warmup} must be below epochs = {self.epochs}")
        return self

    @model_validator(mode="after")
    def _ends_its_cycles(self) -> Self:
        if isinstance(self.schedule, Cosine) and self.schedule.snapshots:
            snapshots, cycles = self.schedule.snapshots, self.epochs // self.schedule.epochs_per_cycle
            if snapshots > cycles:
                raise ValueError(
                    f"schedule.snapshots = {snapshots}, but epochs = {self.epochs} have only {cycles} full cycles of "
                    f"{self.schedule.epochs_per_cycle}"
                )
            if self.early_stopping is not None:
                raise ValueError(f"schedule.snapshots = {snapshots} needs the ends of cycles: unset early_stopping")
        return self

    @property
    def snapshot_epochs(self) -> range:
        """The epochs whose networks are kept: the last ends of whole cycles, where the learning rate is lowest."""
        if not isinstance(self.schedule, Cosine):
            return range(0)
        cycle = self.schedule.epochs_per_cycle
        ends = range(cycle, self.epochs + 1, cycle)
        return ends[len(ends) - self.schedule.snapshots :]


class Training(Section):
    """K folds, each trained through the same stages; every later stage starts from the one before (``begins``)."""

    name: Name
    folds: Folds = Folds()
    stages: tuple[Stage, ...]

    @field_validator("stages")
    @classmethod
    def _usable(cls, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        if stages and stages[0].bce_weight == 0:
            raise ValueError(
                f"bce_weight of {stages[0].name} is 0: the classification head would not be trained, but decides which "
                "tiles are empty"
            )
        return distinct_names(stages)

    @field_validator("stages")
    @classmethod
    def _pseudo_labels_know_no_label_of_their_fold(cls, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        """Up to the network that labels nothing may depend on scores: they come from the fold's labels."""
        learning = [number for number, stage in enumerate(stages) if stage.pseudo_labels is not None]
        if not learning:
            return stages
        if learning[0] == 0:
            raise ValueError(f"{stages[0].name} is the first stage: pseudo_labels need a network from an earlier stage")
        before, name = stages[: learning[-1]], stages[learning[-1]].name
        remedies = [f"{stage.name}.begins=last" for stage in stages[1 : len(before) + 1] if stage.begins != "last"]
        remedies += [f"{stage.name}.schedule.kind=cosine" for stage in before if isinstance(stage.schedule, Plateau)]
        remedies += [f"{stage.name}.early_stopping=null" for stage in before if stage.early_stopping is not None]
        if remedies:
            raise ValueError(
                f"validation labels would help to choose the network that makes {name}'s pseudo_labels: set "
                f"{', '.join(remedies)}"
            )
        return stages
