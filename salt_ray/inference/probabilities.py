"""What a model says about tiles; apart from the models, because who only reads it needs no PyTorch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Probabilities(NamedTuple):
    """``masks`` (n, S, S) float16: probability of salt per pixel; ``salt`` (n,) float32: that the tile has any.

    n tiles, S their edge in px.
    """

    masks: np.ndarray
    salt: np.ndarray
