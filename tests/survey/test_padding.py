"""Padding: equality with scikit-image in both ways of filling, the round trip, the frame's arithmetic, memory."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from skimage.restoration import inpaint_biharmonic

from salt_ray.config import Geometry
from salt_ray.metric import UNLABELLED
from salt_ray.survey import memory, padding
from salt_ray.survey.memory import NotEnoughMemory
from salt_ray.survey.padding import Frame, PaddingOperator

ARGUS_FRAME = Frame(101, 148, 128)
FRAMES = [Frame(33, 52, 52), Frame(64, 80, 64), ARGUS_FRAME]


@pytest.fixture(scope="session")
def solvers():
    """Those that solve the equations for each tile, as for large ones."""
    return {frame: PaddingOperator(frame, padding._Equations(frame)) for frame in FRAMES}


@pytest.fixture(scope="session")
def operators():
    """Those that multiply by matrices."""
    made = {frame: padding.operator(frame) for frame in FRAMES}
    assert all(isinstance(operator.fill, padding._Matrices) for operator in made.values())
    return made


@pytest.fixture(params=["operators", "solvers"])
def both(request):
    return request.getfixturevalue(request.param)


def _tiles(side: int) -> np.ndarray:
    random = np.random.default_rng(side)
    smooth = ndimage.gaussian_filter(random.standard_normal((8, side, side)), (0, 3, 6))
    smooth -= smooth.min(axis=(1, 2), keepdims=True)
    smooth *= 255 / smooth.max(axis=(1, 2), keepdims=True)
    ramp = np.broadcast_to(np.arange(side) % 256, (1, side, side))
    constant = np.full((1, side, side), 91)
    noise = random.integers(0, 256, (4, side, side))
    return np.concatenate((np.rint(smooth), ramp, ramp.transpose(0, 2, 1), constant, noise)).astype(np.uint8)


def _reference(tiles: np.ndarray, padded_px: int) -> np.ndarray:
    """scikit-image's fill of tiles (as channels), float64 (N, P, P)."""
    side = tiles.shape[1]
    before = (padded_px - side) // 2
    inner = slice(before, before + side)
    unknown = np.ones((padded_px, padded_px), dtype=bool)
    unknown[inner, inner] = False
    canvas = np.zeros((padded_px, padded_px, len(tiles)), dtype=tiles.dtype)
    canvas[inner, inner] = tiles.transpose(1, 2, 0)
    return inpaint_biharmonic(canvas, unknown, channel_axis=-1).transpose(2, 0, 1)


@pytest.mark.parametrize("frame", FRAMES)
def test_images_equal_those_of_skimage_in_every_pixel(both, frame):
    tiles = _tiles(frame.tile_px)
    padded = both[frame].images(tiles)
    assert padded.dtype == np.uint8
    assert np.array_equal(padded, np.rint(_reference(tiles, frame.padded_px) * 255).astype(np.uint8))


def test_one_tile_alone_equals_skimage_without_channels(operators):
    tile = _tiles(33)[0]
    unknown = np.pad(np.zeros((33, 33), dtype=bool), (9, 10), constant_values=True)
    expected = np.rint(inpaint_biharmonic(np.pad(tile, (9, 10)), unknown) * 255)
    assert np.array_equal(operators[FRAMES[0]].images(tile[None])[0], expected)


@pytest.mark.parametrize("frame", FRAMES)
def test_masks_equal_those_of_skimage_above_the_threshold(both, frame):
    masks = _tiles(frame.tile_px) > 127
    padded = both[frame].masks(masks)
    assert padded.dtype == np.bool_
    assert np.array_equal(padded, _reference(masks.astype(float), frame.padded_px) > 0.7)


def test_empty_masks_stay_empty_and_full_ones_full(operators):
    masks = np.stack([np.zeros((101, 101), dtype=bool), np.ones((101, 101), dtype=bool)])
    padded = operators[ARGUS_FRAME].masks(masks)
    assert not padded[0].any()
    assert padded[1].all()


@pytest.mark.parametrize("frame", [*FRAMES, Frame(33, 33, 33)])
def test_the_padding_is_labelled_where_all_pixels_that_it_follows_from_are(frame):
    operator = padding.operator(frame)
    salt = _tiles(frame.tile_px) > 127
    unlabelled = np.zeros_like(salt)
    unlabelled[0, 5, 5:9] = True  # inside, out of the padding's reach
    unlabelled[1, 3, 1] = True  # near the edge
    unlabelled[2] = True
    masks = np.where(unlabelled, UNLABELLED, salt).astype(np.int8)
    padded, whole = operator.masks(masks), operator.masks(salt)
    assert padded.dtype == np.int8
    assert np.array_equal(padding.centre(padded, frame), masks)
    outside = np.ones(padded.shape[1:], bool)
    padding.centre(outside, frame)[:] = False
    for tile in (0, *range(3, len(salt))):
        assert np.array_equal(padded[tile][outside], whole[tile][outside])
    assert (padded[1:3, outside] == UNLABELLED).all()
    assert (masks[0] < 0).any() and not (padded[3:] < 0).any()


def test_grey_values_stay_within_those_of_the_tile(operators):
    tiles = _tiles(64) // 3 + 20
    padded = operators[FRAMES[1]].images(tiles)
    assert np.array_equal(padded.min(axis=(1, 2)), tiles.min(axis=(1, 2)))
    assert np.array_equal(padded.max(axis=(1, 2)), tiles.max(axis=(1, 2)))


@pytest.mark.parametrize("frame", [Frame(6, 7, 6), Frame(7, 40, 32), Frame(33, 34, 33)])
def test_narrow_and_wide_frames_equal_skimage(frame):
    tiles = _tiles(frame.tile_px)
    expected = np.rint(_reference(tiles, frame.padded_px) * 255)
    for fill in (padding.operator(frame).fill, padding._Equations(frame)):
        assert np.array_equal(PaddingOperator(frame, fill).images(tiles), expected)


@pytest.mark.slow
def test_large_tiles_equal_skimage():
    tiles = np.stack([ndimage.zoom(tile, 512 / 64, order=1) for tile in _tiles(64)[[0, 5, 12]]])
    operator = padding.operator(padding.Frame(512, 564, 544))
    assert isinstance(operator.fill, padding._Equations)
    assert np.array_equal(operator.images(tiles), np.rint(_reference(tiles, 564) * 255))
    assert np.array_equal(operator.masks(tiles > 127), _reference((tiles > 127).astype(float), 564) > 0.7)


LITTLE_MEMORY = """
import resource
import numpy, scipy.ndimage, scipy.sparse.linalg
from salt_ray.survey import padding

mapped = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (mapped + (400 << 20),) * 2)
print(padding.operator(padding.Frame(512, 564, 544)).images(numpy.zeros((8, 512, 512), numpy.uint8)).shape)
"""


def test_large_tiles_are_padded_in_little_memory():
    """The matrices of this size would take 0.9 GiB, and three times as much while they are made."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # each thread maps memory of its own
    words = [sys.executable, "-c", LITTLE_MEMORY]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "(8, 564, 564)\n", done.stderr


@pytest.mark.parametrize(("frame", "needed"), [(Frame(512, 564, 544), 163), (ARGUS_FRAME, 69)])
def test_too_little_memory_is_said_before_it_is_taken(frame, needed, monkeypatch):
    monkeypatch.setattr(padding, "_Equations", None)  # nothing is made
    monkeypatch.setattr(memory, "free_bytes", lambda: 50 << 20)
    message = (
        f"padding tiles from {frame.tile_px} to {frame.padded_px} px needs about {needed} MiB of memory, "
        "and only 50 MiB are free: "
    )
    with pytest.raises(NotEnoughMemory, match=message + r"free memory, raise the limit \(ulimit -v"):
        padding.operator(frame)


def test_a_tile_does_not_depend_on_its_neighbours_in_the_survey(operators):
    tiles = np.tile(_tiles(101), (80, 1, 1))  # several blocks
    padded = operators[ARGUS_FRAME].images(tiles)
    assert np.array_equal(padded, np.tile(padded[: len(tiles) // 80], (80, 1, 1)))
    assert operators[ARGUS_FRAME].images(tiles[:0]).shape == (0, 148, 148)


def test_where_no_pixel_is_added_nothing_changes():
    tiles = _tiles(64)
    operator = padding.operator(Frame(64, 64, 64))
    assert np.array_equal(operator.images(tiles), tiles)
    assert np.array_equal(operator.masks(tiles > 127), tiles > 127)


def test_centre_takes_the_tile_out_again(operators):
    tiles = _tiles(101)
    padded = operators[ARGUS_FRAME].images(tiles)
    crop = padding.centre_crop(padded, ARGUS_FRAME)
    assert crop.shape == (len(tiles), 128, 128)
    for array in (padded, crop):
        assert np.array_equal(padding.centre(array, ARGUS_FRAME), tiles)
        with_channels = torch.from_numpy(array.copy())[:, None]
        assert torch.equal(padding.centre(with_channels, ARGUS_FRAME)[:, 0], torch.from_numpy(tiles))


def test_other_sizes_are_not_cut():
    with pytest.raises(ValueError, match="148 px or centre crops of 128 px, not 128 x 148"):
        padding.centre(np.zeros((1, 128, 148)), ARGUS_FRAME)
    with pytest.raises(ValueError, match="148"):
        padding.centre_crop(np.zeros((1, 128, 128)), ARGUS_FRAME)


def test_the_frame_of_the_argus_baseline():
    frame = padding.frame_for(101, Geometry())
    assert frame == ARGUS_FRAME
    assert (frame.before, frame.crop_offset, frame.tile_in_crop) == (23, 10, 13)


@given(st.integers(1, 300), st.integers(0, 60), st.integers(0, 60))
def test_the_tile_lies_inside_the_crop_and_the_crop_inside_the_padding(tile_px, context, slack):
    frame = Frame(tile_px, tile_px + context + slack, tile_px + context)
    assert 0 <= frame.padded_px - tile_px - 2 * frame.before <= 1
    assert 0 <= frame.tile_in_crop <= frame.crop_px - tile_px
    assert 0 <= frame.crop_offset <= frame.padded_px - frame.crop_px
    numbered = np.arange(frame.padded_px**2).reshape(frame.padded_px, frame.padded_px)
    from_crop = padding.centre(padding.centre_crop(numbered, frame), frame)
    assert np.array_equal(from_crop, padding.centre(numbered, frame))


@pytest.mark.parametrize("tile_px", [16, 33, 48, 101, 112, 113, 256])
def test_the_default_crop_is_the_smallest_multiple_of_32_with_16_px_to_spare(tile_px):
    frame = padding.frame_for(tile_px, Geometry())
    assert frame.crop_px % 32 == 0
    assert tile_px + 16 <= frame.crop_px < tile_px + 48
    assert frame.padded_px == frame.crop_px + 20


def test_given_sizes_are_kept_or_refused_with_the_remedy():
    assert padding.frame_for(101, Geometry(padded_px=160, crop_px=160)) == Frame(101, 160, 160)
    assert padding.frame_for(101, Geometry(crop_px=160)).padded_px == 180
    with pytest.raises(ValueError, match=r"geometry\.crop_px = 96 is smaller than the tiles of 101 px"):
        padding.frame_for(101, Geometry(crop_px=96))
    with pytest.raises(ValueError, match=r"geometry\.padded_px = 120 is below the crop of 128 px: set it to 128"):
        padding.frame_for(101, Geometry(padded_px=120))


def test_wrong_arguments_are_named(operators):
    with pytest.raises(ValueError, match="at least 6 px"):
        padding.operator(Frame(5, 20, 5))
    with pytest.raises(TypeError, match="uint8"):
        operators[FRAMES[1]].images(np.zeros((1, 64, 64)))
    with pytest.raises(TypeError, match="bool"):
        operators[FRAMES[1]].masks(np.zeros((1, 64, 64), dtype=np.uint8))
    with pytest.raises(ValueError, match="N, 64, 64"):
        operators[FRAMES[1]].images(np.zeros((1, 33, 33), dtype=np.uint8))
