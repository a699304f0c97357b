"""salt-ray: k-fold training, tuning and mosaic post-processing for salt segmentation in seismic tiles, on Ray.

From Python::

    import salt_ray

    run = salt_ray.load_run("runs/demo")
    prediction = run.predict(tile)  # an array (S, S), several of them, or a folder of files
    prediction.masks, prediction.probabilities, prediction.salt, prediction.spread

Nothing is imported before it is used: neither Ray nor PyTorch by this line, and Ray not by predicting.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from salt_ray.api import (
        compare,
        load_experiment,
        load_tiles,
        predict_volume,
        scan_volume,
        score_volume,
        synth_survey,
        synth_volume,
        tile_volume,
        train,
        tune,
    )
    from salt_ray.config import Experiment
    from salt_ray.errors import SaltRayError
    from salt_ray.inference.predictor import Prediction, Predictor
    from salt_ray.pipeline.trained import TrainedRun, load_run
    from salt_ray.pipeline.volumes import Asked
    from salt_ray.report.mosaics import Mosaics
    from salt_ray.report.scores import Scores
    from salt_ray.report.tiles import PredictedTiles, Tiles
    from salt_ray.volume.reading import Reading

#: Of the code; pyproject.toml reads it here, and every run records it.
__version__ = "0.2.0"
__all__ = [
    "Asked",
    "Experiment",
    "Mosaics",
    "PredictedTiles",
    "Prediction",
    "Predictor",
    "Reading",
    "SaltRayError",
    "Scores",
    "Tiles",
    "TrainedRun",
    "__version__",
    "compare",
    "load_experiment",
    "load_run",
    "load_tiles",
    "predict_volume",
    "scan_volume",
    "score_volume",
    "synth_survey",
    "synth_volume",
    "tile_volume",
    "train",
    "tune",
]

#: Where the public names come from.
_FROM = {
    "Asked": "pipeline.volumes",
    "Experiment": "config",
    "Mosaics": "report.mosaics",
    "PredictedTiles": "report.tiles",
    "Prediction": "inference.predictor",
    "Predictor": "inference.predictor",
    "Reading": "volume.reading",
    "SaltRayError": "errors",
    "Scores": "report.scores",
    "Tiles": "report.tiles",
    "TrainedRun": "pipeline.trained",
    "compare": "api",
    "load_experiment": "api",
    "load_run": "pipeline.trained",
    "load_tiles": "api",
    "predict_volume": "api",
    "scan_volume": "api",
    "score_volume": "api",
    "synth_survey": "api",
    "synth_volume": "api",
    "tile_volume": "api",
    "train": "api",
    "tune": "api",
}


def __getattr__(name: str) -> Any:
    if name not in _FROM:
        raise AttributeError(f"module 'salt_ray' has no attribute {name!r}")
    return getattr(importlib.import_module(f"salt_ray.{_FROM[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
