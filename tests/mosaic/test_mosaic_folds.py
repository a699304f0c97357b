"""Mosaic folds: no mosaic split, equal sizes, alike salt, lone tiles at home, and none of it by the order of rows.

L labelled tiles, G mosaics, m lone tiles, K folds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from salt_ray.mosaic.folds import cosine_distances, labelled_mosaics, mosaic_folds, nearest_with_room, pack
from salt_ray.mosaic.table import MosaicTable
from salt_ray.survey.folds import FoldError


class Sample(NamedTuple):
    ids: np.ndarray
    coverage: np.ndarray
    table: MosaicTable
    embeddings: np.ndarray


def sample(sizes: list[int], lone: int, seed: int = 0) -> Sample:
    """Mosaics with that many labelled tiles, and one unlabelled tile each, whose tiles look and are covered alike."""
    random = np.random.default_rng(seed)
    labelled = sum(sizes) + lone
    names = np.array([f"{number:06x}" for number in random.choice(16**6, labelled + len(sizes), replace=False)])
    ids = names[:labelled]
    kinds = np.concatenate([np.repeat(np.arange(len(sizes)), sizes), random.integers(len(sizes), size=lone)])
    styles, salts = random.normal(size=(len(sizes), 12)), random.beta(0.4, 0.8, len(sizes))
    embeddings = (styles[kinds] + random.normal(size=(labelled, 12))).astype(np.float32)
    coverage = np.clip(salts[kinds] + random.normal(0, 0.2, labelled), 0, 1)
    rows = [
        (mosaic, 0, col, name)
        for mosaic, size in enumerate(sizes)
        for col, name in enumerate([*ids[kinds == mosaic][:size], names[labelled + mosaic]])
    ]
    mosaics, places, cols, placed = (np.array(column) for column in zip(*rows, strict=True))
    return Sample(ids, coverage, MosaicTable(placed, mosaics, places, cols, np.ones(len(placed))), embeddings)


def poured(sizes: np.ndarray, tiles: int) -> list[int]:
    """Sizes, sorted, after every tile went to a smallest fold."""
    sizes = list(sizes)
    for _ in range(tiles):
        sizes[int(np.argmin(sizes))] += 1
    return sorted(sizes)


surveys = st.builds(
    sample,
    st.lists(st.integers(1, 12), min_size=6, max_size=25).map(lambda sizes: [*sizes, 2, 2, 3]),
    st.integers(0, 150),
    st.integers(0, 10**6),
)


@settings(max_examples=60, deadline=None)
@given(surveys, st.integers(2, 3))
def test_no_mosaic_is_split_and_every_tile_has_one_fold_of_the_right_size(survey: Sample, count: int) -> None:
    table = mosaic_folds(*survey, count)
    assert table.ids.tolist() == sorted(survey.ids)
    fold_of = dict(zip(table.ids, table.folds, strict=True))
    in_mosaics = set()
    for members in survey.table.members:
        mates = [tile for tile in survey.table.ids[members] if tile in fold_of]
        assert len({fold_of[tile] for tile in mates}) == 1
        in_mosaics |= set(mates) if len(mates) > 1 else set()
    sizes = np.bincount(table.folds, minlength=count)
    own = np.bincount([fold_of[tile] for tile in in_mosaics], minlength=count)
    assert sorted(sizes) == poured(own, len(survey.ids) - len(in_mosaics))
    assert (own[sizes > sizes.min() + 1] == sizes[sizes > sizes.min() + 1]).all()


@settings(max_examples=30, deadline=None)
@given(surveys, st.randoms(use_true_random=False))
def test_the_order_of_tiles_and_the_numbers_of_mosaics_do_not_matter(survey: Sample, random) -> None:
    order = np.array(random.sample(range(len(survey.ids)), len(survey.ids)))
    old = survey.table
    renumbered = np.array(random.sample(range(old.count), old.count))[old.mosaics]
    rows = np.lexsort((old.cols, old.rows, renumbered))
    table = MosaicTable(old.ids[rows], renumbered[rows], old.rows[rows], old.cols[rows], old.confidence[rows])
    shuffled = mosaic_folds(survey.ids[order], survey.coverage[order], table, survey.embeddings[order], 3)
    assert shuffled.digest == mosaic_folds(*survey, 3).digest


@pytest.mark.parametrize("seed", range(3))
def test_on_a_large_survey_folds_are_level_and_their_salt_is_more_alike_than_that_of_random_ones(seed: int) -> None:
    random = np.random.default_rng(seed)
    sizes = np.clip(2 + random.geometric(0.2, 140), 2, 30).tolist()
    survey = sample(sizes, 2 * sum(sizes), seed)
    table = mosaic_folds(*survey, 6)
    assert np.ptp(np.bincount(table.folds)) <= 1
    coverage = survey.coverage[np.argsort(survey.ids)]

    def spreads(folds: np.ndarray) -> np.ndarray:
        """Largest difference between folds in mean coverage and in the share of empty masks."""
        values = np.stack([coverage, coverage == 0], axis=1)
        return np.ptp([values[folds == fold].mean(axis=0) for fold in range(6)], axis=0)

    by_chance = np.mean([spreads(random.permutation(table.folds)) for _ in range(100)], axis=0)
    assert (spreads(table.folds) < by_chance).all()


def test_copies_of_a_mosaics_tiles_follow_it_where_there_is_room() -> None:
    random = np.random.default_rng(4)
    ids, _, table, embeddings = sample([6] * 12, 60, 4)
    originals = 6 * np.repeat(np.arange(12), 5) + random.integers(6, size=60)  # five of every mosaic: all groups equal
    embeddings[72:] = 2 * embeddings[originals] + random.normal(0, 1e-3, (60, 12))
    folds = mosaic_folds(ids, np.full(132, 0.3), table, embeddings, 3)
    fold_of = folds.folds[np.searchsorted(folds.ids, ids)]
    np.testing.assert_array_equal(fold_of[72:], fold_of[originals])


def test_a_crowd_around_one_mosaic_overflows_into_the_other_folds() -> None:
    survey = sample([4, 4, 4], 88, 1)
    survey.embeddings[12:] = survey.embeddings[0]
    table = mosaic_folds(*survey, 3)
    assert sorted(np.bincount(table.folds)) == [33, 33, 34]


def test_a_mosaic_above_its_share_stays_whole_and_the_others_share_the_rest() -> None:
    survey = sample([40, 3, 3, 3, 3], 48, 2)
    table = mosaic_folds(*survey, 4)
    assert sorted(np.bincount(table.folds)) == [20, 20, 20, 40]


def test_only_mosaics_with_two_of_the_tiles_count() -> None:
    survey = sample([1, 5, 1, 2, 3], 4)
    groups = labelled_mosaics(survey.ids, survey.table)
    assert groups.tolist() == [-1, *[0] * 5, -1, *[1] * 2, *[2] * 3, *[-1] * 4]


def test_what_makes_no_folds_is_refused() -> None:
    with pytest.raises(FoldError, match=r"3 mosaics .* too few for 4 .*kind 'depth' or 'random'"):
        mosaic_folds(*sample([5, 1, 4, 1, 3], 20), 4)
    with pytest.raises(FoldError, match=r"0 mosaics .*kind 'depth' or 'random'"):
        mosaic_folds(*sample([1, 1], 20), 2)
    with pytest.raises(FoldError, match=r"one mosaic holds 70 of the 100"):
        mosaic_folds(*sample([70, 2, 2], 26), 3)
    survey = sample([3, 3], 5)
    survey.embeddings[3, 1] = np.nan
    with pytest.raises(FoldError, match=r"not finite.*folds\.checkpoint"):
        mosaic_folds(*survey, 2)


def test_tiles_without_salt_and_surveys_without_lone_tiles_are_divided_too() -> None:
    survey = sample([5, 4, 3, 3, 3], 0)
    table = mosaic_folds(survey.ids, np.zeros(18), survey.table, survey.embeddings, 2)
    assert sorted(np.bincount(table.folds)) == [9, 9]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(0, 60)), min_size=4, max_size=60),
    st.integers(2, 4),
)
def test_packed_folds_differ_in_size_by_the_largest_group_at_most(groups: list[tuple[int, int]], count: int) -> None:
    weights = np.array(groups, np.float64)
    folds = pack(weights, count)
    sizes = np.bincount(folds, weights=weights[:, 0], minlength=count)
    assert sizes.min() > 0
    assert np.ptp(sizes) <= weights[:, 0].max()


@pytest.mark.parametrize("seed", range(3))
def test_packing_balances_every_weight_far_better_than_chance(seed: int) -> None:
    random = np.random.default_rng(seed)
    sizes = random.integers(12, 25, 75)
    weights = np.stack([sizes, sizes * random.beta(0.8, 2.5, 75), np.rint(sizes * random.beta(2, 3, 75))], axis=1)

    def spreads(folds: np.ndarray) -> np.ndarray:
        return np.ptp([weights[folds == fold].sum(axis=0) for fold in range(5)], axis=0) / weights.sum(axis=0)

    by_chance = np.mean([spreads(random.integers(5, size=75)) for _ in range(50)], axis=0)
    assert (spreads(pack(weights, 5)) < by_chance / 10).all()


@pytest.mark.parametrize("seed", range(5))
def test_no_exchange_of_two_groups_and_no_move_would_balance_the_folds_better(seed: int) -> None:
    random = np.random.default_rng(seed)
    sizes = random.integers(5, 15, 14)
    weights = np.stack([sizes, sizes * random.random(14)], axis=1)

    def imbalance(folds: np.ndarray) -> float:
        loads = np.stack([weights[folds == fold].sum(axis=0) for fold in range(3)]) / weights.sum(axis=0)
        return float((loads**2).sum())

    folds = pack(weights, 3)
    for one in range(14):
        for other in range(14):
            exchanged = folds.copy()
            exchanged[[one, other]] = folds[[other, one]]
            assert imbalance(exchanged) >= imbalance(folds) - 1e-8
        for fold in range(3):
            moved = np.where(np.arange(14) == one, fold, folds)
            assert imbalance(moved) >= imbalance(folds) - 1e-8


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 8), min_size=2, max_size=4), st.integers(0, 14), st.integers(0, 10**6))
def test_filling_agrees_with_a_slow_reference(sizes: list[int], lone: int, seed: int) -> None:
    # Few different values: ties are common.
    distances = np.random.default_rng(seed).integers(0, 8, (lone, len(sizes))) / 8
    final = poured(np.array(sizes), lone)
    expected, held, left = np.full(lone, -1), np.array(sizes), lone
    for _, tile, fold in sorted((distances[tile, fold], tile, fold) for tile, fold in np.ndindex(distances.shape)):
        after = held + (np.arange(len(sizes)) == fold)
        if expected[tile] < 0 and poured(after, left - 1) == final:
            expected[tile], held, left = fold, after, left - 1
    np.testing.assert_array_equal(nearest_with_room(distances, np.array(sizes)), expected)


def test_distances_are_scipys() -> None:
    random = np.random.default_rng(0)
    lone, settled = random.normal(size=(20, 7)), random.normal(size=(30, 7))
    np.testing.assert_allclose(cosine_distances(lone, settled), cdist(lone, settled, "cosine"), atol=1e-12)
    assert (cosine_distances(np.zeros((1, 7)), settled) == 1).all()
