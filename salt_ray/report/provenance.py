"""Provenance of a report: versions, commit and hardware."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from salt_ray import __version__
from salt_ray.training.hardware import processor_name

PACKAGES = (
    "ray", "torch", "timm", "albumentations", "opencv-python-headless", "optuna", "numpy", "scipy", "pandas",
    "matplotlib",
)  # fmt: skip
COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def versions() -> dict[str, str]:
    """Python, salt-ray, and the packages that results depend on."""
    found = {"Python": platform.python_version(), "salt-ray": __version__}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def commit(project: Path) -> str | None:
    """The checked-out commit of the project's code; None if it is not a git checkout."""
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
    """The hardware of this process, without host name."""
    import torch

    system = f"{platform.system()} {platform.machine()}"
    found = {"system": system, "CPU": processor_name(), "cores": f"{os.cpu_count()}"}
    found["memory"] = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    found["GPUs"] = ", ".join(names) or "none"
    return found
