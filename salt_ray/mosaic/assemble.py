"""Mosaics from tiles alone: match their greys, compare all edges, and put the tiles together (method section 6).

Evidence is used best first, and a join that would put two tiles in one place or bring edges together that disagree is
not made. So what is certain is never spoilt by what is not, and no place is taken twice.

Legend: N tiles, n of them not constant, S tile edge px.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from salt_ray.config import Mosaics
from salt_ray.mosaic.confidence import arbitrary_correlations, confidences, pair_doubts
from salt_ray.mosaic.edges import Side, edge_vectors, find_neighbours, turned
from salt_ray.mosaic.histogram import histograms, matching_tables
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
    if len(tiles) < 2:
        return _table([], tiles, [])
    varied = images[order]
    vectors = edge_vectors(varied, matching_tables(histograms(varied)))
    parts = [np.arange(len(tiles))]
    if sections is not None:
        parts = [np.flatnonzero(sections[order] == section) for section in np.unique(sections[order])]
    pairs = _pairs_within(parts, vectors, settings, device)
    # Chance is measured in all sections together: of a small one too few pairs would tell.
    chance = _pairs_within(parts, turned(vectors), settings, device)
    likelihood = probabilities(pairs.gaps, chance.gaps)
    closed = int((pairs.loops > 0).sum())
    report(f"{len(tiles):,} tiles: {len(pairs.first):,} pairs of nearest edges, {closed:,} of them in closed loops")
    grids = place(vectors, pairs, likelihood, settings)
    doubts, arbitrary = pair_doubts(pairs, likelihood), arbitrary_correlations(vectors)
    table = _table(grids, tiles, [confidences(grid, vectors, doubts, arbitrary) for grid in grids])
    largest = max(map(len, grids), default=0)
    report(f"{len(table.ids):,} tiles placed in {table.count:,} mosaics, {largest:,} in the largest")
    return table


def _pairs_within(parts: list[np.ndarray], vectors: np.ndarray, settings: Mosaics, device: str) -> Pairs:
    """Pairs of tiles of the same part (n,) int64; those of all parts together."""
    found = []
    for part in parts:
        if len(parts) > 1 and len(part) < SMALLEST_SECTION:
            continue
        own = vectors if len(parts) == 1 else np.ascontiguousarray(vectors[:, part])
        pairs = mutual_pairs(find_neighbours(own, device), settings.min_correlation, settings.loop_compatibility)
        found.append(dataclasses.replace(pairs, first=part[pairs.first], second=part[pairs.second]))
    if not found:
        return Pairs(*(np.empty(0, np.int64),) * 3, *(np.empty(0, np.float32),) * 2, np.empty(0, np.int64))
    names = [field.name for field in dataclasses.fields(Pairs)]
    return Pairs(*(np.concatenate([getattr(pairs, name) for pairs in found]) for name in names))


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
    joins = list(zip(pairs.first.tolist(), pairs.second.tolist(), map(Side, pairs.sides.tolist()), strict=True))
    in_loop = pairs.loops > 0
    best_first = np.lexsort((pairs.sides, pairs.first, -pairs.gaps, ~in_loop))
    is_strong = in_loop | (likelihood > _LIKELY)
    for pair in best_first[is_strong[best_first]]:
        work.join(*joins[pair])
    weak = [joins[pair] for pair in best_first[~is_strong[best_first]]]
    # Each join may bring edges together that support another one.
    while any([not work.is_joined(*join[:2]) and work.join(*join, supported=True) for join in weak]):
        pass
    for pair in best_first[(pairs.compatibilities > settings.compatibility)[best_first]]:
        first, second, side = joins[pair]
        if work.is_alone(first) and work.is_alone(second):
            work.join(first, second, side)
    return sorted(work.grids(), key=lambda grid: (-len(grid), min(grid.values())))


def _table(grids: list[Grid], tiles: np.ndarray, confidence: list[dict[int, float]]) -> MosaicTable:
    """Mosaics as a table: rows and columns from 0, in the order of the grids."""
    rows = []
    for mosaic, (grid, support) in enumerate(zip(grids, confidence, strict=True)):
        top, left = min(row for row, _ in grid), min(column for _, column in grid)
        rows += sorted((mosaic, row - top, column - left, tile, support[tile]) for (row, column), tile in grid.items())
    columns = np.array(rows, np.float64).reshape(-1, 5).T
    mosaics, rows_, cols, numbers = columns[:4].astype(np.int64)
    return MosaicTable(tiles[numbers], mosaics, rows_, cols, columns[4])
