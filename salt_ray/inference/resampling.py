"""The cluster bootstrap over mosaics (Field and Welsh, 2007): neighbours are alike, so they are drawn together."""

from __future__ import annotations

import numpy as np


def drawn_sums(sums: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Sums over C clusters drawn with replacement, for the (C, k) sums of each cluster: (draws, k)."""
    count = len(sums)
    return np.array([sums[rng.integers(count, size=count)].sum(axis=0) for _ in range(draws)])
