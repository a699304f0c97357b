"""The edges of tiles as vectors, and the two edges that fit each of them best (method section 6).

Two tiles that touch continue each other: each edge, extrapolated by half a pixel to the line between them, should look
like the other. Likeness is the correlation r of two such lines of S px. The distance of method section 6 between lines
of unit variance is d = sqrt(2 S (1 - r)), so the nearest edge is the one of highest correlation.

Legend: n tiles, S tile edge px; an array over the four sides has them in the order of ``Side``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch

from salt_ray.mosaic.histogram import match

#: An edge whose deviation is below this, in grey values, shows nothing that could be recognised.
FLAT_GREYS = 1.0
#: Products of edges are looked through in blocks (rows, columns; multiples of _GROUP, two of them at least). One of
#: 1 MB stays in the cache of a CPU's core.
_BLOCK = {"cpu": (256, 1024), "cuda": (4096, 32768)}
#: Only the largest of so many products is kept at first.
_GROUP = 128

#: Two tiles for each edge, the better one first (n, 2), and their correlations (n, 2).
Best = tuple[torch.Tensor, torch.Tensor]


class Side(IntEnum):
    """A side of a tile. Rows of a mosaic count downwards."""

    LEFT = 0
    RIGHT = 1
    TOP = 2
    BOTTOM = 3

    @property
    def opposite(self) -> Side:
        """The side that faces this one in the tile next to it."""
        return Side(self ^ 1)

    @property
    def step(self) -> tuple[int, int]:
        """Rows and columns from a tile to the one at this side."""
        return ((0, -1), (0, 1), (-1, 0), (1, 0))[self]


#: A tile, its side, and the tile that faces it there.
Contact = tuple[int, Side, int]


@dataclass(frozen=True)
class Neighbours:
    """The two tiles that fit each side of each tile best, the better one first; a tile is never its own neighbour.

    Attributes:
        tiles: (4, n, 2) int64.
        correlations: (4, n, 2) float32 in -1 … 1; 0 where an edge is flat.
    """

    tiles: np.ndarray
    correlations: np.ndarray


def edge_vectors(images: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """Edges as vectors whose scalar product is their correlation.

    The matched grey values of the outer two lines are extrapolated (2 x outermost - second), standardised over tiles at
    each position, then to mean 0 and length 1 for each edge. A flat edge becomes a vector of zeros.

    Args:
        images: (n, S, S) uint8, S at least 2.
        tables: (n, 256) float32, from ``histogram.matching_tables``.

    Returns:
        (4, n, S) float32.
    """
    lines = {
        Side.LEFT: (images[:, :, 0], images[:, :, 1]),
        Side.RIGHT: (images[:, :, -1], images[:, :, -2]),
        Side.TOP: (images[:, 0], images[:, 1]),
        Side.BOTTOM: (images[:, -1], images[:, -2]),
    }
    return np.stack([_normalised(2 * match(tables, lines[side][0]) - match(tables, lines[side][1])) for side in Side])


def _normalised(edges: np.ndarray) -> np.ndarray:
    """Standardise (n, S) edges over tiles, then each for itself."""
    # A flat edge would otherwise become the pattern of the mean edge, and be like every other flat edge.
    flat = edges.std(axis=1, keepdims=True) < FLAT_GREYS
    spread = edges.std(axis=0)
    vectors = (edges - edges.mean(axis=0)) / np.where(spread > 0, spread, 1)
    vectors -= vectors.mean(axis=1, keepdims=True)
    length = np.sqrt(np.einsum("ns,ns->n", vectors, vectors))[:, None]
    return np.where(flat | (length == 0), 0, vectors / np.where(length > 0, length, 1)).astype(np.float32)


def turned(vectors: np.ndarray) -> np.ndarray:
    """The same edges (4, n, S), those at the left and top turned end for end: none fits its true neighbour now."""
    ends = vectors.copy()
    ends[[Side.LEFT, Side.TOP]] = vectors[[Side.LEFT, Side.TOP], :, ::-1]
    return ends


def find_neighbours(vectors: np.ndarray, device: str = "cpu") -> Neighbours:
    """Search all tiles for the two that fit each side best; exact, up to the rounding of float32 products.

    Right edges times left edges give the neighbours at the right (rows) and at the left (columns) of every tile; bottom
    edges times top edges those below and above.

    Args:
        vectors: (4, n, S) float32, from ``edge_vectors``; n at least 3.
        device: "cpu" or "cuda".
    """
    found = {}
    with _threads(device) as pool:
        for side in (Side.RIGHT, Side.BOTTOM):
            edges, facing = (torch.from_numpy(vectors[s]).to(device) for s in (side, side.opposite))
            found[side], found[side.opposite] = _two_largest(edges, facing, pool)
    tiles, correlations = (np.stack([found[side][part].cpu().numpy() for side in Side]) for part in (0, 1))
    return Neighbours(tiles, correlations)


@contextlib.contextmanager
def _threads(device: str) -> Iterator[ThreadPoolExecutor]:
    """As many threads as PyTorch has, each of which computes alone.

    All threads at one operation would wait for each other at the end of each, and find half of a block in another
    core's cache: 15 % slower, and several times where other work holds one of the cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads if device == "cpu" else 1) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)


def _two_largest(edges: torch.Tensor, facing: torch.Tensor, pool: ThreadPoolExecutor) -> tuple[Best, Best]:
    """Of the products edges @ facing.T without its diagonal, the two largest of each row and of each column.

    The maximum of a group of products is far cheaper than the place of one. A row's two largest products are in the two
    groups with the largest maxima: only these are computed again, and searched.
    """
    n = len(edges)
    height, width = _BLOCK[edges.device.type]
    rows, columns = _filled_up(edges, height), _filled_up(facing, width)
    of_rows = edges.new_empty(len(rows), len(columns) // _GROUP)
    of_columns = edges.new_empty(len(rows) // _GROUP, len(columns))

    def multiply(top: int) -> None:
        product = edges.new_empty(height, width)
        groups = of_columns[top // _GROUP : (top + height) // _GROUP]
        for left in range(0, n, width):
            torch.mm(rows[top : top + height], columns[left : left + width].T, out=product)
            if top + height > n or left + width > n or -height < top - left < width:  # few blocks do
                product[n - top :] = -torch.inf
                product[:, n - left :] = -torch.inf
                product.diagonal(top - left).fill_(-torch.inf)
            of_row = of_rows[top : top + height, left // _GROUP : (left + width) // _GROUP]
            torch.amax(product.view(height, -1, _GROUP), 2, out=of_row)
            torch.amax(product.view(-1, _GROUP, width), 1, out=groups[:, left : left + width])

    list(pool.map(multiply, range(0, n, height)))
    best = pool.map(_search_groups, (edges, facing), (columns, rows), (of_rows[:n], of_columns.T[:n]))
    return tuple(best)


def _filled_up(edges: torch.Tensor, block: int) -> torch.Tensor:
    """(n, S) edges and then as many of zeros as make whole blocks."""
    return torch.nn.functional.pad(edges, (0, 0, 0, -len(edges) % block))


def _search_groups(edges: torch.Tensor, others: torch.Tensor, maxima: torch.Tensor) -> Best:
    """The two best others of each edge, from the groups of the largest maxima.

    Args:
        edges: (n, S).
        others: (groups * _GROUP, S), of which the first n are edges.
        maxima: (n, groups).
    """
    n, groups = maxima.shape
    chosen = maxima.contiguous().topk(2).indices.flatten()
    # Edges that search the same group do it together, by one product.
    searches = chosen.argsort(stable=True).split(torch.bincount(chosen, minlength=groups).tolist())
    tiles, correlations = chosen.new_empty(2 * n, 2), edges.new_empty(2 * n, 2)
    members = torch.arange(len(others), device=edges.device).split(_GROUP)
    for searching, numbers, group in zip(searches, members, others.split(_GROUP), strict=True):
        own = searching // 2
        products = edges.index_select(0, own) @ group.T
        products.masked_fill_((numbers == own[:, None]) | (numbers >= n), -torch.inf)
        correlations[searching], places = products.topk(2)
        tiles[searching] = numbers[places]
    best, places = correlations.view(n, 4).topk(2)
    return tiles.view(n, 4).gather(1, places), best
