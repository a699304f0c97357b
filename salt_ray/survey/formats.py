"""A tile's file as numbers: an image's amplitudes, or a mask, from any of the formats that are read."""

from __future__ import annotations

import numpy as np

from salt_ray.survey import npy, png, tiff
from salt_ray.survey.coding import CodedMask, coded
from salt_ray.survey.layout import tile_name
from salt_ray.survey.nodata import declared, masked, valid
from salt_ray.survey.problems import Unsuited

_DECODERS = {"PNG": png.decode_grey, "TIFF": tiff.decode_grey, "NPY": npy.decode_array}


def decode_image(kind: str, name: str, content: bytes, nodata: float | None = None) -> np.ndarray:
    """Amplitudes (H, W) of an image, in the type that the file has: integers or floating-point numbers, all finite.

    Args:
        kind: the format of the survey's images.
        name: the file's name; its end tells the format.
        content: the whole file.
        nodata: the value that stands for no data; None: what a TIFF says, unless its values are greys of 8 bits, which
            are used as they are.

    Returns:
        A masked array where there are pixels without data.

    Raises:
        ValueError: the file is not whole.
        Unsuited: it is, but of another format, no grey image of numbers, or a longer one than ``MAX_EDGE_PX``.
    """
    pixels = _decode(kind, name, content)
    if pixels.dtype == bool:
        raise Unsuited("holds true and false in the place of amplitudes")
    if nodata is None and kind == "TIFF" and pixels.dtype != np.uint8:
        nodata = declared(content)
    if nodata is not None:
        pixels = masked(pixels, nodata)
    _check_finite(pixels)
    return pixels


def decode_mask(kind: str, name: str, content: bytes) -> CodedMask:
    """A mask's file (H, W); what its values mean all masks of a survey tell together (``coding``).

    Raises:
        ValueError, Unsuited: as ``decode_image``; and the mask holds more values than there are classes.
    """
    pixels = _decode(kind, name, content)
    _check_finite(pixels)
    return coded(pixels)


def decode_any_mask(name: str, content: bytes) -> CodedMask:
    """``decode_mask`` of the format that the name tells."""
    return decode_mask(tile_name(name).format, name, content)


def _decode(kind: str, name: str, content: bytes) -> np.ndarray:
    format_ = tile_name(name).format
    if format_ != kind:
        raise Unsuited(f"is {format_}, but most files of its kind are {kind}")
    return _DECODERS[kind](content)


def _check_finite(pixels: np.ndarray) -> None:
    """Unsuited where a pixel with data is NaN or infinite."""
    values = valid(pixels)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        count = np.count_nonzero(~np.isfinite(values))
        raise Unsuited(f"holds {count:,} values that are no finite number (NaN or infinity)")
