"""Standard output and standard error of a command: nothing that becomes of them ends it."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TextIO

NO_READER = (errno.EPIPE, errno.EIO)  # of a pipe, and of a terminal that was closed


class _MayLoseItsReader(io.FileIO):
    """Drops what is written once the other end of a pipe or of a terminal is gone."""

    def write(self, data: bytes) -> int | None:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in NO_READER:
                raise
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
        return super().write(data)


def make_output_safe() -> None:
    """Escape characters that an output's encoding lacks, and continue when nothing reads it any more."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            if stream is getattr(sys, f"__{name}__"):
                stream.flush()
                setattr(sys, name, _safe(stream))
            else:
                stream.reconfigure(errors="backslashreplace")


def _safe(stream: io.TextIOWrapper) -> TextIO:
    raw = _MayLoseItsReader(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        raw if isinstance(stream.buffer, io.RawIOBase) else io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
