"""The images of a survey as greys of 8 bits: as they are, or by one range of amplitudes, which has to leave contrast.

Letters: N tiles, S tile edge in px.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from salt_ray.survey.amplitudes import (
    CLIPPED_PERCENT,
    GREYS,
    MIDDLE_GREY,
    Apart,
    GreyRange,
    Scaling,
    amplitudes_of,
    apart,
    common_range,
)
from salt_ray.survey.layout import Entry
from salt_ray.survey.nodata import is_constant, valid
from salt_ray.survey.problems import Problem, SurveyError, Unsuited

_AS_BYTES = "scale the images to 0 … 255 and save them as uint8"


@dataclass(frozen=True)
class Greys:
    """What became of a survey's images.

    Attributes:
        images: uint8 (N, S, S).
        constant: bool (N,): tiles of one value, pixels without data aside.
        scaling: how amplitudes became greys; None where they were greys of 8 bits.
        account: what was found and assumed, one line each.
        key: what decided the greys beside the files' content; empty where nothing did.
    """

    images: np.ndarray
    constant: np.ndarray
    scaling: Scaling | None
    account: list[str]
    key: str


def greys_of(
    tiles: Sequence[np.ndarray], entries: Sequence[Entry], given: GreyRange | None, place: str, giver: str = "the run"
) -> Greys:
    """Greys of N tiles (S, S) of one type, masked where a pixel holds no data.

    Args:
        entries: where each tile comes from.
        given: the range that becomes 0 … 255, of tiles that are not uint8; None: their own.
        place: the survey's location, for messages.
        giver: whose range ``given`` is, for messages.

    Raises:
        SurveyError: the amplitudes have no range, or one that leaves no contrast.
    """
    # Of the amplitudes, not of the greys: a tile that is weak beside the others, or beyond the range, holds data too.
    constant = np.array([is_constant(tile) for tile in tiles])
    missing = [tile for tile in tiles if np.ma.isMaskedArray(tile)]
    lines, keys = [], []
    if missing:
        values = ", ".join(sorted({f"{tile.fill_value:.6g}" for tile in missing}))
        count = sum(np.count_nonzero(tile.mask) for tile in missing)
        lines.append(
            f"found: {count:,} pixels in {len(missing):,} tiles hold no data ({values}): they are shown in mid-grey"
        )
        keys.append("pixels without data")
    if tiles[0].dtype == np.uint8:
        images = np.stack([np.ma.filled(tile, MIDDLE_GREY) for tile in tiles])
        return Greys(images, constant, None, lines, " ".join(keys))
    try:
        values = amplitudes_of(tiles)
        own = common_range(values)
    except Unsuited as error:
        remedy = f"set the no-data value (--set amplitudes.nodata=VALUE), or {_AS_BYTES}"
        raise SurveyError([Problem(place, str(error), remedy)]) from error
    lone = apart(values, own)
    if lone is not None:
        lines.append(_told(lone, own, tiles, entries, place))
    used = own if given is None else given
    clipped = f"the lowest and highest {CLIPPED_PERCENT} % are clipped"
    outside = used.outside(values)
    if given is not None:
        clipped = f"that is {giver}'s range, and {outside:.1%} of this survey's amplitudes are outside it and clipped"
    lines.append(f"assumed: amplitudes from {used} become greys from 0 to 255; {clipped}")
    images = np.stack([used.greys(tile) for tile in tiles])
    return Greys(images, constant, Scaling(used, own, outside), lines, " ".join([repr(used), *keys]))


def _told(lone: Apart, own: GreyRange, tiles: Sequence[np.ndarray], entries: Sequence[Entry], place: str) -> str:
    """A line about an end of the range that is far from the other amplitudes.

    Raises:
        SurveyError: the others are left too few greys.
    """
    what = f"half of the other amplitudes, {lone.half}, share only {lone.greys} of {GREYS} greys"
    remedy = _AS_BYTES
    if lone.value is not None:
        first = next(at for at, tile in enumerate(tiles) if not is_constant(tile) and (valid(tile) == lone.value).any())
        place = entries[first].place
        what = f"holds {lone.value:.6g}, {lone.share:.1%} of the survey's amplitudes: {what}"
        remedy = f"if it means no data, --set amplitudes.nodata={lone.value:.9g}; otherwise {remedy}"
    else:
        what = f"a few amplitudes are far away from the others (the range is {own}): {what}"
        remedy = f"clip them, or {remedy}"
    problem = Problem(place, what, remedy)
    if not lone.leaves_contrast:
        raise SurveyError([problem])
    return f"found: {problem}"
