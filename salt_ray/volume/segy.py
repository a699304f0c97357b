"""A SEG-Y file, interpreted from its headers, its size and a sample of its traces.

Headers are often wrong, so a value counts if two headers agree, or one agrees with the file size. What stays open is
reported with the option that resolves it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from salt_ray.volume.geometry import NUMBERS, STANDARD, Geometry, Headers, Unclear, coordinates, find_geometry
from salt_ray.volume.headers import (
    HEADER_BYTES,
    TEXT_BYTES,
    TRACE_HEADER_BYTES,
    BinaryHeader,
    Field,
    decoded_text,
    scale_of,
    trace_fields,
)
from salt_ray.volume.problem import Problem, VolumeError
from salt_ray.volume.reading import Reading
from salt_ray.volume.sample_format import CODES, IBM, IEEE, REFUSED, is_ibm, segy_format
from salt_ray.volume.traces import Traces, not_finite
from salt_ray.volume.volume import Coordinates, Volume, judged_values

ORDERS = {"big": ">", "little": "<"}
_NAMES = {order: name for name, order in ORDERS.items()}
_UNITS = {1: "length", 2: "arc seconds", 3: "degrees"}
#: Stanzas of extended text headers, in capitals and without blanks.
_END_OF_TEXTS, _LAYOUT = "((SEG:ENDTEXT))", "((SEG:LAYOUT"
#: Valid time scalars; other numbers in bytes 215-216 have another meaning.
_TIME_SCALARS = (0, 1, 10, 100, 1000, 10_000)
_MOST_TEXTS = 100
#: Traces used to fit the line spacing to coordinates.
_MOST_FITTED = 20_000
_READ = ", ".join(map(str, CODES))
#: Fields read for all traces. In most files four to six of them vary, which takes 16 to 24 bytes a trace.
_KEPT = (
    *(Field.KIND, Field.OFFSET, Field.COORDINATE_SCALAR, Field.SOURCE_X, Field.SOURCE_Y, Field.COORDINATE_UNIT),
    *(Field.DELAY, Field.SAMPLES, Field.INTERVAL, Field.CDP_X, Field.CDP_Y, Field.TIME_SCALAR, *STANDARD),
)


class _Layout(NamedTuple):
    """How a file is divided into traces, and whether its size is a whole number of them."""

    first_byte: int
    samples: int
    fits: bool


class _File(NamedTuple):
    """The input for interpreting headers."""

    path: Path
    head: bytes
    size: int
    reading: Reading

    def read(self, place: int, length: int) -> bytes:
        """Read bytes of the file; fewer at its end."""
        if place + length <= len(self.head):
            return self.head[place : place + length]
        with open(self.path, "rb") as opened:
            opened.seek(place)
            return opened.read(length)


class _Headers(dict[str, np.ndarray]):
    """Header fields of all traces, by first byte; fields not kept from the start are read on demand."""

    def __init__(self, traces: Traces, order: str, named: list[int]) -> None:
        self.traces, self.order = traces, order
        self.take((*_KEPT, *named))

    def take(self, places: tuple[int, ...]) -> None:
        """Read the fields that are missing."""
        new = tuple(place for place in dict.fromkeys(places) if str(place) not in self)
        self.update(self.traces.headers(trace_fields(new, self.order)))

    def __missing__(self, name: str) -> np.ndarray:
        self.take((*NUMBERS, int(name)))
        return self[name]


def describe_segy(path: Path, reading: Reading) -> Volume:
    """Describe a SEG-Y file. Reads its headers and up to 1,000 traces; at most 16 MiB of the file at once.

    Args:
        path: the file.
        reading: what the user has specified about it.

    Raises:
        VolumeError: the file cannot be divided into traces, or its format is not supported.
    """
    size = path.stat().st_size
    with open(path, "rb") as opened:
        head = opened.read(HEADER_BYTES + TRACE_HEADER_BYTES)
    odd: list[str] = []
    file = _File(path, head, size, reading)
    if len(head) < HEADER_BYTES + TRACE_HEADER_BYTES:
        _refuse_seismic_unix(file)
        raise _error(path, f"has {size:,} bytes and no trace: it is truncated, or not SEG-Y", "copy it again")
    binary, code = _byte_order(file)
    layout = _divide(file, binary, code, odd)
    form = segy_format(code, binary.order)
    trace_bytes = TRACE_HEADER_BYTES + layout.samples * form.word.itemsize
    count = (size - layout.first_byte) // trace_bytes
    traces = Traces(path, layout.first_byte, TRACE_HEADER_BYTES, form, layout.samples, count)

    problems: list[Problem] = []

    def problem(what: str, remedy: str) -> None:
        problems.append(Problem(str(path), what, remedy))

    if not layout.fits:
        rest = size - layout.first_byte - count * trace_bytes - TRACE_HEADER_BYTES
        inside = (
            f"after {max(rest, 0) // form.word.itemsize:,} of {layout.samples:,} samples" if rest >= 0 else "header"
        )
        problem(
            f"is truncated: it ends in trace {count + 1:,} ({inside})",
            "copy it again, or if it is complete, correct its headers with --samples and --format",
        )
    if not count:
        raise VolumeError(problems)
    chosen = traces.sampled()
    words = np.concatenate([traces.words(i, i + 1) for i in chosen])  # in the machine's byte order
    if reading.format is None and code in (IBM, IEEE):
        ibm = is_ibm(words.view(np.uint32))
        if ibm is not None and ibm != (code == IBM):
            right, wrong = (IBM, IEEE) if ibm else (IEEE, IBM)
            problem(
                f"declares samples as {CODES[wrong][0]} (format {wrong}), but they look like {CODES[right][0]}",
                f"use --format {right}, or --format {wrong} to trust the header",
            )
    values = form.decode(words)
    if not np.isfinite(values).all() and not reading.fill:
        trace, sample = np.argwhere(~np.isfinite(values))[0]
        problems.append(not_finite(path, f"trace {chosen[trace] + 1:,}, sample {sample + 1:,}"))
    dead, unusual = judged_values(values)
    odd += unusual

    named = [byte for byte in (reading.inline_byte, reading.crossline_byte) if byte is not None]
    headers = _Headers(traces, binary.order, named)
    lengths = np.unique(headers[str(Field.SAMPLES)])
    if len(lengths[lengths > 0]) > 1 and reading.samples is None:
        problem(
            f"has traces of different lengths in its headers ({lengths[lengths > 0][0]} to {lengths[-1]} samples)",
            f"use --samples {layout.samples} if all traces have that length",
        )
    interval = _interval(binary, headers, reading, problem, odd)
    geometry = None
    try:
        geometry = find_geometry(headers, reading, lambda numbers: _dead(traces, numbers))
    except Unclear as unclear:
        problem(unclear.what, unclear.remedy)
    encoding, lines = decoded_text(head[:TEXT_BYTES])
    places = None if geometry is None else _coordinates(headers, geometry, odd)
    if geometry is not None:
        odd += _unusual_places(headers, geometry)
    if _has_stanza(_LAYOUT, file.read(HEADER_BYTES, layout.first_byte - HEADER_BYTES)):
        odd.append("defines its own trace headers (SEG:Layout), which is ignored: the standard bytes are used")
    if encoding != "EBCDIC":
        odd.append(f"its text header is {encoding if encoding == 'ASCII' else 'blank'}, not EBCDIC")
    return Volume(
        kind="SEG-Y",
        traces=traces,
        geometry=geometry,
        interval=interval,
        start=_start(headers, odd),
        byte_order=_NAMES[binary.order],
        text=tuple(lines),
        coordinates=places,
        sampled=len(chosen),
        dead=dead,
        fill=reading.fill,
        odd=tuple(odd),
        problems=tuple(problems),
    )


def _error(path: Path, what: str, remedy: str) -> VolumeError:
    return VolumeError([Problem(str(path), what, remedy)])


def _byte_order(file: _File) -> tuple[BinaryHeader, int]:
    """The binary header in the byte order that makes sense, and the sample format code."""
    reading = file.reading
    orders = ORDERS.values() if reading.byte_order is None else [ORDERS[reading.byte_order]]
    headers = [BinaryHeader(file.head[TEXT_BYTES:HEADER_BYTES], order) for order in orders]
    sensible = [header for header in headers if header.code in CODES or header.code in REFUSED]
    if not sensible and reading.format is not None:
        fitting = [header for header in headers if _layouts(file, header, reading.format)]
        sensible = headers if len(headers) == 1 else fitting
    if not sensible:
        _refuse_seismic_unix(file)
        said = " or ".join(str(header.code) for header in headers)
        raise _error(
            file.path,
            f"is not a SEG-Y file, or its headers are wrong (sample format {said} in bytes 3225-3226)",
            f"if it is one, use --format CODE, one of {_READ}, and --byte-order",
        )
    if len(sensible) > 1:
        raise _error(file.path, "has an ambiguous byte order", "use --byte-order big or --byte-order little")
    (header,) = sensible
    code = header.code if reading.format is None else reading.format
    if code in REFUSED:
        what = f"has samples of format {code}, {REFUSED[code][0]}, which is not supported"
        raise _error(file.path, what, f"convert it first to one of the formats {_READ}")
    if code not in CODES:
        raise _error(file.path, f"cannot be read with format {code}", f"use --format CODE, one of {_READ}")
    return header, code


def _layouts(file: _File, binary: BinaryHeader, code: int, trace_header: int = TRACE_HEADER_BYTES) -> list[_Layout]:
    """Every layout given by the headers that agrees with the file size, the most likely first."""
    width = np.dtype(CODES[code][1]).itemsize if code in CODES else REFUSED.get(code, ("", 4))[1]
    return [
        _Layout(first_byte, samples, True)
        for first_byte in _first_bytes(file, binary)
        for samples in _lengths(file, binary, first_byte)
        if file.size > first_byte and (file.size - first_byte) % (trace_header + samples * width) == 0
    ]


def _first_bytes(file: _File, binary: BinaryHeader) -> list[int]:
    """Where the first trace may begin: after the extended text headers or without any; their number is often wrong."""
    texts = binary.extended_texts
    for number in range(1, _MOST_TEXTS + 1 if texts == -1 else 1):
        text = file.read(HEADER_BYTES + (number - 1) * TEXT_BYTES, TEXT_BYTES)
        if _has_stanza(_END_OF_TEXTS, text):
            return [HEADER_BYTES + number * TEXT_BYTES]
    return [*([HEADER_BYTES + texts * TEXT_BYTES] if 0 < texts <= _MOST_TEXTS else []), HEADER_BYTES]


def _has_stanza(stanza: str, text: bytes) -> bool:
    """Whether a text in EBCDIC or ASCII contains a stanza."""
    return any(stanza in "".join(text.decode(encoding).upper().split()) for encoding in ("cp037", "latin-1"))


def _lengths(file: _File, binary: BinaryHeader, first_byte: int) -> list[int]:
    """Candidates for the samples per trace: the user's, or those of the binary header and the first trace header."""
    if file.reading.samples is not None:
        return [file.reading.samples]
    said = [binary.samples, binary.number(3221, "u2")]  # revision 2's field, or the one it replaces
    if len(trace := file.read(first_byte, TRACE_HEADER_BYTES)) == TRACE_HEADER_BYTES:
        said.append(int(np.frombuffer(trace, trace_fields((Field.SAMPLES,), binary.order))[0][0]))
    return [*dict.fromkeys(samples for samples in said if samples > 0)]


def _divide(file: _File, binary: BinaryHeader, code: int, odd: list[str]) -> _Layout:
    """Choose the layout. Headers that contradict the file size are ignored, and noted in ``odd``."""
    fitting, more = _layouts(file, binary, code), binary.more_trace_headers
    length = TRACE_HEADER_BYTES * (1 + max(more, 1))
    long_fitting = _layouts(file, binary, code, length)
    if (more > 0 and long_fitting) or (not fitting and (more > 0 or long_fitting)):
        what = f"has trace headers of {length:,} bytes (SEG-Y revision 2), which are not supported"
        raise _error(file.path, what, "convert it to SEG-Y revision 1 first")
    first_bytes = _first_bytes(file, binary)
    lengths = _lengths(file, binary, first_bytes[0])
    if not lengths:
        raise _error(file.path, "does not give the number of samples per trace", "use --samples N")
    if not fitting:
        _refuse_seismic_unix(file)
        if len(lengths) > 1:
            what = (
                f"its headers give {' and '.join(f'{n:,}' for n in lengths)} samples per trace, and none fits its size"
            )
            raise _error(file.path, what, "use --samples N, or copy it again")
        return _Layout(first_bytes[0], lengths[0], False)
    layout = fitting[0]
    others = sorted({found.samples for found in fitting if found.first_byte == layout.first_byte})
    if len(others) > 1:
        what = f"its headers give {' and '.join(f'{n:,}' for n in others)} samples per trace, and all fit its size"
        raise _error(file.path, what, "use --samples N")
    if layout.first_byte != first_bytes[0]:
        odd.append(f"declares {binary.extended_texts:,} extended text headers, but has none according to its size")
    if others != lengths:
        wrong = next((n for n in lengths if n != layout.samples), layout.samples)
        odd.append(f"a header gives {wrong:,} samples per trace, but the file size means {layout.samples:,}")
    return layout


def _refuse_seismic_unix(file: _File) -> None:
    """Raise if a file is a plain sequence of traces, as in Seismic Unix."""
    if file.size < TRACE_HEADER_BYTES:
        return
    for order in ORDERS.values():
        fields = trace_fields((Field.SAMPLES, Field.INTERVAL), order)
        samples, interval = np.frombuffer(file.head[:TRACE_HEADER_BYTES], fields)[0].item()
        trace_bytes = TRACE_HEADER_BYTES + 4 * samples
        second = file.read(trace_bytes, TRACE_HEADER_BYTES)
        agrees = len(second) == TRACE_HEADER_BYTES and np.frombuffer(second, fields)[0][0] == samples
        if samples > 0 and (interval > 0 or agrees) and file.size % trace_bytes == 0:
            what = f"looks like Seismic Unix: it starts with a trace of {samples:,} samples, without file headers"
            raise _error(file.path, what, "convert it to SEG-Y first with segyhdrs and segywrite of Seismic Unix")


def _interval(
    binary: BinaryHeader, headers: Headers, reading: Reading, problem: Callable[[str, str], None], odd: list[str]
) -> float | None:
    """Sample interval in ms; None if the headers do not agree."""
    if reading.interval is not None:
        return reading.interval
    said = binary.interval, *(float(i) for i in np.unique(headers[str(Field.INTERVAL)]))
    positive = sorted({interval for interval in said if interval > 0})
    if len(positive) == 1:
        if any(interval < 0 for interval in said):
            odd.append(f"also declares sample intervals of {min(said):g} us")
        return positive[0] / 1000
    told = ", ".join(f"{interval:g}" for interval in (said[0], *sorted(set(said[1:]))[:4]))
    what = "different sample intervals" if positive else "no sample interval"
    problem(f"declares {what} (binary header, traces: {told} us)", "use --interval, in ms or the unit of depth")
    return None


def _start(headers: Headers, odd: list[str]) -> float:
    """Start of the first sample in ms: the scaled delay of the first trace."""
    delay, scalar = (int(headers[str(place)][0]) for place in (Field.DELAY, Field.TIME_SCALAR))
    if delay and abs(scalar) not in _TIME_SCALARS:
        odd.append(f"a time scalar of {scalar} (bytes 215-216) is ignored: traces begin at {delay}")
        scalar = 1
    return float(delay * scale_of(scalar))


def _dead(traces: Traces, numbers: np.ndarray) -> np.ndarray:
    return np.array([not traces.read(i, i + 1).any() for i in numbers.tolist()], bool)


def _unusual_places(headers: Headers, geometry: Geometry) -> list[str]:
    """What is unusual about the positions of traces."""
    odd = []
    offsets = np.unique(headers[str(Field.OFFSET)])
    if geometry.is_line and geometry.crossline_byte is None:
        odd.append("read as a 2D line in file order: no header numbers its traces")
    elif geometry.is_line:
        odd.append(f"read as a 2D line, with trace numbers at byte {geometry.crossline_byte}")
    if geometry.missing:
        odd.append(f"{geometry.missing:,} of {geometry.traces.size:,} positions have no trace")
    if len(geometry.unplaced):
        odd.append(f"{len(geometry.unplaced):,} dead traces have no unique number in the survey, and so no position")
    if not geometry.is_line and geometry.order != "inline":
        odd.append("traces are sorted " + ("along crosslines" if geometry.order == "crossline" else "in no order"))
    if geometry.reversed:
        odd.append(f"{' and '.join(geometry.reversed)} decrease in file order")
    if len(offsets) > 1:
        odd.append(f"offsets range from {offsets[0]} to {offsets[-1]}, with one trace per position")
    if len(np.unique(headers[str(Field.DELAY)])) > 1:
        odd.append("traces begin at different times (bytes 109-110); the first trace's is used")
    return odd


def _coordinates(headers: Headers, geometry: Geometry, odd: list[str]) -> Coordinates | None:
    """Position of the survey and spacing of its traces."""
    placed = geometry.traces[geometry.live]
    x, y, known = coordinates(headers, placed)
    if not known.any():
        odd.append("has no coordinates (bytes 73, 77, 181 and 185 are 0)")
        return None
    scalars = headers[str(Field.COORDINATE_SCALAR)][placed]
    distinct = np.unique(scalars[known])
    scales = scale_of(distinct)
    if len(distinct) > 1:
        odd.append("coordinates have different scalars (bytes 71-72); each trace uses its own")
        scales = scales[np.searchsorted(distinct, scalars).clip(max=len(distinct) - 1)]
    x *= scales
    y *= scales
    has_cdp = any(headers[str(place)].any() for place in (Field.CDP_X, Field.CDP_Y))
    return Coordinates(
        bytes=(Field.CDP_X, Field.CDP_Y) if has_cdp else (Field.SOURCE_X, Field.SOURCE_Y),
        scalar=float(scale_of(scalars[known.argmax()])),
        unit=_UNITS.get(int(headers[str(Field.COORDINATE_UNIT)][0]), "unknown"),
        corners=(
            (float(x.min(where=known, initial=np.inf)), float(y.min(where=known, initial=np.inf))),
            (float(x.max(where=known, initial=-np.inf)), float(y.max(where=known, initial=-np.inf))),
        ),
        spacing=_spacing(x, y, known, geometry, odd),
    )


def _spacing(
    x: np.ndarray, y: np.ndarray, known: np.ndarray, geometry: Geometry, odd: list[str]
) -> tuple[float | None, float | None] | None:
    """Spacing of inlines and crosslines: of a grid by least squares, of a 2D line the median of its steps."""
    few = np.flatnonzero(known)
    if not geometry.is_line:
        few = few[np.unique(np.linspace(0, len(few) - 1, min(len(few), _MOST_FITTED)).astype(np.int64))]
    rows, columns = np.divmod(np.flatnonzero(geometry.live)[few], geometry.crosslines.count)
    x, y = x[few], y[few]
    if geometry.is_line:
        steps = np.hypot(np.diff(x), np.diff(y)) / np.diff(columns)
        return (None, float(np.median(steps))) if len(steps) and np.median(steps) > 0 else None
    places = np.stack([rows, columns, np.ones(len(few))], axis=1)
    target = np.stack([x - x.mean(), y - y.mean()], axis=1)
    fit, *_ = np.linalg.lstsq(places, target, rcond=None)
    inlines, crosslines = (float(np.hypot(*step)) for step in fit[:2])
    away = float(np.hypot(*(places @ fit - target).T).max())
    if min(inlines, crosslines) <= 0 or away > max(inlines, crosslines):
        odd.append(f"coordinates do not match the line numbers: up to {away:g} off a regular grid")
        return None
    return inlines, crosslines
