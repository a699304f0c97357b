"""The cluster bootstrap over mosaics (Field and Welsh, 2007): neighbours are alike, so they are drawn together."""

from __future__ import annotations

import numpy as np

BLOCK = 100  # draws at a time: with 4,000 clusters 3 MB of places, and as much for each of the sums


def drawn_sums(sums: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Sums over C clusters drawn with replacement, for the (C, k) sums of each cluster: (draws, k)."""
    count = len(sums)
    sizes = [min(BLOCK, draws - begin) for begin in range(0, draws, BLOCK)]
    return np.concatenate([sums[rng.integers(count, size=(size, count))].sum(axis=1) for size in sizes])
