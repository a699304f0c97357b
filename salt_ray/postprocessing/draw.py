"""Pictures of mosaics: what is labelled, what is predicted, and what post-processing made of it (method section 6).

Legend: n tiles, S tile edge px; R, C rows and columns of a mosaic's grid; H = R * S and W = C * S px. A picture is
uint8 (height, width, 3) in the order red, green, blue. Every pixel is of one Kind, and its grey value shines through
that kind's colour, so that the seismic stays readable under the masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import cv2
import numpy as np

from salt_ray.metric import tile_scores
from salt_ray.mosaic.table import MosaicError
from salt_ray.storage import StoragePath, write_atomically

_PAPER, _INK = (255, 255, 255), (30, 30, 30)
_FONT = (cv2.FONT_HERSHEY_SIMPLEX, 0.6)
_LINE_PX = 26  # from one line of text to the next
_GAP_PX = 16
_PANEL_PX = 200  # a tile's edge in before_after, as nearly as a whole factor allows
_CAPTION_PX = 330
_SWATCH_PX = (26, 52)
#: A small mosaic is not blown up further than this in a sheet.
_MAX_ENLARGEMENT = 3.0


class Kind(IntEnum):
    """What a pixel of a mosaic is, in the order of legends. Those up to REMOVED are outlined: shape helps colour."""

    LABELLED_SALT = 0
    PREDICTED = 1
    ADDED = 2
    REMOVED = 3
    LABELLED_EMPTY = 4
    UNMASKED = 5  # of an unlabelled tile, without salt before and after
    NO_TILE = 6


#: For each kind its name in legends, its colour, and the colour's share of a pixel: on its plain parts, and on its
#: outline and stripes. Green is lighter than red by intent: colour-blind readers tell them apart by that.
_LOOKS: dict[Kind, tuple[str, tuple[int, int, int], float, float]] = {
    Kind.LABELLED_SALT: ("labelled: salt", (0, 215, 135), 0.42, 0.9),
    Kind.PREDICTED: ("predicted salt", (220, 15, 15), 0.4, 0.9),
    Kind.ADDED: ("added by post-processing", (255, 225, 0), 0.55, 0.95),
    Kind.REMOVED: ("removed by post-processing", (215, 45, 225), 0.2, 0.75),
    Kind.LABELLED_EMPTY: ("labelled: no salt", (0, 90, 230), 0.25, 0.25),
    Kind.UNMASKED: ("no label, no salt", (0, 0, 0), 0, 0),
    Kind.NO_TILE: ("no tile", (210, 212, 217), 1, 1),
}


@dataclass(frozen=True)
class ChangedTile:
    """A tile before and after post-processing.

    Attributes:
        tile: its id.
        image: (S, S) uint8.
        before, after: (S, S) bool, salt as predicted and as corrected.
        rules: the rules that changed it.
        truth: (S, S) bool; None where nobody knows it.
    """

    tile: str
    image: np.ndarray
    before: np.ndarray
    after: np.ndarray
    rules: Sequence[str] = ()
    truth: np.ndarray | None = None


def draw_mosaic(
    rows: np.ndarray,
    cols: np.ndarray,
    images: np.ndarray,
    labelled: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
) -> np.ndarray:
    """Stitch one mosaic and tint it by kind; a place in the picture is a place in the mosaic (method section 6).

    Args:
        rows, cols: (n,) int, from 0; rows count downwards.
        images: (n, S, S) uint8, grey values as they are or histogram-matched.
        labelled: (n,) bool.
        before: (n, S, S) bool, the label of a labelled tile, else the mask as predicted.
        after: (n, S, S) bool, the same after post-processing.

    Returns:
        The picture, (R * S, C * S, 3): R and C are the largest row and column plus one. Pixels without label or salt
        keep their grey value.

    Raises:
        MosaicError: no tile; arrays that do not fit together; a place outside the grid or taken twice; a label that
            post-processing changed.
    """
    rows, cols, images, labelled, before, after = map(np.asarray, (rows, cols, images, labelled, before, after))
    _check_tiles(images, before=before, after=after)
    if not len(rows) == len(cols) == len(labelled) == len(images) > 0 or labelled.dtype != np.bool_:
        raise MosaicError(
            f"cannot draw {len(images)} tiles with {len(rows)} rows, {len(cols)} columns and {len(labelled)} flags "
            f"({labelled.dtype}): give a row, a column and a bool for every tile, and at least one tile"
        )
    if min(rows.min(), cols.min()) < 0 or len(set(zip(rows.tolist(), cols.tolist(), strict=True))) != len(rows):
        raise MosaicError("a mosaic's rows and columns must count from 0 and hold one tile a place: assemble it anew")
    if (before != after)[labelled].any():
        raise MosaicError("post-processing changed a label: only tiles without one may differ before and after")
    grey = _stitch(rows, cols, images, 0)
    kinds = _stitch(rows, cols, _kinds(labelled[:, None, None], before, after), Kind.NO_TILE)
    return _paint(grey, kinds, images.shape[1])


def contact_sheet(pictures: Sequence[tuple[str, np.ndarray]], *, columns: int = 4, cell_px: int = 480) -> np.ndarray:
    """One sheet of mosaics in reading order, each fitted into a cell with its title below, and a legend on top.

    Args:
        pictures: title (printable ASCII: the font has no more) and picture of each, as draw_mosaic makes them.
        columns: most cells in a row.
        cell_px: longest edge of a fitted picture.

    Raises:
        MosaicError: there is no picture.
    """
    if not pictures:
        raise MosaicError("there is no mosaic to show on the sheet: give at least one")
    columns = min(columns, len(pictures))
    width = _GAP_PX + columns * (cell_px + _GAP_PX)
    bands = [_legend(tuple(Kind), width)]
    for first in range(0, len(pictures), columns):
        titles, full = zip(*pictures[first : first + columns], strict=True)
        captions = [_wrap(title, cell_px) for title in titles]
        fitted = [_fit(picture, cell_px) for picture in full]
        floor = max(len(picture) for picture in fitted)
        band = _blank(floor + _LINE_PX * max(map(len, captions)) + _GAP_PX, width)
        for i, (caption, picture) in enumerate(zip(captions, fitted, strict=True)):
            left = _GAP_PX + i * (cell_px + _GAP_PX)
            _paste(band, picture, floor - len(picture), left)
            _write(band, caption, floor, left)
        bands.append(band)
    return np.concatenate(bands)


def before_after(changes: Sequence[ChangedTile]) -> np.ndarray:
    """A sheet with a row for each tile: tile, truth where any is known, before, after, and what happened to it.

    Raises:
        MosaicError: there is no tile, or arrays are not (S, S) of one S.
    """
    if not changes:
        raise MosaicError("no tile changed: there is nothing to compare before and after")
    for c in changes:
        truth = c.before if c.truth is None else c.truth
        _check_tiles(c.image[None], before=c.before[None], after=c.after[None], truth=truth[None])
    if len({c.image.shape for c in changes}) > 1:
        raise MosaicError("the tiles of a sheet must have one size: draw a sheet for each")
    with_truth = any(change.truth is not None for change in changes)
    headings = ["tile", *(["truth"] if with_truth else []), "before", "after"]
    factor = max(1, round(_PANEL_PX / changes[0].image.shape[0]))
    panel_px = factor * changes[0].image.shape[0]
    width = _GAP_PX + len(headings) * (panel_px + _GAP_PX) + _CAPTION_PX + _GAP_PX
    head = _blank(_LINE_PX + _GAP_PX // 2, width)
    for i, heading in enumerate(headings):
        _write(head, [heading], 0, _GAP_PX + i * (panel_px + _GAP_PX))
    kinds = [Kind.PREDICTED, Kind.ADDED, Kind.REMOVED]
    bands = [_legend([Kind.LABELLED_SALT, *kinds, Kind.LABELLED_EMPTY] if with_truth else kinds, width), head]
    for change in changes:
        caption = [line for text in _caption(change) for line in _wrap(text, _CAPTION_PX)]
        band = _blank(max(panel_px, _LINE_PX * len(caption)) + _GAP_PX, width)
        for i, panel in enumerate(_panels(change, with_truth, factor)):
            _paste(band, panel, 0, _GAP_PX + i * (panel_px + _GAP_PX))
        _write(band, caption, 0, _GAP_PX + len(headings) * (panel_px + _GAP_PX))
        bands.append(band)
    return np.concatenate(bands)


def encode_png(picture: np.ndarray) -> bytes:
    """A picture as PNG."""
    written, encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    assert written, picture.shape
    return encoded.tobytes()


def write_png(path: StoragePath, picture: np.ndarray) -> None:
    """Write a picture as PNG, whole or not at all."""
    write_atomically(path, encode_png(picture))


def read_png(path: StoragePath) -> np.ndarray:
    """A picture that was written here."""
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def _check_tiles(images: np.ndarray, **masks: np.ndarray) -> None:
    """Raise MosaicError where images are not uint8 (n, S, S) or named masks not bool of the same shape."""
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1] != images.shape[2]:
        raise MosaicError(f"tiles to draw must be uint8 (n, S, S), not {images.dtype} {images.shape}")
    for name, array in masks.items():
        if array.dtype != np.bool_ or array.shape != images.shape:
            raise MosaicError(f"{name} must be bool {images.shape} as the tiles, not {array.dtype} {array.shape}")


def _kinds(labelled: np.ndarray | bool, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The Kind of every pixel, uint8 in the shape of the masks; a label is the same before and after."""
    unlabelled = [Kind.UNMASKED, Kind.REMOVED, Kind.ADDED, Kind.PREDICTED]
    label = [Kind.LABELLED_EMPTY, Kind.LABELLED_EMPTY, Kind.LABELLED_SALT, Kind.LABELLED_SALT]
    code = before * np.uint8(1) + after * np.uint8(2) + labelled * np.uint8(4)
    return np.array(unlabelled + label, np.uint8)[code]


def _stitch(rows: np.ndarray, cols: np.ndarray, tiles: np.ndarray, missing: int) -> np.ndarray:
    """Lay (n, S, S) tiles on their grid, (R * S, C * S); places without a tile hold ``missing``."""
    size = tiles.shape[1]
    height, width = int(rows.max()) + 1, int(cols.max()) + 1
    grid = np.full((height, size, width, size), missing, tiles.dtype)
    grid[rows, :, cols] = tiles
    return grid.reshape(height * size, width * size)


def _paint(grey: np.ndarray, kinds: np.ndarray, tile_px: int) -> np.ndarray:
    """Colour uint8 (H, W) grey values by their kinds, uint8 (H, W); nine stripes cross a tile, fewer a small one."""
    height, width = grey.shape
    edges = cv2.morphologyEx(kinds, cv2.MORPH_GRADIENT, cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))) > 0
    strong = edges & (kinds <= Kind.REMOVED)
    pitch = max(4, tile_px // 9)
    diagonal = np.arange(height + width - 1) % pitch < pitch // 3
    stripes = np.lib.stride_tricks.sliding_window_view(diagonal, width)  # one px further in every row
    strong |= stripes & ((kinds == Kind.REMOVED) | (kinds == Kind.NO_TILE))
    index = (kinds * np.uint16(2) + strong) * np.uint16(256) + grey
    return cv2.merge([channel[index] for channel in _palette()])


def _palette() -> np.ndarray:
    """Red, green and blue, uint8 (3, kinds * 2 * 256): by kind, plain or strong, and grey value."""
    grey = np.arange(256)[:, None]
    colours = np.empty((len(Kind), 2, 256, 3))
    for kind, (_, colour, *shares) in _LOOKS.items():
        for strong, share in enumerate(shares):
            colours[kind, strong] = (1 - share) * grey + share * np.array(colour)
    colours[Kind.NO_TILE, 0] = 240, 241, 243  # pale stripes on pale ground: no seismic looks so, a black tile would
    return np.ascontiguousarray(np.rint(colours).astype(np.uint8).reshape(-1, 3).T)


def _panels(change: ChangedTile, with_truth: bool, factor: int) -> list[np.ndarray]:
    """One row of before_after, each panel S * factor px wide: grey smoothly enlarged, masks pixel by pixel."""
    size = change.image.shape[0]
    grey = cv2.resize(change.image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    nothing = np.zeros((size, size), bool)
    kinds = [_kinds(False, nothing, nothing)]
    if with_truth and change.truth is None:
        kinds.append(np.full((size, size), Kind.NO_TILE, np.uint8))
    elif with_truth:
        kinds.append(_kinds(True, change.truth, change.truth))
    kinds += [_kinds(False, change.before, change.before), _kinds(False, change.before, change.after)]
    panels = [_paint(grey, kind.repeat(factor, 0).repeat(factor, 1), len(grey)) for kind in kinds]
    if with_truth and change.truth is None:
        _write(panels[1], ["not known"], (len(grey) - _LINE_PX) // 2, (len(grey) - _text_px("not known")) // 2)
    return panels


def _caption(change: ChangedTile) -> list[str]:
    added, removed = (change.after & ~change.before).sum(), (change.before & ~change.after).sum()
    lines = [change.tile, ", ".join(change.rules), f"+{added:,} px, -{removed:,} px"]
    if change.truth is not None:
        old, new = (tile_scores(change.truth[None], mask[None])[0] for mask in (change.before, change.after))
        lines.append(f"score {old:.1f} -> {new:.1f}")
    return [line for line in lines if line]


def _legend(kinds: Sequence[Kind], width: int) -> np.ndarray:
    """A band of swatches over a piece of seismic-like grey, each with its name; as many lines as it takes."""
    height, swatch_px = _SWATCH_PX
    depth, along = np.mgrid[:height, :swatch_px]
    grey = np.rint(127 + 70 * np.sin((depth + 4 * np.sin(along / 9)) * 0.9)).astype(np.uint8)
    places: list[tuple[int, int]] = []
    line, left = 0, _GAP_PX
    for kind in kinds:
        needed = swatch_px + _GAP_PX // 2 + _text_px(_LOOKS[kind][0]) + 2 * _GAP_PX
        if left > _GAP_PX and left + needed > width:
            line, left = line + 1, _GAP_PX
        places.append((line, left))
        left += needed
    band = _blank((line + 1) * (height + _GAP_PX // 2) + 2 * _GAP_PX, width)
    for kind, (line, left) in zip(kinds, places, strict=True):
        top = _GAP_PX + line * (height + _GAP_PX // 2)
        _paste(band, _paint(grey, np.full_like(grey, kind), 101), top, left)
        _write(band, [_LOOKS[kind][0]], top, left + swatch_px + _GAP_PX // 2)
    return band


def _fit(picture: np.ndarray, cell_px: int) -> np.ndarray:
    """Scale a picture so that its longer edge is ``cell_px``, or as near as the largest enlargement allows."""
    height, width = picture.shape[:2]
    scale = min(cell_px / max(height, width), _MAX_ENLARGEMENT)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _blank(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), _PAPER, np.uint8)


def _paste(canvas: np.ndarray, picture: np.ndarray, top: int, left: int) -> None:
    """Lay a picture on a canvas, which changes."""
    canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture


def _write(canvas: np.ndarray, lines: Sequence[str], top: int, left: int) -> None:
    """Write lines of text on a canvas, which changes."""
    for i, line in enumerate(lines):
        cv2.putText(canvas, line, (left, top + i * _LINE_PX + 19), *_FONT, _INK, 1, cv2.LINE_AA)


def _text_px(text: str) -> int:
    return cv2.getTextSize(text, *_FONT, 1)[0][0]


def _wrap(text: str, width: int) -> list[str]:
    """Break a text between words into lines of at most ``width`` px; a longer word gets a line of its own."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and _text_px(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
