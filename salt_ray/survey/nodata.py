"""Pixels without data: whoever cuts a section into tiles fills what lies beyond it with a number of their own.

Such pixels are masked (``numpy.ma``) in an array whose other pixels are amplitudes.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

#: GDAL_NODATA, the private tag in which a GeoTIFF names that number as text.
_TAG = 42113


def declared(content: bytes) -> float | None:
    """The value that a TIFF, the whole file, says to stand for no data; None where it names none.

    Of a file that is no TIFF whoever decodes it speaks.
    """
    try:
        with Image.open(io.BytesIO(content), formats=("TIFF",)) as image:
            text = image.tag_v2.get(_TAG)
    except UnidentifiedImageError:
        return None
    try:
        return float(str(text).strip("\0 "))
    except ValueError:
        return None


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
