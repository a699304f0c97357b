"""Survey geometry: the position of each trace on a line, or on a grid of inlines and crosslines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

import numpy as np

from salt_ray.volume.headers import Field
from salt_ray.volume.reading import Reading

#: Alternative inline and crossline bytes for files that do not use 189 and 193: SEG-Y rev 0 does not define any.
PAIRS = ((9, 21), (9, 13), (9, 25), (17, 21), (5, 21), (13, 21), (181, 185), (221, 225), (213, 217), (233, 237))
#: Fields that may number the traces of a 2D line: crossline, CDP, shot.
LINE_NUMBERS = (Field.CROSSLINE, Field.CDP, Field.SHOT)
STANDARD = (Field.INLINE, Field.CROSSLINE)
NUMBERS = (*sorted(set(chain(STANDARD, LINE_NUMBERS, *PAIRS))),)

#: Most traces with duplicate numbers that are read to check whether they are dead.
_MOST_READ = 1000
#: Most grid positions per trace; more than that indicates a wrong number.
_MOST_PLACES = 50
#: A step this many times the median is a jump to the next line, not to the neighbouring trace.
_JUMP = 20
_NO_COORDINATE = -(2**31)
Headers = Mapping[str, np.ndarray]
_DEAD_CODE = 2  # of the trace identification, bytes 29-30


@dataclass(frozen=True)
class Numbering:
    """Numbers first, first + step, …; ``step`` is positive."""

    first: int
    step: int
    count: int

    @property
    def last(self) -> int:
        return self.first + (self.count - 1) * self.step

    def __str__(self) -> str:
        step = f" in steps of {self.step}" if self.step > 1 and self.count > 1 else ""
        return f"{self.first} to {self.last}{step}" if self.count > 1 else str(self.first)


@dataclass(frozen=True, eq=False)
class Geometry:
    """Positions of traces.

    Attributes:
        inlines, crosslines: line numbers; a 2D line has one inline, and its traces are the crosslines.
        inline_byte, crossline_byte: header bytes of the numbers; None: not in the headers, file order is used.
        traces: int64 (inlines, crosslines), the number of the trace in the file, from 0; -1 where there is none. Rows
            and columns are sorted by number, whatever the order of the file.
        unplaced: int64 (n,), dead traces whose numbers are duplicates, or outside the grid of the live traces.
        is_line: a 2D line, which has no crossline direction.
    """

    inlines: Numbering
    crosslines: Numbering
    inline_byte: int | None
    crossline_byte: int | None
    traces: np.ndarray
    unplaced: np.ndarray
    is_line: bool

    @property
    def live(self) -> np.ndarray:
        """Bool (inlines, crosslines): there is a trace, dead or not."""
        return self.traces >= 0

    @property
    def missing(self) -> int:
        """Grid positions without a trace."""
        return int(np.count_nonzero(self.traces < 0))

    @property
    def order(self) -> str:
        """How the traces of a grid are sorted in the file: along inlines, along crosslines, or neither."""
        for name, numbers, lines in zip(("inline", "crossline"), self._in_file_order(), (1, 0), strict=True):
            if np.count_nonzero(np.diff(numbers)) == np.count_nonzero(self.live.any(lines)) - 1:
                return name
        return "none"

    @property
    def reversed(self) -> list[str]:
        """Which numbers decrease in file order."""
        names = ("inlines", "crosslines")
        steps = [np.diff(numbers) for numbers in self._in_file_order()]
        first = [step[np.flatnonzero(step)[0]] if step.any() else 0 for step in steps]
        return [name for name, step in zip(names, first, strict=True) if step < 0]

    def _in_file_order(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the placed traces, in file order."""
        places = np.full(self.traces.max() + 1, -1)
        places[self.traces[self.live]] = np.flatnonzero(self.live)
        places = places[places >= 0]
        return np.divmod(places, self.crosslines.count)


class Unclear(Exception):
    """The headers do not determine the geometry: ``what`` they contain, and the ``remedy`` that resolves it."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy)
        self.what, self.remedy = what, remedy


def find_geometry(headers: Headers, reading: Reading, dead: Callable[[np.ndarray], np.ndarray]) -> Geometry:
    """Determine the positions of all traces.

    Args:
        headers: header fields of all traces, by first byte: those of ``NUMBERS``, 29, 37, 73, 77, 181 and 185, and
            those that ``reading`` names.
        reading: what the user has specified about the file.
        dead: maps trace numbers, int64 (n,), to whether all samples of each are 0, bool (n,).

    Raises:
        Unclear: the headers do not determine the geometry.
    """
    live = headers["29"] != _DEAD_CODE
    if not live.any():
        live[:] = True
    if reading.line:
        return _line(headers, live, reading.crossline_byte)
    pair = (reading.inline_byte or Field.INLINE, reading.crossline_byte or Field.CROSSLINE)
    keys = _keys(headers, pair)
    if not live.all() and _fill_a_grid(headers, keys, pair):
        live[:] = True  # dead traces around the live ones are part of the grid
    shared = live & ~_once(keys, live)
    if 0 < np.count_nonzero(shared) <= _MOST_READ:
        where = np.flatnonzero(shared)
        where = where[dead(where)]
        if len(where) < np.count_nonzero(live):
            live[where] = False
            shared = live & ~_once(keys, live)
    constant = [bool((headers[str(byte)][live] == headers[str(byte)][live][0]).all()) for byte in pair]
    if reading.line is None and all(constant) and np.count_nonzero(live) > 1:
        return _unnumbered(headers, live, pair, named=pair != STANDARD)
    if shared.any():
        _refuse_prestack(headers, live, keys, "line numbers")
        raise Unclear(_duplicates(headers, shared, keys, pair), _pairs_remedy(headers, live))
    if reading.line is None and (any(constant) or _diagonal(headers, live, pair)):
        return _straight(headers, _line(headers, live, pair[1] if constant[0] or not constant[1] else pair[0]))
    return _grid(headers, live, pair)


def _keys(headers: Headers, pair: tuple[int, int]) -> np.ndarray:
    """One integer per pair of numbers."""
    keys = headers[str(pair[0])].astype(np.int64)
    keys <<= 32
    keys |= headers[str(pair[1])].astype(np.uint32)
    return keys


def _once(keys: np.ndarray, live: np.ndarray) -> np.ndarray:
    """Which live traces have a unique key."""
    keys = keys[live]
    in_order = np.sort(keys)
    if (in_order[1:] != in_order[:-1]).all():  # the usual case; numpy.unique takes 15 times as long, and 50 bytes a key
        return live.copy()
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    once = np.zeros(len(live), bool)
    once[live] = counts[inverse] == 1
    return once


def _fill_a_grid(headers: Headers, keys: np.ndarray, pair: tuple[int, int]) -> bool:
    """Whether all traces, including dead ones, have unique numbers and fill most of their grid."""
    everyone = np.ones(len(keys), bool)
    inlines, crosslines = (_numbering(headers[str(byte)]).count for byte in pair)
    return inlines * crosslines <= 2 * len(keys) and bool(_once(keys, everyone).all())


def _diagonal(headers: Headers, live: np.ndarray, pair: tuple[int, int]) -> bool:
    """Whether no inline and no crossline has two traces: a 2D line with two sets of numbers."""
    return all(len(np.unique(headers[str(byte)][live])) == np.count_nonzero(live) for byte in pair)


def _grid(headers: Headers, live: np.ndarray, pair: tuple[int, int]) -> Geometry:
    inlines, crosslines = (_numbering(headers[str(byte)][live]) for byte in pair)
    places, present = inlines.count * crosslines.count, np.count_nonzero(live)
    if places > _MOST_PLACES * present:
        raise Unclear(
            f"bytes {pair[0]} and {pair[1]} number {inlines.count:,} inlines ({inlines}) and {crosslines.count:,} "
            f"crosslines ({crosslines}) for {present:,} traces",
            "give other bytes with --inline-byte and --crossline-byte, or use --line for a 2D line",
        )
    traces = np.full((inlines.count, crosslines.count), -1, np.int64)
    rows, columns = (
        (headers[str(byte)][live].astype(np.int64) - axis.first) // axis.step
        for byte, axis in zip(pair, (inlines, crosslines), strict=True)
    )
    traces[rows, columns] = np.flatnonzero(live)
    others = np.flatnonzero(~live)
    if not len(others):
        return Geometry(inlines, crosslines, *pair, traces, others, is_line=False)
    # A dead trace keeps its position if no other trace has it.
    keys = _keys(headers, pair)
    rows, row_rest = np.divmod(headers[str(pair[0])][others].astype(np.int64) - inlines.first, inlines.step)
    columns, column_rest = np.divmod(headers[str(pair[1])][others].astype(np.int64) - crosslines.first, crosslines.step)
    own = _once(keys, np.ones_like(live))[others] & (row_rest == 0) & (column_rest == 0)
    own &= (rows >= 0) & (rows < inlines.count) & (columns >= 0) & (columns < crosslines.count)
    traces[rows[own], columns[own]] = others[own]
    return Geometry(inlines, crosslines, *pair, traces, others[~own], is_line=False)


def _numbering(values: np.ndarray) -> Numbering:
    distinct = np.unique(values).astype(np.int64)
    step = int(np.gcd.reduce(np.diff(distinct))) if len(distinct) > 1 else 1
    return Numbering(int(distinct[0]), step, int(distinct[-1] - distinct[0]) // step + 1)


def _line(headers: Headers, live: np.ndarray, byte: int | None) -> Geometry:
    """A 2D line, numbered by ``byte``, else by the first field with unique numbers, else in file order."""
    present = np.count_nonzero(live)
    for place in LINE_NUMBERS if byte is None else (byte,):
        values = headers[str(place)].astype(np.int64)
        axis = _numbering(values[live])
        once = bool(_once(values, live)[live].all())
        if byte is not None and not once:
            what = f"has duplicate trace numbers at byte {byte}"
            raise Unclear(what, "give another byte with --crossline-byte, or use --line without it")
        if byte is not None and axis.count > _MOST_PLACES * present:
            what = f"numbers {present:,} traces from {axis.first} to {axis.last} at byte {byte}"
            raise Unclear(what, "give another byte with --crossline-byte, or use --line without it")
        if once and axis.count > 1 and (byte is not None or axis.count <= 2 * present):
            traces = np.full((1, axis.count), -1, np.int64)
            inside = (values >= axis.first) & (values <= axis.last) & ((values - axis.first) % axis.step == 0)
            placed = live | (inside & _once(values, np.ones_like(live)))  # a dead trace with a unique number
            traces[0, (values[placed] - axis.first) // axis.step] = np.flatnonzero(placed)
            return Geometry(Numbering(1, 1, 1), axis, None, place, traces, np.flatnonzero(~placed), is_line=True)
    everyone = np.arange(len(live))
    nobody = np.empty(0, np.int64)
    return Geometry(Numbering(1, 1, 1), Numbering(1, 1, len(live)), None, None, everyone[None], nobody, is_line=True)


def _unnumbered(headers: Headers, live: np.ndarray, pair: tuple[int, int], named: bool) -> Geometry:
    """The standard bytes are constant: a 2D line, unless other fields indicate a volume or gathers."""
    what = f"bytes {pair[0]} and {pair[1]} are the same in all traces"
    if named:
        raise Unclear(what, _pairs_remedy(headers, live))
    for place in (Field.CDP, Field.RECORD):
        values = headers[str(place)]
        if not _once(values.astype(np.int64), live)[live].all() and len(np.unique(values[live])) > 1:
            _refuse_prestack(headers, live, values.astype(np.int64), "CDP or record")
    if list(_whole_pairs(headers, live)):
        raise Unclear(what, _pairs_remedy(headers, live))
    line = _line(headers, live, None)
    if line.crossline_byte is None:
        _refuse_gathers(headers, live)
    return _straight(headers, line)


def _straight(headers: Headers, line: Geometry) -> Geometry:
    """The 2D line, unless its coordinates jump back and forth."""
    x, y, known = coordinates(headers, line.traces[line.traces >= 0])
    x, y = x[known], y[known]
    steps = np.hypot(np.diff(x), np.diff(y))
    moved = steps[steps > 0]
    jumps = np.count_nonzero(steps > _JUMP * np.median(moved)) if len(moved) else 0
    if jumps > 1:
        raise Unclear(
            f"is numbered as a 2D line, but its coordinates jump {jumps:,} times, as between lines of a volume",
            "give the bytes of the line numbers with --inline-byte and --crossline-byte, or use --line for a 2D line",
        )
    return line


def coordinates(headers: Headers, traces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X and Y of traces, float64, as stored, without the scalar: bytes 181 and 185, or 73 and 77 if those are 0.

    The third array marks the traces that have coordinates: dead ones may hold 0 and 0, or the smallest integer, which
    some programs write for missing values.
    """
    places = (Field.CDP_X, Field.CDP_Y)
    if not any(headers[str(place)].any() for place in places):
        places = (Field.SOURCE_X, Field.SOURCE_Y)
    x, y = (headers[str(place)][traces].astype(np.float64) for place in places)
    return x, y, ((x != 0) | (y != 0)) & (x > _NO_COORDINATE) & (y > _NO_COORDINATE)


def _refuse_prestack(headers: Headers, live: np.ndarray, keys: np.ndarray, place: str) -> None:
    """Raise if traces at the same position have different offsets."""
    offsets = headers["37"][live].astype(np.int64)
    places = len(np.unique(keys[live]))
    if len(np.unique(offsets)) > 1 and len(np.unique(np.stack([keys[live], offsets]), axis=1)[0]) > places:
        raise Unclear(
            f"is pre-stack: {np.count_nonzero(live):,} traces at {places:,} positions ({place}), with "
            f"{len(np.unique(offsets)):,} offsets (bytes 37-40)",
            "stack it first: only one trace per position is supported",
        )


def _refuse_gathers(headers: Headers, live: np.ndarray) -> None:
    """Raise if unnumbered traces have different offsets, or several share the same coordinates."""
    where = np.flatnonzero(live)
    offsets = np.unique(headers["37"][where])
    x, y, known = coordinates(headers, where)
    places = len(np.unique(np.stack([x[known], y[known]]), axis=1)[0])
    if len(offsets) > 1:
        what = f"their offsets range from {offsets[0]} to {offsets[-1]} (bytes 37-40)"
    elif 0 < 2 * places <= np.count_nonzero(known):
        what = f"their coordinates give only {places:,} {'position' if places == 1 else 'positions'}"
    else:
        return
    raise Unclear(
        f"may be pre-stack: no header numbers its {len(where):,} traces, and {what}",
        "stack it first, or use --line for a 2D line",
    )


def _duplicates(headers: Headers, shared: np.ndarray, keys: np.ndarray, pair: tuple[int, int]) -> str:
    where = np.flatnonzero(shared)
    twin = where[1:][keys[where[1:]] == keys[where[0]]][0]
    numbers = [int(headers[str(byte)][where[0]]) for byte in pair]
    return (
        f"has duplicate numbers at bytes {pair[0]} and {pair[1]} in {len(where):,} of {len(shared):,} traces "
        f"(first: traces {where[0] + 1:,} and {twin + 1:,}, inline {numbers[0]}, crossline {numbers[1]})"
    )


def _whole_pairs(headers: Headers, live: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of bytes that number each live trace uniquely, where neither byte does so alone."""
    present = np.count_nonzero(live)
    for pair in PAIRS:
        alone = [len(np.unique(headers[str(byte)][live])) for byte in pair]
        if max(alone) < present and min(alone) > 1 and _once(_keys(headers, pair), live)[live].all():
            yield pair


def _pairs_remedy(headers: Headers, live: np.ndarray) -> str:
    """The remedy, with how many traces other pairs of bytes number uniquely."""
    counts = {pair: int(np.count_nonzero(_once(_keys(headers, pair), live))) for pair in PAIRS}
    best = sorted((pair for pair in PAIRS if counts[pair]), key=lambda pair: -counts[pair])
    told = ", ".join(f"{a}/{b} {counts[a, b]:,}" for a, b in best[:6]) or "none"
    return (
        "give the bytes with --inline-byte and --crossline-byte, use --line for a 2D line, or remove duplicates; "
        f"unique numbers among {np.count_nonzero(live):,} traces, by pair of bytes: {told}"
    )
