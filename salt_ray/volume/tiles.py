"""A survey of windows, cut from the labelled lines of a volume: what the commands for tiles train on."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from salt_ray.errors import PROGRAM
from salt_ray.metric import UNLABELLED
from salt_ray.survey.layout import MASKS, TRAIN, WINDOWS_JSON
from salt_ray.survey.window import NOT_LABELLED, SAME_SCALE, Line, Window, Windows
from salt_ray.volume.labels import Labels, choose_lines, label_volume
from salt_ray.volume.lines import amplitude_range, line_name, read_line
from salt_ray.volume.picks import picked_labels
from salt_ray.volume.pictures import SUFFIXES, picture_labels
from salt_ray.volume.problem import Problem, VolumeError
from salt_ray.volume.reading import Reading
from salt_ray.volume.scan import open_volume
from salt_ray.volume.volume import Volume
from salt_ray.volume.windows import cut

#: Around a window on each side, in which random crops move: as with tiles that are padded from a crop of 128 to 148 px.
CONTEXT_PX = 10


def cut_labelled(
    file: Path,
    to: Path,
    reading: Reading = Reading(),  # noqa: B008 - it is frozen
    *,
    labels: Path | None = None,
    top: Path | None = None,
    base: Path | None = None,
    salt: float | None = None,
    unlabelled: float | None = None,
    colours: Sequence[str] = (),
    ranges: Sequence[tuple[str, str]] = (),
    **how: Any,
) -> int:
    """Make a survey of windows from files.

    Args:
        file: the amplitudes.
        to: the folder of the survey.
        reading: what is said of the amplitudes; of it the labels have the numbers, the interval and what is no number.
        labels: a file of labels, in which ``salt`` and ``unlabelled`` are values (``labels.label_volume``); or a
            picture or a folder of them, in which ``colours`` are (``pictures.picture_labels``); or
        top, base: horizons (``picks.picked_labels``).
        ranges: of lines, as ``labels.choose_lines``; none: those that are labelled.
        how: as for ``write_tiles``.

    Returns:
        How many windows were written.

    Raises:
        VolumeError: a file cannot be used, the files do not fit together, or as ``write_tiles``.
    """
    if (labels is None) == (top is None):
        raise _error(file, "needs labels in one way", "--labels FILE, or --top FILE and perhaps --base FILE")
    pictures = labels is not None and (labels.is_dir() or labels.suffix.lower() in SUFFIXES)
    options = {
        "--base": (base, top is not None, "--top"),
        "--salt": (salt, labels is not None and not pictures, "--labels with values"),
        "--unlabelled": (unlabelled, labels is not None and not pictures, "--labels with values"),
        "--colour": (colours or None, pictures, "--labels with pictures"),
    }
    for option, (given, belongs, where) in options.items():
        if given is not None and not belongs:
            raise _error(labels or top, f"is no place for {option}, which belongs to {where}", f"leave {option} out")
    for path in (file, labels, top, base):
        if path is not None and not (path.is_file() or (pictures and path == labels and path.is_dir())):
            raise _error(path, "there is no such file", "name a file")
    volume = open_volume(file, reading)
    if pictures:
        found: Labels = picture_labels(volume, labels, colours)
    elif labels is not None:
        its = replace(reading, byte_order=None, format=None, samples=None)
        found = label_volume(volume, labels, its, salt, unlabelled)
    else:
        found = picked_labels(volume, top, base)
    return write_tiles(volume, found, to, lines=choose_lines(volume, ranges), **how)


def write_tiles(
    volume: Volume,
    labels: Labels,
    to: Path,
    *,
    lines: Sequence[Line] = (),
    window_px: int = 128,
    step: int | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> int:
    """Cut windows from labelled lines; the folder appears whole or not at all.

    Args:
        volume: the amplitudes.
        labels: what is labelled of them.
        to: a folder that is not there yet, or empty.
        lines: those that are cut; none: all that are labelled (``Labels.lines``).
        window_px: edge of a window, a multiple of 32.
        step: from one window to the next, in px; None: half a window.
        report: takes a line of text at a time.

    Returns:
        How many windows were written.

    Raises:
        VolumeError: no line is labelled, or no pixel is salt; a value is NaN or infinite; the folder holds something;
            or the sizes make no sense.
    """
    step = window_px // 2 if step is None else step
    if window_px < 32 or window_px % 32:
        raise _error(
            to, f"windows of {window_px} px cannot be seen by a network", "choose a multiple of 32: --window 128"
        )
    if not 0 < step <= window_px:
        raise _error(to, f"a step of {step} px leaves gaps between windows", f"choose 1 to {window_px}: --step")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise _error(to, "exists and is not empty", "give another folder (--to), or delete it first")
    named = {(line.direction != "inline", line.index): line for line in lines or labels.lines()}
    chosen = [named[place] for place in sorted(named)]
    window = _window(volume, chosen, window_px, report)
    amplitudes = amplitude_range(volume)
    for said in labels.said:
        report(said)
    to = to.absolute()
    to.parent.mkdir(parents=True, exist_ok=True)
    temporary = to.with_name(f".{to.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        count, cut_from = _write(temporary, volume, labels, chosen, window, step, report)
        content = Windows(window=window, amplitudes=amplitudes, lines=cut_from).model_dump_json(indent=1)
        (temporary / WINDOWS_JSON).write_text(content)
        os.replace(temporary, to)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    report(f"{count:,} windows of {window_px} px from {len(cut_from):,} lines: {to}")
    report(f"amplitudes from {amplitudes} become greys; train with: {PROGRAM} pipeline --data {to}")
    return count


def _window(volume: Volume, lines: Sequence[Line], window_px: int, report: Callable[[str], None]) -> Window:
    """What all windows have in common; a line where traces are further apart in one direction than in the other."""
    spacing = None if volume.coordinates is None else volume.coordinates.spacing
    along_inlines, along_crosslines = (None, None) if spacing is None else spacing[::-1]
    directions = {line.direction for line in lines}
    known = along_inlines is not None and along_crosslines is not None
    if known and len(directions) == 2 and abs(along_inlines / along_crosslines - 1) > SAME_SCALE:
        report(
            f"traces are {along_inlines:g} apart along inlines and {along_crosslines:g} along crosslines: windows of "
            "both have different scales (--inlines or --crosslines takes one direction)"
        )
    return Window(
        window_px=window_px,
        context_px=CONTEXT_PX,
        trace_spacing=along_inlines if "inline" in directions else along_crosslines,
        sample_interval=volume.interval,
    )


def _write(
    root: Path,
    volume: Volume,
    labels: Labels,
    lines: Sequence[Line],
    window: Window,
    step: int,
    report: Callable[[str], None],
) -> tuple[int, dict[str, Line]]:
    """Write all windows; how many, and the lines that they come from, by name."""
    count, salt, cut_from = 0, 0, {}
    for line in lines:
        name = line_name(line, volume.geometry)
        images, masks = root / TRAIN / name, root / MASKS / name
        before = count
        for one in cut(read_line(volume, line), labels.on(line), window, step):
            if count == before:
                images.mkdir(parents=True)
                masks.mkdir(parents=True)
                cut_from[name] = line
            stem = f"t{one.trace:04d}-s{one.sample:04d}"
            np.save(images / f"{stem}.npy", one.amplitudes)
            mask = np.where(one.labels == UNLABELLED, NOT_LABELLED, one.labels).astype(np.uint8)
            if not cv2.imwrite(str(masks / f"{stem}.png"), mask):
                raise OSError(f"cannot write {masks / stem}.png")
            salt += np.count_nonzero(one.labels > 0)
            count += 1
        report(f"{name}: {count - before:,} windows" + " (no labelled pixel)" * (count == before))
    if not count:
        what = "has no labelled pixel on the lines that were chosen"
        raise _error(volume.path, what, "give labels of its lines, or choose others with --inlines or --crosslines")
    if not salt:
        remedy = "choose lines with salt, or say with --salt which value of the labels it is"
        raise _error(volume.path, "has no salt on the lines that were chosen", remedy)
    return count, cut_from


def _error(path: Path, what: str, remedy: str) -> VolumeError:
    return VolumeError([Problem(str(path), what, remedy)])
