"""Amplitudes become greys by one range for the whole survey: nearly all of it, whatever the order of the tiles."""

import math
import warnings

import numpy as np
import pytest

from salt_ray.survey.amplitudes import CLIPPED_PERCENT, GreyRange, amplitudes_of, apart, common_range
from salt_ray.survey.problems import Unsuited

TYPES = (np.int8, np.uint16, np.int16, np.int32, np.int64, np.float16, np.float32, np.float64)
NOISE = np.random.default_rng(0).normal(0, 30, (40, 20, 20))


def range_of(tiles: list[np.ndarray]) -> GreyRange:
    return common_range(amplitudes_of(tiles))


@pytest.mark.parametrize("dtype", TYPES)
def test_one_percent_is_clipped_at_either_end(dtype: type):
    tiles = list((NOISE + 200 if dtype is np.uint16 else NOISE.clip(-127, 127)).astype(dtype))
    found = range_of(tiles)
    values = np.stack(tiles).astype(np.float64)
    assert found.low in values and found.high in values
    for share, with_equals in ((values < found.low, values <= found.low), (values > found.high, values >= found.high)):
        assert share.mean() <= CLIPPED_PERCENT / 100 + 1 / values.size
        assert with_equals.mean() >= CLIPPED_PERCENT / 100 - 1 / values.size


@pytest.mark.parametrize("dtype", TYPES)
def test_the_order_of_the_tiles_does_not_matter_and_they_stay_as_they_are(dtype: type):
    tiles = list(np.abs(NOISE).astype(dtype))
    before = np.stack(tiles)
    found = range_of(tiles)
    for order in (reversed(range(len(tiles))), np.random.default_rng(1).permutation(len(tiles))):
        assert range_of([tiles[i] for i in order]) == found
    np.testing.assert_array_equal(np.stack(tiles), before, strict=True)


def test_tiles_of_one_value_do_not_count():
    tiles = list(NOISE.astype(np.float32))
    constant = [np.full((20, 20), value, np.float32) for value in (0, 1e9, -1e9)] * 50
    assert range_of([*constant, *tiles]) == range_of(tiles)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, np.float16, np.float32])
def test_amplitudes_at_both_ends_of_their_type_have_a_range(dtype: type):
    ends = np.finfo(dtype) if np.issubdtype(dtype, np.floating) else np.iinfo(dtype)
    tile = np.array([[ends.min, ends.max]], dtype)
    with warnings.catch_warnings(action="error"):
        found = range_of([tile])
    assert found == GreyRange(float(ends.min), float(ends.max))
    assert found.greys(tile).tolist() == [[0, 255]]


def test_many_amplitudes_of_half_precision_have_a_range():
    tile = np.resize(np.arange(1000, dtype=np.float16), (400, 400))
    assert range_of([tile]) == GreyRange(10, 989)


def test_greys_are_in_proportion_and_clipped():
    tile = np.array([[-1e30, -10, -9.99, 0, 9.99, 10, 1e30]])
    greys = GreyRange(-10, 10).greys(tile)
    np.testing.assert_array_equal(greys, np.array([[0, 0, 0, 128, 255, 255, 255]], np.uint8), strict=True)
    ramp = np.arange(256, dtype=np.int16)[None]
    np.testing.assert_array_equal(GreyRange(0, 255).greys(ramp)[0], np.arange(256))
    np.testing.assert_array_equal(GreyRange(0, 255 * 7).greys(ramp * 7), ramp)


def test_greys_keep_the_order_of_amplitudes():
    values = np.sort(NOISE.astype(np.float32).ravel())[None]
    greys = range_of([values]).greys(values)
    assert greys.dtype == np.uint8 and (greys.min(), greys.max()) == (0, 255)
    assert (np.diff(greys.astype(int)) >= 0).all()


@pytest.mark.parametrize(
    ("tiles", "says"),
    [
        ([np.zeros((5, 5)), np.ones((5, 5))], "holds only constant tiles"),
        ([np.array([[0.0] * 999 + [1.0]])], "not a usable range"),
        ([np.array([[-1.7e308, 1.7e308]])], "not a usable range"),
    ],
)
def test_where_there_is_no_range_it_is_said(tiles: list[np.ndarray], says: str):
    with warnings.catch_warnings(action="error"), pytest.raises(Unsuited, match=says):
        range_of(tiles)


def test_the_range_is_of_plain_numbers():
    found = range_of([NOISE[0].astype(np.float32)])
    assert type(found.low) is float and type(found.high) is float and math.isfinite(found.high - found.low)


# Ends of the range that are far away from the amplitudes


def distribution(kind: str) -> np.ndarray:
    random = np.random.default_rng(4)
    return {
        "noise": lambda: random.normal(0, 300, 40_000),
        "heavy tails": lambda: random.standard_cauchy(40_000),
        "no gain over depth": lambda: random.normal(0, 1, 40_000) * 10 ** random.uniform(-3, 0, 40_000),
        "mostly muted": lambda: random.normal(0, 1, 40_000) * (random.random(40_000) < 0.3),
        "sparse reflectivity": lambda: random.normal(0, 1, 40_000) * (random.random(40_000) < 0.03),
        "clipped before": lambda: random.normal(0, 1, 40_000).clip(-1.5, 1.5),
        "whole numbers": lambda: np.rint(random.normal(0, 3, 40_000)),
        "two values": lambda: random.integers(0, 2, 40_000).astype(float),
        "three values": lambda: random.integers(0, 3, 40_000) * 100.0,
    }[kind]()


KINDS = ["noise", "heavy tails", "no gain over depth", "mostly muted", "sparse reflectivity"]
KINDS += ["clipped before", "whole numbers", "two values", "three values"]


@pytest.mark.parametrize("kind", KINDS)
def test_amplitudes_as_they_are_leave_contrast(kind: str) -> None:
    values = distribution(kind)
    found = apart(values, common_range(values.copy()))
    assert found is None or found.leaves_contrast


@pytest.mark.parametrize("share", [0.011, 0.03, 0.5, 0.97])
@pytest.mark.parametrize("fill", [-9999, 1e30, -3.4028235e38])
@pytest.mark.parametrize("kind", ["noise", "mostly muted", "whole numbers", "clipped before"])
def test_a_value_that_fills_pixels_is_found(kind: str, fill: float, share: float) -> None:
    values = distribution(kind) / 300
    values[: round(share * len(values))] = fill
    found = apart(values, common_range(values.copy()))
    assert found is not None and found.value == fill and not found.leaves_contrast
    assert found.share == pytest.approx(share, abs=1e-3) and abs(found.half.low) < 10


def test_two_fills_and_values_between_hide_nothing() -> None:
    """A resampled border leaves some of every value between the fill and the amplitudes."""
    values = distribution("noise") / 300
    values[:1200] = -9999
    values[1200:1400] = np.linspace(-9999, 0, 200)
    assert apart(values, common_range(values.copy())).value == -9999
    values[1400:2800] = 1e30
    assert apart(values, common_range(values.copy())).value == 1e30


def test_outliers_of_many_values_are_no_single_one() -> None:
    values = distribution("noise") / 300
    values[:1200] = np.random.default_rng(0).uniform(1e5, 2e5, 1200)
    found = apart(values, common_range(values.copy()))
    assert not found.leaves_contrast and found.value is None


def test_a_fill_that_leaves_contrast_is_told_and_no_fault() -> None:
    values = distribution("noise").clip(-900, 900)
    values[:1200] = -2500
    found = apart(values, common_range(values.copy()))
    assert found.value == -2500 and found.leaves_contrast


@pytest.mark.parametrize("given", [GreyRange(-1, 1), GreyRange(0, 0.5)])
def test_the_share_outside_is_counted(given: GreyRange) -> None:
    values = np.linspace(-2, 2, 401)
    inside = [given.low <= value <= given.high for value in values]
    assert given.outside(values) == pytest.approx(1 - np.mean(inside))
