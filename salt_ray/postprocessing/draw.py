"""Pictures of mosaics: what is labelled, what is predicted, and what post-processing made of it (method section 6).

Legend: n tiles, S tile edge px; R, C rows and columns of a mosaic's grid; H = R * S and W = C * S px. A picture is
uint8 (height, width, 3) in the order red, green, blue. Every pixel is of one Kind, and its grey value shines through
that kind's colour, so that the seismic stays readable under the masks.
"""

from __future__ import annotations

from enum import IntEnum

import cv2
import numpy as np

from salt_ray.postprocessing.predicted import MosaicTiles


class Kind(IntEnum):
    """What a pixel of a mosaic is, in the order of legends. Those up to REMOVED are outlined: shape helps colour."""

    LABELLED_SALT = 0
    PREDICTED = 1
    ADDED = 2
    REMOVED = 3
    LABELLED_EMPTY = 4
    UNMASKED = 5  # of an unlabelled tile, without salt before and after
    NO_TILE = 6


#: For each kind its name in legends, its colour, and the colour's share of a pixel: on its plain parts, and on its
#: outline and stripes. Green is lighter than red by intent: colour-blind readers tell them apart by that.
_LOOKS: dict[Kind, tuple[str, tuple[int, int, int], float, float]] = {
    Kind.LABELLED_SALT: ("labelled: salt", (0, 215, 135), 0.42, 0.9),
    Kind.PREDICTED: ("predicted salt", (220, 15, 15), 0.4, 0.9),
    Kind.ADDED: ("added by post-processing", (255, 225, 0), 0.55, 0.95),
    Kind.REMOVED: ("removed by post-processing", (215, 45, 225), 0.2, 0.75),
    Kind.LABELLED_EMPTY: ("labelled: no salt", (0, 90, 230), 0.25, 0.25),
    Kind.UNMASKED: ("no label, no salt", (0, 0, 0), 0, 0),
    Kind.NO_TILE: ("no tile", (210, 212, 217), 1, 1),
}


def draw_mosaic(tiles: MosaicTiles, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Stitch one mosaic and tint it by kind; a place in the picture is a place in the mosaic (method section 6).

    Args:
        before: (n, S, S) bool, the label of a labelled tile, else the mask as predicted.
        after: (n, S, S) bool, the same after post-processing.

    Returns:
        The picture, (R * S, C * S, 3): R and C are the largest row and column plus one. Pixels without label or salt
        keep their grey value.
    """
    assert before.dtype == after.dtype == bool and before.shape == after.shape == tiles.images.shape
    assert np.array_equal(before[tiles.labelled], after[tiles.labelled]), "post-processing changed a label"
    kinds = _kinds(tiles.labelled[:, None, None], before, after)
    size = tiles.images.shape[1]
    return _paint(_stitch(tiles, tiles.images, 0), _stitch(tiles, kinds, Kind.NO_TILE), size)


def draw_tile(image: np.ndarray, labelled: bool | np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """One tile in the colours of mosaics, (S, S, 3).

    Args:
        image: (S, S) uint8.
        labelled: whether the masks are its label; or where they are, (S, S) bool.
        before, after: (S, S) bool, as of ``draw_mosaic``.
    """
    return _paint(image, _kinds(labelled, before, after), len(image))


def swatch(kind: Kind) -> tuple[str, np.ndarray, np.ndarray]:
    """A kind in a legend: its name, and its colour over middle grey, uint8 (3,), on plain parts and on outlines."""
    plain, strong = _palette().reshape(3, len(Kind), 2, 256)[:, kind, :, 128].T
    return _LOOKS[kind][0], plain, strong


def encode_png(picture: np.ndarray) -> bytes:
    """A picture as PNG."""
    written, encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    assert written, picture.shape
    return encoded.tobytes()


def _kinds(labelled: np.ndarray | bool, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The Kind of every pixel, uint8 in the shape of the masks; a label is the same before and after."""
    unlabelled = [Kind.UNMASKED, Kind.REMOVED, Kind.ADDED, Kind.PREDICTED]
    label = [Kind.LABELLED_EMPTY, Kind.LABELLED_EMPTY, Kind.LABELLED_SALT, Kind.LABELLED_SALT]
    code = before * np.uint8(1) + after * np.uint8(2) + labelled * np.uint8(4)
    return np.array(unlabelled + label, np.uint8)[code]


def _stitch(tiles: MosaicTiles, parts: np.ndarray, missing: int) -> np.ndarray:
    """Lay (n, S, S) parts on the tiles' places, (R * S, C * S); places without a tile hold ``missing``."""
    size = parts.shape[1]
    height, width = int(tiles.rows.max()) + 1, int(tiles.cols.max()) + 1
    grid = np.full((height, size, width, size), missing, parts.dtype)
    grid[tiles.rows, :, tiles.cols] = parts
    return grid.reshape(height * size, width * size)


def _paint(grey: np.ndarray, kinds: np.ndarray, tile_px: int) -> np.ndarray:
    """Colour uint8 (H, W) grey values by their kinds, uint8 (H, W); nine stripes cross a tile, fewer a small one."""
    height, width = grey.shape
    edges = cv2.morphologyEx(kinds, cv2.MORPH_GRADIENT, cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))) > 0
    strong = edges & (kinds <= Kind.REMOVED)
    pitch = max(4, tile_px // 9)
    diagonal = np.arange(height + width - 1) % pitch < pitch // 3
    stripes = np.lib.stride_tricks.sliding_window_view(diagonal, width)  # one px further in every row
    strong |= stripes & ((kinds == Kind.REMOVED) | (kinds == Kind.NO_TILE))
    index = (kinds * np.uint16(2) + strong) * np.uint16(256) + grey
    return cv2.merge([channel[index] for channel in _palette()])


def _palette() -> np.ndarray:
    """Red, green and blue, uint8 (3, kinds * 2 * 256): by kind, plain or strong, and grey value."""
    grey = np.arange(256)[:, None]
    colours = np.empty((len(Kind), 2, 256, 3))
    for kind, (_, colour, *shares) in _LOOKS.items():
        for strong, share in enumerate(shares):
            colours[kind, strong] = (1 - share) * grey + share * np.array(colour)
    colours[Kind.NO_TILE, 0] = 240, 241, 243  # pale stripes on pale ground: no seismic looks so, a black tile would
    return np.ascontiguousarray(np.rint(colours).astype(np.uint8).reshape(-1, 3).T)
