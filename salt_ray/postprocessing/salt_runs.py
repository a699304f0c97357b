"""What the salt on a tile's edges says about the tile, and bands between the runs of two edges (method section 6).

Legend: S tile edge in px; k runs on a line; a mask is (S, S) bool, its row 0 is the top edge, its last row the bottom.
"""

from __future__ import annotations

import numpy as np


def is_vertical(mask: np.ndarray) -> bool:
    """Whether salt crosses the tile: the same runs, at least one, on its top and bottom edge.

    A mask that touches neither edge has equal (no) runs there too, but says nothing about the tiles above and below.
    """
    return bool(mask[0].any()) and np.array_equal(mask[0], mask[-1])


def is_terminal(mask: np.ndarray) -> bool:
    """Whether salt ends upwards in the tile: the top edge has less than half the salt of the bottom edge."""
    return 2 * np.count_nonzero(mask[0]) < np.count_nonzero(mask[-1])


def is_closed_below(mask: np.ndarray) -> bool:
    """Whether the bottom edge is all salt."""
    return bool(mask[-1].all())


def bands(above: np.ndarray, below: np.ndarray, lines: int, width: int) -> np.ndarray:
    """The polygons that join each run above to the one below by straight lines.

    The runs are on the lines of pixels directly above and below the band. A pixel is salt when its centre lies in a
    polygon or on its outline: on every line a polygon is one interval, so this is exact without a rasteriser, and the
    mirror image of runs gives the mirror image of bands.

    Args:
        above, below: (k, 2) int64 runs in px, k the same.
        lines: height of the band, px.
        width: px.

    Returns:
        (lines, width) bool.
    """
    steps = np.arange(1, lines + 1)[:, None, None]
    # All coordinates times 2 * (lines + 1): whole numbers, so that no rounding decides about a pixel.
    ends = 2 * (above * (lines + 1 - steps) + below * steps)
    centres = (2 * np.arange(width) + 1) * (lines + 1)
    return ((ends[..., :1] <= centres) & (centres <= ends[..., 1:])).any(axis=1)
