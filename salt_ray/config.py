"""Experiments: frozen, typed and validated, derived and hashed; what is wrong with one is a sentence.

Numbers and their sources: the seed's recipe, method sections 2 to 5. Files and overrides: ``experiment_file``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    Field,
    PlainSerializer,
    PlainValidator,
    StrictBool,
    StrictFloat,
    StrictInt,
    field_validator,
    model_validator,
)

from salt_ray.section import Fraction, Name, Section, Stored, Weight, distinct_names, stored

Seed = Annotated[StrictInt, Field(ge=0, lt=2**31)]
#: A prediction that fills its tile: wrong where the inside of salt is labelled empty, as in TGS; right elsewhere.
FullTiles = Literal["empty", "salt"]


@dataclass(frozen=True)
class HoldoutShare:
    """A hold-out of whole mosaics or sections, as text ``mosaic:0.1``: lone tiles are mosaics of one."""

    kind: str
    #: Of the labelled tiles, those of one colour aside.
    share: float

    def __str__(self) -> str:
        return f"{self.kind}:{self.share}"


def _holdout(value: Any) -> Stored | HoldoutShare:
    kind, colon, share = str(value).partition(":")
    if kind not in ("mosaic", "section") or not colon:
        return stored(value)
    try:
        number = float(share)
    except ValueError:
        number = 0.0
    if not 0 < number < 1:
        raise ValueError(f"after {kind}: comes a share above 0 and below 1, as in {kind}:0.1")
    return HoldoutShare(kind, number)


Holdout = Annotated[Stored | HoldoutShare, PlainValidator(_holdout), PlainSerializer(str)]


class Labels(Section):
    """What the survey's masks mean. Without ``salt`` they hold 0 and one other value, which is salt."""

    #: The value that means salt; every other one but ``ignore`` is background.
    salt: StrictInt | None = None
    #: The value of pixels of which it is not known what they are; tiles that have some are left out.
    ignore: StrictInt | None = None
    #: What a prediction that is salt all over becomes; None: derived from the trainable labels, or asked for.
    full_tiles: FullTiles | None = None

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if self.salt is not None and self.salt == self.ignore:
            raise ValueError(f"salt and ignore are both {self.salt}: one value cannot mean both")
        return self


class Amplitudes(Section):
    """What the survey's amplitudes mean."""

    #: The value of pixels that hold no data (-9999, -999.25): they are left out of the range of greys, and become the
    #: middle grey. None: what a GeoTIFF says.
    nodata: StrictFloat | None = None


class Geometry(Section):
    """Sizes in pixels. ``None``: derived from the tile (101 -> padded 148, crop 128; see ``survey.padding``)."""

    padded_px: Annotated[StrictInt, Field(gt=0)] | None = None
    crop_px: Annotated[StrictInt, Field(gt=0, multiple_of=32)] | None = None


class Augmentation(Section):
    """Training samples: random crop, left-right flip, random linear brightness and contrast (method section 2)."""

    flip_probability: Fraction = 0.5
    brightness_limit: Annotated[StrictFloat, Field(ge=0, le=1)] = 0.2
    contrast_limit: Annotated[StrictFloat, Field(ge=0, le=1)] = 0.2
    brightness_contrast_probability: Fraction = 0.5


Widths = tuple[StrictInt, StrictInt, StrictInt, StrictInt, StrictInt]


class UNetDecoder(Section):
    """Five U-Net blocks, of whose maps each gives the mask head a part (method section 3)."""

    #: Channels of the five maps, deepest first; None: those of the skips, then 128 and 128.
    widths: Widths | None = None
    #: Channels that each map contributes to the mask head, deepest first.
    pyramid_widths: Widths = (128, 64, 32, 16, 8)
    dropout: Annotated[StrictFloat, Field(ge=0, lt=1)] = 0.2

    @field_validator("widths", "pyramid_widths")
    @classmethod
    def _positive(cls, widths: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if widths is not None and min(widths) < 1:
            raise ValueError("every width must be at least 1")
        return widths


class Fpn(UNetDecoder):
    """An FPN block reads each map: the seed's, two thirds of the network's FLOPs."""

    kind: Literal["fpn"] = "fpn"


class Scse(UNetDecoder):
    """scSE gates and a hypercolumn in place of the FPN blocks, at a fraction of their FLOPs."""

    kind: Literal["scse"] = "scse"


class Network(Section):
    """U-Net with empty head on any timm encoder (method section 3)."""

    encoder: str = "seresnext50_32x4d"
    #: True: ImageNet weights, from an installed package that has them (``model.packaged``) or else from timm; False:
    #: random ones; a path: a local file of the encoder's weights.
    pretrained: StrictBool | Path = True
    #: Give the encoder greys with the mean and the spread that its ImageNet weights were trained with.
    normalise: StrictBool = False
    decoder: Annotated[Fpn | Scse, Field(discriminator="kind")] = Fpn()
    mask_head_width: Annotated[StrictInt, Field(gt=0)] = 32
    #: Mask heads on the parts of the four deeper decoder maps, for ``Stage.auxiliary_weight``; prediction skips them.
    auxiliary_heads: StrictBool = False

    renamed: ClassVar[Mapping[str, str]] = {
        "decoder": "decoder.kind",
        "decoder_widths": "decoder.widths",
        "fpn_widths": "decoder.pyramid_widths",
        "dropout": "decoder.dropout",
    }


class Folds(Section):
    """How labelled tiles are divided (method section 4).

    ``depth`` takes rank by depth modulo count; ``random`` divides at random; ``mosaic`` keeps the tiles of a mosaic
    together and puts lone tiles to the ones that they resemble; ``section`` keeps the tiles of a section together.

    Versions without ``seed`` called the first one ``random``: in a JSON that says ``random`` and has no ``seed``, it is
    ``depth`` (``salt_ray.compatibility``).
    """

    kind: Literal["depth", "random", "mosaic", "section"] = "depth"
    count: Annotated[StrictInt, Field(ge=2, le=100)] = 5
    #: Of random folds; None: the experiment's, so that other seeds have other folds.
    seed: Seed | None = None
    #: A trained checkpoint whose encoder says what lone tiles resemble; None: their histogram-matched image does.
    checkpoint: Stored | None = None

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
    """Gradient descent with momentum: the seed's."""

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
            raise ValueError(f"schedule.warmup_epochs = {warmup} is not below epochs = {self.epochs}")
        return self

    @model_validator(mode="after")
    def _ends_its_cycles(self) -> Self:
        if isinstance(self.schedule, Cosine) and self.schedule.snapshots:
            snapshots, cycles = self.schedule.snapshots, self.epochs // self.schedule.epochs_per_cycle
            if snapshots > cycles:
                raise ValueError(
                    f"schedule.snapshots = {snapshots}, but epochs = {self.epochs} hold {cycles} whole cycles of "
                    f"{self.schedule.epochs_per_cycle}"
                )
            if self.early_stopping is not None:
                raise ValueError(f"schedule.snapshots = {snapshots} needs the ends of cycles: leave early_stopping out")
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
            raise ValueError(f"bce_weight of {stages[0].name} is 0: an empty head that never learnt would empty tiles")
        return distinct_names(stages)

    @field_validator("stages")
    @classmethod
    def _pseudo_labels_know_no_label_of_their_fold(cls, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        """Up to the network that labels nothing may depend on scores: they come from the fold's labels."""
        learning = [number for number, stage in enumerate(stages) if stage.pseudo_labels is not None]
        if not learning:
            return stages
        if learning[0] == 0:
            raise ValueError(f"{stages[0].name} is the first stage: there is no network yet to make pseudo_labels")
        before, name = stages[: learning[-1]], stages[learning[-1]].name
        remedies = [f"{stage.name}.begins=last" for stage in stages[1 : len(before) + 1] if stage.begins != "last"]
        remedies += [f"{stage.name}.schedule.kind=cosine" for stage in before if isinstance(stage.schedule, Plateau)]
        remedies += [f"{stage.name}.early_stopping=null" for stage in before if stage.early_stopping is not None]
        if remedies:
            raise ValueError(
                f"the labels that a fold is judged by would help to choose the network that makes {name}'s "
                f"pseudo_labels: set {', '.join(remedies)}"
            )
        return stages


class Prediction(Section):
    """Thresholds on mean probabilities (a pixel is salt above ``mask_threshold``), flip averaging, batch size."""

    mask_threshold: Fraction = 0.4
    #: A tile whose mean P(salt) is not above this is empty.
    salt_threshold: Fraction = 0.5
    flip: StrictBool = True
    #: chosen: the thresholds that the labels choose, out of fold, where that is more than chance; given: these.
    thresholds: Literal["given", "chosen"] = "given"
    #: Which model of a fold predicts: the best checkpoint of all its stages, that of the last one, or the mean of the
    #: snapshots of the last stage that keeps some (``Cosine.snapshots``); of a training without any, the best.
    models: Literal["best", "last", "snapshots"] = "best"
    #: Tiles at once on a GPU; on CPUs 16 at the most (``model.acceleration``).
    batch_size: Annotated[StrictInt, Field(ge=1)] = 64


class Mosaics(Section):
    """Which edges of tiles are taken for neighbours (method section 6)."""

    #: Smallest correlation of two touching edges; 0.505 is the seed's distance of 10 at 101 px.
    min_correlation: Fraction = 0.505
    #: Smallest compatibility 1 - d1 / d2, both ways, of a pair that nothing else supports. Such pairs only make mosaics
    #: of two, which no rule touches. At 0.10 the TGS tiles give 1,230 more of them than at the seed's 0.15; by their
    #: confidence 160 of these are true.
    compatibility: Fraction = 0.10
    #: The same for a pair in a closed 2 x 2 loop.
    loop_compatibility: Fraction = 0.05


#: The rules of method section 6, in the order in which they are applied.
RuleName = Literal[
    "fill_holes", "join_labels", "copy_down", "copy_up", "join_predictions", "fill_corners", "empty_below_closed"
]


class Postprocessing(Section):
    """Which rules correct predictions from their neighbours in a mosaic (method section 6)."""

    #: evidence: those whose gain on hidden labels is more than chance; seed: all seven; none; or a list.
    rules: Literal["evidence", "seed", "none"] | tuple[RuleName, ...] = "evidence"

    removed: ClassVar[Mapping[str, str]] = {
        "hidden_share": "every label is hidden once when mosaic rules are tried",
        "repeats": "every label is hidden once when mosaic rules are tried",
    }


class Resources(Section):
    """What a fold and a prediction worker take. It changes no result's meaning and no folder's inputs."""

    #: Also the threads of a fold. None: on one machine, without a GPU, its cores divided by the experiment's folds;
    #: elsewhere, and for trials and prediction, 1.
    cpus_per_fold: Annotated[StrictInt, Field(ge=1)] | None = None
    #: Several folds share a GPU when below 1; 0: train on the CPU; None: 1 where the cluster has a GPU, else 0.
    gpus_per_fold: Annotated[StrictFloat, Field(ge=0, le=1)] | None = None
    #: Compile the network; None: on GPUs, and on CPUs for stages long enough. Where it fails, a line says so.
    compile: StrictBool | None = None
    #: Epochs from one checkpoint to the next; the best epochs and the last one are saved in any case.
    checkpoint_epochs: Annotated[StrictInt, Field(ge=1)] = 1
    #: Restarts of one fold after a crash of its worker.
    max_failures: Annotated[StrictInt, Field(ge=0)] = 3

    def of_each(self, gpus: bool, cores: int, folds: int | None = None) -> dict[str, float]:
        """What one fold, trial or prediction worker takes: ``CPU`` (its threads too), and ``GPU`` where it has one.

        Args:
            gpus: whether there are any.
            cores: of the one machine that there is; 0 where machines come and go, because threads change rounding.
            folds: how many share the cores; None: workers that want no more than a core each.
        """
        gpu = (1.0 if gpus else 0.0) if self.gpus_per_fold is None else self.gpus_per_fold
        shared = 1 if gpu or folds is None else max(1, cores // folds)
        wanted = {"CPU": float(self.cpus_per_fold or shared)}
        return wanted | {"GPU": gpu} if gpu else wanted


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
            raise ValueError("a value stands there twice")
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
    #: Each rung of asha lies this much further, and one of so many trials passes it.
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
            raise ValueError("no parameter is on: nothing would be searched")
        return distinct_names(parameters)

    @field_validator("folds")
    @classmethod
    def _each_once(cls, folds: tuple[int, ...] | str) -> tuple[int, ...] | str:
        if len(set(folds)) < len(folds) and folds != "all":
            raise ValueError("a fold stands there twice")
        return folds

    @model_validator(mode="after")
    def _confirmed_elsewhere(self) -> Self:
        if self.confirm is not None and (self.folds == "all" or self.confirm in self.folds):
            raise ValueError(f"confirm = {self.confirm} is one of the folds that judge trials: name another one")
        return self


class Experiment(Section):
    """Everything that decides a result."""

    name: Name
    seed: Seed = 0
    #: Labelled tiles that are never trained on nor chosen by, scored once at the end: a CSV with a column ``id``; or a
    #: share of them in whole mosaics or sections, mosaic:0.1 or section:0.1, drawn at random.
    holdout: Holdout | None = None
    #: Of a hold-out that is drawn: apart from ``seed``, so that other seeds have the same hold-out.
    holdout_seed: Seed = 0
    labels: Labels = Labels()
    amplitudes: Amplitudes = Amplitudes()
    geometry: Geometry = Geometry()
    augmentation: Augmentation = Augmentation()
    network: Network = Network()
    #: bf16: mixed precision where the hardware has units for it (CUDA, CPUs with AMX), fp32 elsewhere.
    precision: Literal["bf16", "fp32"] = "bf16"
    trainings: tuple[Training, ...]
    #: How validation decides, and so which epochs are best: as ``prediction`` does, or as the published baseline does
    #: (probability above 0.5, without flip; method section 4). What a training began with stays.
    decision: Literal["prediction", "argus"] = "prediction"
    prediction: Prediction = Prediction()
    mosaics: Mosaics = Mosaics()
    postprocessing: Postprocessing = Postprocessing()
    resources: Resources = Resources()
    #: What ``launch.py tune`` searches; None: nothing.
    tune: Tune | None = None

    @field_validator("trainings")
    @classmethod
    def _distinct(cls, trainings: tuple[Training, ...]) -> tuple[Training, ...]:
        return distinct_names(trainings)

    @model_validator(mode="after")
    def _full_tiles_are_known(self) -> Self:
        if self.has_pseudo_labels and self.labels.full_tiles is None:
            raise ValueError(
                "with pseudo_labels, labels.full_tiles must be set, to empty (as in TGS) or salt: otherwise all labels "
                "would decide it, those too that a fold is judged by"
            )
        return self

    @model_validator(mode="after")
    def _has_what_it_names(self) -> Self:
        stages = [stage for training in self.trainings for stage in training.stages]
        if self.prediction.models == "snapshots" and not any(stage.snapshot_epochs for stage in stages):
            raise ValueError(
                "prediction.models is 'snapshots', and no stage keeps any: set schedule.snapshots of a stage with "
                "cosine cycles, or models to 'best'"
            )
        weighed = [stage.name for stage in stages if stage.auxiliary_weight]
        if weighed and not self.network.auxiliary_heads:
            raise ValueError(
                f"auxiliary_weight of {weighed[0]} weighs heads that the network lacks: set network.auxiliary_heads to "
                "true, or the weight to 0"
            )
        return self

    @property
    def has_pseudo_labels(self) -> bool:
        """Whether some stage learns from unlabelled tiles."""
        return any(stage.pseudo_labels is not None for training in self.trainings for stage in training.stages)

    @property
    def all_folds(self) -> list[tuple[Training, int]]:
        """Every fold of every training."""
        return [(training, fold) for training in self.trainings for fold in range(training.folds.count)]
