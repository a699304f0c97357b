"""What rules changed, gathered from many mosaics: each rule alone, and only the tiles that it changed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sketch import by_lot

from salt_ray.config import Prediction
from salt_ray.decision import Decision
from salt_ray.postprocessing.corrections import Corrections, correct, correct_with_each
from salt_ray.postprocessing.predicted import MosaicTiles, PredictedMosaic
from salt_ray.postprocessing.rules import RULES

SIDE, MODELS = 16, 3
SETTINGS = Decision.of(Prediction(), "empty")


def mosaics_by_lot(seed: int, count: int) -> list[PredictedMosaic]:
    """Mosaics whose tiles stand in the survey in any order, as several models that agree predict them."""
    drawn = [by_lot(seed + i, SIDE) for i in range(count)]
    free, found = np.random.default_rng(seed).permutation(sum(len(one.rows) for one in drawn)), []
    for number, one in enumerate(drawn):
        tiles, free = np.split(free, [len(one.rows)])
        labels = one.masks & one.labelled[:, None, None]
        of_survey = MosaicTiles(number, tiles, one.rows, one.cols, labels.astype(np.uint8), one.labelled, labels)
        masks = np.tile(one.masks.astype(np.float16), (MODELS, 1, 1, 1))
        found.append(PredictedMosaic(of_survey, masks, np.ones(masks.shape[:2], np.float32)))
    return found


def in_survey_order(mosaics: Sequence[PredictedMosaic], masks: Sequence[np.ndarray]) -> np.ndarray:
    """(N, S, S) bool from the masks (n, S, S) of each mosaic."""
    none = np.empty((0, SIDE, SIDE), bool)
    order = np.argsort(np.concatenate([np.empty(0, np.int64), *(mosaic.tiles.tiles for mosaic in mosaics)]))
    return np.concatenate([none, *masks])[order]


@given(st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_each_rule_of_many_does_what_it_does_alone(seed: int, count: int) -> None:
    mosaics = mosaics_by_lot(seed, count)
    found = correct_with_each(iter(mosaics), SETTINGS, SIDE)
    assert list(found) == list(RULES)
    for name, corrections in found.items():
        alone = [correct(mosaic, (name,), SETTINGS) for mosaic in mosaics]
        before = in_survey_order(mosaics, [one.before for one in alone])
        after = in_survey_order(mosaics, [one.after for one in alone])
        assert np.array_equal(corrections.apply(np.arange(len(before)), before), after)
        assert np.array_equal(corrections.tiles, np.flatnonzero((before != after).any(axis=(1, 2))))  # and no other
        gathered = Corrections.join((one.corrections for one in alone), SIDE)
        assert np.array_equal(gathered.tiles, corrections.tiles) and np.array_equal(gathered.masks, corrections.masks)
        assert corrections.masks.shape[1:] == (SIDE, SIDE) and corrections.masks.dtype == bool


def test_the_lot_gives_every_rule_work() -> None:
    """Otherwise the property above would say nothing about it."""
    found = correct_with_each(mosaics_by_lot(0, 300), SETTINGS, SIDE)
    for name, corrections in found.items():
        assert len(corrections.tiles) >= 10, name


def test_what_is_kept_of_a_mosaic_holds_nothing_else_in_memory() -> None:
    corrected = correct(mosaics_by_lot(0, 1)[0], tuple(RULES), SETTINGS)
    kept = corrected.corrections
    assert len(kept.tiles) and not np.shares_memory(kept.masks, corrected.after)


def test_only_tiles_that_are_asked_for_are_replaced() -> None:
    corrections = Corrections(np.array([2, 5, 7]), np.ones((3, SIDE, SIDE), bool))
    masks = np.zeros((3, SIDE, SIDE), bool)
    corrected = corrections.apply(np.array([7, 3, 2]), masks)
    assert corrected.all(axis=(1, 2)).tolist() == [True, False, True] and not corrected[1].any()
    assert not masks.any()
