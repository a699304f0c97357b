"""How much memory a survey may take, and what is said where there is not enough."""

from __future__ import annotations

import contextlib
import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

from salt_ray.errors import SaltRayError

#: Longest edge of a tile that is decoded, in px: a few bytes may claim a picture that fills the memory. A PNG of this
#: size takes 130 MB while it is decoded (four channels of 16 bits).
MAX_EDGE_PX = 4096

_REMEDY = (
    "free memory, raise the limit (ulimit -v, or that of the container or batch job), use a larger machine, "
    "or fewer or smaller tiles"
)


class NotEnoughMemory(SaltRayError):
    """A step needs more memory than there is."""


@contextlib.contextmanager
def room(step: str, needed: int = 0) -> Iterator[None]:
    """Do a step that takes about so many bytes of memory, or say that they are not there.

    Args:
        step: what is done, as a message begins: "padding tiles from 101 to 148 px".
        needed: in bytes; 0 where it is not known.

    Raises:
        NotEnoughMemory: fewer bytes are free, or the memory ran out in the step.
    """
    free = free_bytes()
    if needed > free:
        raise NotEnoughMemory(f"{step} needs about {_mib(needed)} of memory, and only {_mib(free)} are free: {_REMEDY}")
    try:
        yield
    except MemoryError as error:
        raise out_of_memory(step, error) from error


def out_of_memory(step: str, error: MemoryError) -> NotEnoughMemory:
    """What is said of a step in which the memory ran out."""
    reason = f" ({error})" if str(error) else ""
    return NotEnoughMemory(f"{step}: out of memory{reason}, {_mib(free_bytes())} are free: {_REMEDY}")


class Memory:
    """What pictures and zips may take once they are unpacked: a few kilobytes of either can hold gigabytes.

    A quarter of what this process may use, because the tiles are copied once and others need some too; and no more than
    a third of what is free now.

    Attributes:
        limit: in bytes.
    """

    def __init__(self) -> None:
        quarter, third = usable_bytes() // 4, free_bytes() // 3
        self.limit = min(quarter, third)
        self._share = "a quarter of the memory of this machine or container"
        if third < quarter:
            self._share = "a third of the memory that is free"
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
        return f"{_mib(self.limit)}, {self._share}"


def usable_bytes(root: Path = Path("/")) -> int:
    """The machine's memory, or the smallest limit on it: of the control groups (a container, a batch job), ``ulimit``.

    Args:
        root: where proc and sys are.
    """
    return min(limit for limit, _ in _limits(root))


def free_bytes(root: Path = Path("/")) -> int:
    """What this process can still take before the machine, a control group or ``ulimit -v`` has no more.

    Memory that only caches files counts as free.

    Args:
        root: where proc and sys are.
    """
    return max(0, min(limit - used for limit, used in _limits(root)))


def _limits(root: Path) -> Iterator[tuple[int, int]]:
    """Each limit on the memory of this process, and what is used of it, in bytes; what no file tells is not used.

    In a container a control group may have the host's name, and be at the top of what the container sees:
    each group above it counts too.
    """
    page = os.sysconf("SC_PAGE_SIZE")
    machine = page * os.sysconf("SC_PHYS_PAGES")
    free = [int(line.split()[1]) << 10 for line in _lines(root / "proc/meminfo") if line.startswith("MemAvailable:")]
    yield machine, machine - min(free, default=machine)
    address_space, _ = resource.getrlimit(resource.RLIMIT_AS)
    if address_space != resource.RLIM_INFINITY:
        yield address_space, page * sum(int(line.split()[0]) for line in _lines(root / "proc/self/statm"))
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, group = line.split(":", 2)
        if not controllers:
            top, limit, usage = root / "sys/fs/cgroup", "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            top, limit, usage = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        folder = top / group.lstrip("/")
        for place in (folder, *folder.parents):
            if place.is_relative_to(top) and (number := _number(place / limit)) is not None:
                yield number, _used(place / usage)


def _used(usage: Path) -> int:
    """Bytes that a control group uses, without those that only cache files."""
    told = dict(line.split() for line in _lines(usage.with_name("memory.stat")))
    kinds = ("active_file", "inactive_file")  # with total_: with the groups below, in version 1
    cached = sum(int(told.get(f"total_{kind}", told.get(kind, 0))) for kind in kinds)
    return max(0, (_number(usage) or 0) - cached)


def _number(path: Path) -> int | None:
    """The number in a file; None where there is no such file, or no number ("max")."""
    text = "".join(_lines(path))
    return int(text) if text.isdecimal() else None


def _lines(path: Path) -> list[str]:
    """The lines of a file of the kernel's; none where it has no such file (no Linux, no such limit)."""
    with contextlib.suppress(OSError):
        return path.read_text().splitlines()
    return []


def _mib(size: int) -> str:
    return f"{size >> 20:,} MiB"
