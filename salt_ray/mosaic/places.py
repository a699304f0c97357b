"""Tiles on grids: components that grow by joins, each of which is checked before it is made.

Legend: n tiles, m contacts, S tile edge px; a place is (row, column) in the grid of a component, rows from the top.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from salt_ray.mosaic.edges import Contact, Side

Place = tuple[int, int]
Grid = dict[Place, int]

#: Edges that correlate less contradict each other: 99.9 % of the touching edges of the published TGS mosaics are above.
_CONTRADICTION = 0.2


class Patchwork:
    """n tiles, at first each a component of its own. Two tiles never share a place."""

    def __init__(self, vectors: np.ndarray, min_correlation: float) -> None:
        """Begin with every tile alone.

        Args:
            vectors: (4, n, S) float32 edges, from ``edges.edge_vectors``.
            min_correlation: what the edges that a join brings together correlate at least, in the mean. None of them
                may contradict each other.
        """
        self._vectors = vectors
        self._min_correlation = min_correlation
        tiles = range(vectors.shape[1])
        self._places: list[Place] = [(0, 0) for _ in tiles]
        self._components = list(tiles)
        self._grids: dict[int, Grid] = {tile: {(0, 0): tile} for tile in tiles}

    def join(self, tile: int, side: Side, other: int, *, supported: bool = False) -> bool:
        """Put another tile at a side of a tile, each with its whole component.

        Args:
            supported: join only if two pairs of edges or more come to touch, each at ``min_correlation`` or better.

        Returns:
            Whether they are now placed so (or were already). False, with nothing changed: a place is taken, edges
            disagree or support is missing.
        """
        row, column = beside(self._places[tile], side)
        shift = row - self._places[other][0], column - self._places[other][1]
        stays, moves = self._components[tile], self._components[other]
        if stays == moves:
            return shift == (0, 0)
        if len(self._grids[moves]) > len(self._grids[stays]):
            stays, moves, shift = moves, stays, (-shift[0], -shift[1])
        grid = self._grids[stays]
        moved = {(r + shift[0], c + shift[1]): mover for (r, c), mover in self._grids[moves].items()}
        if not grid.keys().isdisjoint(moved):
            return False
        touching = list(_contacts(moved, grid))
        if supported and len(touching) < 2:
            return False
        agreement = correlations(self._vectors, touching)
        lowest = self._min_correlation if supported else _CONTRADICTION
        if agreement.min() < lowest or agreement.mean() < self._min_correlation:
            return False
        grid.update(moved)
        for place, mover in moved.items():
            self._places[mover] = place
            self._components[mover] = stays
        del self._grids[moves]
        return True

    def is_alone(self, tile: int) -> bool:
        """Whether a tile is a component of its own."""
        return len(self._grids[self._components[tile]]) == 1

    def grids(self) -> list[Grid]:
        """The components of two tiles and more: the tile at each place. They are copies."""
        return [dict(grid) for grid in self._grids.values() if len(grid) > 1]


def beside(place: Place, side: Side) -> Place:
    """The place at a side of another."""
    return place[0] + side.step[0], place[1] + side.step[1]


def correlations(vectors: np.ndarray, contacts: list[Contact]) -> np.ndarray:
    """How m pairs of facing edges correlate: (m,) float32."""
    tiles, sides, others = np.array(contacts, np.int64).reshape(-1, 3).T
    return np.einsum("ms,ms->m", vectors[sides, tiles], vectors[sides ^ 1, others])


def _contacts(moved: Grid, grid: Grid) -> Iterator[Contact]:
    """Pairs of edges of two components that face each other."""
    for place, tile in moved.items():
        for side in Side:
            other = grid.get(beside(place, side))
            if other is not None:
                yield tile, side, other
