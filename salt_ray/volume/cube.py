"""A cube in an .npy file (inline, crossline, sample), with its geometry in an optional JSON file next to it.

``cube.npy`` belongs to ``cube.json``::

    {"inlines": {"first": 100, "step": 2}, "crosslines": {"first": 300, "step": 1}, "interval": 4.0, "start": 0.0}

Every field is optional. Numbers default to 1, 2, 3, …; the interval has no default and must be given somewhere.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.lib import format as npy_format
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from salt_ray.volume.geometry import Geometry, Numbering
from salt_ray.volume.problem import Problem, VolumeError
from salt_ray.volume.reading import Reading
from salt_ray.volume.sample_format import SampleFormat
from salt_ray.volume.traces import Traces, not_finite
from salt_ray.volume.volume import Volume, judged_values

_HEADERS = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Axis(_Strict):
    first: int = 1
    step: Annotated[int, Field(gt=0)] = 1


class CubeGeometry(_Strict):
    """Content of a cube's JSON file; interval and start in ms, or in the unit of depth."""

    inlines: _Axis = _Axis()
    crosslines: _Axis = _Axis()
    interval: Annotated[float, Field(gt=0)] | None = None
    start: float = 0.0


def describe_cube(path: Path, reading: Reading) -> Volume:
    """Describe an .npy cube; a section (trace, sample) is a cube of one line.

    Raises:
        VolumeError: the file is not a numeric array with two or three axes in C order, it is truncated, or its JSON is
            invalid.
    """
    traces, shape = _traces(path)
    geometry = _geometry(path)
    problems = []
    chosen = traces.sampled()
    values = np.concatenate([traces.read(i, i + 1) for i in chosen])
    if not np.isfinite(values).all() and not reading.fill:
        trace, sample = np.argwhere(~np.isfinite(values))[0]
        problems.append(not_finite(path, f"trace {chosen[trace] + 1:,}, sample {sample + 1:,}"))
    interval = geometry.interval if reading.interval is None else reading.interval
    if interval is None:
        remedy = f'--interval MS, or "interval" in {path.with_suffix(".json").name} next to it'
        problems.append(Problem(str(path), "has no sample interval", remedy))
    dead, odd = judged_values(values)
    is_line = min(shape) == 1 and reading.line is not False
    numbers = np.arange(traces.count).reshape(shape)
    axes = [Numbering(axis.first, axis.step, n) for axis, n in zip(_axes(geometry), shape, strict=True)]
    if is_line and shape[1] == 1:
        numbers, axes = numbers.T, axes[::-1]
    return Volume(
        kind="NPY",
        traces=traces,
        geometry=Geometry(*axes, None, None, numbers, np.empty(0, np.int64), is_line),
        interval=interval,
        start=geometry.start,
        byte_order={"<": "little", ">": "big"}.get(traces.format.word.byteorder, sys.byteorder),
        text=(),
        coordinates=None,
        sampled=len(chosen),
        dead=dead,
        fill=reading.fill,
        odd=tuple(odd),
        problems=tuple(problems),
    )


def _axes(geometry: CubeGeometry) -> tuple[_Axis, _Axis]:
    return geometry.inlines, geometry.crosslines


def _traces(path: Path) -> tuple[Traces, tuple[int, int]]:
    """Locate an array's traces; also returns how many (inlines, crosslines) there are."""
    with open(path, "rb") as file:
        try:
            shape, fortran, word = _HEADERS[npy_format.read_magic(file)](file, max_header_size=1000)
        except (ValueError, TypeError, LookupError, SyntaxError, RecursionError, MemoryError):
            raise _error(path, "is not an NPY file, or its header is damaged", "save it with numpy.save") from None
        first_byte = file.tell()
    if word.kind not in "biuf" or len(shape) not in (2, 3) or min(shape) < 1:
        what = f"holds {word} of shape {shape}, not numbers (inline, crossline, sample) or (trace, sample)"
        raise _error(path, what, "save an array of numbers with two or three axes")
    if fortran:
        raise _error(path, "is stored in Fortran order", "convert it with numpy.ascontiguousarray")
    size, whole = path.stat().st_size, first_byte + int(np.prod(shape, dtype=object)) * word.itemsize
    if size != whole:
        raise _error(path, f"has {size:,} bytes, but its header requires {whole:,}", "copy it again")
    inlines, crosslines = shape[:2] if len(shape) == 3 else (1, shape[0])
    return Traces(path, first_byte, 0, SampleFormat(str(word), word), shape[-1], inlines * crosslines), (
        inlines,
        crosslines,
    )


def _geometry(path: Path) -> CubeGeometry:
    """Read a cube's JSON file."""
    beside = path.with_suffix(".json")
    if not beside.exists():
        return CubeGeometry()
    try:
        return CubeGeometry.model_validate(json.loads(beside.read_bytes()))
    except ValidationError as error:
        first = error.errors()[0]
        what = f"{'.'.join(map(str, first['loc'])) or 'its content'}: {first['msg']}"
        raise _error(beside, what, "correct or remove it") from error
    except ValueError as error:
        raise _error(beside, f"is not valid JSON ({error})", "correct or remove it") from error


def _error(path: Path, what: str, remedy: str) -> VolumeError:
    return VolumeError([Problem(str(path), what, remedy)])
