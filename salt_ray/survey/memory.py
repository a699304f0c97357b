"""How much memory a survey may take."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

#: Longest edge of a tile that is decoded, in px: a few bytes may claim a picture that fills the memory. A PNG of this
#: size takes 130 MB while it is decoded (four channels of 16 bits).
MAX_EDGE_PX = 4096


class Memory:
    """What pictures and zips may take once they are unpacked: a few kilobytes of either can hold gigabytes.

    A quarter of what this process may use, because the tiles are copied once and others need some too.

    Attributes:
        limit: in bytes.
    """

    def __init__(self) -> None:
        self.limit = usable_bytes() // 4
        self._left = self.limit
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Whether there was room for so many bytes more; they stay taken."""
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True

    def __str__(self) -> str:
        return f"{self.limit >> 20:,} MiB, a quarter of the memory of this machine or container"


def usable_bytes(root: Path = Path("/")) -> int:
    """The machine's memory, or what this process's control group leaves of it: a container's or a batch job's share.

    In a container the group may be named as the host names it, and lie at the top of what the container sees: each
    group above it counts too.

    Args:
        root: where proc and sys lie.
    """
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with contextlib.suppress(OSError):  # no Linux
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if not controllers:
                top, name = root / "sys/fs/cgroup", "memory.max"
            elif "memory" in controllers.split(","):
                top, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
            else:
                continue
            folder = top / group.lstrip("/")
            for place in (folder, *folder.parents):
                if place.is_relative_to(top):
                    limits += _limit(place / name)
    return min(limits)


def _limit(path: Path) -> list[int]:
    """The number in a file; none where there is no such file, or no limit ("max")."""
    with contextlib.suppress(OSError, ValueError):
        return [int(path.read_text())]
    return []
