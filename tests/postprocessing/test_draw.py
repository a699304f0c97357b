"""Pictures of mosaics: every pixel of the right kind in the right place, and sheets that hold what they were given."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest

from salt_ray.config import RuleName
from salt_ray.mosaic.table import MosaicError
from salt_ray.postprocessing.draw import ChangedTile, Kind, before_after, contact_sheet, draw_mosaic, write_png

SWATCH = 26 * 52  # px of a legend's swatch


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
    """A grid of 3 x 4 places with four of them empty, in the arguments of draw_mosaic."""
    rng = np.random.default_rng([seed, size])
    rows, cols = np.divmod(np.array([11, 0, 1, 5, 6, 7, 8, 10]), 4)
    images = rng.integers(0, 256, (8, size, size), dtype=np.uint8)
    labelled = np.arange(8) % 3 == 0
    before = blobs(rng, 8, size)
    after = np.where(labelled[:, None, None], before, blobs(rng, 8, size))
    return rows, cols, images, labelled, before, after


@pytest.mark.parametrize("size", [33, 101])
def test_every_pixel_shows_its_kind_and_untinted_ones_their_grey_value(size: int) -> None:
    rows, cols, images, labelled, before, after = mosaic(size)
    picture = draw_mosaic(rows, cols, images, labelled, before, after)
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
    picture = draw_mosaic(np.arange(4), np.zeros(4, int), ramp, labelled, *masks).astype(int)
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
    picture = draw_mosaic(np.zeros(2, int), np.arange(2), grey, np.zeros(2, bool), salt, salt).astype(int)
    red = picture[..., 0] - picture[..., 1]
    assert (red[10, 5:61] == red[10, 5]).all()
    assert (red[11:19, 5] == red[10, 5]).all()
    assert (red[11:19, 6:60] == red[11, 6]).all()
    assert red[10, 5] > red[11, 6] > 0


def test_what_was_removed_is_striped() -> None:
    tile, nothing = np.full((1, 101, 101), 128, np.uint8), np.zeros((1, 101, 101), bool)
    picture = draw_mosaic(np.zeros(1, int), np.zeros(1, int), tile, nothing[:, 0, 0], ~nothing, nothing)
    colours, counts = np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)
    assert len(colours) == 2
    assert counts.min() > 0.2 * 101**2
    assert (picture[1:, :-1] == picture[:-1, 1:]).all()  # diagonals


def test_drawing_changes_no_input_and_repeats_itself() -> None:
    arguments = mosaic(33)
    copies = [argument.copy() for argument in arguments]
    first = draw_mosaic(*arguments)
    assert all(np.array_equal(a, b) for a, b in zip(arguments, copies, strict=True))
    order = np.random.default_rng(1).permutation(8)
    assert np.array_equal(draw_mosaic(*(argument[order] for argument in arguments)), first)


def test_arguments_that_do_not_fit_are_refused() -> None:
    rows, cols, images, labelled, before, after = mosaic(33)
    with pytest.raises(MosaicError, match="must be uint8"):
        draw_mosaic(rows, cols, images / 255, labelled, before, after)
    with pytest.raises(MosaicError, match="after must be bool"):
        draw_mosaic(rows, cols, images, labelled, before, after[:, :-1])
    with pytest.raises(MosaicError, match="8 tiles with 7 rows"):
        draw_mosaic(rows[:-1], cols, images, labelled, before, after)
    with pytest.raises(MosaicError, match="at least one tile"):
        draw_mosaic(*(array[:0] for array in (rows, cols, images, labelled, before, after)))
    with pytest.raises(MosaicError, match="a bool for every tile"):
        draw_mosaic(rows, cols, images, labelled.astype(int), before, after)
    with pytest.raises(MosaicError, match="one tile a place"):
        draw_mosaic(rows * 0, cols, images, labelled, before, after)
    with pytest.raises(MosaicError, match="count from 0"):
        draw_mosaic(rows - 1, cols, images, labelled, before, after)
    with pytest.raises(MosaicError, match="changed a label"):
        draw_mosaic(rows, cols, images, labelled, before, before ^ labelled[:, None, None])


def find(sheet: np.ndarray, picture: np.ndarray) -> tuple[int, int]:
    """Top and left of the place of ``picture`` in ``sheet``, which must hold it unscaled."""
    off = cv2.matchTemplate(sheet.astype(np.float32), picture.astype(np.float32), cv2.TM_SQDIFF)
    top, left = (int(i) for i in np.unravel_index(off.argmin(), off.shape))
    height, width = picture.shape[:2]
    assert np.array_equal(sheet[top : top + height, left : left + width], picture)
    return top, left


def test_a_contact_sheet_holds_every_picture_in_reading_order_with_its_title_below() -> None:
    rng = np.random.default_rng(0)
    shapes = [(120, 60), (40, 120), (120, 120), (90, 120), (120, 30)]
    pictures = [(f"mosaic {i}", rng.integers(0, 256, (*shape, 3), dtype=np.uint8)) for i, shape in enumerate(shapes)]
    sheet = contact_sheet(pictures, columns=2, cell_px=120)
    places = [find(sheet, picture) for _, picture in pictures]
    bottoms = [top + shape[0] for (top, _), shape in zip(places, shapes, strict=True)]
    lefts = [left for _, left in places]
    assert bottoms[0] == bottoms[1] < bottoms[2] == bottoms[3] < bottoms[4]
    assert lefts[0] == lefts[2] == lefts[4] < lefts[1] == lefts[3]
    for i, (top, left) in enumerate(places):
        renamed = [(title + "7" * (i == j), picture) for j, (title, picture) in enumerate(pictures)]
        y, x = np.nonzero((contact_sheet(renamed, columns=2, cell_px=120) != sheet).any(axis=2))
        assert y.min() >= top + shapes[i][0]
        assert y.max() < top + shapes[i][0] + 26
        assert left <= x.min() <= x.max() < left + 120


def test_a_contact_sheet_scales_to_its_cells_and_wraps_long_titles() -> None:
    large, small = np.full((300, 900, 3), 77, np.uint8), np.full((10, 10, 3), 99, np.uint8)
    title = "mosaic 12: 34 tiles, 9 labelled, " * 5
    sheet = contact_sheet([(title, large), ("", small)], columns=4, cell_px=300)
    assert sheet.shape[1] == 2 * 300 + 3 * 16
    below, right = find(sheet, np.full((100, 300, 3), 77, np.uint8))
    top, left = find(sheet, np.full((30, 30, 3), 99, np.uint8))  # not enlarged further than 3 times
    assert top + 30 == below + 100
    assert (sheet[below + 100 :, right + 300 : left] == 255).all()
    assert (sheet[below + 100 :, left:] == 255).all()
    ink = (sheet[below + 100 :, right : right + 300] < 128).any(axis=(1, 2))
    assert np.flatnonzero(ink).max() > 3 * 26


def test_a_contact_sheet_explains_every_kind() -> None:
    seen = looks(contact_sheet([("", np.full((99, 99, 3), 255, np.uint8))]))
    for kind in set(Kind) - {Kind.UNMASKED}:
        assert (seen == kind).sum() == SWATCH, kind
    with pytest.raises(MosaicError, match="at least one"):
        contact_sheet([])


@pytest.mark.parametrize("size", [33, 101])
def test_a_comparison_shows_truth_before_and_after_of_every_tile(size: int) -> None:
    rng = np.random.default_rng(size)
    images = rng.integers(0, 256, (3, size, size), dtype=np.uint8)
    masks = zip(images, blobs(rng, 3, size), blobs(rng, 3, size), strict=True)
    changes = [ChangedTile(f"tile{i}", *arrays, ("copy_down",)) for i, arrays in enumerate(masks)]
    sheet = before_after(changes)
    factor = round(200 / size)
    old, new = (np.stack([getattr(c, name) for c in changes]) for name in ("before", "after"))
    shown = {
        Kind.PREDICTED: old.sum() + (old & new).sum(),
        Kind.ADDED: (new & ~old).sum(),
        Kind.REMOVED: (old & ~new).sum(),
    }
    seen = looks(sheet)
    for kind in Kind:
        if kind != Kind.UNMASKED:
            count = SWATCH + factor**2 * shown[kind] if kind in shown else 0
            assert (seen == kind).sum() == count, kind
    enlarged = cv2.resize(images[1], None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    assert find(sheet, cv2.merge([enlarged] * 3))[1] == 16

    truth = blobs(rng, 1, size)[0]
    with_truth = before_after([changes[0], replace(changes[1], truth=truth), changes[2]])
    seen = looks(with_truth)
    assert (seen == Kind.LABELLED_SALT).sum() == SWATCH + factor**2 * truth.sum()
    assert (seen == Kind.LABELLED_EMPTY).sum() == SWATCH + factor**2 * (~truth).sum()
    unknown = (seen == Kind.NO_TILE).sum() / (factor * size) ** 2
    assert 1.8 < unknown < 2  # two tiles, less the words on them


def test_a_caption_has_room_for_every_rule() -> None:
    rng = np.random.default_rng(0)
    image, nothing = rng.integers(0, 256, (33, 33), dtype=np.uint8), np.zeros((33, 33), bool)
    change = ChangedTile("0123456789", image, nothing, ~nothing, truth=nothing)
    rules = get_args(RuleName)
    bare, full = before_after([change]), before_after([replace(change, rules=rules)])
    assert full.shape == bare.shape
    y, x = np.nonzero((full != bare).any(axis=2))
    assert x.max() < full.shape[1] - 8
    assert x.min() > full.shape[1] - 16 - 330 - 8
    assert y.max() < full.shape[0] - 8
    crowded = before_after([replace(change, rules=rules * 3), change])
    assert len(crowded) > len(before_after([change, change]))
    assert np.array_equal(crowded[-200:], bare[-200:])


def test_comparisons_that_do_not_fit_are_refused() -> None:
    image, mask = np.zeros((33, 33), np.uint8), np.zeros((33, 33), bool)
    change = ChangedTile("a", image, mask, mask)
    with pytest.raises(MosaicError, match="no tile changed"):
        before_after([])
    with pytest.raises(MosaicError, match="truth must be bool"):
        before_after([replace(change, truth=image)])
    with pytest.raises(MosaicError, match="one size"):
        before_after([change, ChangedTile("b", image[1:, 1:], mask[1:, 1:], mask[1:, 1:])])


def test_a_written_picture_is_read_back_as_it_was(tmp_path: Path) -> None:
    picture = draw_mosaic(*mosaic(33))
    path = tmp_path / "mosaics" / "0.png"
    write_png(path, picture[::-1])
    write_png(path, picture)
    assert np.array_equal(cv2.imread(str(path))[..., ::-1], picture)
    assert [file.name for file in path.parent.iterdir()] == ["0.png"]
