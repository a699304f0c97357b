"""Sheets that show post-processing at a glance: the largest mosaics, and the tiles that changed most."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from salt_ray.postprocessing.corrections import CorrectedMosaic
from salt_ray.postprocessing.draw import Kind, draw_mosaic, draw_tile, swatch
from salt_ray.report.style import DPI, png, styled
from salt_ray.storage import StoragePath, write_atomically

MOSAICS, TILES = 12, 16  # largest numbers shown
COLUMNS = 4  # of mosaics.png, at most
# Inches: the longest edge of a mosaic, the edge of a tile of changes.png, the gap between them, a line of text.
MOSAIC, TILE, GAP, LINE = 4, 200 / DPI, 0.13, 0.22
MAX_ENLARGEMENT = 3  # of a small mosaic
QUICK = 1  # compression level: 6 takes twice as long for files a tenth smaller
CAPTION, CAPTION_LETTERS = 2.75, 36  # the width of captions in changes.png, in inches and characters


@styled()
def write_sheets(folder: StoragePath, mosaics: Sequence[CorrectedMosaic], ids: np.ndarray) -> None:
    """Write ``mosaics.png`` and, if something changed, ``changes.png``.

    Args:
        ids: (N,) str, of all tiles of the survey.
    """
    if mosaics:
        largest = sorted(mosaics, key=lambda mosaic: (-len(mosaic.before), mosaic.tiles.number))
        write_atomically(folder / "mosaics.png", png(mosaic_sheet(largest[:MOSAICS]), QUICK))
    changed = [(mosaic, tile) for mosaic in mosaics for tile in np.flatnonzero(mosaic.corrected).tolist()]
    changed.sort(key=lambda place: (-sum(_changed_px(*place)), place[0].tiles.number, place[1]))
    if changed:
        write_atomically(folder / "changes.png", png(change_sheet(changed[:TILES], ids), QUICK))


def mosaic_sheet(mosaics: Sequence[CorrectedMosaic]) -> Figure:
    """Pictures of mosaics in reading order, each below its title, with a legend at the top."""
    columns = min(COLUMNS, len(mosaics))
    axes, top = _sheet(GAP + columns * (MOSAIC + GAP), tuple(Kind), 2 * columns - 1)
    for first in range(0, len(mosaics), columns):
        top += LINE
        below = top
        for column, mosaic in enumerate(mosaics[first : first + columns]):
            tiles, left = mosaic.tiles, GAP + column * (MOSAIC + GAP)
            title = f"mosaic {tiles.number}: {len(tiles.tiles)} tiles, {tiles.labelled.sum()} labelled"
            axes.text(left, top, title, verticalalignment="bottom")
            picture = draw_mosaic(tiles, mosaic.before, mosaic.after)
            scale = min(MOSAIC / max(picture.shape[:2]), MAX_ENLARGEMENT / DPI)
            below = max(below, _place(axes, picture, left, top, scale))
        top = below + GAP
    return _ended(axes, top)


def change_sheet(changed: Sequence[tuple[CorrectedMosaic, int]], ids: np.ndarray) -> Figure:
    """A row for each tile (mosaic and position in it): image, before, after, and a caption.

    Args:
        ids: (N,) str, of all tiles of the survey.
    """
    lefts = [GAP + column * (TILE + GAP) for column in range(4)]
    axes, top = _sheet(lefts[-1] + CAPTION, (Kind.PREDICTED, Kind.ADDED, Kind.REMOVED), 3)
    top += LINE
    for left, heading in zip(lefts, ("tile", "before", "after"), strict=False):
        axes.text(left, top, heading, verticalalignment="bottom")
    for mosaic, tile in changed:
        image, before, after = mosaic.tiles.images[tile], mosaic.before[tile], mosaic.after[tile]
        nothing = np.zeros_like(before)
        for left, masks in zip(lefts, ((nothing, nothing), (before, before), (before, after)), strict=False):
            _place(axes, draw_tile(image, False, *masks), left, top, TILE / len(image))
        rules = dict.fromkeys(change.rule for change in mosaic.changes if change.tile == tile)
        added, removed = _changed_px(mosaic, tile)
        lines = [str(ids[mosaic.tiles.tiles[tile]]), *textwrap.wrap(", ".join(rules), CAPTION_LETTERS)]
        lines.append(f"+{added:,} px, -{removed:,} px")
        axes.text(lefts[-1], top, "\n".join(lines), verticalalignment="top")
        top += TILE + GAP
    return _ended(axes, top)


def _changed_px(mosaic: CorrectedMosaic, tile: int) -> tuple[int, int]:
    """Numbers of salt pixels added to and removed from a tile."""
    before, after = mosaic.before[tile], mosaic.after[tile]
    return int((after & ~before).sum()), int((before & ~after).sum())


def _sheet(width: float, kinds: Sequence[Kind], columns: int) -> tuple[Axes, float]:
    """An empty sheet with a legend: axes in inches from the upper left corner, and the height of the legend."""
    axes = Figure((width, 1), layout="none").add_axes((0, 0, 1, 1))
    axes.axis("off")
    handles = []
    for kind in kinds:
        name, plain, strong = swatch(kind)
        stripes = "///" if kind in (Kind.REMOVED, Kind.NO_TILE) else None
        handles.append(Patch(facecolor=plain / 255, edgecolor=strong / 255, linewidth=1.5, hatch=stripes, label=name))
    axes.figure.legend(handles=handles, loc="upper left", ncols=columns, handlelength=3, handleheight=1.5)
    return axes, GAP + LINE * math.ceil(len(kinds) / columns)


def _place(axes: Axes, picture: np.ndarray, left: float, top: float, scale: float) -> float:
    """Place a picture on a sheet, ``scale`` inches per pixel; returns its lower edge."""
    height, width = scale * picture.shape[0], scale * picture.shape[1]
    axes.imshow(picture, extent=(left, left + width, top + height, top))
    return top + height


def _ended(axes: Axes, height: float) -> Figure:
    """The sheet, cropped to this height."""
    width, _ = axes.figure.get_size_inches()
    axes.figure.set_size_inches(width, height)
    axes.set(xlim=(0, width), ylim=(height, 0))
    return axes.figure
