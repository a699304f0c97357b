"""SEG-Y text header, binary header and trace headers: where a field is, and what it holds. Validated elsewhere.

Bytes are numbered as in the standard (SEG-Y revision 2.1, SEG Technical Standards Committee, 2023): from 1; the binary
header starts at byte 3201 of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

TEXT_BYTES, BINARY_BYTES, TRACE_HEADER_BYTES = 3200, 400, 240
HEADER_BYTES = TEXT_BYTES + BINARY_BYTES
#: Fields of a trace header that are not 32-bit integers.
_SHORT = {29: "i2", 71: "i2", 89: "i2", 109: "i2", 115: "u2", 117: "i2", 215: "i2"}


class Field:
    """First bytes of the trace header fields that are used."""

    RECORD, CHANNEL, SHOT, CDP, KIND, OFFSET = 9, 13, 17, 21, 29, 37
    COORDINATE_SCALAR, SOURCE_X, SOURCE_Y, COORDINATE_UNIT = 71, 73, 77, 89
    DELAY, SAMPLES, INTERVAL, CDP_X, CDP_Y, INLINE, CROSSLINE, TIME_SCALAR = 109, 115, 117, 181, 185, 189, 193, 215


def trace_fields(places: tuple[int, ...], order: str) -> np.dtype:
    """Structured dtype of a trace header; fields are named by their first byte, as text."""
    kinds = [np.dtype(_SHORT.get(place, "i4")).newbyteorder(order) for place in places]
    names, offsets = [str(place) for place in places], [place - 1 for place in places]
    return np.dtype({"names": names, "formats": kinds, "offsets": offsets, "itemsize": TRACE_HEADER_BYTES})


def scale_of(scalar: np.ndarray | int) -> np.ndarray:
    """The factor of a SEG-Y scalar, float64: a negative scalar divides, 0 means 1."""
    scalar = np.asarray(scalar, np.float64)
    return np.where(scalar < 0, -1 / np.minimum(scalar, -1), np.maximum(scalar, 1))


def scaled_coordinates(headers: Mapping[str, np.ndarray] | np.ndarray, places: tuple[int, int]) -> np.ndarray:
    """X and y of traces, float64 (2, n), each with its own scalar.

    Args:
        headers: the fields (n,) of ``trace_fields`` with ``places`` and ``Field.COORDINATE_SCALAR``.
        places: first bytes of x and y.
    """
    scale = scale_of(headers[str(Field.COORDINATE_SCALAR)])
    return np.stack([headers[str(place)] * scale for place in places])


@dataclass(frozen=True)
class BinaryHeader:
    """The 400 bytes from 3201, in one byte order.

    Attributes:
        raw: the bytes.
        order: numpy's byte order character, '>' or '<'.
    """

    raw: bytes
    order: str

    def number(self, place: int, kind: str = "i2") -> int | float:
        """The number that starts at a byte of the file; ``kind`` is a numpy dtype."""
        return np.frombuffer(self.raw, np.dtype(kind).newbyteorder(self.order), 1, place - TEXT_BYTES - 1)[0].item()

    @property
    def code(self) -> int:
        """Sample format code."""
        return self.number(3225)

    @property
    def second_revision(self) -> bool:
        """Whether the revision is 2: 2 in the first byte, or 200 in both. Some files hold text ("00" is 0x3030)."""
        return self.raw[300] == 2 or self.number(3501) in (200, 0x200)

    @property
    def samples(self) -> int:
        """Samples per trace."""
        extended = self.number(3269, "u4") if self.second_revision else 0
        return extended or self.number(3221, "u2")

    @property
    def interval(self) -> float:
        """Sample interval in microseconds, or thousandths of the unit of depth, as stored; may be 0 or negative."""
        extended = self.number(3273, "f8") if self.second_revision else 0.0
        return extended if np.isfinite(extended) and extended > 0 else float(self.number(3217))

    @property
    def extended_texts(self) -> int:
        """Number of extended text headers of 3,200 bytes; -1: unknown, the last one is marked."""
        return self.number(3505)

    @property
    def more_trace_headers(self) -> int:
        """Number of additional trace headers of 240 bytes (revision 2).

        Revision 2.0 uses four bytes, 2.1 the first two of them; some files of revision 2.0 also use two.
        """
        if not self.second_revision:
            return 0
        return self.number(3507, "u2") or (self.number(3507, "i4") if self.raw[301] == 0 else 0)


def decoded_text(raw: bytes) -> tuple[str, list[str]]:
    """Decode a text header for display.

    Returns:
        Its encoding (EBCDIC, ASCII or blank) and its non-empty lines, without control characters.
    """
    letters = raw.replace(b"\0", b"").replace(b"\x40", b"").replace(b" ", b"")
    if not letters:
        return "blank", []
    readings = {"EBCDIC": raw.decode("cp037"), "ASCII": raw.decode("latin-1")}
    encoding = max(readings, key=lambda name: sum(c.isascii() and (c.isalnum() or c == " ") for c in readings[name]))
    text = "".join(c if c.isprintable() else " " for c in readings[encoding])
    rows = (text[at : at + 80].rstrip() for at in range(0, len(text), 80))
    return encoding, [row for row in rows if row.strip()]
