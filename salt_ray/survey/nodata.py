"""Pixels without data: whoever cuts a section into tiles fills the area beyond it with a value of their own.

Such pixels are masked (``numpy.ma``) in an array whose other pixels are amplitudes.
"""

from __future__ import annotations

import numpy as np


def masked(pixels: np.ndarray, value: float) -> np.ndarray:
    """The array with those pixels masked that have the value; the array itself where none has.

    The value counts as the array's type holds it: text such as -3.40282346638529e+38 is the smallest float32.
    """
    if np.isnan(value):
        missing = np.isnan(pixels)
    elif pixels.dtype.kind == "f":
        with np.errstate(over="ignore"):
            missing = pixels == pixels.dtype.type(value)
    else:
        missing = pixels == value
    return np.ma.array(pixels, mask=missing, fill_value=pixels[missing][0]) if missing.any() else pixels


def valid(tile: np.ndarray) -> np.ndarray:
    """The pixels that hold data: (S, S), or (n,) of a masked array."""
    return tile.compressed() if np.ma.isMaskedArray(tile) else tile


def is_constant(tile: np.ndarray) -> bool:
    """Whether a tile (S, S) holds one value or none, pixels without data aside."""
    values = valid(tile)
    return not values.size or values.min() == values.max()
