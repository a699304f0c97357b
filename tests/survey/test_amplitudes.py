"""Amplitudes become greys by one range for the whole survey: nearly all of it, whatever the order of the tiles."""

import math
import warnings

import numpy as np
import pytest

from salt_ray.survey.amplitudes import CLIPPED_PERCENT, GreyRange, common_range
from salt_ray.survey.problems import Unsuited

TYPES = (np.int8, np.uint16, np.int16, np.int32, np.int64, np.float16, np.float32, np.float64)
NOISE = np.random.default_rng(0).normal(0, 30, (40, 20, 20))


@pytest.mark.parametrize("dtype", TYPES)
def test_one_percent_is_clipped_at_either_end(dtype: type):
    tiles = list((NOISE + 200 if dtype is np.uint16 else NOISE.clip(-127, 127)).astype(dtype))
    found = common_range(tiles)
    values = np.stack(tiles).astype(np.float64)
    assert found.low in values and found.high in values
    for share, with_equals in ((values < found.low, values <= found.low), (values > found.high, values >= found.high)):
        assert share.mean() <= CLIPPED_PERCENT / 100 + 1 / values.size
        assert with_equals.mean() >= CLIPPED_PERCENT / 100 - 1 / values.size


@pytest.mark.parametrize("dtype", TYPES)
def test_the_order_of_the_tiles_does_not_matter_and_they_stay_as_they_are(dtype: type):
    tiles = list(np.abs(NOISE).astype(dtype))
    before = np.stack(tiles)
    found = common_range(tiles)
    for order in (reversed(range(len(tiles))), np.random.default_rng(1).permutation(len(tiles))):
        assert common_range([tiles[i] for i in order]) == found
    np.testing.assert_array_equal(np.stack(tiles), before, strict=True)


def test_tiles_of_one_value_do_not_count():
    tiles = list(NOISE.astype(np.float32))
    constant = [np.full((20, 20), value, np.float32) for value in (0, 1e9, -1e9)] * 50
    assert common_range([*constant, *tiles]) == common_range(tiles)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, np.float16, np.float32])
def test_amplitudes_at_both_ends_of_their_type_have_a_range(dtype: type):
    ends = np.finfo(dtype) if np.issubdtype(dtype, np.floating) else np.iinfo(dtype)
    tile = np.array([[ends.min, ends.max]], dtype)
    with warnings.catch_warnings(action="error"):
        found = common_range([tile])
    assert found == GreyRange(float(ends.min), float(ends.max))
    assert found.greys(tile).tolist() == [[0, 255]]


def test_many_amplitudes_of_half_precision_have_a_range():
    tile = np.resize(np.arange(1000, dtype=np.float16), (400, 400))
    assert common_range([tile]) == GreyRange(10, 989)


def test_greys_are_in_proportion_and_clipped():
    tile = np.array([[-1e30, -10, -9.99, 0, 9.99, 10, 1e30]])
    greys = GreyRange(-10, 10).greys(tile)
    np.testing.assert_array_equal(greys, np.array([[0, 0, 0, 128, 255, 255, 255]], np.uint8), strict=True)
    ramp = np.arange(256, dtype=np.int16)[None]
    np.testing.assert_array_equal(GreyRange(0, 255).greys(ramp)[0], np.arange(256))
    np.testing.assert_array_equal(GreyRange(0, 255 * 7).greys(ramp * 7), ramp)


def test_greys_keep_the_order_of_amplitudes():
    values = np.sort(NOISE.astype(np.float32).ravel())[None]
    greys = common_range([values]).greys(values)
    assert greys.dtype == np.uint8 and (greys.min(), greys.max()) == (0, 255)
    assert (np.diff(greys.astype(int)) >= 0).all()


@pytest.mark.parametrize(
    ("tiles", "says"),
    [
        ([np.zeros((5, 5)), np.ones((5, 5))], "holds tiles of one value only"),
        ([np.array([[0.0] * 999 + [1.0]])], "no range of greys"),
        ([np.array([[-1.7e308, 1.7e308]])], "no range of greys"),
    ],
)
def test_where_there_is_no_range_it_is_said(tiles: list[np.ndarray], says: str):
    with warnings.catch_warnings(action="error"), pytest.raises(Unsuited, match=says):
        common_range(tiles)


def test_the_range_is_of_plain_numbers():
    found = common_range([NOISE[0].astype(np.float32)])
    assert type(found.low) is float and type(found.high) is float and math.isfinite(found.high - found.low)
