"""Run lengths: agreement with a loop over pixels, the round trip, and every way a text can be wrong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from salt_ray.survey import rle

some_masks = arrays.arrays(
    np.bool_, st.tuples(st.integers(0, 5), st.integers(1, 9), st.integers(1, 9)), elements=st.booleans()
)


def _by_pixel(mask: np.ndarray) -> str:
    words = []
    length = 0
    for number, is_salt in enumerate([*mask.T.reshape(-1).tolist(), False], start=1):
        if is_salt:
            length += 1
        elif length:
            words += [number - length, length]
            length = 0
    return " ".join(map(str, words))


@given(some_masks)
@settings(deadline=None)
def test_encode_agrees_with_a_loop_over_pixels_and_decode_undoes_it(masks):
    texts = rle.encode(masks)
    assert texts == [_by_pixel(mask) for mask in masks]
    decoded = rle.decode(texts, *masks.shape[1:])
    assert decoded.dtype == np.bool_
    assert np.array_equal(decoded, masks)


@given(st.lists(st.booleans(), min_size=1, max_size=40).map(np.array))
def test_runs_paint_the_line_again_and_do_not_touch(line):
    painted = np.zeros_like(line)
    for start, end in rle.runs(line):
        assert start < end
        painted[start:end] = True
    assert np.array_equal(painted, line)
    assert (rle.runs(line)[1:, 0] > rle.runs(line)[:-1, 1]).all()


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98, 1.0])
def test_a_survey_of_several_blocks_comes_back(share):
    masks = np.random.default_rng(1).random((450, 101, 101)) < share
    masks[::7] = False
    texts = rle.encode(masks)
    assert texts[449] == _by_pixel(masks[449])
    assert np.array_equal(rle.decode(texts, 101, 101), masks)


def test_pixels_are_numbered_downwards_from_one():
    mask = np.zeros((1, 3, 4), dtype=bool)
    mask[0, :, 1] = True
    mask[0, 0, 2] = True  # the run goes on at the top of the next column
    mask[0, 2, 3] = True  # the last pixel
    assert rle.encode(mask) == ["4 4 12 1"]


@pytest.mark.parametrize("order", ["F", "strided"])
def test_any_memory_layout_is_read(order):
    masks = np.random.default_rng(2).random((4, 10, 12)) < 0.5
    other = np.asfortranarray(masks) if order == "F" else np.repeat(masks, 2, axis=2)[:, :, ::2]
    assert rle.encode(other) == rle.encode(masks)


def test_missing_texts_are_empty_masks():
    assert not rle.decode(["", None, float("nan"), np.nan, " "], 3, 4).any()
    assert rle.decode([], 3, 4).shape == (0, 3, 4)
    assert rle.encode(np.zeros((0, 3, 4), dtype=bool)) == []


def test_runs_that_touch_and_wider_spaces_are_understood():
    assert rle.decode(["1 2 3 2", " 1  1 2 3 "], 2, 2).all()
    assert np.flatnonzero(rle.decode(["2 3 5 1"], 2, 3).transpose(0, 2, 1)).tolist() == [1, 2, 3, 4]


def test_masks_of_millions_of_pixels_are_encoded_alike():
    masks = np.zeros((3, 2000, 1000), dtype=bool)
    masks[0, 5:8, [0, 998]] = True
    masks[0, -2:, -1] = True
    masks[2, -1, -1] = True
    texts = rle.encode(masks)
    assert texts == ["6 3 1996006 3 1999999 2", "", "2000000 1"]
    assert np.array_equal(rle.decode(texts, 2000, 1000), masks)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("1 2 3", "has 3 numbers"),
        ("1 two", "'two' is not a whole number"),
        ("1 1.5", "'1.5' is not a whole number"),
        ("-1 2", "'-1' is not a whole number"),
        ("1 2\n", "is not a whole number"),
        ("१ 2", "'१' is not a whole number"),
        ("0 2", "a start is below 1"),
        ("1 0", "a length is below 1"),
        ("12 2", "a run ends beyond the mask of 12 pixels, at '12 2'"),
        ("13 1", "a run ends beyond the mask"),
        ("1 " + "9" * 9, "a run ends beyond the mask"),
        ("1 " + "9" * 30, "30 digits"),
        ("5 1 1 1", "runs are not sorted by start, at '1 1'"),
        ("1 3 3 1", "runs overlap, at '3 1'"),
        ("1 1 1 1", "runs overlap"),
        (7, "text 2 is 7"),
    ],
)
def test_a_malformed_text_is_named(text, complaint):
    with pytest.raises(rle.RleError, match=complaint) as caught:
        rle.decode(["1 1", "", text, "2 1"], 3, 4)
    assert str(caught.value).startswith("text 2")


def test_the_index_counts_from_the_first_text_of_all_blocks():
    with pytest.raises(rle.RleError, match="text 900: a length is below 1"):
        rle.decode(["1 1"] * 900 + ["1 0"], 101, 101)


def test_what_is_no_mask_is_refused():
    with pytest.raises(TypeError, match="bool"):
        rle.encode(np.zeros((1, 2, 2), dtype=np.uint8))
    with pytest.raises(ValueError, match="N, H, W"):
        rle.encode(np.zeros((2, 2), dtype=bool))
    with pytest.raises(ValueError, match="at least 1"):
        rle.decode([""], 0, 4)
