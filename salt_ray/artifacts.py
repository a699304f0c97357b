"""Files that are whole or absent, and where everything of a run lies.

Nothing here is written in place: a file goes to a temporary name beside its own, is flushed to the disk, and is renamed.
A marker is written last, so that its presence proves the rest.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file that appears under ``path`` when the block ends, or not at all when it raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replace ``path`` by ``content`` (text as UTF-8) in one step."""
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def _sync_directory(directory: Path) -> None:
    """Make a rename survive a power cut."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
