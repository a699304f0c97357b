"""Pictures of mosaics: every pixel of the right kind in the right place."""

import cv2
import numpy as np
import pytest

from salt_ray.postprocessing.draw import Kind, draw_mosaic, draw_tile, encode_png, swatch
from salt_ray.postprocessing.predicted import MosaicTiles


def looks(picture: np.ndarray) -> np.ndarray:
    """The Kind of every pixel, told from nothing but the order of its red, green and blue."""
    red, green, blue = np.moveaxis(picture.astype(int), -1, 0)
    spread = picture.max(axis=-1).astype(int) - picture.min(axis=-1)
    seen = {
        Kind.LABELLED_SALT: (green > blue) & (blue > red),
        Kind.PREDICTED: (red > green) & (green == blue),
        Kind.ADDED: (red > green) & (green > blue),
        Kind.REMOVED: (blue > red) & (red > green),
        Kind.LABELLED_EMPTY: (blue > green) & (green > red) & (spread > 10),
        Kind.UNMASKED: spread == 0,
        Kind.NO_TILE: (spread > 0) & (spread <= 10),
    }
    assert (sum(seen.values()) == 1).all(), "a pixel of no kind"
    return sum(kind * where for kind, where in seen.items())


def blobs(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Masks of a few smooth regions, bool (count, size, size)."""
    noise = rng.standard_normal((count, size, size)).astype(np.float32)
    return np.stack([cv2.GaussianBlur(field, (0, 0), size / 8) > 0.01 for field in noise])


def mosaic(size: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """A grid of 3 x 4 places with four of them empty, in the arguments of ``draw``."""
    rng = np.random.default_rng([seed, size])
    rows, cols = np.divmod(np.array([11, 0, 1, 5, 6, 7, 8, 10]), 4)
    images = rng.integers(0, 256, (8, size, size), dtype=np.uint8)
    labelled = np.arange(8) % 3 == 0
    before = blobs(rng, 8, size)
    after = np.where(labelled[:, None, None], before, blobs(rng, 8, size))
    return rows, cols, images, labelled, before, after


def draw(
    rows: np.ndarray,
    cols: np.ndarray,
    images: np.ndarray,
    labelled: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
) -> np.ndarray:
    labels = before & labelled[:, None, None]
    return draw_mosaic(MosaicTiles(0, np.arange(len(rows)), rows, cols, images, labelled, labels), before, after)


@pytest.mark.parametrize("size", [33, 101])
def test_every_pixel_shows_its_kind_and_untinted_ones_their_grey_value(size: int) -> None:
    rows, cols, images, labelled, before, after = mosaic(size)
    picture = draw(rows, cols, images, labelled, before, after)
    assert picture.shape == (3 * size, 4 * size, 3)
    assert picture.dtype == np.uint8
    seen = looks(picture)
    tile_at = {place: i for i, place in enumerate(zip(rows.tolist(), cols.tolist(), strict=True))}
    found = set()
    for y, x in np.ndindex(seen.shape):
        i = tile_at.get((y // size, x // size))
        if i is None:
            expected = Kind.NO_TILE
        else:
            old, new = before[i, y % size, x % size], after[i, y % size, x % size]
            if labelled[i]:
                expected = Kind.LABELLED_SALT if new else Kind.LABELLED_EMPTY
            elif old:
                expected = Kind.PREDICTED if new else Kind.REMOVED
            else:
                expected = Kind.ADDED if new else Kind.UNMASKED
        assert seen[y, x] == expected, (y, x)
        if expected == Kind.UNMASKED:
            assert picture[y, x, 0] == images[i, y % size, x % size]
        found.add(expected)
    assert found == set(Kind)


def test_seismic_stays_readable_under_every_mask() -> None:
    ramp = np.tile(np.linspace(0, 255, 101).astype(np.uint8), (4, 101, 1))
    masks = np.zeros((2, 4, 101, 101), bool)  # labelled empty, predicted, added, removed
    masks[0, [1, 3]], masks[1, [1, 2]] = True, True
    labelled = np.arange(4) == 0
    picture = draw(np.arange(4), np.zeros(4, int), ramp, labelled, *masks).astype(int)
    light = picture.sum(axis=2).reshape(4, 101, 101)[:, 2:-2, 2:-2] / 3  # within the outlines
    for tile in light[:3]:
        assert (np.diff(tile, axis=1) >= -1).all()
        assert (np.ptp(tile, axis=1) >= 100).all()
    removed = light[3].min(axis=0), light[3].max(axis=0)  # stripes and what lies between, of either brightness
    assert all((np.diff(curve) >= -1).all() and np.ptp(curve) >= 50 for curve in removed)


def test_regions_are_outlined_but_tiles_are_not() -> None:
    grey = np.full((2, 33, 33), 128, np.uint8)
    salt = np.zeros((2, 33, 33), bool)
    salt[0, 10:20, 5:] = True
    salt[1, 10:20, :28] = True
    picture = draw(np.zeros(2, int), np.arange(2), grey, np.zeros(2, bool), salt, salt).astype(int)
    red = picture[..., 0] - picture[..., 1]
    assert (red[10, 5:61] == red[10, 5]).all()
    assert (red[11:19, 5] == red[10, 5]).all()
    assert (red[11:19, 6:60] == red[11, 6]).all()
    assert red[10, 5] > red[11, 6] > 0


def test_what_was_removed_is_striped() -> None:
    tile, nothing = np.full((1, 101, 101), 128, np.uint8), np.zeros((1, 101, 101), bool)
    picture = draw(np.zeros(1, int), np.zeros(1, int), tile, nothing[:, 0, 0], ~nothing, nothing)
    colours, counts = np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)
    assert len(colours) == 2
    assert counts.min() > 0.2 * 101**2
    assert (picture[1:, :-1] == picture[:-1, 1:]).all()  # diagonals


def test_drawing_changes_no_input_and_repeats_itself() -> None:
    arguments = mosaic(33)
    copies = [argument.copy() for argument in arguments]
    first = draw(*arguments)
    assert all(np.array_equal(a, b) for a, b in zip(arguments, copies, strict=True))
    order = np.random.default_rng(1).permutation(8)
    assert np.array_equal(draw(*(argument[order] for argument in arguments)), first)


def test_a_changed_label_or_masks_of_another_shape_are_never_drawn() -> None:
    rows, cols, images, labelled, before, after = mosaic(33)
    with pytest.raises(AssertionError, match="changed a label"):
        draw(rows, cols, images, labelled, before, before ^ labelled[:, None, None])
    with pytest.raises(AssertionError):
        draw(rows, cols, images, labelled, before, after[:, :-1])
    with pytest.raises(AssertionError):
        draw(rows, cols, images, labelled, before, after.astype(np.uint8))


def test_a_tile_alone_looks_as_in_its_mosaic() -> None:
    rows, cols, images, labelled, before, after = mosaic(33)
    for i in range(8):
        alone = draw_tile(images[i], bool(labelled[i]), before[i], after[i])
        tile = (array[i : i + 1] for array in (rows * 0, cols * 0, images, labelled, before, after))
        assert np.array_equal(alone, draw(*tile))


def test_every_kind_has_a_swatch_in_its_own_colour() -> None:
    names = set()
    for kind in Kind:
        name, plain, strong = swatch(kind)
        names.add(name)
        assert (looks(np.stack([plain, strong])) == kind).all(), kind
    assert len(names) == len(Kind)


def test_a_picture_is_read_back_as_it_was() -> None:
    picture = draw(*mosaic(33))
    content = np.frombuffer(encode_png(picture), np.uint8)
    assert np.array_equal(cv2.imdecode(content, cv2.IMREAD_COLOR)[..., ::-1], picture)
