"""A section in a picture (PNG, TIFF): samples run downwards, traces to the right."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from salt_ray.storage import save_array, write_atomically
from salt_ray.survey.decoding import MAX_TILE_BYTES, decode_image
from salt_ray.survey.layout import FORMATS
from salt_ray.volume.problem import Problem, VolumeError

#: The section as an array (trace, sample), in the results folder.
SECTION = "section.npy"
_PICTURED = {"probability": 65535, "mask": 255}


def is_picture(path: Path) -> bool:
    """Whether a file has the suffix of a picture."""
    return FORMATS.get(path.suffix.lower()) in ("PNG", "TIFF")


def save_section(path: Path, folder: Path) -> Path:
    """Write a picture's section as an array and return its path; pixels without data become 0.

    Raises:
        VolumeError: the picture cannot be read.
    """
    try:
        if path.stat().st_size > MAX_TILE_BYTES:
            raise ValueError(f"is larger than {MAX_TILE_BYTES:,} bytes")
        pixels = decode_image(FORMATS[path.suffix.lower()], path.name, path.read_bytes())
    except (ValueError, OSError) as error:
        reason = f"cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)
        raise VolumeError([Problem(str(path), reason, "give a greyscale picture, or an .npy array")]) from error
    array = np.ascontiguousarray(np.ma.filled(pixels, 0).T)
    section = folder / SECTION
    if not (section.exists() and np.array_equal(np.load(section, allow_pickle=False), array)):
        save_array(section, array)
    return section


def write_pictures(folder: Path) -> None:
    """Write ``probability.png`` (16 bits) and ``mask.png`` (0 and 255) next to the arrays, oriented as the picture."""
    import cv2  # most commands do not need it

    for name, white in _PICTURED.items():
        values = np.load(folder / f"{name}.npy", allow_pickle=False).T
        picture = np.rint(values * np.float64(white)).astype(np.uint16 if white > 255 else np.uint8)
        _, encoded = cv2.imencode(".png", picture)
        write_atomically(folder / f"{name}.png", encoded.tobytes())
