"""Thresholds chosen by labels that the models never saw, and judged by others (method section 5).

Each fold's tiles are decided with the thresholds that score highest on the tiles of all other folds, so that what a
choice is worth is measured on tiles that had no part in it. Where that is more than chance, the thresholds that score
highest on all tiles are taken; otherwise the given ones stay.

Letters: n labelled tiles, M and T thresholds of pixels and of tiles, S tile edge in px.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict

from salt_ray.decision import Decision, FoldDecisions
from salt_ray.inference.ensemble import ModelPrediction, mean_blocks
from salt_ray.inference.paired import Difference, difference
from salt_ray.metric import tile_scores
from salt_ray.storage import StoragePath, readable, write_atomically

MASK_THRESHOLDS = np.arange(4, 15) / 20  # 0.20 … 0.70
SALT_THRESHOLDS = np.arange(0, 19) / 20  # 0.00 … 0.90
MIN_CLUSTERS = 10  # fewer say too little of the others: of a single one the interval is a point


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


class FoldThresholds(BaseModel):
    """What the other folds chose for one.

    Attributes:
        decision: with their thresholds.
        tiles: judged tiles of the fold.
        before, after: their mean score with the given thresholds and with these.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    decision: Decision
    tiles: int
    before: float
    after: float


class Thresholds(BaseModel):
    """What was chosen, and why: ``thresholds.json``.

    Attributes:
        given, final: the thresholds before and after; equal where the gain is not more than chance.
        folds: what the other folds chose for each; empty where there are fewer than two.
        gain: what these score on the folds that they were not chosen on (``second``) beyond the given ones (``first``);
            None where there are fewer than two.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    given: Decision
    final: Decision
    folds: dict[int, FoldThresholds]
    gain: Difference | None

    @property
    def adopted(self) -> bool:
        """Whether the gain is more than chance."""
        return self.gain is not None and self.gain.clusters >= MIN_CLUSTERS and self.gain.low > 0

    def decisions(self, folds: np.ndarray) -> FoldDecisions:
        """How every tile is decided: none of a fold by what its own labels chose.

        Args:
            folds: (N,) int64 of every tile of the survey, -1 where it is in none.
        """
        of_folds = {fold: chosen.decision for fold, chosen in self.folds.items()} if self.adopted else {}
        return FoldDecisions(self.final, of_folds, folds)

    @classmethod
    def load(cls, path: StoragePath) -> Self:
        """Those in a file.

        Raises:
            RunError: it is missing or damaged.
        """
        with readable(path, path.parent):
            return cls.model_validate_json(path.read_bytes())

    def save(self, path: StoragePath) -> None:
        """Write ``thresholds.json``, whole or not at all."""
        write_atomically(path, self.model_dump_json(indent=1))


def score_thresholds(
    models: Sequence[ModelPrediction], tiles: np.ndarray, truth: np.ndarray, given: Decision
) -> ThresholdScores:
    """Score (n,) labelled tiles with every threshold, from the models that did not see them.

    Args:
        tiles: positions in the survey.
        truth: (n, S, S) bool, or int8 with unlabelled pixels, which do not count.
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
    return ThresholdScores(masks, tile_scores(truth, np.zeros(truth.shape, bool)), salt, scores)


def choose_thresholds(
    scores: ThresholdScores, folds: np.ndarray, clusters: np.ndarray, given: Decision, seed: int
) -> Thresholds:
    """Choose on all folds what the folds, each without itself, show to be a gain; otherwise keep the given thresholds.

    Args:
        folds: (n,) int64; of fewer than two nothing is chosen.
        clusters: (n,) of any type: tiles that are neighbours (``paired.difference``).
        seed: of the bootstrap.
    """
    numbers = np.unique(folds).tolist()
    if len(numbers) < 2:
        return Thresholds(given=given, final=given, folds={}, gain=None)
    fitted, of_folds = np.empty(len(folds)), {}
    for fold in numbers:
        own = folds == fold
        pair = scores.best(~own, given)
        fitted[own] = scores.at(pair)[own]
        before, after = scores.given[own].mean(), fitted[own].mean()
        of_folds[fold] = FoldThresholds(
            decision=_with(given, pair), tiles=int(own.sum()), before=float(before), after=float(after)
        )
    gain = difference(scores.given[None], fitted[None], clusters, seed)
    found = Thresholds(given=given, final=given, folds=of_folds, gain=gain)
    final = _with(given, scores.best(np.ones(len(folds), bool), given))
    return found.model_copy(update={"final": final}) if found.adopted else found


def _with(given: Decision, pair: tuple[int, int]) -> Decision:
    """The decision with the thresholds at these places of ``MASK_`` and ``SALT_THRESHOLDS``."""
    mask, salt = pair
    return given.replace(mask_threshold=float(MASK_THRESHOLDS[mask]), salt_threshold=float(SALT_THRESHOLDS[salt]))
