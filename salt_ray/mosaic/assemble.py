"""Mosaics from tiles alone: match their greys, compare all edges, and put the tiles together (method section 6).

Evidence is used best first, and a join that would put two tiles in one place or bring edges together that disagree is
not made. So what is certain is never spoilt by what is not, and no place is taken twice.

Legend: N tiles, n of them not constant, S tile edge px.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from salt_ray.config import Mosaics
from salt_ray.mosaic.confidence import confidences
from salt_ray.mosaic.edges import Neighbours, edge_vectors, find_neighbours, turned
from salt_ray.mosaic.histogram import matching_tables
from salt_ray.mosaic.pairs import Pairs, mutual_pairs, probabilities
from salt_ray.mosaic.places import Grid, Patchwork
from salt_ray.mosaic.table import MosaicError, MosaicTable

#: A pair outside loops must be more likely true than chance to become part of a larger mosaic.
_LIKELY = 0.5
#: Of fewer tiles no second nearest edge says how near the nearest is.
SMALLEST_SECTION = 3


def assemble(
    images: np.ndarray,
    ids: np.ndarray,
    constant: np.ndarray,
    settings: Mosaics,
    report: Callable[[str], None] = lambda line: None,
    device: str = "cpu",
    sections: np.ndarray | None = None,
) -> MosaicTable:
    """Find the mosaics of a survey. The order of the tiles does not matter.

    Args:
        images: (N, S, S) uint8.
        ids: (N,) str.
        constant: (N,) bool, tiles of one colour; they are left out.
        settings: which pairs are believed.
        report: takes one line of text at a time.
        device: "cpu" or "cuda", where the edges are compared.
        sections: (N,) str, what each tile was cut from, where that is known: no mosaic has tiles of two sections.

    Returns:
        Mosaics of two tiles and more, the largest first, of equal ones that with the smallest id.

    Raises:
        MosaicError: the arrays are not of the same tiles.
    """
    if not len(images) == len(ids) == len(constant):
        raise MosaicError(
            f"{len(images)} images, {len(ids)} ids and {len(constant)} constant flags: give one of each per tile"
        )
    order = np.argsort(ids)
    order = order[~np.asarray(constant)[order]]
    tiles = np.asarray(ids)[order].astype(str)
    if len(tiles) < SMALLEST_SECTION:
        return _table([], tiles, np.empty(0))
    varied = images[order]
    vectors = edge_vectors(varied, matching_tables(varied))
    parts = [np.arange(len(tiles))]
    if sections is not None:
        parts = [np.flatnonzero(sections[order] == section) for section in np.unique(sections[order])]
    # Chance is measured in all sections together: of a small one too few pairs would tell.
    pairs, chance = (
        mutual_pairs(_neighbours(edges, parts, device), settings.min_correlation, settings.loop_compatibility)
        for edges in (vectors, turned(vectors))
    )
    likelihood = probabilities(pairs.gaps, chance.gaps)
    closed = int((pairs.loops > 0).sum())
    report(f"{len(tiles):,} tiles: {len(pairs.first):,} pairs of nearest edges, {closed:,} of them in closed loops")
    grids = place(vectors, pairs, likelihood, settings)
    table = _table(grids, tiles, confidences(grids, vectors, pairs, likelihood))
    largest = max(map(len, grids), default=0)
    report(f"{len(table.ids):,} tiles placed in {table.count:,} mosaics, {largest:,} in the largest")
    return table


def _neighbours(vectors: np.ndarray, parts: list[np.ndarray], device: str) -> Neighbours:
    """The neighbours of each tile among those of its own part, (k,) int64 tiles each; the parts hold every tile once.

    In a part that is too small no edge is like another.
    """
    count = vectors.shape[1]
    neighbours = Neighbours(np.zeros((4, count, 2), np.int64), np.full((4, count, 2), -1, np.float32))
    for part in parts:
        if len(part) >= SMALLEST_SECTION:
            own = find_neighbours(np.ascontiguousarray(vectors[:, part]), device)
            neighbours.tiles[:, part] = part[own.tiles]
            neighbours.correlations[:, part] = own.correlations
    return neighbours


def place(vectors: np.ndarray, pairs: Pairs, likelihood: np.ndarray, settings: Mosaics) -> list[Grid]:
    """Put pairs together: those in closed loops, then likely ones, then those that two touching edges support.

    Pairs that are only compatible come last and may only make mosaics of two: nothing else speaks for them, and a wrong
    one does no harm there.

    Args:
        vectors: (4, n, S) float32 edges.
        pairs: m of them.
        likelihood: (m,) that each is more than chance.
        settings: ``min_correlation`` and ``compatibility``.

    Returns:
        Grids of two tiles and more, the largest first, of equal ones that with the smallest tile.
    """
    work = Patchwork(vectors, settings.min_correlation)
    contacts = pairs.contacts
    in_loop = pairs.loops > 0
    best_first = np.lexsort((pairs.sides, pairs.first, -pairs.gaps, ~in_loop))
    is_strong = in_loop | (likelihood > _LIKELY)
    for pair in best_first[is_strong[best_first]]:
        work.join(*contacts[pair])
    weak = [contacts[pair] for pair in best_first[~is_strong[best_first]]]
    before = None
    while len(weak) != before:  # each join may bring edges together that support another one
        before = len(weak)
        weak = [contact for contact in weak if not work.join(*contact, supported=True)]
    for pair in best_first[(pairs.compatibilities > settings.compatibility)[best_first]]:
        tile, side, other = contacts[pair]
        if work.is_alone(tile) and work.is_alone(other):
            work.join(tile, side, other)
    return sorted(work.grids(), key=lambda grid: (-len(grid), min(grid.values())))


def _table(grids: list[Grid], tiles: np.ndarray, confidence: np.ndarray) -> MosaicTable:
    """Mosaics as a table: rows and columns from 0, in the order of the grids."""
    places = []
    for mosaic, grid in enumerate(grids):
        top, left = min(row for row, _ in grid), min(column for _, column in grid)
        places += sorted((mosaic, row - top, column - left, tile) for (row, column), tile in grid.items())
    mosaics, rows, cols, numbers = np.array(places, np.int64).reshape(-1, 4).T
    return MosaicTable(tiles[numbers], mosaics, rows, cols, confidence[numbers])
