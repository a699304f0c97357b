"""The rules together: what each and all of them keep to, on mosaics drawn by lot."""

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sketch import by_lot, frozen, mask, mosaic

from salt_ray.config import RuleName
from salt_ray.mosaic.table import MosaicError
from salt_ray.postprocessing.rules import RULES, Change, apply_rules
from salt_ray.postprocessing.seen import SeenMosaic

EMPTY, LEFT = "..... " * 5, "##... " * 5
RING = "##### #...# #...# #...# #####"
MOSAICS = st.builds(by_lot, st.integers(0, 2**32 - 1), st.sampled_from([5, 16, 33]))
NAMES = st.sampled_from([*((name,) for name in RULES), tuple(RULES)])


def places(mosaic: SeenMosaic, changes: Sequence[Change]) -> set:
    """The changes with places instead of positions, in no order."""
    place = {tile: place for place, tile in mosaic.places.items()}
    return {(c.rule, place[c.tile], frozenset(place[s] for s in c.sources), c.added, c.removed) for c in changes}


def test_rules_stand_in_the_order_of_their_names() -> None:
    assert tuple(RULES) == get_args(RuleName)


@given(MOSAICS, NAMES)
def test_what_all_rules_keep_to(seen: SeenMosaic, names: tuple[RuleName, ...]) -> None:
    masks, changes = apply_rules(seen, names)  # the arrays of ``seen`` refuse to be written to
    again, same = apply_rules(seen, names)
    assert np.array_equal(masks, again) and changes == same
    assert masks.dtype == bool and masks.shape == seen.masks.shape
    assert not np.shares_memory(masks, seen.masks) and masks.flags.writeable
    changed = {change.tile for change in changes}
    assert not seen.labelled[list(changed)].any()
    untouched = [tile for tile in range(len(masks)) if tile not in changed]
    assert np.array_equal(masks[untouched], seen.masks[untouched])
    assert not any(masks[tile].all() for tile in changed)
    for change in changes:
        assert change.rule in names and change.tile not in change.sources
        assert change.added + change.removed > 0 and min(change.added, change.removed) >= 0
        assert bool(change.sources) == (change.rule != "fill_holes")
    order = [(list(RULES).index(c.rule), seen.rows[c.tile], seen.cols[c.tile]) for c in changes]
    assert order == sorted(set(order))


@given(MOSAICS, NAMES)
def test_full_masks_stay_where_they_are_salt(seen: SeenMosaic, names: tuple[RuleName, ...]) -> None:
    emptied, _ = apply_rules(seen, names)
    kept, changes = apply_rules(replace(seen, full_tiles="salt"), names)
    for tile in {change.tile for change in changes if kept[change.tile].all()}:
        assert seen.masks[tile].all() != kept[tile].all()
    if not {change.tile for change in changes if kept[change.tile].all()} and "fill_holes" not in names:
        assert np.array_equal(kept, emptied)


@given(MOSAICS, st.sampled_from(list(RULES)))
def test_a_rule_says_how_much_it_changed(seen: SeenMosaic, name: RuleName) -> None:
    masks, changes = apply_rules(seen, [name])
    for change in changes:
        before, after = seen.masks[change.tile], masks[change.tile]
        if not after.any() and change.added:  # became all salt
            assert change.removed == 0 and change.added == (~before).sum()
        else:
            assert (change.added, change.removed) == ((after & ~before).sum(), (before & ~after).sum())


@given(MOSAICS, NAMES, st.randoms(use_true_random=False))
def test_the_order_of_the_tiles_does_not_matter(seen: SeenMosaic, names: tuple[RuleName, ...], random) -> None:
    order = list(range(len(seen.rows)))
    random.shuffle(order)
    shuffled = frozen(*(getattr(seen, field)[order] for field in ("rows", "cols", "masks", "labelled", "corrected")))
    masks, changes = apply_rules(seen, names)
    masks_shuffled, changes_shuffled = apply_rules(shuffled, names)
    assert np.array_equal(masks_shuffled, masks[order])
    assert places(shuffled, changes_shuffled) == places(seen, changes)


@given(MOSAICS, NAMES)
def test_mirrored_mosaics_give_mirrored_results(seen: SeenMosaic, names: tuple[RuleName, ...]) -> None:
    last = seen.cols.max()
    mirrored = replace(seen, cols=last - seen.cols, masks=seen.masks[:, :, ::-1])
    masks, changes = apply_rules(seen, names)
    masks_mirrored, changes_mirrored = apply_rules(mirrored, names)
    assert np.array_equal(masks_mirrored, masks[:, :, ::-1])
    back = replace(mirrored, cols=seen.cols)
    assert places(back, changes_mirrored) == places(seen, changes)


@given(MOSAICS, st.permutations(list(RULES)))
def test_the_order_of_the_names_does_not_matter(seen: SeenMosaic, names: list[RuleName]) -> None:
    masks, changes = apply_rules(seen, names)
    expected, in_order = apply_rules(seen, tuple(RULES))
    assert np.array_equal(masks, expected) and changes == in_order


@settings(max_examples=5)
@given(st.integers(0, 2**32 - 1))
def test_tiles_of_the_real_size(seed: int) -> None:
    seen = by_lot(seed, 101)
    masks, changes = apply_rules(seen, tuple(RULES))
    assert {int(t) for t in np.flatnonzero((masks != seen.masks).any(axis=(1, 2)))} <= {c.tile for c in changes}


def test_the_lot_gives_every_rule_work() -> None:
    """Otherwise the properties above would say nothing about it."""
    seen = [by_lot(seed, 33) for seed in range(200)]
    for name in RULES:
        assert sum(len(apply_rules(one, [name])[1]) for one in seen) >= 10, name


def test_fewer_than_three_tiles_stay() -> None:
    two = {(0, 0): LEFT, (1, 0): EMPTY}
    masks, changes = apply_rules(mosaic(two, labelled=[(0, 0)]), tuple(RULES))
    assert changes == [] and not masks[1].any()
    masks, changes = apply_rules(mosaic(two | {(2, 0): EMPTY}, labelled=[(0, 0)]), tuple(RULES))
    assert changes == [Change("copy_down", 1, (0,), 10, 0), Change("copy_down", 2, (0,), 10, 0)]
    assert np.array_equal(masks[1], masks[0]) and np.array_equal(masks[2], masks[0])


def test_joined_tiles_are_not_copied_over_even_where_the_join_changed_nothing() -> None:
    tiles = {(0, 0): LEFT, (1, 0): EMPTY, (2, 0): "...## " * 5}
    labelled = [(0, 0), (2, 0)]
    masks, changes = apply_rules(mosaic(tiles, labelled), ["join_labels", "copy_down"])
    assert [change.rule for change in changes] == ["join_labels"]
    again, none = apply_rules(mosaic(tiles | {(1, 0): masks[1]}, labelled), ["join_labels", "copy_down"])
    assert none == [] and np.array_equal(again, masks)


def test_a_filled_hole_does_not_keep_a_label_out() -> None:
    ring = ".###. .#.#. .###. ..... ....."
    seen = mosaic({(0, 0): LEFT, (1, 0): ring, (2, 0): EMPTY}, labelled=[(0, 0)])
    masks, changes = apply_rules(seen, ["fill_holes", "copy_down"])
    assert [change.rule for change in changes] == ["fill_holes", "copy_down", "copy_down"]
    assert np.array_equal(masks[1], masks[0])


def test_a_mask_that_becomes_all_salt_becomes_empty() -> None:
    closed_below, closed_above = "..... " * 2 + "##### " * 3, "##### " * 3 + "..... " * 2
    tiles = {(0, 0): closed_below, (1, 0): LEFT, (2, 0): closed_above, (0, 1): "##### " * 5}
    masks, changes = apply_rules(mosaic(tiles, labelled=[(0, 0), (2, 0)]), ["join_labels"])
    (change,) = changes  # as what it came to: what was predicted is gone
    assert (change.tile, change.added, change.removed) == (1, 0, np.count_nonzero(mask(LEFT)))
    assert not masks[1].any()
    assert masks[3].all()  # no rule changed it


def test_what_is_no_mosaic_is_refused() -> None:
    seen = mosaic({(0, 0): LEFT, (1, 0): EMPTY, (2, 0): EMPTY}, labelled=[(0, 0)])
    with pytest.raises(MosaicError, match=r"no rule 'copy_left': choose among fill_holes, .*"):
        apply_rules(seen, ["copy_left"])
    for wrong in (
        {"rows": np.zeros(3, np.int64)},
        {"rows": np.arange(2)},
        {"masks": seen.masks[:, :4]},
        {"masks": seen.masks[:, :2, :2]},
        {"masks": seen.masks.astype(np.uint8)},
        {"corrected": seen.labelled},
    ):
        with pytest.raises(MosaicError, match=": "):
            replace(seen, **wrong)
