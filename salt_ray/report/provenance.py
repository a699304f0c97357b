"""Where a report comes from: versions, commit, machine, and how long training took."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import struct
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from salt_ray import __version__
from salt_ray.storage import StoragePath
from salt_ray.training.hardware import processor_name

PACKAGES = (
    "ray", "torch", "timm", "albumentations", "opencv-python-headless", "optuna", "numpy", "scipy", "pandas",
    "matplotlib",
)  # fmt: skip
COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
HEAD_BYTES = 12  # of an event: its length (uint64) and a checksum; four more bytes of checksum follow its content


def versions() -> dict[str, str]:
    """Python, salt-ray, and the packages that results depend on."""
    found = {"Python": platform.python_version(), "salt-ray": __version__}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def commit(project: Path) -> str | None:
    """The commit that is checked out where the project's code lies; None where that is no git checkout."""
    git = project / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head if COMMIT.fullmatch(head) else None
        name = head.removeprefix("ref: ")
        if (git / name).is_file():
            return (git / name).read_text().strip()
        packed = (line.split() for line in (git / "packed-refs").read_text().splitlines() if line[:1] not in "#^")
        return next((found for found, ref in packed if ref == name), None)
    except (OSError, ValueError):
        return None


def machine() -> dict[str, str]:
    """The hardware of this process; no name by which it could be reached."""
    import torch

    system = f"{platform.system()} {platform.machine()}"
    found = {"system": system, "CPU": processor_name(), "cores": f"{os.cpu_count()}"}
    found["memory"] = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    found["GPUs"] = ", ".join(names) or "none"
    return found


def training_seconds(folder: StoragePath) -> float | None:
    """From the first to the last reported epoch of a fold's curves, without the times between its starts.

    Args:
        folder: of a fold in ``tensorboard/``; None is returned where it holds no epochs.
    """
    files = sorted(folder.rglob("events.out.tfevents.*"))
    spans = [times[-1] - times[0] for times in (list(_event_times(file.read_bytes())) for file in files) if times]
    return sum(spans) if spans else None


def _event_times(content: bytes) -> Iterator[float]:
    """The times of an event file's records, in seconds since 1970; a record that was cut off ends them.

    A record is a protocol buffer whose first field is its time: the tag 9, and a double.
    """
    place = 0
    while place + HEAD_BYTES <= len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        record = content[place + HEAD_BYTES : place + HEAD_BYTES + length]
        if len(record) < length:
            return
        if record[:1] == b"\x09":
            yield struct.unpack_from("<d", record, 1)[0]
        place += HEAD_BYTES + length + 4
