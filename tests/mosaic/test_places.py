"""Joins: components keep their shape, places are never shared, and edges that disagree keep them apart."""

import numpy as np

from salt_ray.mosaic.edges import Side
from salt_ray.mosaic.places import Patchwork, correlations


def patchwork(n: int, disagreeing: tuple[tuple[int, Side, int], ...] = ()) -> Patchwork:
    """Tiles whose edges all agree, except the given contacts."""
    vectors = np.zeros((4, n, 2 + n), np.float32)
    vectors[:, :, 0] = 1
    for number, (tile, side, other) in enumerate(disagreeing):
        for at, whose, sign in ((side, tile, 1), (side.opposite, other, -1)):
            vectors[at, whose] = 0
            vectors[at, whose, 0], vectors[at, whose, 1 + number] = 0.6, sign * 0.8
    return Patchwork(vectors, 0.5)


def test_components_keep_their_shape_when_they_join() -> None:
    work = patchwork(6)
    assert work.join(0, Side.RIGHT, 1) and work.join(2, Side.BOTTOM, 3) and work.join(3, Side.RIGHT, 4)
    assert work.join(1, Side.BOTTOM, 2)
    (grid,) = work.grids()
    places = {tile: place for place, tile in grid.items()}
    origin = np.array(places[0])
    relative = {tile: tuple((np.array(place) - origin).tolist()) for tile, place in places.items()}
    assert relative == {0: (0, 0), 1: (0, 1), 2: (1, 1), 3: (2, 1), 4: (2, 2)}
    assert work.is_alone(5) and not work.is_alone(4)


def test_a_place_is_taken_once_only() -> None:
    work = patchwork(4)
    assert work.join(0, Side.RIGHT, 1)
    assert not work.join(0, Side.RIGHT, 2)
    assert work.join(0, Side.RIGHT, 1) and not work.join(0, Side.BOTTOM, 1)
    assert work.is_alone(2)


def test_a_join_that_brings_disagreeing_edges_together_is_refused() -> None:
    # 3 would close the square at the right of 2 and below 1; its top edge does not fit 1.
    work = patchwork(4, disagreeing=((1, Side.BOTTOM, 3),))
    assert work.join(0, Side.RIGHT, 1) and work.join(0, Side.BOTTOM, 2)
    assert not work.join(2, Side.RIGHT, 3)
    assert work.is_alone(3)


def test_support_is_two_edges_that_fit() -> None:
    work = patchwork(4)
    assert not work.join(0, Side.RIGHT, 1, supported=True)
    assert work.join(0, Side.RIGHT, 1) and work.join(0, Side.BOTTOM, 2)
    assert work.join(1, Side.BOTTOM, 3, supported=True)
    (grid,) = work.grids()
    assert len(grid) == 4


def test_correlations_are_of_facing_edges() -> None:
    vectors = np.random.default_rng(0).normal(size=(4, 5, 7)).astype(np.float32)
    found = correlations(vectors, [(1, Side.TOP, 4), (0, Side.RIGHT, 2)])
    expected = [vectors[Side.TOP, 1] @ vectors[Side.BOTTOM, 4], vectors[Side.RIGHT, 0] @ vectors[Side.LEFT, 2]]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
