"""Experiments: frozen, typed and validated, derived and hashed, with clear error messages.

Defaults are those of the Argus baseline: method sections 2 to 5. Files and overrides: ``experiment_file``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import (
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    field_validator,
    model_validator,
)

from salt_ray.config.network import Network
from salt_ray.config.search import Tune
from salt_ray.config.tiles import Amplitudes, Augmentation, Geometry, Holdout, Labels, Mosaics
from salt_ray.config.training import Seed, Training
from salt_ray.section import Fraction, Name, Section, distinct_names


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


#: The rules of method section 6, in the order in which they are applied.
RuleName = Literal[
    "fill_holes", "join_labels", "copy_down", "copy_up", "join_predictions", "fill_corners", "empty_below_closed"
]


class Postprocessing(Section):
    """Which rules correct predictions from their neighbours in a mosaic (method section 6)."""

    #: evidence: those whose gain on hidden labels is more than chance; argus: all seven, as the
    #: Argus baseline applies them; none; or a list.
    rules: Literal["evidence", "argus", "none"] | tuple[RuleName, ...] = "evidence"

    removed: ClassVar[Mapping[str, str]] = {
        "hidden_share": "every label is hidden once when mosaic rules are tried",
        "repeats": "every label is hidden once when mosaic rules are tried",
    }
    reworded: ClassVar[Mapping[str, Mapping[str, str]]] = {"rules": {"seed": "argus"}}


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
    #: Who gets curves and scores: TensorBoard's files in the run directory, MLflow (extra ``mlflow``), Weights & Biases
    #: (extra ``wandb``). It changes no result and no folder's inputs.
    tracking: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ("tensorboard",)
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
                "pseudo_labels need labels.full_tiles=empty (as in TGS) or labels.full_tiles=salt: otherwise "
                "validation labels would help to decide it"
            )
        return self

    @model_validator(mode="after")
    def _has_what_it_names(self) -> Self:
        stages = [stage for training in self.trainings for stage in training.stages]
        if self.prediction.models == "snapshots" and not any(stage.snapshot_epochs for stage in stages):
            raise ValueError(
                "prediction.models is 'snapshots', but no stage saves any: set schedule.snapshots of a stage with "
                "cosine cycles, or models to 'best'"
            )
        weighed = [stage.name for stage in stages if stage.auxiliary_weight]
        if weighed and not self.network.auxiliary_heads:
            raise ValueError(
                f"{weighed[0]} has an auxiliary_weight, but the network has no auxiliary heads: set "
                "network.auxiliary_heads to true, or the weight to 0"
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
