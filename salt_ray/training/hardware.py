"""What trained a fold: kept beside its stages, because whoever looks at the run later sits at another machine."""

from __future__ import annotations

import contextlib
import json
import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING

from salt_ray.errors import RunError
from salt_ray.storage import StoragePath, fields_if_there, write_atomically

if TYPE_CHECKING:
    import torch


def processor_name() -> str:
    """This machine's processor, as its maker calls it."""
    try:
        names = re.findall(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        names = []
    return names[0] if names else platform.processor() or "a processor without a name"


def device_name(device: torch.device) -> str:
    """A GPU, or the processor with the threads that PyTorch takes; no name by which a machine could be reached."""
    import torch  # here: a report, which only reads what is kept, does not wait for it

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{processor_name()}, {threads} thread{'s' if threads > 1 else ''}"


def trained_on(fold_folder: StoragePath) -> list[str]:
    """The devices that a fold was trained on, first to last; none for one that was trained before they were kept.

    Raises:
        RunError: the file is damaged.
    """
    path = fold_folder / "hardware.json"
    fields = fields_if_there(path, path)
    names = [] if fields is None else fields.get("trained_on")
    if not isinstance(names, list):
        raise RunError(f"{path} is damaged (it names no devices): restore or delete it")
    return [str(name) for name in names]


def remember_device(fold_folder: StoragePath, device: torch.device) -> None:
    """Note that the fold resumes here; a damaged note, on which nothing depends, is replaced."""
    names, name = [], device_name(device)
    with contextlib.suppress(RunError):
        names = trained_on(fold_folder)
    if name not in names:
        write_atomically(fold_folder / "hardware.json", json.dumps({"trained_on": [*names, name]}, indent=1))
