"""Experiments: frozen, typed and validated, derived and hashed, with clear error messages.

Defaults are those of the Argus baseline: method sections 2 to 5. Files and overrides: ``experiment_file``.
"""

from salt_ray.config.experiment import Experiment, Postprocessing, Prediction, Resources, RuleName
from salt_ray.config.network import Fpn, Network, Scse, UNetDecoder
from salt_ray.config.search import Choice, FloatRange, IntRange, Parameter, Searched, Tune
from salt_ray.config.tiles import Amplitudes, Augmentation, FullTiles, Geometry, HoldoutShare, Labels, Mosaics
from salt_ray.config.training import AdamW, Cosine, Folds, OneCycle, Plateau, PseudoLabels, Sgd, Stage, Training

__all__ = [
    "AdamW",
    "Amplitudes",
    "Augmentation",
    "Choice",
    "Cosine",
    "Experiment",
    "FloatRange",
    "Folds",
    "Fpn",
    "FullTiles",
    "Geometry",
    "HoldoutShare",
    "IntRange",
    "Labels",
    "Mosaics",
    "Network",
    "OneCycle",
    "Parameter",
    "Plateau",
    "Postprocessing",
    "Prediction",
    "PseudoLabels",
    "Resources",
    "RuleName",
    "Scse",
    "Searched",
    "Sgd",
    "Stage",
    "Training",
    "Tune",
    "UNetDecoder",
]
