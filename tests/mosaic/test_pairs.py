"""Mutual pairs, closed loops, and the probability that a pair is more than chance."""

import numpy as np

from salt_ray.mosaic.edges import Neighbours, Side
from salt_ray.mosaic.pairs import mutual_pairs, probabilities

#: A section of three rows and four columns; its tiles are numbered along the rows.
SECTION = np.arange(12).reshape(3, 4)


def section_neighbours() -> Neighbours:
    """Every true neighbour is found, at a correlation of 0.9 against 0.1; at the rim something arbitrary is."""
    tiles = np.zeros((4, 12, 2), np.int64)
    tiles[:, :, 0] = (np.arange(12) + 5) % 12
    correlations = np.full((4, 12, 2), 0.1, np.float32)
    for side, own, other in (
        (Side.RIGHT, SECTION[:, :-1], SECTION[:, 1:]),
        (Side.BOTTOM, SECTION[:-1], SECTION[1:]),
    ):
        for at, first, second in ((side, own, other), (side.opposite, other, own)):
            tiles[at, first, 0] = second
            correlations[at, first, 0] = 0.9
    return Neighbours(tiles, correlations)


def test_pairs_are_mutual_and_loops_are_counted() -> None:
    pairs = mutual_pairs(section_neighbours(), 0.5, 0.15)
    found = set(map(tuple, np.stack([pairs.first, pairs.second, pairs.sides, pairs.loops], axis=1).tolist()))
    along = {(a, a + 1, Side.RIGHT, 2 if 4 <= a < 8 else 1) for a in SECTION[:, :-1].ravel().tolist()}
    down = {(a, a + 4, Side.BOTTOM, 1 if a % 4 in (0, 3) else 2) for a in SECTION[:-1].ravel().tolist()}
    assert found == along | down
    np.testing.assert_allclose(pairs.compatibilities, 1 - 1 / 3, atol=1e-6)
    np.testing.assert_allclose(pairs.gaps, 2 * (np.sqrt(1.8) - np.sqrt(0.2)), atol=1e-6)


def test_one_sided_unlike_and_ambiguous_pairs_are_none() -> None:
    neighbours = section_neighbours()
    neighbours.tiles[Side.LEFT, 1, 0] = 7  # of 0 and 1
    neighbours.correlations[[Side.RIGHT, Side.LEFT], [4, 5], 0] = 0.4
    neighbours.correlations[Side.RIGHT, 8, 1] = 0.89
    pairs = mutual_pairs(neighbours, 0.5, 0.15)
    along = set(pairs.first[pairs.sides == Side.RIGHT].tolist())
    assert along == set(SECTION[:, :-1].ravel().tolist()) - {0, 4, 8}


def test_equal_best_edges_are_no_pair() -> None:
    neighbours = section_neighbours()
    neighbours.correlations[:] = 1
    assert len(mutual_pairs(neighbours, 0.5, 0.0).first) == 0


def test_probabilities_rise_with_the_gap_and_match_the_mixture() -> None:
    random = np.random.default_rng(0)
    true, chance, reference = random.normal(4, 1, 4000), random.normal(0, 1, 6000), random.normal(0, 1, 6000)
    gaps = np.concatenate([true, chance])
    likelihood = probabilities(gaps, reference)
    assert (np.diff(likelihood[np.argsort(gaps)]) >= 0).all()
    assert likelihood.min() >= 0 and likelihood.max() < 1
    # Of the pairs that are believed at p, the share p is true.
    is_true = np.arange(len(gaps)) < len(true)
    for low, high in ((0.0, 0.3), (0.3, 0.7), (0.7, 0.99), (0.99, 1.0)):
        chosen = (likelihood >= low) & (likelihood < high)
        assert abs(is_true[chosen].mean() - likelihood[chosen].mean()) < 0.1


def test_pairs_like_those_of_chance_are_not_believed() -> None:
    random = np.random.default_rng(1)
    likelihood = probabilities(random.exponential(size=500), random.exponential(size=600))
    assert (likelihood > 0.5).sum() < 20
    assert len(probabilities(np.empty(0), np.ones(3))) == 0
    assert (probabilities(np.ones(9), np.empty(0)) < 1).all()
