"""What the user specifies about a file because its headers lack it or are wrong."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """Values that override a file's headers; None: use the headers.

    Attributes:
        byte_order: 'big' or 'little'.
        format: SEG-Y sample format code.
        samples: per trace.
        interval: sample interval, in ms or in the unit of depth.
        inline_byte, crossline_byte: first bytes of the line numbers in trace headers, from 1.
        line: True: a 2D line, sorted by crossline, CDP or shot number, else in file order. False: a volume, of which
            the file may hold a single line.
        fill: replace NaN and infinite values by 0.
    """

    byte_order: str | None = None
    format: int | None = None
    samples: int | None = None
    interval: float | None = None
    inline_byte: int | None = None
    crossline_byte: int | None = None
    line: bool | None = None
    fill: bool = False
