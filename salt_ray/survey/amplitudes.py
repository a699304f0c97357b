"""Amplitudes of any type as greys of 8 bits: one range for the whole survey, so that tiles that touch still fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from salt_ray.survey.nodata import is_constant, valid
from salt_ray.survey.problems import Unsuited

#: Of the survey's amplitudes below the range, and as many above it: what displays of seismic sections commonly clip.
CLIPPED_PERCENT = 1
GREYS = 256
#: Share of other amplitudes beyond a run's range, from which on it does not suit them; of those that it was measured in
#: 2 % lie there.
MOST_OUTSIDE = 0.05
#: What a pixel without data becomes.
MIDDLE_GREY = 128
#: Fewer than these for nearly all amplitudes inside the range, or one for half of them: there is no contrast.
FEWEST_GREYS = 16
#: A value that takes more of the range than this for itself is worth a line.
LARGE_GAP = 0.25
#: Amplitudes that are looked at for this, at most, evenly spread: enough for shares of a percent.
SAMPLED = 1 << 21


@dataclass(frozen=True)
class GreyRange:
    """Amplitudes from ``low`` to ``high`` become 0 … 255, in proportion; those below and above become 0 and 255."""

    low: float
    high: float

    @property
    def width(self) -> float:
        return self.high - self.low

    def greys(self, tile: np.ndarray) -> np.ndarray:
        """uint8 (S, S) of a tile of any type; a pixel without data (masked) becomes the middle grey."""
        inside = np.clip(np.ma.getdata(tile).astype(np.float64), self.low, self.high)
        greys = np.rint((inside - self.low) / self.width * (GREYS - 1))
        greys[np.ma.getmaskarray(tile)] = MIDDLE_GREY
        return greys.astype(np.uint8)

    def outside(self, values: np.ndarray) -> float:
        """Share of the values (n,) below and above, from 0 to 1."""
        return np.count_nonzero((values < self.low) | (values > self.high)) / values.size

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


@dataclass(frozen=True)
class Apart:
    """An end of the range that is far away from the amplitudes inside it.

    Attributes:
        value: that end, if many amplitudes are exactly this; None where the outliers have many values.
        share: of the amplitudes that have the value, from 0 to 1.
        half: 25th to 75th percentile of the amplitudes inside the range.
        greys: how many of the 256 greys these are given.
        leaves_contrast: whether the amplitudes inside the range can be told apart.
    """

    value: float | None
    share: float
    half: GreyRange
    greys: int
    leaves_contrast: bool


def amplitudes_of(tiles: Sequence[np.ndarray]) -> np.ndarray:
    """All amplitudes (n,) of a survey's tiles (S, S), in their type; tiles of one value hold no data and do not count.

    Raises:
        Unsuited: no tile holds several values.
    """
    varied = [valid(tile).ravel() for tile in tiles if not is_constant(tile)]
    if not varied:
        raise Unsuited("holds only constant tiles")
    return np.concatenate(varied)


def common_range(values: np.ndarray) -> GreyRange:
    """From the 1st to the 99th percentile of all amplitudes (n,) of a survey, finite; their order does not matter.

    Raises:
        Unsuited: there is no such range, as nearly all amplitudes are equal (or too large to be subtracted).
    """
    low, high = _percentiles(values, CLIPPED_PERCENT, 100 - CLIPPED_PERCENT)
    if not 0 < high - low < math.inf:
        raise Unsuited(f"has {low:.6g} and {high:.6g} as 1st and 99th percentile of its amplitudes: not a usable range")
    return GreyRange(low, high)


def apart(values: np.ndarray, found: GreyRange) -> Apart | None:
    """What leaves the amplitudes (n,) only a part of their common range ``found``; None where nothing does.

    A value that stands for no data (-9999, -999.25, 1e30) is such an end, once it is more frequent than what the range
    clips. Where many amplitudes inside are one value (a mute) the others are judged.
    """
    values = values[:: -(-values.size // SAMPLED)]
    inside = values[(values > found.low) & (values < found.high)]
    if inside.size:
        usual = np.percentile(inside, 50, overwrite_input=True, method="nearest")
        if 4 * np.count_nonzero(inside == usual) > inside.size:
            inside = inside[inside != usual]
    if not inside.size or inside.min() == inside.max():
        return None
    low, first, third, high = _percentiles(inside, CLIPPED_PERCENT, 25, 75, 100 - CLIPPED_PERCENT)
    steps = (GREYS - 1) / found.width
    leaves_contrast = (high - low) * steps >= FEWEST_GREYS and (third - first) * steps >= 1
    shares = {end: np.count_nonzero(values == end) / values.size for end in (found.low, found.high)}
    gaps = {found.low: low - found.low, found.high: found.high - high}
    end = max(gaps, key=gaps.__getitem__)
    is_value = 100 * shares[end] >= CLIPPED_PERCENT
    if leaves_contrast and not (is_value and gaps[end] >= LARGE_GAP * found.width):
        return None
    greys = 1 + math.floor((third - first) * steps)
    return Apart(end if is_value else None, shares[end], GreyRange(first, third), greys, leaves_contrast)


def _percentiles(values: np.ndarray, *percents: float) -> list[float]:
    """Amplitudes that are there, none between two: the difference of two may be too large for their type. The order of
    the values (n,) is changed.
    """
    return np.percentile(values, percents, overwrite_input=True, method="nearest").astype(np.float64).tolist()
