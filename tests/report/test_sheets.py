"""Sheets hold the pictures that they promise, in order, with words that fit; the same mosaics give the same bytes."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import get_args

import cv2
import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from salt_ray.config import RuleName
from salt_ray.postprocessing.corrections import CorrectedMosaic
from salt_ray.postprocessing.draw import Kind, draw_mosaic, draw_tile, swatch
from salt_ray.postprocessing.predicted import MosaicTiles
from salt_ray.postprocessing.rules import Change
from salt_ray.report import sheets
from salt_ray.report.style import DPI, styled

pytestmark = pytest.mark.filterwarnings("error")
IDS = np.array([f"tile-{i:05d}" for i in range(1000)])


def mosaic(number: int, count: int = 3, size: int = 33) -> CorrectedMosaic:
    """A row of tiles of which the first has a label and the others have changed, each more than the one before."""
    rng = np.random.default_rng([number, count, size])
    tiles, labelled = np.arange(count) + 50 * number, np.arange(count) == 0
    images = rng.integers(0, 256, (count, size, size), dtype=np.uint8)
    before = rng.random((count, size, size)) < 0.3
    after = before.copy()
    for tile in range(1, count):
        after[tile].flat[: 7 * tile + number] ^= True
    changes = tuple(Change("copy_down", tile, (0,), 1, 0) for tile in range(1, count))
    places = np.zeros(count, int), np.arange(count)
    known = MosaicTiles(number, tiles, *places, images, labelled, before & labelled[:, None, None])
    return CorrectedMosaic(known, before, after, changes)


def panels(figure: Figure) -> list[np.ndarray]:
    """The pictures, in the order in which they were placed."""
    return [image.get_array() for image in figure.axes[0].get_images()]


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def check_layout(figure: Figure) -> None:
    """Nothing lies outside the figure, and no picture or word on another."""
    figure.draw_without_rendering()
    axes, (legend,) = figure.axes[0], figure.legends
    boxes = [artist.get_window_extent() for artist in (*axes.get_images(), *axes.texts, legend)]
    for box in boxes:
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, box
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, box
    assert not any(_overlap(*pair) for pair in combinations(boxes, 2))


def _overlap(first: Bbox, second: Bbox) -> bool:
    common = Bbox.intersection(first, second)
    return common is not None and min(common.width, common.height) > 1


@pytest.mark.parametrize(("count", "size"), [(1, 101), (2, 33), (5, 33), (12, 101)])
def test_a_sheet_of_mosaics_holds_every_picture_with_its_title_and_explains_every_kind(count: int, size: int) -> None:
    mosaics = [mosaic(number, 1 + number, size) for number in range(count)]
    with styled():
        figure = sheets.mosaic_sheet(mosaics)
        check_layout(figure)
    pictures = [draw_mosaic(one.tiles, one.before, one.after) for one in mosaics]
    assert all(np.array_equal(*pair) for pair in zip(panels(figure), pictures, strict=True))
    assert words(figure) == [f"mosaic {number}: {number + 1} tiles, 1 labelled" for number in range(count)]
    images = figure.axes[0].get_images()
    for image, picture in zip(images, pictures, strict=True):  # as large as fits, and never more than 3 times as large
        width = image.get_window_extent().width
        assert width * DPI / figure.dpi == pytest.approx(min(480, 3 * picture.shape[1]), abs=0.5)
    corners = [(-image.get_extent()[3], image.get_extent()[0]) for image in images]
    assert [top for top, _ in corners] == sorted((top for top, _ in corners), reverse=True)  # reading order
    assert len(set(corners)) == count and len({left for _, left in corners}) == min(count, sheets.COLUMNS)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [swatch(kind)[0] for kind in Kind]
    for kind, patch in zip(Kind, legend.get_patches(), strict=True):
        assert np.allclose(np.array(patch.get_facecolor())[:3] * 255, swatch(kind)[1])


@pytest.mark.parametrize("size", [33, 101])
def test_a_sheet_of_changes_shows_each_tile_before_and_after_and_says_what_happened(size: int) -> None:
    one = mosaic(2, 4, size)
    with styled():
        figure = sheets.change_sheet([(one, 3), (one, 1)], IDS)
        check_layout(figure)
    shown = panels(figure)
    nothing = np.zeros((size, size), bool)
    for first, tile in ((0, 3), (3, 1)):
        image, before, after = one.tiles.images[tile], one.before[tile], one.after[tile]
        pairs = (nothing, nothing), (before, before), (before, after)
        expected = [draw_tile(image, False, *pair) for pair in pairs]
        assert all(np.array_equal(*pair) for pair in zip(shown[first : first + 3], expected, strict=True))
    expected = []
    for tile in (3, 1):
        added = int((one.after[tile] & ~one.before[tile]).sum())
        removed = int((one.before[tile] & ~one.after[tile]).sum())
        expected.append(f"tile-{100 + tile:05d}\ncopy_down\n+{added} px, -{removed} px")
    assert words(figure) == ["tile", "before", "after", *expected]


def test_a_caption_has_room_for_every_rule() -> None:
    one = mosaic(1)
    changes = tuple(Change(name, tile, (0,), 1, 0) for name in get_args(RuleName) for tile in (1, 2))
    with styled():
        figure = sheets.change_sheet([(replace(one, changes=changes), tile) for tile in (2, 1)], IDS)
        check_layout(figure)
    caption = words(figure)[3]
    assert all(name in caption for name in get_args(RuleName))


def test_the_largest_mosaics_and_the_largest_changes_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown, places = [], []
    mosaics = [mosaic(number, 2 + number % 5) for number in range(sheets.MOSAICS + 3)]
    draw_mosaics, draw_changes = sheets.mosaic_sheet, sheets.change_sheet
    monkeypatch.setattr(sheets, "mosaic_sheet", lambda some: shown.extend(some) or draw_mosaics(some))
    monkeypatch.setattr(sheets, "change_sheet", lambda some, ids: places.extend(some) or draw_changes(some, ids))
    sheets.write_sheets(tmp_path, mosaics, IDS)
    largest = sorted(mosaics, key=lambda one: (-len(one.before), one.tiles.number))[: sheets.MOSAICS]
    assert [one.tiles.number for one in shown] == [one.tiles.number for one in largest]
    changed = [int((one.before[tile] != one.after[tile]).sum()) for one, tile in places]
    every = sorted((int(px) for one in mosaics for px in (one.before != one.after).sum(axis=(1, 2))), reverse=True)
    assert changed == every[: sheets.TILES]


def test_the_same_mosaics_give_the_same_bytes_whatever_the_user_has_set(tmp_path: Path) -> None:
    mosaics = [mosaic(number) for number in range(2)]
    first, second = tmp_path / "first", tmp_path / "second"
    sheets.write_sheets(first, mosaics, IDS)
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.bbox": "tight"}):
        sheets.write_sheets(second, mosaics, IDS)
    assert sorted(path.name for path in first.iterdir()) == ["changes.png", "mosaics.png"]
    for path in first.iterdir():
        content = path.read_bytes()
        assert content == (second / path.name).read_bytes() and b"Matplotlib version" not in content
        assert len(np.unique(cv2.imread(str(path)).reshape(-1, 3), axis=0)) > 100


def test_there_is_no_sheet_of_nothing(tmp_path: Path) -> None:
    sheets.write_sheets(tmp_path, [], IDS)
    assert not list(tmp_path.iterdir())
    one = mosaic(0)
    sheets.write_sheets(tmp_path, [replace(one, after=one.before)], IDS)
    assert [path.name for path in tmp_path.iterdir()] == ["mosaics.png"]
