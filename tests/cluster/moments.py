"""Stops a process in the middle of the write of a file that a test has named, to be disturbed right there."""

from __future__ import annotations

import glob
import os
import secrets
import signal
from pathlib import Path

from road import ROOT

HOOK = '''
"""Loaded by every Python process: the first one that is about to flush a file that is waited for stops before that."""
import fnmatch, os, time
from pathlib import Path

folder, whole = Path({folder!r}), os.fsync

def watched(handle):
    name = os.readlink(f"/proc/self/fd/{{handle}}") if isinstance(handle, int) else ""
    for wanted in folder.glob("*.wanted"):
        try:
            if not fnmatch.fnmatch(name, wanted.read_text()):
                continue
            wanted.rename(wanted.with_suffix(".taken"))
        except FileNotFoundError:  # another process has come first
            continue
        place = wanted.with_suffix(".place")
        place.write_text(f"{{os.getpid()}} {{name}}")
        place.rename(wanted.with_suffix(".reached"))
        while not wanted.with_suffix(".over").exists():
            time.sleep(0.02)
    return whole(handle)

os.fsync = watched
'''


class Moment:
    """The write of a file, once a process has come to it: all is written, under a temporary name, but not flushed."""

    def __init__(self, folder: Path, pattern: str) -> None:
        self._path = folder / f"{secrets.token_hex(4)}.reached"
        unseen = self._path.with_suffix(".new")
        unseen.write_text(pattern)
        unseen.rename(self._path.with_suffix(".wanted"))

    @property
    def reached(self) -> bool:
        return self._path.exists()

    @property
    def pid(self) -> int:
        """The process that writes."""
        return int(self._path.read_text().split()[0])

    @property
    def file(self) -> Path:
        """What it writes, under its temporary name."""
        return Path(self._path.read_text().partition(" ")[2])

    @property
    def same(self) -> str:
        """The pattern of another write of this very file."""
        name = self.file.name.rpartition(".")[0].rpartition(".")[0]  # without the writer's mark and "tmp"
        return f"{glob.escape(str(self.file.parent))}/{name}.*"

    def kill(self) -> None:
        """Kill the process with half of the file written."""
        os.truncate(self.file, self.file.stat().st_size // 2)
        os.kill(self.pid, signal.SIGKILL)

    def go_on(self) -> None:
        self._path.with_suffix(".over").touch()


class Moments:
    """The moments that processes with ``environment`` are stopped at.

    Args:
        folder: a new one, which these processes see.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(HOOK.format(folder=str(folder)))
        self._folder = folder
        self.environment = {"PYTHONPATH": f"{folder}:{ROOT}"}

    def at(self, pattern: str) -> Moment:
        """The next write of a file whose path, with its temporary name, matches: ``*/.NAME.*``."""
        return Moment(self._folder, pattern)
