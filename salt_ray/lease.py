"""A lock in an object store: a lease that its holder renews, so that it ends with its owner.

The store has no locks. A holder writes its name into an object again every few seconds. One whose process is gone from
this machine holds nothing any more; one on another machine is believed to be gone when nothing was renewed for long.
"""

from __future__ import annotations

import _thread
import contextlib
import json
import os
import secrets
import signal
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from salt_ray.errors import RunError
from salt_ray.object_store import ObjectPath, StorageError

RENEW_SECONDS = 10.0
EXPIRY_SECONDS = 45.0  # without a renewal; what is tried of one in vain takes 6 s, so that two of them may fail
SETTLE_SECONDS = 1.0  # two that write at the same time see after that whose write came last


class Lease:
    """Holds an object for this process while the block lasts.

    Raises:
        RunError: another process holds it; or, when the block ends, another one has taken it over meanwhile, because
            this one could not reach the store for long. The block is then interrupted.
    """

    def __init__(self, path: ObjectPath) -> None:
        # Asked once at a time: a renewal that is tried for a minute would land on the lease of whoever came meanwhile.
        self._path = ObjectPath(str(path), pauses=())
        self._owner = {"token": secrets.token_hex(16), "machine": _machine(), "pid": os.getpid(), "born": _born()}
        self._lost = False
        self._ended = threading.Event()
        self._renewals = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        self._wait_for_its_end()
        self._write(0)
        time.sleep(SETTLE_SECONDS)
        if not self._is_ours():
            raise self._taken()
        self._renewals.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._renewals.join()
        if self._lost:
            raise RunError(self._taken_over()) from error
        with contextlib.suppress(StorageError):  # it expires by itself
            if self._is_ours():  # or the store was away for so long that another process holds it by now
                self._path.unlink(missing_ok=True)

    def _wait_for_its_end(self) -> None:
        """Wait until the lease is free.

        Raises:
            RunError: its holder has just renewed it.
        """
        first, since = self._holder(), time.monotonic()
        while (holder := self._holder()) is not None and not self._gone(holder):
            if holder != first:
                raise self._taken()
            if time.monotonic() - since > EXPIRY_SECONDS:
                return
            time.sleep(1)

    def _gone(self, holder: dict[str, Any]) -> bool:
        """Whether the holder was a process of this machine that has ended."""
        return holder.get("machine") == self._owner["machine"] and _born(holder.get("pid")) != holder.get("born")

    def _renew(self) -> None:
        count = 0
        while not self._ended.wait(RENEW_SECONDS):
            count += 1
            try:
                if not self._is_ours():
                    self._lost = True
                    self._interrupt()
                    return
                self._write(count)
            except StorageError:
                continue  # after the next one; what is written meanwhile fails by itself

    def _interrupt(self) -> None:
        """End the block: by a signal that is heard here (a shell's background jobs ignore SIGINT), or the process."""
        for number in (signal.SIGINT, signal.SIGTERM):
            if callable(signal.getsignal(number)):
                _thread.interrupt_main(number)
                return
        os.write(2, f"error: {self._taken_over()}\n".encode())
        os._exit(1)

    def _is_ours(self) -> bool:
        return (self._holder() or {}).get("token") == self._owner["token"]

    def _holder(self) -> dict[str, Any] | None:
        """What the object says; nothing ({}) where it is damaged, and None where there is none."""
        try:
            found = json.loads(self._path.read_text())
        except FileNotFoundError:
            return None
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, count: int) -> None:
        self._path.write_bytes(json.dumps({**self._owner, "renewals": count}).encode())

    def _taken_over(self) -> str:
        return f"another process has taken over {self._path.parent}; this one stops"

    def _taken(self) -> RunError:
        return RunError(f"another process is using {self._path.parent}: wait for it, or change --run-dir")


def _machine() -> str:
    """Where process numbers mean the same: this machine since it was started, and a container's processes on it.

    Containers with the host's network, as Ray starts them, have the host's name.
    """
    boot, processes = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    known = [boot.read_text().strip()] if boot.exists() else []
    if processes.is_symlink():
        known.append(os.readlink(processes))
    return " ".join([socket.gethostname(), *known])


def _born(pid: int | None = None) -> str | None:
    """When a process of this machine was started, in the kernel's ticks; None: there is none."""
    try:
        return Path(f"/proc/{pid or os.getpid()}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None
