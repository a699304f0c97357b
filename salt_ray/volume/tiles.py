"""Cuts a survey of windows from labelled lines of a volume, or from 2D lines, for the commands that train on tiles."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from salt_ray.errors import PROGRAM
from salt_ray.metric import UNLABELLED
from salt_ray.storage import new_folder
from salt_ray.survey.layout import MASKS, TRAIN, WINDOWS_JSON
from salt_ray.survey.window import APART, NOT_LABELLED, SAME_SCALE, Line, Window, Windows
from salt_ray.volume.label_pictures import PictureLabels, check_colours, picture_labels
from salt_ray.volume.labels import Labels, choose_lines, label_volume
from salt_ray.volume.lines import amplitude_range, line_name, read_line
from salt_ray.volume.picks import picked_labels
from salt_ray.volume.picture import is_picture
from salt_ray.volume.problem import Problem, VolumeError
from salt_ray.volume.reading import Reading
from salt_ray.volume.scan import open_volume
from salt_ray.volume.volume import Volume
from salt_ray.volume.windows import cut

#: Margin around a window for random crops, as for tiles padded to 148 px with crops of 128 px.
CONTEXT_PX = 10
_NO_NAME = re.compile(r"[^A-Za-z0-9_-]")
#: Characters of a file name used for its line: with the window's position an id may have 100 (``survey.layout.ID``).
_LONGEST_NAME = 70
Files = dict[str, Path]


class Labelled(NamedTuple):
    """A line to be cut into windows.

    Attributes:
        name: its folder in the survey.
        place: its position on the grid of the survey, which is that of its volume; several 2D lines are far apart.
        line: its position on the grid of its volume.
    """

    name: str
    place: Line
    volume: Volume
    labels: Labels
    line: Line


def cut_labelled(
    files: Path | Sequence[Path],
    to: Path,
    reading: Reading = Reading(),  # noqa: B008 - it is frozen
    *,
    labels: Path | None = None,
    labels_reading: Reading = Reading(),  # noqa: B008
    top: Path | None = None,
    base: Path | None = None,
    salt: float | None = None,
    unlabelled: float | None = None,
    colours: Sequence[str] = (),
    ranges: Sequence[tuple[str, str]] = (),
    **how: Any,
) -> int:
    """Cut a survey of windows from files.

    Args:
        files: the amplitudes: one file, or several 2D lines. For several, ``labels``, ``top`` and ``base`` are folders
            with one file per line, of the same name with any suffix.
        to: the folder of the survey.
        reading: how to read the amplitudes; its line numbers, interval and fill also apply to the labels.
        labels: a file of labels with the values ``salt`` and ``unlabelled`` (``labels.label_volume``), or one or more
            pictures with ``colours`` (``label_pictures.picture_labels``).
        labels_reading: byte order, format and samples of SEG-Y files of labels.
        top, base: horizons instead of ``labels`` (``picks.picked_labels``).
        ranges: ranges of lines (``labels.choose_lines``); empty: all labelled lines.
        how: arguments of ``write_tiles``.

    Returns:
        The number of windows written.

    Raises:
        VolumeError: a file cannot be used, the files do not match, or as for ``write_tiles``.
    """
    files = [files] if isinstance(files, Path) else list(files)
    if (labels is None) == (top is None):
        raise _error(
            files[0], "needs exactly one kind of labels", "give --labels FILE, or --top FILE and optionally --base FILE"
        )
    given = {"labels": labels, "top": top, "base": base}
    given = {option: path for option, path in given.items() if path is not None}
    each = [given] if len(files) == 1 else [_own(file, given) for file in files]
    own = [one["labels"] for one in each if "labels" in one]
    pictures = [path for path in own if path.is_dir() or is_picture(path)]
    values = len(pictures) < len(own)
    its = replace(
        reading,
        byte_order=labels_reading.byte_order,
        format=labels_reading.format,
        samples=labels_reading.samples,
    )
    options = {
        "--base": (base, top is not None, "--top"),
        "--salt": (salt, values, "--labels with values"),
        "--unlabelled": (unlabelled, values, "--labels with values"),
        "--colour": (colours or None, pictures, "--labels with pictures"),
        "--labels-byte-order": (labels_reading.byte_order, values, "--labels with values"),
        "--labels-format": (labels_reading.format, values, "--labels with values"),
        "--labels-samples": (labels_reading.samples, values, "--labels with values"),
    }
    for option, (value, belongs, where) in options.items():
        if value is not None and not belongs:
            raise _error(labels or top, f"cannot be used with {option}, which needs {where}", f"leave {option} out")
    for path in (*files, *(path for one in each for path in one.values())):
        if not (path.is_file() or (path in pictures and path.is_dir())):
            raise _error(path, "does not exist", "correct the path")
    volumes = [open_volume(file, reading) for file in files]
    if len(volumes) > 1:
        _check_lines(volumes)
    found: list[Labels] = []
    for volume, one in zip(volumes, each, strict=True):
        if "top" in one:
            found.append(picked_labels(volume, one["top"], one.get("base")))
        elif one["labels"] in pictures:
            found.append(picture_labels(volume, one["labels"], colours))
        else:
            found.append(label_volume(volume, one["labels"], its, salt, unlabelled))
    if pictures:
        check_colours(labels, [one for one in found if isinstance(one, PictureLabels)])
    sections = volumes[0].geometry.is_line  # and so are the others
    chosen = _sections(volumes, found, ranges) if sections else _lines(volumes[0], found[0], ranges)
    if not chosen:
        raise _unlabelled(volumes[0])
    return write_tiles(chosen, to, **how)


def _own(file: Path, given: Files) -> Files:
    """The label files with the same name as a line, one from each folder.

    Raises:
        VolumeError: there is none, or more than one.
    """
    own = {}
    for option, folder in given.items():
        if not folder.is_dir():
            what = f"is not a folder, but --{option} needs one file for each of several lines"
            raise _error(folder, what, f"put them in a folder: {file.stem}{folder.suffix} for {file.name}")
        found = [path for path in sorted(folder.iterdir()) if path.stem == file.stem and path.suffix != ".json"]
        if len(found) != 1:
            names = ", ".join(path.name for path in found)
            what = f"holds {names}, which all match {file.name}" if found else f"holds no file {file.stem}.*"
            remedy = "keep one of them" if found else f"add it, or leave {file.name} out"
            raise _error(folder, what, remedy)
        (own[option],) = found
    return own


def _check_lines(volumes: Sequence[Volume]) -> None:
    """Check that files are 2D lines with the same pixel size and different names.

    Raises:
        VolumeError: they are not.
    """
    names: dict[str, Path] = {}
    for volume in volumes:
        if not volume.geometry.is_line:
            remedy = "cut each volume separately, and join blocks of one volume first (docs/volumes.md)"
            raise _error(volume.path, "is a volume, but several files must be 2D lines", remedy)
        other = names.setdefault(_name(volume.path).lower(), volume.path)
        if other is not volume.path:
            raise _error(
                volume.path, f"would have the same name in the survey ({_name(other)}) as {other}", "rename one of them"
            )
    for name, sides in (
        ("sample interval", [volume.interval for volume in volumes]),
        ("trace spacing", [_trace_spacing(volume) for volume in volumes]),
    ):
        known = [(side, volume.path) for side, volume in zip(sides, volumes, strict=True) if side is not None]
        for side, path in known:
            if abs(side / known[0][0] - 1) > SAME_SCALE:
                what = f"has {name} {side:.4g}, but {known[0][1].name} has {known[0][0]:.4g}"
                remedy = "resample one of them, or cut lines of different scale into separate surveys"
                raise _error(path, what, remedy)


def _trace_spacing(line: Volume) -> float | None:
    spacing = None if line.coordinates is None else line.coordinates.spacing
    return None if spacing is None else spacing[1]


def _name(path: Path) -> str:
    """Name of the line in a file."""
    return _NO_NAME.sub("_", path.stem)[:_LONGEST_NAME]


def _lines(volume: Volume, labels: Labels, ranges: Sequence[tuple[str, str]]) -> list[Labelled]:
    """The chosen lines of a volume, inlines first; by default those that are labelled."""
    lines = choose_lines(volume, ranges) or labels.lines()
    named = {(line.direction != "inline", line.index): line for line in lines}
    chosen = [named[place] for place in sorted(named)]
    return [Labelled(line_name(line, volume.geometry), line, volume, labels, line) for line in chosen]


def _sections(volumes: Sequence[Volume], found: Sequence[Labels], ranges: Sequence[tuple[str, str]]) -> list[Labelled]:
    """2D lines from separate files, with distinct positions so that window ids are unique."""
    chosen = []
    for number, (volume, labels) in enumerate(zip(volumes, found, strict=True)):
        for one in _lines(volume, labels, ranges):
            place = one.line.model_copy(update={"number": number, "index": number * APART})
            chosen.append(one._replace(name=_name(volume.path), place=place))
    return chosen


def write_tiles(
    lines: Sequence[Labelled],
    to: Path,
    *,
    window_px: int = 128,
    step: int | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> int:
    """Cut windows from labelled lines and write them to a new folder, atomically.

    Args:
        lines: lines of one volume, or 2D lines.
        to: a folder that does not exist or is empty.
        window_px: edge of a window, a multiple of 32.
        step: stride between windows in px; None: half a window.
        report: called with each line of output.

    Returns:
        The number of windows written.

    Raises:
        VolumeError: no line is labelled, or no pixel is salt; a value is NaN or infinite; the folder is not empty; or a
            size is out of range.
    """
    step = window_px // 2 if step is None else step
    if window_px < 32 or window_px % 32:
        raise _error(
            to, f"windows of {window_px} px do not fit the network", "choose a multiple of 32, such as --window 128"
        )
    if not 0 < step <= window_px:
        raise _error(to, f"a step of {step} px is not between 1 and {window_px} px", "choose another --step")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise _error(to, "exists and is not empty", "choose another --to, or delete it first")
    window = _window(lines, window_px, report)
    amplitudes = amplitude_range(*dict.fromkeys(one.volume for one in lines))
    for said in dict.fromkeys(said for one in lines for said in one.labels.said):
        report(said)
    to = to.absolute()
    with new_folder(to) as temporary:
        count, cut_from = _write(temporary, lines, window, step, report)
        content = Windows(window=window, amplitudes=amplitudes, lines=cut_from).model_dump_json(indent=1)
        (temporary / WINDOWS_JSON).write_text(content)
    report(f"{count:,} windows of {window_px} px from {len(cut_from):,} lines: {to}")
    report(f"amplitudes from {amplitudes} are mapped to greys; train with: {PROGRAM} pipeline --data {to}")
    return count


def _window(lines: Sequence[Labelled], window_px: int, report: Callable[[str], None]) -> Window:
    """Properties shared by all windows; reports when trace spacing differs between the two directions."""
    places = [one.volume.coordinates for one in lines if one.volume.coordinates is not None]
    spacings = [place.spacing[::-1] for place in places if place.spacing is not None]
    along_inlines, along_crosslines = spacings[0] if spacings else (None, None)
    directions = {one.place.direction for one in lines}
    known = along_inlines is not None and along_crosslines is not None
    if known and len(directions) == 2 and abs(along_inlines / along_crosslines - 1) > SAME_SCALE:
        report(
            f"traces are {along_inlines:g} apart along inlines and {along_crosslines:g} along crosslines, so "
            "their windows differ in scale (choose one direction with --inlines or --crosslines)"
        )
    along, across = (along_inlines, along_crosslines)[:: 1 if "inline" in directions else -1]
    return Window(
        window_px=window_px,
        context_px=CONTEXT_PX,
        trace_spacing=along,
        sample_interval=lines[0].volume.interval,
        line_spacing=across,
    )


def _write(
    root: Path, lines: Sequence[Labelled], window: Window, step: int, report: Callable[[str], None]
) -> tuple[int, dict[str, Line]]:
    """Write all windows; returns their number and their lines by name."""
    count, salt, cut_from = 0, 0, {}
    for name, place, volume, labels, line in lines:
        images, masks = root / TRAIN / name, root / MASKS / name
        before = count
        for one in cut(read_line(volume, line), labels.on(line), window, step):
            if count == before:
                images.mkdir(parents=True)
                masks.mkdir(parents=True)
                cut_from[name] = place
            stem = f"t{one.trace:04d}-s{one.sample:04d}"
            np.save(images / f"{stem}.npy", one.amplitudes)
            mask = np.where(one.labels == UNLABELLED, NOT_LABELLED, one.labels).astype(np.uint8)
            if not cv2.imwrite(str(masks / f"{stem}.png"), mask):
                raise OSError(f"cannot write {masks / stem}.png")
            salt += np.count_nonzero(one.labels > 0)
            count += 1
        report(f"{name}: {count - before:,} windows" + " (no labelled pixel)" * (count == before))
    if not count:
        raise _unlabelled(lines[0].volume)
    if not salt:
        remedy = "choose lines with salt, or give its value with --salt"
        raise _error(lines[0].volume.path, "has no salt on the chosen lines", remedy)
    return count, cut_from


def _unlabelled(volume: Volume) -> VolumeError:
    what = "has no labelled pixel on the chosen lines"
    return _error(volume.path, what, "label some of them, or choose others with --inlines or --crosslines")


def _error(path: Path, what: str, remedy: str) -> VolumeError:
    return VolumeError([Problem(str(path), what, remedy)])
