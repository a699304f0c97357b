"""Labels from images of lines: colours mapped to labels on the samples and traces of a volume.

Letters: H samples and W traces of a line; h, w edges of its picture in px.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from salt_ray.metric import UNLABELLED
from salt_ray.survey.layout import is_litter
from salt_ray.survey.window import Line
from salt_ray.volume.lines import along, line_at, numbered
from salt_ray.volume.picture import is_picture
from salt_ray.volume.problem import Problem, VolumeError
from salt_ray.volume.volume import Volume

#: What a colour may mean.
MEANINGS = {"salt": 1, "none": 0}
#: Largest difference per channel to a given colour: pixels blended by anti-aliasing stay unlabelled.
TOLERANCE = 48
_COLOUR = re.compile(r"(\w+)=#?([0-9A-Fa-f]{6})")
_NAME = re.compile(r"(inline|il|crossline|xl)[ _-]*(-?\d+)", re.IGNORECASE)
_OPAQUE = 255

Colours = Sequence[tuple[int, tuple[int, int, int]]]


@dataclass(frozen=True, eq=False)
class PictureLabels:
    """Labels from pictures of lines.

    Attributes:
        volume: the amplitudes.
        found: int8 (H, W) for each line with a picture, by direction and index: 1 salt, 0 none, -1 not labelled.
        lost: the given colours that no picture contains.
        frequent: the most frequent colours of the first picture.
    """

    volume: Volume
    found: Mapping[tuple[str, int], np.ndarray]
    lost: frozenset[str]
    frequent: str
    said: list[str]

    def lines(self) -> list[Line]:
        return [line_at(self.volume.geometry, *place) for place in self.found]

    def on(self, line: Line) -> np.ndarray:
        shape = self.volume.traces.samples, len(along(self.volume.geometry.traces, line))
        return self.found.get((line.direction, line.index), np.full(shape, UNLABELLED, np.int8))


def picture_labels(volume: Volume, path: Path, colours: Sequence[str]) -> PictureLabels:
    """Labels from pictures of whole lines, with samples downwards: inline_339.png, crossline_512.png.

    A picture of another size is resized to the line's with nearest-neighbour sampling. Pixels of other colours, and
    transparent ones, are not labelled.

    Args:
        volume: the amplitudes.
        path: a picture, or a folder of them; the picture of a 2D line may have any name.
        colours: ``salt=#ff0000`` or ``none=#0000ff``, any number of each.

    Raises:
        VolumeError: a picture cannot be read, or does not match a line of the volume; a colour is malformed.
    """
    meant = _colours(path, colours)
    files = [path]
    if path.is_dir():
        files = [file for file in sorted(path.iterdir()) if is_picture(file) and not is_litter(file.name)]
    if not files:
        raise _error(path, "holds no picture (PNG or TIFF)", "give the folder with the pictures")
    found: dict[tuple[str, int], np.ndarray] = {}
    seen = np.zeros(len(meant), bool)
    resized = 0
    for file in files:
        place = _place(volume, file)
        if place in found:
            raise _error(file, "shows the same line as another picture", "remove one of them")
        codes = coded(_pixels(file), meant)
        seen |= np.isin(np.arange(len(meant)), codes)
        shape = volume.traces.samples, len(along(volume.geometry.traces, line_at(volume.geometry, *place)))
        resized += codes.shape != shape
        labels = np.array([*(meaning for meaning, _ in meant), UNLABELLED], np.int8)
        found[place] = labels[nearest(codes, shape)]
    lost = frozenset(text for text, there in zip(colours, seen, strict=True) if not there)
    said = [f"assumed: each of {len(files):,} pictures shows a whole line, from its first sample and trace to its last"]
    if resized:
        said.append(f"found: {resized:,} of {len(files):,} pictures differ in size from their lines and were resized")
    return PictureLabels(volume, found, lost, _frequent(files[0]), said)


def check_colours(path: Path, found: Sequence[PictureLabels]) -> None:
    """Check that every given colour occurs in a picture.

    Args:
        path: the pictures.
        found: the labels read from them, for each volume.

    Raises:
        VolumeError: a colour occurs in none of them.
    """
    if lost := frozenset.intersection(*(one.lost for one in found)):
        what = f"no picture has the colour {' or '.join(sorted(lost))}; the most frequent are {found[0].frequent}"
        raise _error(path, what, "give colours from the pictures with --colour")


def coded(pixels: np.ndarray, colours: Colours) -> np.ndarray:
    """Index of each pixel's colour, int64 (h, w): the nearest within ``TOLERANCE``; -1 where there is none.

    Args:
        pixels: uint8 (h, w, 4): red, green, blue and opacity.
        colours: the meaning and the RGB values of each.
    """
    apart = np.stack([np.abs(pixels[..., :3].astype(np.int16) - np.int16(rgb)).max(axis=2) for _, rgb in colours])
    codes = apart.argmin(axis=0)
    codes[(apart.min(axis=0) > TOLERANCE) | (pixels[..., 3] < _OPAQUE)] = -1
    return codes


def nearest(codes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize an array (h, w) to (H, W) with nearest-neighbour sampling."""
    rows, columns = ((2 * np.arange(n) + 1) * old // (2 * n) for n, old in zip(shape, codes.shape, strict=True))
    return codes[rows[:, None], columns]


def _colours(path: Path, colours: Sequence[str]) -> Colours:
    found = []
    for text in colours:
        match = _COLOUR.fullmatch(text)
        if match is None or match[1] not in MEANINGS:
            raise _error(path, f"--colour {text} is not a colour", "write --colour salt=#ff0000 --colour none=#0000ff")
        rgb = bytes.fromhex(match[2])
        found.append((MEANINGS[match[1]], (rgb[0], rgb[1], rgb[2])))
    if 1 not in [meaning for meaning, _ in found]:
        raise _error(path, "is a picture, and no colour is defined as salt", "define one: --colour salt=#ff0000")
    return found


def _place(volume: Volume, file: Path) -> tuple[str, int]:
    """Direction and index of the line in a picture."""
    geometry = volume.geometry
    if geometry.is_line:
        return "inline", 0
    match = _NAME.fullmatch(file.stem)
    if match is None:
        raise _error(file, "has no line number in its name", "rename it: inline_339.png or crossline_512.png")
    direction = "inline" if match[1].lower() in ("inline", "il") else "crossline"
    axis = geometry.inlines if direction == "inline" else geometry.crosslines
    (index,) = numbered(axis, [int(match[2])])
    if index < 0:
        what = f"is for {direction} {int(match[2])}, but {volume.path.name} has {direction}s {axis}"
        raise _error(file, what, "rename or remove it")
    return direction, int(index)


def _pixels(file: Path) -> np.ndarray:
    try:
        with Image.open(file) as image:
            return np.asarray(image.convert("RGBA"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise _error(file, f"cannot be read as a picture ({error})", "restore it, or save it as PNG") from error


def _frequent(file: Path) -> str:
    """The most frequent colours of a picture."""
    values, counts = np.unique(_pixels(file)[..., :3].reshape(-1, 3), axis=0, return_counts=True)
    most = values[np.argsort(-counts, kind="stable")[:4]]
    return ", ".join(f"#{bytes(rgb).hex()}" for rgb in most) + f" (in {file.name})"


def _error(path: Path, what: str, remedy: str) -> VolumeError:
    return VolumeError([Problem(str(path), what, remedy)])
