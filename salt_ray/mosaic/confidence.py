"""How well the edges that touch a tile support its place.

Doubt is the probability that an edge fits by chance; doubts of one tile's edges multiply, and its confidence is what
they leave of 1. A pair that the search over all tiles found is as doubtful as its gap says. Where four tiles fill a
square, three pairs place them and the fourth is a test: its doubt is the share of arbitrary edges that would pass it,
and the weakest of the four is taken for it.

Legend: n tiles, S tile edge px.
"""

from __future__ import annotations

import numpy as np

from salt_ray.mosaic.edges import Contact, Side
from salt_ray.mosaic.pairs import AXES, Pairs
from salt_ray.mosaic.places import Grid, beside, correlations


def confidences(grids: list[Grid], vectors: np.ndarray, pairs: Pairs, likelihood: np.ndarray) -> np.ndarray:
    """Confidence in the place of each tile, (n,) float64 in 0 … 1; 0 where a tile has none.

    Args:
        grids: the mosaics.
        vectors: (4, n, S) float32 edges.
        pairs: m of them, those that the search found; other edges that touch have a doubt of 1.
        likelihood: (m,) that each is more than chance.
    """
    doubts = dict(zip(pairs.contacts, (1 - likelihood).tolist(), strict=True))
    arbitrary = _arbitrary_correlations(vectors)
    remaining = np.ones(vectors.shape[1])
    for grid in grids:
        contacts = [
            (tile, side, grid[beside(place, side)])
            for place, tile in grid.items()
            for side in AXES
            if beside(place, side) in grid
        ]
        agreement = dict(zip(contacts, correlations(vectors, contacts).tolist(), strict=True))
        least = {contact: doubts.get(contact, 1.0) for contact in contacts}
        for square in _squares(grid):
            weakest = min(agreement[contact] for contact in square)
            passing = len(arbitrary) - np.searchsorted(arbitrary, weakest)
            doubt = (passing + 1) / (len(arbitrary) + 1)
            for contact in square:
                least[contact] = min(least[contact], doubt)
        for (tile, _, other), doubt in least.items():
            remaining[tile] *= doubt
            remaining[other] *= doubt
    return 1 - remaining


def _arbitrary_correlations(vectors: np.ndarray) -> np.ndarray:
    """Sorted correlations (2n,) of the edges of each tile with the facing ones of a tile half the survey away."""
    others = np.roll(np.arange(vectors.shape[1]), vectors.shape[1] // 2)
    return np.sort(np.concatenate([np.einsum("ns,ns->n", vectors[s], vectors[s.opposite][others]) for s in AXES]))


def _squares(grid: Grid) -> list[tuple[Contact, Contact, Contact, Contact]]:
    """The four contacts of every 2 x 2 square that is full."""
    squares = []
    for place, tile in grid.items():
        right, below = beside(place, Side.RIGHT), beside(place, Side.BOTTOM)
        diagonal = beside(right, Side.BOTTOM)
        if right in grid and below in grid and diagonal in grid:
            squares.append(
                (
                    (tile, Side.RIGHT, grid[right]),
                    (tile, Side.BOTTOM, grid[below]),
                    (grid[right], Side.BOTTOM, grid[diagonal]),
                    (grid[below], Side.RIGHT, grid[diagonal]),
                )
            )
    return squares
