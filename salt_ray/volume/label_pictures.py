"""Pictures of labelled lines: what their colours mean, on the samples and traces of a volume.

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

#: What a colour may stand for.
MEANINGS = {"salt": 1, "none": 0}
#: Largest difference of a channel to a named colour: pixels that smoothing has mixed of two colours are not labelled.
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
        found: int8 (H, W) of each line that has a picture, by direction and index: 1 salt, 0 none, -1 not labelled.
        lost: the colours, as they were named, that no picture has.
        frequent: the most frequent ones of the first picture.
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
    """Labels from pictures that show whole lines, samples downwards: inline_339.png, crossline_512.png.

    A picture of another size is brought to the line's by its nearest pixels. Pixels of any other colour, transparent
    ones among them, are not labelled.

    Args:
        volume: the amplitudes.
        path: a picture, or a folder of them; that of a 2D line may have any name.
        colours: ``salt=#ff0000`` or ``none=#0000ff``; of each as many as there are.

    Raises:
        VolumeError: a picture cannot be read, or is of no line of the volume; a colour is malformed.
    """
    meant = _colours(path, colours)
    files = [path]
    if path.is_dir():
        files = [
            file for file in sorted(path.iterdir()) if is_picture(file) and not is_litter(file.name)
        ]
    if not files:
        raise _error(path, "holds no picture (PNG or TIFF)", "name the folder in which the pictures are")
    found: dict[tuple[str, int], np.ndarray] = {}
    seen = np.zeros(len(meant), bool)
    resized = 0
    for file in files:
        place = _place(volume, file)
        if place in found:
            raise _error(file, "is of a line that another picture shows too", "remove one of the two")
        codes = coded(_pixels(file), meant)
        seen |= np.isin(np.arange(len(meant)), codes)
        shape = volume.traces.samples, len(along(volume.geometry.traces, line_at(volume.geometry, *place)))
        resized += codes.shape != shape
        labels = np.array([*(meaning for meaning, _ in meant), UNLABELLED], np.int8)
        found[place] = labels[nearest(codes, shape)]
    lost = frozenset(text for text, there in zip(colours, seen, strict=True) if not there)
    said = [f"assumed: each of {len(files):,} pictures shows a whole line, from its first sample and trace to its last"]
    if resized:
        said.append(f"found: {resized:,} of {len(files):,} pictures have another size than their lines: nearest pixels")
    return PictureLabels(volume, found, lost, _frequent(files[0]), said)


def check_colours(path: Path, found: Sequence[PictureLabels]) -> None:
    """Make sure that every colour that was named is in a picture.

    Args:
        path: the pictures.
        found: the labels of all volumes that these are of.

    Raises:
        VolumeError: none has one.
    """
    if lost := frozenset.intersection(*(one.lost for one in found)):
        what = f"no picture has the colour {' or '.join(sorted(lost))}; the most frequent are {found[0].frequent}"
        raise _error(path, what, "name the pictures' own colours with --colour")


def coded(pixels: np.ndarray, colours: Colours) -> np.ndarray:
    """Which of the colours each pixel has, int64 (h, w): the nearest within ``TOLERANCE``; -1 where none is.

    Args:
        pixels: uint8 (h, w, 4): red, green, blue and opacity.
        colours: what they mean, and red, green and blue of each.
    """
    apart = np.stack([np.abs(pixels[..., :3].astype(np.int16) - np.int16(rgb)).max(axis=2) for _, rgb in colours])
    codes = apart.argmin(axis=0)
    codes[(apart.min(axis=0) > TOLERANCE) | (pixels[..., 3] < _OPAQUE)] = -1
    return codes


def nearest(codes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """An array (h, w) in another shape (H, W), of its nearest pixels; one of that shape stays as it is."""
    rows, columns = ((2 * np.arange(n) + 1) * old // (2 * n) for n, old in zip(shape, codes.shape, strict=True))
    return codes[rows[:, None], columns]


def _colours(path: Path, colours: Sequence[str]) -> Colours:
    found = []
    for text in colours:
        match = _COLOUR.fullmatch(text)
        if match is None or match[1] not in MEANINGS:
            raise _error(path, f"--colour {text} names no colour", "as in --colour salt=#ff0000 --colour none=#0000ff")
        rgb = bytes.fromhex(match[2])
        found.append((MEANINGS[match[1]], (rgb[0], rgb[1], rgb[2])))
    if 1 not in [meaning for meaning, _ in found]:
        raise _error(path, "is a picture, whose colours mean nothing yet", "say which is salt: --colour salt=#ff0000")
    return found


def _place(volume: Volume, file: Path) -> tuple[str, int]:
    """Direction and index of the line that a picture shows."""
    geometry = volume.geometry
    if geometry.is_line:
        return "inline", 0
    match = _NAME.fullmatch(file.stem)
    if match is None:
        raise _error(file, "has a name that says no line", "rename it: inline_339.png or crossline_512.png")
    direction = "inline" if match[1].lower() in ("inline", "il") else "crossline"
    axis = geometry.inlines if direction == "inline" else geometry.crosslines
    (index,) = numbered(axis, [int(match[2])])
    if index < 0:
        what = f"is of {direction} {int(match[2])}, and {volume.path.name} has {direction}s {axis}"
        raise _error(file, what, "rename it, or remove it")
    return direction, int(index)


def _pixels(file: Path) -> np.ndarray:
    try:
        with Image.open(file) as image:
            return np.asarray(image.convert("RGBA"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise _error(file, f"cannot be read as a picture ({error})", "get it again, or save it as PNG") from error


def _frequent(file: Path) -> str:
    """The colours that most pixels of a picture have."""
    values, counts = np.unique(_pixels(file)[..., :3].reshape(-1, 3), axis=0, return_counts=True)
    most = values[np.argsort(-counts, kind="stable")[:4]]
    return ", ".join(f"#{bytes(rgb).hex()}" for rgb in most) + f" (of {file.name})"


def _error(path: Path, what: str, remedy: str) -> VolumeError:
    return VolumeError([Problem(str(path), what, remedy)])
