"""Out-of-fold predictions of labelled tiles, the basis of all findings in a report.

Letters: n scored tiles, T thresholds, S tile edge in px.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from salt_ray.decision import FoldDecisions
from salt_ray.inference.ensemble import ModelPrediction, judged_tiles, mean_blocks
from salt_ray.metric import tile_scores, wholly_labelled
from salt_ray.mosaic.folds import whole_mosaics
from salt_ray.mosaic.table import MosaicTable
from salt_ray.survey.prepared import PreparedSurvey

MASK_THRESHOLDS = np.arange(1, 20) / 20
SALT_THRESHOLDS = np.arange(0, 51) / 50


@dataclass(frozen=True)
class Judged:
    """The out-of-fold tiles, each predicted by the mean of the models that were not trained on it.

    Attributes:
        tiles: (n,) int64, positions in the survey.
        neighbours: (n,) int64, equal for tiles of one mosaic or windows of one line; standard errors are clustered
            by it.
        truth: (n, S, S), the labels: bool, or int8 if not all pixels are labelled (``survey.Survey``).
        masks: (n, S, S) bool, the predictions at the run's thresholds.
        scores: (n,) float64, the score of each tile.
        empty_scores: (n,) float64, the score of an empty mask.
        salt: (n,) float32, P(salt).
        doubt: (n,) float32, mean of 4 p (1 - p) over pixels: 0 if the models are certain, 1 if all probabilities are
            0.5.
        mask_curve: (T,) float64, the score at each of ``MASK_THRESHOLDS``, with the run's other threshold.
        salt_curve: the same at each of ``SALT_THRESHOLDS``.
    """

    tiles: np.ndarray
    neighbours: np.ndarray
    truth: np.ndarray
    masks: np.ndarray
    scores: np.ndarray
    empty_scores: np.ndarray
    salt: np.ndarray
    doubt: np.ndarray
    mask_curve: np.ndarray
    salt_curve: np.ndarray

    @property
    def score(self) -> float:
        return float(self.scores.mean())

    @property
    def has_salt(self) -> np.ndarray:
        """(n,) bool: whether the label has any salt."""
        return (self.truth > 0).any(axis=(1, 2))

    @property
    def knows_salt(self) -> np.ndarray:
        """(n,) bool: whether the label tells if the tile has salt: it has some, or all pixels are labelled."""
        return self.has_salt | wholly_labelled(self.truth)

    @property
    def wrong(self) -> np.ndarray:
        """(n, S, S) bool: labelled pixels that are predicted wrongly."""
        return ((self.truth > 0) != self.masks) & (self.truth >= 0)


def judge(
    prepared: PreparedSurvey,
    models: Sequence[ModelPrediction],
    decisions: FoldDecisions,
    mosaics: MosaicTable | None = None,
) -> Judged:
    """Read the out-of-fold predictions of all labelled tiles, block by block.

    Args:
        mosaics: None: neighbours are unknown, and tiles are treated as independent.
    """
    tiles = judged_tiles(models, prepared.trainable)
    truth = np.asarray(prepared.survey.masks[tiles])
    masks, ungated = np.empty(truth.shape, bool), np.empty(len(tiles))
    salt, doubt = np.empty(len(tiles), np.float32), np.empty(len(tiles), np.float32)
    mask_sums = np.zeros(len(MASK_THRESHOLDS))
    for block, probabilities in mean_blocks(models, tiles):
        known, own = truth[block], tiles[block]
        masks[block] = decisions.masks(own, *probabilities)
        salt[block] = probabilities.salt
        doubt[block] = (4 * probabilities.masks * (1 - probabilities.masks)).mean(axis=(1, 2))
        certain = np.full(len(block), np.inf, np.float32)
        ungated[block] = tile_scores(known, decisions.masks(own, probabilities.masks, certain))
        for place, threshold in enumerate(MASK_THRESHOLDS):
            decided = decisions.replace(mask_threshold=float(threshold)).masks(own, *probabilities)
            mask_sums[place] += tile_scores(known, decided).sum()
    empty = tile_scores(truth, np.zeros(truth.shape, bool))
    # A tile above the threshold keeps its mask, others are empty, so masks need not be computed again.
    salt_curve = np.array([np.where(salt > np.float32(t), ungated, empty).mean() for t in SALT_THRESHOLDS])
    scores = tile_scores(truth, masks)
    neighbours = tiles if mosaics is None else whole_mosaics(prepared.survey.ids[tiles], mosaics)
    if prepared.survey.window is not None:
        neighbours = np.unique(prepared.survey.sections[tiles], return_inverse=True)[1]
    return Judged(tiles, neighbours, truth, masks, scores, empty, salt, doubt, mask_sums / len(tiles), salt_curve)
