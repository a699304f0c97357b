"""Rule 6: corners of salt that a prediction missed (method section 6).

Legend: S tile edge in px. Lengths are px from the corner where the tile meets its lower and its side neighbour: x along
the bottom edge, y up the side edge. Everything is drawn for the left neighbour; the right one is its mirror image.
"""

from __future__ import annotations

import cv2
import numpy as np

from salt_ray.postprocessing.seen import Correction, SeenMosaic

EMPTY_SHARE = 0.001  # a tile with less salt than this counts as empty
INWARDS = 4  # px between the two lines that a boundary's slope is taken from: known to a quarter of a pixel a line
FINE = 5  # sub-pixels a pixel and axis; odd, so that one of them is the pixel's centre
SHIFT = 4  # binary digits of a sub-pixel that OpenCV is given


def fill_corners(mosaic: SeenMosaic) -> list[Correction]:
    """Corners that the tile below and a side neighbour say are salt, added to tiles that are empty or corrected.

    The side neighbour's salt must reach the shared edge from a depth down to the corner, and the salt of the tile below
    from the corner sideways, neither over the whole edge. Both must do so four pixels further in as well, where the
    slopes come from; otherwise the corner stays.
    """
    filled = []
    open_to = ~mosaic.labelled & (mosaic.corrected | (mosaic.salt_px < EMPTY_SHARE * mosaic.size**2))
    for tile in np.flatnonzero(open_to).tolist():
        row, col = int(mosaic.rows[tile]), int(mosaic.cols[tile])
        below, left, right = (mosaic.places.get(place) for place in ((row + 1, col), (row, col - 1), (row, col + 1)))
        if below is None:
            continue
        under = mosaic.masks[below]
        corners = {}
        if left is not None:
            corners[left] = corner(mosaic.masks[left], under)
        if right is not None:
            mirrored = corner(mosaic.masks[right][:, ::-1], under[:, ::-1])
            corners[right] = None if mirrored is None else mirrored[:, ::-1]
        found = {side: region for side, region in corners.items() if region is not None}
        if found:
            mask = np.logical_or.reduce([mosaic.masks[tile], *found.values()])
            filled.append(Correction(tile, mask, (below, *found)))
    return filled


def corner(left: np.ndarray, below: np.ndarray) -> np.ndarray | None:
    """The bottom left corner of a tile between its left neighbour and the tile below, under a cubic curve.

    The curve goes from the height of the left neighbour's salt to the width of the salt below. It is a cubic Hermite
    polynomial of a parameter, not y of x: salt's sides are labelled as vertical lines, whose slope y of x cannot have.

    Args:
        left, below: (S, S) bool.

    Returns:
        (S, S) bool, or None where no boundary meets both edges or the curve leaves the tile.
    """
    size = len(left)
    height, height_inwards = (_reach(left[::-1, -1 - depth]) for depth in (0, INWARDS))
    width, width_inwards = (_reach(below[depth]) for depth in (0, INWARDS))
    if not all(0 < reach < size for reach in (height, height_inwards, width, width_inwards)):
        return None
    curve = _hermite(
        start=np.array([0.0, height]),
        end=np.array([width, 0.0]),
        leaving=np.array([INWARDS, height - height_inwards]),
        arriving=np.array([width_inwards - width, -INWARDS]),
        points=2 * size,
    )
    if curve.min() < 0 or curve.max() > size:
        return None
    return _fill(np.concatenate([curve, [[0.0, 0.0]]]), size)


def _reach(line: np.ndarray) -> int:
    """Length of the salt that starts at the beginning of a line (S,) bool, px."""
    return len(line) if line.all() else int(line.argmin())


def _hermite(start: np.ndarray, end: np.ndarray, leaving: np.ndarray, arriving: np.ndarray, points: int) -> np.ndarray:
    """Points (points, 2) float64 of the cubic from start to end with the given directions at its ends.

    Its speed at both ends is the one that makes a circular arc's directions give (nearly) that arc.
    """
    leaving, arriving = leaving / np.linalg.norm(leaving), arriving / np.linalg.norm(arriving)
    half_turn_cosine = np.sqrt(max(0.0, (1 + leaving @ arriving) / 2))
    speed = 2 * np.linalg.norm(end - start) / (1 + half_turn_cosine)
    t = np.linspace(0, 1, points)[:, None]
    to_end = t * t * (3 - 2 * t)
    swing = t * (1 - t) ** 2 * leaving - t * t * (1 - t) * arriving
    return (1 - to_end) * start + to_end * end + speed * swing


def _fill(outline: np.ndarray, size: int) -> np.ndarray:
    """The pixels (size, size) bool whose centre lies in an outline (points, 2) of x and y from the bottom left corner.

    OpenCV fills the outline's own pixels as well: on a finer grid that widens the corner by a tenth of a pixel only.
    """
    canvas = np.zeros((FINE * size, FINE * size), np.uint8)
    across, down = outline[:, 0], size - outline[:, 1]
    vertices = np.stack([across, down], axis=1) * FINE - 0.5
    cv2.fillPoly(canvas, [np.rint(vertices * 2**SHIFT).astype(np.int32)], 1, shift=SHIFT)
    return canvas[FINE // 2 :: FINE, FINE // 2 :: FINE].astype(bool)
