"""What a model says about tiles; apart from the models, because who only reads it needs no PyTorch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: The bits of 1.0 as float16. All bits above are those of larger or negative numbers, of infinity or NaN.
_ONE = np.float16(1).view(np.uint16)


class Probabilities(NamedTuple):
    """``masks`` (n, S, S) float16: probability of salt per pixel; ``salt`` (n,) float32: that the tile has any.

    n tiles, S their edge in px.
    """

    masks: np.ndarray
    salt: np.ndarray

    def fault(self) -> str | None:
        """What they hold that is no probability, in words; None where all is from 0 to 1."""
        # As bits: numpy compares float16 by converting each number, which takes ten times as long.
        if (self.masks.view(np.uint16) <= _ONE).all() and ((self.salt >= 0) & (self.salt <= 1)).all():
            return None
        if all(np.isfinite(values).all() for values in self):
            return "values outside 0 to 1"
        return "NaN or infinity"
