"""The two best edges of every side of every tile, against scikit-learn's NearestNeighbors. Target: 5 times.

The second row is the whole assembly (matching, edges, search, grids) against its limit of ten seconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sklearn.neighbors import NearestNeighbors

from benchmarks.harness import alternate, row, survey
from salt_ray.config import Mosaics
from salt_ray.mosaic.assemble import assemble
from salt_ray.mosaic.edges import Neighbours, Side, edge_vectors, find_neighbours
from salt_ray.mosaic.histogram import matching_tables
from salt_ray.survey.tiles import load_survey

_TILES = 21_490  # the TGS tiles that are not constant
_RUNS = 3
_LIMIT_S = 10.0


def measure() -> Iterator[dict]:
    """Seconds for all four sides, and for everything."""
    images, ids, constant = _tiles()
    varied = images[~constant]
    vectors = edge_vectors(varied, matching_tables(varied))
    # A flat edge is a vector of zeros, and at no distance from others like it: the peer would find those first.
    vectors = np.ascontiguousarray(vectors[:, np.abs(vectors).max(axis=2).all(axis=0)])
    name = f"nearest edges, {vectors.shape[1]:,} tiles (peer: scikit-learn, brute force)"
    is_equal = _agree(find_neighbours(vectors), vectors)
    yield row(name, *alternate(lambda: find_neighbours(vectors), lambda: _peer(vectors), _RUNS, 0), "s", is_equal)

    order = np.random.default_rng(0).permutation(len(ids))
    shuffled = images[order], ids[order], constant[order]
    is_equal = assemble(images, ids, constant, Mosaics()).digest == assemble(*shuffled, Mosaics()).digest
    seconds, _ = alternate(lambda: assemble(images, ids, constant, Mosaics()), lambda: None, _RUNS)
    yield row(f"assembly, {len(varied):,} tiles (peer: limit)", seconds, [_LIMIT_S] * _RUNS, "s", is_equal)


def _tiles() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, ids and which are constant: of the challenge, or generated ones that all differ."""
    root = os.environ.get("SALT_TGS_DATA")
    if root:
        real = load_survey(Path(root))
        return np.array(real.images), real.ids, real.constant
    images, _ = survey(_TILES)
    # Repeated tiles would tie; a little noise makes them differ.
    noise = np.random.default_rng(0).integers(0, 9, images.shape, np.uint8)
    ids = np.array([f"{i:05d}" for i in range(_TILES)])
    return (images.astype(np.uint16) * 247 // 255).astype(np.uint8) + noise, ids, np.zeros(_TILES, bool)


def _peer(vectors: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Distances and tiles for each side; three of them, as the tile itself may be among them."""
    # Trees compare nearly everything too at 101 dimensions, and without a matrix product.
    return [
        NearestNeighbors(n_neighbors=3, algorithm="brute").fit(vectors[side.opposite]).kneighbors(vectors[side])
        for side in Side
    ]


def _agree(ours: Neighbours, vectors: np.ndarray) -> bool:
    """Whether the peer finds the same two tiles, or others at the same distance up to rounding."""
    for side, (distances, tiles) in zip(Side, _peer(vectors), strict=True):
        itself = tiles == np.arange(len(tiles))[:, None]
        first_two = np.argsort(itself, axis=1, kind="stable")[:, :2]
        distances, tiles = (np.take_along_axis(found, first_two, axis=1) for found in (distances, tiles))
        is_near = np.isclose(distances**2 / 2, 1 - ours.correlations[side], atol=2e-6)
        same = tiles == ours.tiles[side]
        if not is_near.all() or same.mean() < 0.999:
            return False
    return True
