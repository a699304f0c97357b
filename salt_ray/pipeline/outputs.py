"""Optional outputs of a run: probabilities, and the disagreement of its models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from salt_ray.artifacts import RunDirectory
from salt_ray.inference.ensemble import ModelPrediction, spread_blocks
from salt_ray.storage import write_atomically
from salt_ray.survey.prepared import PreparedSurvey
from salt_ray.survey.submission import write_probabilities


def write_behind_masks(
    results: RunDirectory, prepared: PreparedSurvey, models: Sequence[ModelPrediction], tiles: np.ndarray
) -> None:
    """Write ``probabilities.zip`` and ``tiles.csv`` for the tiles at (n,) positions of a survey, before any rule.

    ``tiles.csv`` has one row per tile: ``id``; ``salt``, P(salt), and ``salt_spread``, its standard deviation over the
    models; ``probability`` and ``spread``, the means over the pixels of their probability and of its standard
    deviation; ``models``, the number of models that predicted the tile, 0 for constant tiles, which hold no data.
    """
    ids, edge = prepared.survey.ids[tiles], prepared.frame.tile_px
    probabilities = np.zeros((len(tiles), edge, edge), np.float32)
    table = pd.DataFrame({"id": ids, "salt": 0.0, "salt_spread": 0.0, "probability": 0.0, "spread": 0.0, "models": 0})
    predicted = np.flatnonzero(~prepared.survey.constant[tiles])
    for places, mean, spread, count in spread_blocks(models, tiles[predicted]):
        at = predicted[places]
        probabilities[at] = mean.masks
        columns = (mean.salt, spread.salt, mean.masks.mean(axis=(1, 2)), spread.masks.mean(axis=(1, 2)), count)
        for name, values in zip(table.columns[1:], columns, strict=True):
            table.loc[at, name] = values
    write_probabilities(results.probabilities, ids, probabilities)
    write_atomically(results.tiles, table.to_csv(index=False, float_format="%.6g"))
