"""A writer of SEG-Y files in which everything can be wrong. It shares no code with the reader."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

#: Stored words of each format; those of IBM floats are given as bits.
WORDS = {
    1: "u4", 2: "i4", 3: "i2", 4: "u4", 5: "f4", 6: "f8", 7: "V3", 8: "i1", 9: "i8", 10: "u4", 11: "u2", 12: "u8",
    15: "V3", 16: "u1",
}  # fmt: skip
#: Numbers of a trace header that are not four bytes long, as struct names them.
SHORT = dict.fromkeys((29, 71, 89, 109, 117, 215), "h") | {115: "H"}
INLINES, CROSSLINES, SAMPLES = 6, 7, 50


def waves(traces: int = INLINES * CROSSLINES, samples: int = SAMPLES, seed: int = 0) -> np.ndarray:
    """Amplitudes of both signs, float32 (traces, samples)."""
    return np.random.default_rng(seed).normal(0, 100, (traces, samples)).astype(np.float32)


def ibm_bits(value: float) -> int:
    """The word of an IBM float, with a first digit that is not 0."""
    if value == 0:
        return 0
    sign, rest, exponent = (0x80 if value < 0 else 0), abs(float(value)), 64
    while rest >= 1:
        rest, exponent = rest / 16, exponent + 1
    while rest < 1 / 16:
        rest, exponent = rest * 16, exponent - 1
    return (sign | exponent) << 24 | int(rest * 2**24)


def grid_numbers(inlines: int = INLINES, crosslines: int = CROSSLINES, spacing: float = 25) -> dict[int, np.ndarray]:
    """Numbers and coordinates of a grid's traces, along inlines; 25 m between these, 12.5 between traces, turned."""
    rows, columns = (axis.ravel() for axis in np.indices((inlines, crosslines)))
    x = 1000 + spacing * rows * np.cos(np.pi / 6) - 12.5 * columns * np.sin(np.pi / 6)
    y = 2000 + spacing * rows * np.sin(np.pi / 6) + 12.5 * columns * np.cos(np.pi / 6)
    return {189: 100 + rows, 193: 300 + columns, 71: -100, 181: np.rint(100 * x), 185: np.rint(100 * y)}


def write_segy(
    path: Path,
    words: np.ndarray | None = None,
    numbers: Mapping[int, np.ndarray | int] | None = None,
    *,
    code: int = 5,
    little: bool = False,
    interval: int = 4000,
    binary: Mapping[int, tuple[str, float]] | None = None,
    text: bytes = "C 1 MADE FOR A TEST".ljust(3200).encode("cp037"),
    more: bytes = b"",
    trace_header: int = 240,
    cut: int = 0,
) -> Path:
    """Write a file.

    Args:
        path: where.
        words: what is stored, (traces, samples); default: ``waves()``.
        numbers: fields of trace headers by their first byte, for each trace or for all; default: ``grid_numbers()``.
        code: of the sample format, as the header says it and as ``WORDS`` stores it.
        little: the byte order.
        interval: in microseconds, in the binary header.
        binary: further fields of the binary header: first byte in the file, struct's letter and value.
        text: the text header.
        more: what stands between the headers and the traces.
        trace_header: length of a trace's header.
        cut: bytes that are missing at the end.
    """
    words = waves() if words is None else words
    order = "<" if little else ">"
    header = bytearray(400)
    fields = {3217: ("h", interval), 3221: ("H", words.shape[1] & 0xFFFF), 3225: ("h", code), **(binary or {})}
    for place, (letter, value) in fields.items():
        struct.pack_into(order + letter, header, place - 3201, value)
    said = {115: words.shape[1] & 0xFFFF, 117: max(interval, 0), **(grid_numbers() if numbers is None else numbers)}
    content = bytearray(text[:3200].ljust(3200, b"\0") + header + more)
    for index, trace in enumerate(words.astype(np.dtype(WORDS[code]).newbyteorder(order))):
        header = bytearray(trace_header)
        for place, value in said.items():
            struct.pack_into(
                order + SHORT.get(place, "i"), header, place - 1, int(np.broadcast_to(value, len(words))[index])
            )
        content += header + trace.tobytes()
    path.write_bytes(content[: len(content) - cut])
    return path
