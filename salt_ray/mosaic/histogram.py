"""Grey values that can be compared between tiles: every tile follows the survey's mean histogram (method section 6).

Every tile was stretched on its own to 0 … 255, so one rock has other grey values in the tile next to it. Matching is a
look-up table a tile, and only the pixels that somebody asks for are looked up.

Legend: n tiles, S tile edge px, 256 grey values.
"""

from __future__ import annotations

import cv2
import numpy as np

GREYS = 256


def matching_tables(images: np.ndarray) -> np.ndarray:
    """Look-up tables that give every tile the mean histogram of all of them.

    A grey value becomes the one at which the mean's cumulative distribution is as high, on the straight line between
    two grey values where it lies between them.

    Args:
        images: (n, S, S) uint8. Leave constant tiles out: they would add peaks that no rock has.

    Returns:
        (n, 256) float32 grey values, rising along each row.
    """
    counts = np.empty((len(images), GREYS))
    for image, row in zip(images, counts, strict=True):
        row[:] = cv2.calcHist([image], [0], None, [GREYS], [0, GREYS]).ravel()
    mean = counts.sum(axis=0)
    present = np.flatnonzero(mean)
    levels = np.cumsum(mean[present]) / mean.sum()
    own_levels = np.cumsum(counts, axis=1) / counts.sum(axis=1, keepdims=True)
    return np.interp(own_levels, levels, present).astype(np.float32)


def match(tables: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Look grey values up, each tile's in its own table.

    Args:
        tables: (n, 256) float32.
        values: (n, …) uint8: whole tiles (n, S, S), or lines of them.

    Returns:
        Float32, shaped as ``values``.
    """
    flat = values.reshape(len(values), -1).astype(np.int64)
    return np.take_along_axis(tables, flat, axis=1).reshape(values.shape)
