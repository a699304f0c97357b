"""A synthetic survey of a volume as SEG-Y files: amplitudes, the truth, and labels of a few lines.

It has the quirks of real surveys: line numbers with a step, a rotated grid, a corner without traces, dead traces, and a
first sample that is not at 0. Written line by line, so memory does not grow with the number of inlines.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from salt_ray.survey.synthetic import SyntheticError, new_directory
from salt_ray.survey.synthetic_volume import SyntheticVolume
from salt_ray.volume.headers import Field
from salt_ray.volume.sample_format import IBM
from salt_ray.volume.writing import SegyWriting

#: Smallest and largest numbers of inlines, crosslines and samples: at least two labelled lines, at most what header
#: fields can hold.
RANGES = {"inlines": (40, 100_000), "crosslines": (40, 100_000), "samples": (64, 8_000)}
FIRST_INLINE, INLINE_STEP = 1001, 2
FIRST_CROSSLINE, CROSSLINE_STEP = 2003, 3
SPACING_M = 12.5  # between neighbouring traces, in both directions
TURNED_DEGREES = 30
ORIGIN_M = (432_000.0, 6_785_000.0)
INTERVAL_MS, START_MS = 4, 400
LABELLED_EACH, FIRST_LABELLED = 20, 10  # lines
MISSING_CORNER = 0.3  # of both sides of the grid: a triangle with 4.5 % of its area
DEAD_SHARE = 0.004  # of traces
_INT8 = 8
_CENTIMETRES = 100
_LIVE, _DEAD = 1, 2  # trace identification, bytes 29-30


def write_synthetic_volume(
    directory: Path,
    inlines: int = 120,
    crosslines: int = 160,
    samples: int = 256,
    seed: int = 0,
    report: Callable[[str], None] = lambda line: None,
) -> None:
    """Write ``amplitudes.sgy``, ``truth.sgy``, ``labels.sgy`` and ``top.csv`` to a new folder, atomically.

    Amplitudes are IBM floats. The truth is int8, 1 in salt and 0 elsewhere, for the same traces including dead ones;
    the labels are the truth of every twentieth inline only. ``top.csv`` has a row for each of the truth's traces with
    salt: inline, crossline, x and y in m, z in ms, half a sample above the first sample in salt. The same arguments
    give identical files.

    Raises:
        SyntheticError: an argument is out of range, or the folder is not empty.
    """
    for (name, (low, high)), number in zip(RANGES.items(), (inlines, crosslines, samples), strict=True):
        if not low <= number <= high:
            raise SyntheticError(f"{name} is {number}: choose {low} to {high:,}")
    if seed < 0:
        raise SyntheticError(f"seed is {seed}: it must be 0 or larger")
    earth = SyntheticVolume(crosslines, samples, seed)
    floats, masks = (SegyWriting(code, samples, INTERVAL_MS * 1000) for code in (IBM, _INT8))
    contents = {"amplitudes": "seismic amplitudes", "truth": "1 in salt, 0 elsewhere", "labels": "truth of a few lines"}
    with new_directory(directory) as folder, ExitStack() as open_files:
        amplitude_file, truth_file, label_file, top_file = (
            open_files.enter_context(open(folder / name, "wb"))
            for name in (*(f"{name}.sgy" for name in contents), "top.csv")
        )
        for file, kind in ((amplitude_file, floats), (truth_file, masks), (label_file, masks)):
            what = contents[Path(file.name).stem]
            file.write(kind.file_headers(_text(what, inlines, crosslines, samples, seed)))
        top_file.write(b"inline,crossline,x,y,z\n")
        for line in range(inlines):
            there = _has_trace(line, inlines, crosslines)
            fields = _fields(line, np.flatnonzero(there))
            amplitudes, salt = (section.T[there] for section in earth.inline(line))
            dead = np.random.default_rng([seed, line]).random(crosslines)[there] < DEAD_SHARE
            amplitudes[dead] = 0
            amplitude_file.write(floats.traces(amplitudes, {**fields, Field.KIND: np.where(dead, _DEAD, _LIVE)}))
            traces = masks.traces(salt, {**fields, Field.KIND: _LIVE})
            truth_file.write(traces)
            if line % LABELLED_EACH == FIRST_LABELLED:
                label_file.write(traces)
            np.savetxt(top_file, _top(salt, fields), fmt="%d,%d,%.2f,%.2f,%.1f")
            if (line + 1) % 100 == 0 or line + 1 == inlines:
                report(f"{line + 1:,} of {inlines:,} inlines written")


def _has_trace(line: int, inlines: int, crosslines: int) -> np.ndarray:
    """Where an inline has traces, bool (crosslines,): not in the corner of the last inlines and first crosslines."""
    from_corner = (inlines - 1 - line) / (inlines - 1) + np.arange(crosslines) / (crosslines - 1)
    return from_corner >= MISSING_CORNER


def _fields(line: int, columns: np.ndarray) -> dict[int, np.ndarray | int]:
    """Header fields with numbers and coordinates of an inline's traces; ``columns`` counts crosslines from 0."""
    cos, sin = np.cos(np.deg2rad(TURNED_DEGREES)), np.sin(np.deg2rad(TURNED_DEGREES))
    x = ORIGIN_M[0] + SPACING_M * (columns * cos - line * sin)
    y = ORIGIN_M[1] + SPACING_M * (columns * sin + line * cos)
    return {
        Field.COORDINATE_SCALAR: -_CENTIMETRES,
        Field.COORDINATE_UNIT: 1,
        Field.DELAY: START_MS,
        Field.CDP_X: np.rint(x * _CENTIMETRES),
        Field.CDP_Y: np.rint(y * _CENTIMETRES),
        Field.INLINE: FIRST_INLINE + line * INLINE_STEP,
        Field.CROSSLINE: FIRST_CROSSLINE + columns * CROSSLINE_STEP,
    }


def _top(salt: np.ndarray, fields: dict[int, np.ndarray | int]) -> np.ndarray:
    """Rows of ``top.csv`` for the traces of an inline, float64 (n, 5); salt is bool (traces, samples)."""
    first = salt.argmax(1)
    z = START_MS + INTERVAL_MS * np.maximum(first - 0.5, 0)
    x, y = (fields[place] / _CENTIMETRES for place in (Field.CDP_X, Field.CDP_Y))
    columns = np.broadcast_arrays(fields[Field.INLINE], fields[Field.CROSSLINE], x, y, z)
    return np.stack(columns, axis=1)[salt.any(1)]


def _text(what: str, inlines: int, crosslines: int, samples: int, seed: int) -> list[str]:
    last_inline = FIRST_INLINE + (inlines - 1) * INLINE_STEP
    last_crossline = FIRST_CROSSLINE + (crosslines - 1) * CROSSLINE_STEP
    return [
        "Made by salt-ray: a synthetic survey, measured nowhere",
        f"Content: {what}; seed {seed}",
        f"Inlines {FIRST_INLINE} to {last_inline} in steps of {INLINE_STEP}: bytes 189-192",
        f"Crosslines {FIRST_CROSSLINE} to {last_crossline} in steps of {CROSSLINE_STEP}: bytes 193-196",
        f"X and Y in m: bytes 181-188, scalar in bytes 71-72; turned by {TURNED_DEGREES} degrees",
        f"{samples} samples at {INTERVAL_MS} ms from {START_MS} ms on",
    ]
