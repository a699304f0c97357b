"""Amplitudes of any type as greys of 8 bits: one range for the whole survey, so that tiles that touch still fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from salt_ray.survey.problems import Unsuited

#: Of the survey's amplitudes below the range, and as many above it: what displays of seismic sections commonly clip.
CLIPPED_PERCENT = 1


@dataclass(frozen=True)
class GreyRange:
    """Amplitudes from ``low`` to ``high`` become 0 … 255, in proportion; those below and above become 0 and 255."""

    low: float
    high: float

    @property
    def width(self) -> float:
        return self.high - self.low

    def greys(self, tile: np.ndarray) -> np.ndarray:
        """uint8 (S, S) of a tile of any type."""
        inside = np.clip(tile.astype(np.float64), self.low, self.high)
        return np.rint((inside - self.low) / self.width * 255).astype(np.uint8)

    def __str__(self) -> str:
        return f"{self.low:.6g} to {self.high:.6g}"


@dataclass(frozen=True)
class Scaling:
    """How the amplitudes of a survey became greys.

    Attributes:
        used: the range that became 0 … 255.
        own: the one that the survey's own amplitudes have, by ``common_range``; mostly the same.
        outside: share of the amplitudes (of tiles of several values) beyond the range that was used, from 0 to 1.
    """

    used: GreyRange
    own: GreyRange
    outside: float


def common_range(tiles: Sequence[np.ndarray]) -> GreyRange:
    """From the 1st to the 99th percentile of all amplitudes of a survey, whatever the order of its tiles.

    Tiles of one value hold no data and do not count.

    Args:
        tiles: (S, S) each, of one type, finite.

    Raises:
        Unsuited: there is no such range, as nearly all amplitudes are equal (or too large to be subtracted).
    """
    varied = [tile for tile in tiles if tile.min() < tile.max()]
    if not varied:
        raise Unsuited("holds tiles of one value only")
    values = np.concatenate([tile.ravel() for tile in varied])
    # Amplitudes that are there, none between two: the difference of two may be too large for their type.
    percents = [CLIPPED_PERCENT, 100 - CLIPPED_PERCENT]
    low, high = map(float, np.percentile(values, percents, overwrite_input=True, method="nearest"))
    if not 0 < high - low < math.inf:
        raise Unsuited(f"has {low:.6g} and {high:.6g} as 1st and 99th percentile of its amplitudes: no range of greys")
    return GreyRange(low, high)
