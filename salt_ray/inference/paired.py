"""What one side scores beyond another on the same tiles, with an interval that knows of neighbours and of seeds.

Tiles are paired, and drawn with replacement by their mosaics (``resampling``): neighbours show the same rock, so that a
mosaic says less than as many tiles from elsewhere.

Letters: n tiles, C clusters of them, D draws, K runs of a side, which differ in their seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

from salt_ray.inference.resampling import drawn_sums

DRAWS = 5000
INTERVAL = (2.5, 97.5)  # per cent


@dataclass(frozen=True)
class Difference:
    """What the second side scores beyond the first.

    Attributes:
        tiles, clusters: how many there are.
        first, second: the mean scores; of several runs of a side their mean.
        low, high: the 95 % interval of ``second - first``.
        wins, ties, losses: on how many tiles the second is better, equal, worse.
    """

    tiles: int
    clusters: int
    first: float
    second: float
    low: float
    high: float
    wins: int
    ties: int
    losses: int

    @property
    def difference(self) -> float:
        return self.second - self.first

    @property
    def certain(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def difference(
    first: np.ndarray, second: np.ndarray, clusters: np.ndarray, seed: int = 0, draws: int = DRAWS
) -> Difference:
    """The paired difference of two sides on the same tiles, with a bootstrapped 95 % interval.

    A draw takes C clusters with replacement; its difference is a ratio of sums, because clusters differ in size. Of
    several runs of a side it takes as many, also with replacement. So few runs scatter less than their recipe: what
    they add counts sqrt(K / (K - 1)) times, and as many times more as Student's quantile is above the normal one.

    Args:
        first, second: (K, n) float64 scores of tiles, a row a run.
        clusters: (n,) of any type: which tiles are drawn together.
    """
    _, codes = np.unique(clusters, return_inverse=True)
    count = codes.max() + 1
    sizes = np.bincount(codes, minlength=count)
    sums = [np.bincount(codes, row, count) for row in (*first, *second)]
    rng, freedom = np.random.default_rng(seed), len(first) + len(second) - 2
    student = stdtrit(freedom, 0.975) / ndtri(0.975) if freedom else 1.0
    drawn = drawn_sums(np.column_stack([sizes, *sums]), draws, rng)
    sides = np.split(drawn[:, 1:] / drawn[:, :1], [len(first)], axis=1)
    means = [_drawn_mean(side, student, rng) for side in sides]
    low, high = np.percentile(means[1] - means[0], INTERVAL)
    gains = second.mean(axis=0) - first.mean(axis=0)
    won, lost = (gains > 0).sum(), (gains < 0).sum()
    return Difference(
        tiles=len(codes),
        clusters=int(count),
        first=float(first.mean()),
        second=float(second.mean()),
        low=float(low),
        high=float(high),
        wins=int(won),
        ties=int(len(gains) - won - lost),
        losses=int(lost),
    )


def _drawn_mean(runs: np.ndarray, student: float, rng: np.random.Generator) -> np.ndarray:
    """The mean over drawn runs of each draw, with their scatter corrected: (D, K) -> (D,)."""
    draws, count = runs.shape
    centre = runs.mean(axis=1)
    if count == 1:
        return centre
    weights = rng.multinomial(count, np.full(count, 1 / count), draws) / count
    return centre + ((weights * runs).sum(axis=1) - centre) * student * math.sqrt(count / (count - 1))
