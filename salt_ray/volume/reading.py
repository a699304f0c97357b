"""What somebody says about a file because the file does not, or says it wrongly."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """Answers to what headers leave open; None: as the file says.

    Attributes:
        byte_order: 'big' or 'little'.
        format: SEG-Y's code of the sample format.
        samples: of each trace.
        interval: between samples, in ms, or in the unit of depth.
        inline_byte, crossline_byte: first bytes of the trace header's fields that number lines, from 1.
        line: it is a 2D line, in the order of its crossline, CDP or shot numbers, else of the file. False: it is a
            volume, of which it may hold one line only.
        fill: put 0 where a value is NaN or infinite.
    """

    byte_order: str | None = None
    format: int | None = None
    samples: int | None = None
    interval: float | None = None
    inline_byte: int | None = None
    crossline_byte: int | None = None
    line: bool | None = None
    fill: bool = False
