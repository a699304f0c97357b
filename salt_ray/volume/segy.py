"""A SEG-Y file, judged by its headers, its size and a few of its traces.

Headers are often wrong, so that what decides is what two of them, or one and the size of the file, agree in; what is
left open is a problem with the option that settles it.
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
#: Stanzas of extended text headers, without blanks and in capitals.
_END_OF_TEXTS, _LAYOUT = "((SEG:ENDTEXT))", "((SEG:LAYOUT"
#: What a time may be multiplied with, or divided by; other numbers stand in bytes 215-216 for something else.
_TIME_SCALARS = (0, 1, 10, 100, 1000, 10_000)
_MOST_TEXTS = 100
#: Traces whose coordinates say how far apart lines are.
_MOST_FITTED = 20_000
_READ = ", ".join(map(str, CODES))
#: Fields that are read of all traces. In most files four to six of them vary, which takes 16 to 24 bytes a trace.
_KEPT = (
    *(Field.KIND, Field.OFFSET, Field.COORDINATE_SCALAR, Field.SOURCE_X, Field.SOURCE_Y, Field.COORDINATE_UNIT),
    *(Field.DELAY, Field.SAMPLES, Field.INTERVAL, Field.CDP_X, Field.CDP_Y, Field.TIME_SCALAR, *STANDARD),
)


class _Layout(NamedTuple):
    """How a file is divided into traces, and whether its size is that of whole ones."""

    first_byte: int
    samples: int
    fits: bool


class _File(NamedTuple):
    """What the judgement of headers begins with."""

    path: Path
    head: bytes
    size: int
    reading: Reading

    def read(self, place: int, length: int) -> bytes:
        """Bytes of the file; fewer where it ends."""
        if place + length <= len(self.head):
            return self.head[place : place + length]
        with open(self.path, "rb") as opened:
            opened.seek(place)
            return opened.read(length)


class _Headers(dict[str, np.ndarray]):
    """Fields of all traces' headers by their first bytes; the others are read where one is asked for."""

    def __init__(self, traces: Traces, order: str, named: list[int]) -> None:
        self.traces, self.order = traces, order
        self.take((*_KEPT, *named))

    def take(self, places: tuple[int, ...]) -> None:
        """Read what is not there yet."""
        new = tuple(place for place in dict.fromkeys(places) if str(place) not in self)
        self.update(self.traces.headers(trace_fields(new, self.order)))

    def __missing__(self, name: str) -> np.ndarray:
        self.take((*NUMBERS, int(name)))
        return self[name]


def describe_segy(path: Path, reading: Reading) -> Volume:
    """What a SEG-Y file is. Reads its headers and up to 1,000 traces; at most 16 MiB of the file at once.

    Args:
        path: the file.
        reading: what somebody has said about it.

    Raises:
        VolumeError: its traces cannot be told apart, or are of a kind that is not read.
    """
    size = path.stat().st_size
    with open(path, "rb") as opened:
        head = opened.read(HEADER_BYTES + TRACE_HEADER_BYTES)
    odd: list[str] = []
    file = _File(path, head, size, reading)
    if len(head) < HEADER_BYTES + TRACE_HEADER_BYTES:
        _refuse_seismic_unix(file)
        raise _error(path, f"has {size:,} bytes and no trace: it is cut, or no SEG-Y file", "copy it again")
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
            f"is cut: it ends in trace {count + 1:,} ({inside})",
            "copy it again; if it is whole, its headers are wrong: --samples, --format",
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
                f"says that samples are {CODES[wrong][0]} (format {wrong}), and they look like {CODES[right][0]}",
                f"--format {right} reads them so, --format {wrong} as the file says",
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
            f"has traces of different lengths, say their headers ({lengths[lengths > 0][0]} to {lengths[-1]} samples)",
            f"--samples {layout.samples}, if all traces are that long",
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
    if _stands_in(_LAYOUT, file.read(HEADER_BYTES, layout.first_byte - HEADER_BYTES)):
        odd.append("describes its trace headers itself (SEG:Layout), which is not read: the standard's places count")
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
    """The binary header in the byte order in which it makes sense, and the code of the sample format."""
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
            f"is no SEG-Y file, or its headers are wrong (its sample format, bytes 3225-3226, says {said})",
            f"--format CODE, one of {_READ}, and --byte-order, if it is one",
        )
    if len(sensible) > 1:
        raise _error(file.path, "does not say its byte order", "--byte-order big or --byte-order little")
    (header,) = sensible
    code = header.code if reading.format is None else reading.format
    if code in REFUSED:
        what = f"has samples of format {code}, {REFUSED[code][0]}, which is not read"
        raise _error(file.path, what, f"write it with another format first, one of {_READ}")
    if code not in CODES:
        raise _error(file.path, f"cannot have samples of format {code}", f"--format CODE, one of {_READ}")
    return header, code


def _layouts(file: _File, binary: BinaryHeader, code: int, trace_header: int = TRACE_HEADER_BYTES) -> list[_Layout]:
    """Every division into traces that headers name and the size of the file agrees with, the likeliest first."""
    width = np.dtype(CODES[code][1]).itemsize if code in CODES else REFUSED.get(code, ("", 4))[1]
    return [
        _Layout(first_byte, samples, True)
        for first_byte in _first_bytes(file, binary)
        for samples in _lengths(file, binary, first_byte)
        if file.size > first_byte and (file.size - first_byte) % (trace_header + samples * width) == 0
    ]


def _first_bytes(file: _File, binary: BinaryHeader) -> list[int]:
    """Where the first trace may begin: after the extended text headers, or after none: their number is often wrong."""
    texts = binary.extended_texts
    for number in range(1, _MOST_TEXTS + 1 if texts == -1 else 1):
        text = file.read(HEADER_BYTES + (number - 1) * TEXT_BYTES, TEXT_BYTES)
        if _stands_in(_END_OF_TEXTS, text):
            return [HEADER_BYTES + number * TEXT_BYTES]
    return [*([HEADER_BYTES + texts * TEXT_BYTES] if 0 < texts <= _MOST_TEXTS else []), HEADER_BYTES]


def _stands_in(stanza: str, text: bytes) -> bool:
    """Whether a stanza begins in a text in EBCDIC or ASCII."""
    return any(stanza in "".join(text.decode(encoding).upper().split()) for encoding in ("cp037", "latin-1"))


def _lengths(file: _File, binary: BinaryHeader, first_byte: int) -> list[int]:
    """How many samples a trace may have: said by somebody, or by the binary and the first trace's header."""
    if file.reading.samples is not None:
        return [file.reading.samples]
    said = [binary.samples, binary.number(3221, "u2")]  # revision 2's own, or the one it replaces
    if len(trace := file.read(first_byte, TRACE_HEADER_BYTES)) == TRACE_HEADER_BYTES:
        said.append(int(np.frombuffer(trace, trace_fields((Field.SAMPLES,), binary.order))[0][0]))
    return [*dict.fromkeys(samples for samples in said if samples > 0)]


def _divide(file: _File, binary: BinaryHeader, code: int, odd: list[str]) -> _Layout:
    """Where the traces are. What the size of the file contradicts is not believed, and told in ``odd``."""
    fitting, more = _layouts(file, binary, code), binary.more_trace_headers
    length = TRACE_HEADER_BYTES * (1 + max(more, 1))
    long_fitting = _layouts(file, binary, code, length)
    if (more > 0 and long_fitting) or (not fitting and (more > 0 or long_fitting)):
        what = f"has trace headers of {length:,} bytes (SEG-Y revision 2), which are not read"
        raise _error(file.path, what, "write it as SEG-Y revision 1 first")
    first_bytes = _first_bytes(file, binary)
    lengths = _lengths(file, binary, first_bytes[0])
    if not lengths:
        raise _error(file.path, "does not say how many samples a trace has", "--samples N")
    if not fitting:
        _refuse_seismic_unix(file)
        if len(lengths) > 1:
            what = f"its headers say {' and '.join(f'{n:,}' for n in lengths)} samples a trace, and its size fits none"
            raise _error(file.path, what, "--samples N, or copy it again")
        return _Layout(first_bytes[0], lengths[0], False)
    layout = fitting[0]
    others = sorted({found.samples for found in fitting if found.first_byte == layout.first_byte})
    if len(others) > 1:
        what = f"its headers say {' and '.join(f'{n:,}' for n in others)} samples a trace, and its size fits each"
        raise _error(file.path, what, "--samples N")
    if layout.first_byte != first_bytes[0]:
        odd.append(f"says {binary.extended_texts:,} extended text headers and has none, by its size")
    if others != lengths:
        wrong = next((n for n in lengths if n != layout.samples), layout.samples)
        odd.append(f"a header says {wrong:,} samples a trace; by its size it has {layout.samples:,}")
    return layout


def _refuse_seismic_unix(file: _File) -> None:
    """Raise where a file begins with a trace and consists of such, as those of Seismic Unix do."""
    if file.size < TRACE_HEADER_BYTES:
        return
    for order in ORDERS.values():
        fields = trace_fields((Field.SAMPLES, Field.INTERVAL), order)
        samples, interval = np.frombuffer(file.head[:TRACE_HEADER_BYTES], fields)[0].item()
        trace_bytes = TRACE_HEADER_BYTES + 4 * samples
        second = file.read(trace_bytes, TRACE_HEADER_BYTES)
        agrees = len(second) == TRACE_HEADER_BYTES and np.frombuffer(second, fields)[0][0] == samples
        if samples > 0 and (interval > 0 or agrees) and file.size % trace_bytes == 0:
            what = (
                f"looks like a Seismic Unix file: it begins with a trace of {samples:,} samples, without file headers"
            )
            raise _error(file.path, what, "write it as SEG-Y first (segyhdrs and segywrite of Seismic Unix)")


def _interval(
    binary: BinaryHeader, headers: Headers, reading: Reading, problem: Callable[[str, str], None], odd: list[str]
) -> float | None:
    """Between samples, in ms; None where headers do not agree in one."""
    if reading.interval is not None:
        return reading.interval
    said = binary.interval, *(float(i) for i in np.unique(headers[str(Field.INTERVAL)]))
    positive = sorted({interval for interval in said if interval > 0})
    if len(positive) == 1:
        if any(interval < 0 for interval in said):
            odd.append(f"says sample intervals of {min(said):g} us too")
        return positive[0] / 1000
    told = ", ".join(f"{interval:g}" for interval in (said[0], *sorted(set(said[1:]))[:4]))
    what = "different sample intervals" if positive else "no sample interval"
    problem(f"says {what} (binary header, traces: {told} us)", "--interval MS, or the step of depth in its unit")
    return None


def _start(headers: Headers, odd: list[str]) -> float:
    """Of the first sample, in ms: the delay of the first trace, with its scalar."""
    delay, scalar = (int(headers[str(place)][0]) for place in (Field.DELAY, Field.TIME_SCALAR))
    if delay and abs(scalar) not in _TIME_SCALARS:
        odd.append(f"a time scalar of {scalar} (bytes 215-216) is not believed: traces begin at {delay}")
        scalar = 1
    return float(delay * scale_of(scalar))


def _dead(traces: Traces, numbers: np.ndarray) -> np.ndarray:
    return np.array([not traces.read(i, i + 1).any() for i in numbers.tolist()], bool)


def _unusual_places(headers: Headers, geometry: Geometry) -> list[str]:
    """What a reader of a file should know about the places of its traces."""
    odd = []
    offsets = np.unique(headers[str(Field.OFFSET)])
    if geometry.is_line and geometry.crossline_byte is None:
        odd.append("taken as a 2D line in the order of the file: no header numbers its traces")
    elif geometry.is_line:
        odd.append(f"taken as a 2D line, its traces numbered by bytes {geometry.crossline_byte}")
    if geometry.missing:
        odd.append(f"{geometry.missing:,} of {geometry.traces.size:,} places have no trace")
    if len(geometry.unplaced):
        odd.append(f"{len(geometry.unplaced):,} dead traces have no number of their own in the survey, and no place")
    if not geometry.is_line and geometry.order != "inline":
        odd.append("traces are sorted " + ("along crosslines" if geometry.order == "crossline" else "in no order"))
    if geometry.reversed:
        odd.append(f"{' and '.join(geometry.reversed)} go down in the order of the file")
    if len(offsets) > 1:
        odd.append(f"offsets go from {offsets[0]} to {offsets[-1]}, one trace at each place")
    if len(np.unique(headers[str(Field.DELAY)])) > 1:
        odd.append("traces begin at different times (bytes 109-110); that of the first one is used")
    return odd


def _coordinates(headers: Headers, geometry: Geometry, odd: list[str]) -> Coordinates | None:
    """Where the survey is, and how far apart its traces are."""
    placed = geometry.traces[geometry.live]
    x, y, known = coordinates(headers, placed)
    if not known.any():
        odd.append("has no coordinates (bytes 73, 77, 181 and 185 are 0)")
        return None
    scalars = headers[str(Field.COORDINATE_SCALAR)][placed]
    distinct = np.unique(scalars[known])
    scales = scale_of(distinct)
    if len(distinct) > 1:
        odd.append("coordinates have different scalars (bytes 71-72); each trace's own is used")
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
    """Between neighbouring inlines, and crosslines: of a grid by least squares, of a line the median of its steps."""
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
        odd.append(f"coordinates do not fit the line numbers: up to {away:g} away from an even grid")
        return None
    return inlines, crosslines
