"""Thresholds chosen by labels that the models never saw, and judged by others (method section 5).

Each fold's tiles are decided with the thresholds that score highest on the tiles of all other folds, so that what a
choice is worth is measured on tiles that had no part in it. Where that is more than chance, the thresholds that score
highest on all tiles are taken; otherwise the given ones stay.

Letters: n labelled tiles, M and T thresholds of pixels and of tiles, S tile edge in px.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from salt_ray.decision import Decision
from salt_ray.inference.ensemble import ModelPrediction, mean_blocks
from salt_ray.inference.paired import Difference, difference
from salt_ray.metric import tile_scores

MASK_THRESHOLDS = np.arange(4, 15) / 20  # 0.20 … 0.70
SALT_THRESHOLDS = np.arange(0, 19) / 20  # 0.00 … 0.90


@dataclass(frozen=True)
class ThresholdScores:
    """What n tiles score with every pair of thresholds.

    Attributes:
        masks: (n, M) float64: the score where the tile is taken to have salt, at each of ``MASK_THRESHOLDS``.
        empty: (n,) float64: the score of an empty mask.
        salt: (n,) float32, P(salt).
        given: (n,) float64: the score with the given thresholds.
    """

    masks: np.ndarray
    empty: np.ndarray
    salt: np.ndarray
    given: np.ndarray

    def at(self, pair: tuple[int, int]) -> np.ndarray:
        """(n,) float64: the scores with the thresholds at these places of ``MASK_`` and ``SALT_THRESHOLDS``."""
        mask, salt = pair
        return np.where(self.salt > np.float32(SALT_THRESHOLDS[salt]), self.masks[:, mask], self.empty)

    def best(self, tiles: np.ndarray, given: Decision) -> tuple[int, int]:
        """The pair that scores highest on the chosen tiles, of equals the one nearest to the given thresholds.

        Args:
            tiles: (n,) bool.
        """
        means = np.empty((len(MASK_THRESHOLDS), len(SALT_THRESHOLDS)))
        for place, threshold in enumerate(SALT_THRESHOLDS):
            kept = (self.salt[tiles] > np.float32(threshold))[:, None]
            means[:, place] = np.where(kept, self.masks[tiles], self.empty[tiles, None]).mean(axis=0)
        far = np.abs(MASK_THRESHOLDS - given.mask_threshold)[:, None] + np.abs(SALT_THRESHOLDS - given.salt_threshold)
        tied = np.isclose(means, means.max(), rtol=0, atol=1e-12)
        mask, salt = np.unravel_index(np.where(tied, far, np.inf).argmin(), far.shape)
        return int(mask), int(salt)


@dataclass(frozen=True)
class Thresholds:
    """What was chosen, and why.

    Attributes:
        given, decision: the thresholds before and after; equal where the gain is not more than chance.
        of_folds: for each fold the pair (mask, salt) that the other folds chose for it.
        gain: what these score on the folds they were not chosen on, beside the given ones.
    """

    given: Decision
    decision: Decision
    of_folds: dict[int, tuple[float, float]]
    gain: Difference

    @property
    def changed(self) -> bool:
        return self.decision != self.given

    def as_json(self) -> dict[str, Any]:
        """``thresholds.json``."""
        return {
            "before": [self.given.mask_threshold, self.given.salt_threshold],
            "after": [self.decision.mask_threshold, self.decision.salt_threshold],
            "changed": self.changed,
            "folds": {str(fold): list(pair) for fold, pair in self.of_folds.items()},
            "score_before": self.gain.first,
            "score_cross_fitted": self.gain.second,
            "gain": self.gain.difference,
            "interval": [self.gain.low, self.gain.high],
            "tiles": self.gain.tiles,
            "clusters": self.gain.clusters,
        }


def score_thresholds(
    models: Sequence[ModelPrediction], tiles: np.ndarray, truth: np.ndarray, given: Decision
) -> ThresholdScores:
    """Score (n,) labelled tiles with every threshold, from the models that did not see them.

    Args:
        tiles: positions in the survey.
        truth: (n, S, S) bool.
    """
    count = len(tiles)
    masks, salt, scores = np.empty((count, len(MASK_THRESHOLDS))), np.empty(count, np.float32), np.empty(count)
    for block, probabilities in mean_blocks(models, tiles):
        known, certain = truth[block], np.full(len(block), np.inf, np.float32)
        salt[block] = probabilities.salt
        scores[block] = tile_scores(known, given.masks(*probabilities))
        for place, threshold in enumerate(MASK_THRESHOLDS):
            decision = given.replace(mask_threshold=float(threshold))
            masks[block, place] = tile_scores(known, decision.masks(probabilities.masks, certain))
    return ThresholdScores(masks, tile_scores(truth, np.zeros_like(truth)), salt, scores)


def choose_thresholds(
    scores: ThresholdScores, folds: np.ndarray, clusters: np.ndarray, given: Decision, seed: int
) -> Thresholds:
    """Choose on all folds what the folds, each without itself, show to be a gain; otherwise keep the given thresholds.

    Args:
        folds: (n,) int64, of at least two.
        clusters: (n,) of any type: tiles that are neighbours (``paired.difference``).
        seed: of the bootstrap.
    """
    fitted, of_folds = np.empty(len(folds)), {}
    for fold in np.unique(folds).tolist():
        pair = scores.best(folds != fold, given)
        fitted[folds == fold] = scores.at(pair)[folds == fold]
        of_folds[fold] = float(MASK_THRESHOLDS[pair[0]]), float(SALT_THRESHOLDS[pair[1]])
    gain = difference(scores.given[None], fitted[None], clusters, seed)
    decision = given
    if gain.low > 0:
        mask, salt = scores.best(np.ones(len(folds), bool), given)
        decision = given.replace(
            mask_threshold=float(MASK_THRESHOLDS[mask]), salt_threshold=float(SALT_THRESHOLDS[salt])
        )
    return Thresholds(given, decision, of_folds, gain)
