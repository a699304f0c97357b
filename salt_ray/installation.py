"""What this installation is and whether it works: ``salt-ray doctor``."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from salt_ray import __version__
from salt_ray.config import Network
from salt_ray.errors import SaltRayError, refusal
from salt_ray.model.weights import PACKAGES, packaged_weights
from salt_ray.report.status import size_text
from salt_ray.storage import cache_folder, storage_path
from salt_ray.survey.memory import free_bytes, usable_bytes
from salt_ray.training.hardware import processor_name

#: Whose versions decide what is computed, or what runs at all.
LIBRARIES = ("torch", "torchvision", "timm", "ray", "optuna", "albumentations", "numpy", "scipy", "pandas", "pyarrow")
LITTLE_SPACE = 1 << 30  # bytes free on a disk: a run with checkpoints takes more

#: Folders of the cache, and what is ours in them: SALT_RAY_CACHE may name a folder that holds other things too.
CACHES = {
    "surveys": r"[0-9a-f]{64}",
    "surveys/index": r"[0-9a-f]+-(strict|lenient)(-[0-9a-f]{32})?",
    "padded": r"[0-9a-f]{32}-biharmonic-[\w.-]+",
    "padding": r"biharmonic-[\w.-]+\.npz",  # of older versions
    "speeds": r"[0-9a-f]{32}\.json",
}


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
        part: of the installation: versions, device, machine, Ray, weights, caches, disk.
        value: what was found, for people.
        fix: what to do, where something is wrong.
    """

    part: str
    name: str
    value: str
    fix: str | None = None


def examine(root: Path = Path("/")) -> list[Finding]:
    """Look at everything; nothing is started, downloaded or changed.

    Args:
        root: where dev and proc are.
    """
    return [*versions(), *device(root), *machine(), *ray(), *weights(), *caches(), *disks()]


def versions() -> Iterator[Finding]:
    """Of this package, Python and the libraries that matter."""
    yield Finding("versions", "salt-ray", __version__)
    yield Finding("versions", "Python", platform.python_version())
    for name in LIBRARIES:
        try:
            yield Finding("versions", name, metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Finding("versions", name, "not installed", "install salt-ray again, with what it depends on")


def device(root: Path = Path("/")) -> Iterator[Finding]:
    """What networks are computed on, and in which number format."""
    import torch

    from salt_ray.model.acceleration import has_bf16_units
    from salt_ray.pipeline.workplace import own_device

    found = own_device()
    if found.type == "cuda":
        for number in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(number)
            yield Finding("device", f"GPU {number}", f"{properties.name}, {size_text(properties.total_memory)}")
    else:
        yield Finding("device", "GPU", *_without_gpu(gpus(root), torch.version.cuda))
    units = "bf16 (precision=fp32 turns it off)" if has_bf16_units(found) else "fp32: no units for bf16"
    yield Finding("device", "precision", units)


def _without_gpu(there: Sequence[str], built_for: str | None) -> tuple[str, str | None]:
    """Why PyTorch has no GPU; with a remedy where the machine has one."""
    if not there:
        return "none: networks are computed on the CPU", None
    names, hidden = ", ".join(there), os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and hidden.strip() in ("", "-1"):
        return f"{names}, hidden by CUDA_VISIBLE_DEVICES={hidden}", None
    if built_for is None:
        return f"{names}, but this PyTorch is built for CPUs", (
            "install PyTorch's CUDA build of the same version (https://pytorch.org/get-started/locally)"
        )
    return f"{names}, but PyTorch (CUDA {built_for}) cannot use it", (
        "run nvidia-smi: the driver has to be loaded, and new enough for that CUDA"
    )


def gpus(root: Path = Path("/")) -> list[str]:
    """NVIDIA's GPUs that this machine has or a container is given, whether or not PyTorch can use them."""
    devices = [path for path in (root / "dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)]
    names = []
    for path in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")):
        with contextlib.suppress(OSError):
            names += re.findall(r"^Model:\s*(.+?)\s*$", path.read_text(), re.MULTILINE)
    return (names or ["an NVIDIA GPU"] * len(devices))[: len(devices)]


def machine() -> Iterator[Finding]:
    """Processor and memory."""
    import torch

    cores, usable = os.cpu_count() or 1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    limited = f", of which this process may use {usable}" if usable not in (None, cores) else ""
    units = torch.cpu.get_capabilities()
    names = {"avx2": "AVX2", "avx512_f": "AVX-512", "amx_bf16": "AMX"}
    yield Finding("machine", "processor", processor_name())
    yield Finding("machine", "cores", f"{cores}{limited}")
    yield Finding(
        "machine", "units", ", ".join(word for name, word in names.items() if units.get(name)) or "none known"
    )
    yield Finding("machine", "memory", f"{size_text(usable_bytes())}, {size_text(free_bytes())} free")


def ray() -> Iterator[Finding]:
    """Which Ray a command would use."""
    from salt_ray.cluster.session import ClusterError, check_folder, origin, own_cluster, somebody_answers

    address = own_cluster()
    if address not in (None, "local"):
        place = urlsplit(address if "://" in address else f"ray://{address}").netloc
        answers = somebody_answers(place if ":" in place else f"{place}:443")  # an https:// address names no port
        value, fix = (address, None) if answers else (f"{address} does not answer", f"check {origin(None)}")
        yield Finding("Ray", "cluster", value, fix)
        return
    yield Finding("Ray", "cluster", "none: commands start a Ray of their own on this machine")
    try:
        yield Finding("Ray", "folder", str(check_folder()))
    except ClusterError as error:
        problem, _, fix = str(error).rpartition("; ")
        yield Finding("Ray", "folder", problem, fix)


def weights() -> Iterator[Finding]:
    """ImageNet weights that are here already."""
    for encoder in PACKAGES:
        try:
            file = packaged_weights(encoder)
        except SaltRayError as error:
            problem, _, fix = str(error).rpartition(": ")
            yield Finding("weights", encoder, problem, fix)
        else:
            yield Finding(
                "weights", encoder, "not installed" if file is None else f"installed, {size_text(_bytes(file))}"
            )
    encoder = Network().encoder
    file = downloaded_weights(encoder)
    yield Finding(
        "weights", encoder, "downloaded at first use" if file is None else f"downloaded, {size_text(_bytes(file))}"
    )


def downloaded_weights(encoder: str) -> Path | None:
    """The file of an encoder's weights that timm has downloaded; None: it would do so."""
    import timm
    import torch
    from huggingface_hub import try_to_load_from_cache

    found = timm.get_pretrained_cfg(encoder)
    if found is None:
        return None
    for name in ("model.safetensors", "pytorch_model.bin") if found.hf_hub_id else ():
        if isinstance(path := try_to_load_from_cache(found.hf_hub_id, name), str):
            return Path(path)
    name = (found.url or "").rpartition("/")[2]
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    return path if name and path.is_file() else None


def caches() -> Iterator[Finding]:
    """Ours, with their sizes."""
    root = cache_folder(".")
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            yield Finding("caches", "folder", str(root))
    except OSError as error:
        yield Finding("caches", "folder", f"{root}: {refusal(error)}", "set SALT_RAY_CACHE to a folder to write in")
    for kind in CACHES:
        if paths := cached(kind):
            yield Finding("caches", kind, size_text(sum(map(_bytes, paths))))


def cached(kind: str) -> list[Path]:
    """What one of ``CACHES`` has written."""
    ours = re.compile(rf"{CACHES[kind]}|\.({CACHES[kind]})\.(lock|\d+-[0-9a-f]{{8}}\.tmp)")
    folder = cache_folder(kind)
    try:
        return sorted(path for path in folder.iterdir() if ours.fullmatch(path.name))
    except OSError:  # absent, or closed to us
        return []


def clear_caches() -> int:
    """Delete what is cached; everything in it is made again when it is needed. Returns how many bytes are free again.

    Nothing may be at work meanwhile.

    Raises:
        OSError: something cannot be deleted.
    """
    freed = 0
    for kind in CACHES:
        for path in cached(kind):
            freed += _bytes(path)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    return freed


def disks() -> Iterator[Finding]:
    """Free space where runs, caches and temporary files go."""
    places = {"runs": storage_path(os.environ.get("SALT_RAY_RUNS", ".")), "caches": cache_folder(".")}
    places["temporary files"] = Path(tempfile.gettempdir())
    for name, path in places.items():
        if not isinstance(path, Path):
            yield Finding("disk", name, str(path))
            continue
        there = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
        free = shutil.disk_usage(there).free
        fix = f"free some space on the disk of {there}" if free < LITTLE_SPACE else None
        yield Finding("disk", name, f"{size_text(free)} free at {there}", fix)


def _bytes(path: Path) -> int:
    """Of a file, or of a folder's files."""
    total = 0
    for file in [path, *path.rglob("*")] if path.is_dir() else [path]:
        with contextlib.suppress(OSError):
            total += file.stat().st_size if file.is_file() else 0
    return total
