"""A mosaic with the predictions of its tiles, and what a rule may see of it (method section 6).

Letters: n tiles of a mosaic, K models, S tile edge in px.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from salt_ray.decision import Decision
from salt_ray.inference.ensemble import ModelPrediction
from salt_ray.mosaic.table import MosaicTable
from salt_ray.postprocessing.seen import SeenMosaic
from salt_ray.survey.prepared import PreparedSurvey


@dataclass(frozen=True)
class MosaicTiles:
    """What the survey knows of one mosaic.

    Attributes:
        number: of the mosaic in its table.
        tiles: (n,) int64, positions in the survey.
        rows, cols: (n,) int64, places in the mosaic.
        images: (n, S, S) uint8.
        labelled: (n,) bool: tiles whose labels may be used; they are labelled throughout. Held-out tiles are none.
        labels: (n, S, S) bool; False where there is no label.
    """

    number: int
    tiles: np.ndarray
    rows: np.ndarray
    cols: np.ndarray
    images: np.ndarray
    labelled: np.ndarray
    labels: np.ndarray

    @classmethod
    def gather(cls, number: int, table: MosaicTable, prepared: PreparedSurvey) -> MosaicTiles:
        """The tiles of the mosaic with this number that rules may see (``PreparedSurvey.seen_by_rules``)."""
        members = np.arange(len(table.ids))[table.members[number]]
        members = members[prepared.seen_by_rules[positions(table.ids[members], prepared.survey.ids)]]
        tiles = positions(table.ids[members], prepared.survey.ids)
        usable = np.append(~prepared.held_out, np.zeros(prepared.survey.unlabelled, bool))
        labelled = usable[tiles]
        labels = np.zeros((len(tiles), prepared.frame.tile_px, prepared.frame.tile_px), bool)
        labels[labelled] = prepared.survey.masks[tiles[labelled]] > 0
        images = prepared.survey.images[tiles]
        return cls(number, tiles, table.rows[members], table.cols[members], images, labelled, labels)


@dataclass(frozen=True)
class PredictedMosaic:
    """One mosaic with its predictions.

    Attributes:
        tiles: what the survey knows of it.
        masks: (K, n, S, S) float16, probabilities; NaN where a model did not predict a tile: those it was trained on.
        salt: (K, n) float32, P(salt); NaN there too.
    """

    tiles: MosaicTiles
    masks: np.ndarray
    salt: np.ndarray

    @classmethod
    def gather(cls, tiles: MosaicTiles, models: Sequence[ModelPrediction]) -> PredictedMosaic:
        """Read the predictions of a mosaic's tiles."""
        masks = np.full((len(models), *tiles.labels.shape), np.nan, np.float16)
        salt = np.full(masks.shape[:2], np.nan, np.float32)
        for model, ours, ours_salt in zip(models, masks, salt, strict=True):
            found, rows = model.find(tiles.tiles)
            if len(rows):
                records = model.records[rows]
                ours[found], ours_salt[found] = records["mask"], records["salt"]
        return cls(tiles, masks, salt)

    @property
    def blind(self) -> np.ndarray:
        """(n, K) bool: the models that may judge each tile, because they never saw its label."""
        return np.isfinite(self.salt).T


def positions(ids: np.ndarray, survey_ids: np.ndarray) -> np.ndarray:
    """The tiles' indices in the survey, (n,) int64.

    Raises:
        KeyError: a tile is not in it.
    """
    order = np.argsort(survey_ids, kind="stable")
    found = order[np.minimum(np.searchsorted(survey_ids, ids, sorter=order), len(order) - 1)]
    if not np.array_equal(survey_ids[found], ids):
        raise KeyError(f"tile {ids[survey_ids[found] != ids][0]} is not in the survey")
    return found


def view(mosaic: PredictedMosaic, hidden: np.ndarray, models: np.ndarray, decision: Decision) -> SeenMosaic:
    """The mosaic as if the ``hidden`` tiles had no label: predictions of ``models`` replace the labels.

    Args:
        hidden: (n,) bool, some of the labelled tiles.
        models: (K,) bool, those whose mean predicts; each of them must have predicted every tile that needs it.

    Raises:
        ValueError: a model was trained on a tile that it would have to predict.
    """
    tiles = mosaic.tiles
    predicted = ~tiles.labelled | hidden
    if not mosaic.blind[predicted][:, models].all():
        raise ValueError(f"mosaic {tiles.number}: a model would judge a tile that it was trained on")
    chosen = np.flatnonzero(models)
    total_mask = np.zeros((int(predicted.sum()), *tiles.labels.shape[1:]), np.float32)
    total_salt = np.zeros(len(total_mask), np.float32)
    for k in chosen:  # in the order and precision in which the ensemble adds, so that both decide alike
        total_mask += mosaic.masks[k, predicted]
        total_salt += mosaic.salt[k, predicted]
    count = np.float32(len(chosen))
    masks = tiles.labels.copy()
    masks[predicted] = decision.masks(total_mask / count, total_salt / count)
    labelled = tiles.labelled & ~hidden
    return SeenMosaic(tiles.rows, tiles.cols, masks, labelled, np.zeros(len(labelled), bool), decision.full_tiles)


def final_view(mosaic: PredictedMosaic, decision: Decision) -> SeenMosaic:
    """The mosaic with all its labels, and the mean of all models elsewhere."""
    nothing, everyone = np.zeros(len(mosaic.tiles.tiles), bool), np.ones(len(mosaic.salt), bool)
    return view(mosaic, nothing, everyone, decision)
