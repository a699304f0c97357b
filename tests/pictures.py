"""Pictures that tests look at."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def checked_picture(png: bytes) -> np.ndarray:
    """A PNG's pixels (h, w, 3), uint8; enough of them are not white, and they have many colours."""
    with Image.open(io.BytesIO(png)) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20 and (pixels < 250).any(axis=2).mean() > 0.02
    return pixels
