"""A tile's file as numbers: an image's amplitudes, or a mask, from any of the formats that are read."""

from __future__ import annotations

import numpy as np

from salt_ray.survey import npy, png, tiff
from salt_ray.survey.layout import tile_name
from salt_ray.survey.problems import Unsuited

_DECODERS = {"PNG": png.decode_grey, "TIFF": tiff.decode_grey, "NPY": npy.decode_array}


def decode_image(kind: str, name: str, content: bytes) -> np.ndarray:
    """Amplitudes (H, W) of an image, in the type that the file has: integers or floating-point numbers, all finite.

    Args:
        kind: the format of the survey's images.
        name: the file's name; its end tells the format.
        content: the whole file.

    Raises:
        ValueError: the file is not whole.
        Unsuited: it is, but of another format, no grey image of numbers, or a longer one than ``MAX_EDGE_PX``.
    """
    pixels = _decode(kind, name, content)
    if pixels.dtype == bool:
        raise Unsuited("holds true and false in the place of amplitudes")
    return pixels


def decode_mask(kind: str, name: str, content: bytes) -> np.ndarray:
    """Bool (H, W) of a mask's file, True where salt is.

    Raises:
        ValueError, Unsuited: as ``decode_image``; and the mask holds more than 0 and one other value.
    """
    return two_valued(_decode(kind, name, content))


def decode_any_mask(name: str, content: bytes) -> np.ndarray:
    """``decode_mask`` of the format that the name tells."""
    return decode_mask(tile_name(name).format, name, content)


def two_valued(mask: np.ndarray) -> np.ndarray:
    """Bool (H, W) of a mask that holds 0 and one other value (255 and 65535 are both in use) or just one of them.

    Raises:
        Unsuited: the mask holds other values.
    """
    salt = mask != 0
    other = mask.max() or mask.min()  # a mask of 0 and -1 has no larger value than 0
    if np.count_nonzero(mask == other) != (np.count_nonzero(salt) or mask.size):
        raise Unsuited("is not two-valued")
    return salt


def _decode(kind: str, name: str, content: bytes) -> np.ndarray:
    format_ = tile_name(name).format
    if format_ != kind:
        raise Unsuited(f"is {format_}, but most files of its kind are {kind}")
    pixels = _DECODERS[kind](content)
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        count = np.count_nonzero(~np.isfinite(pixels))
        raise Unsuited(f"holds {count:,} values that are no finite number (NaN or infinity)")
    return pixels
