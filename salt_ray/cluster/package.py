"""The project's code as one package, which Ray unpacks on every node that works on a job.

What travels is listed, not what stays: data, runs and keys that lie in the project's folder are never looked at.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from salt_ray.cluster.session import ClusterError  # isort: skip (sets Ray's environment)
from ray._private.runtime_env.packaging import _dir_travel, get_excludes_from_ignore_files

PROJECT = Path(__file__).resolve().parents[2]  # a checkout, or where the package is installed
CONTENT = ("launch.py", "pyproject.toml", "constraints.txt", "salt_ray", "experiments", "benchmarks")
LIMIT_BYTES = 20 << 20  # the code has less than 1 MB; Ray would take 512 MiB, and keep them in the head's memory
NAMED = 3  # files, and folders, that a package too big names


def is_checkout(project: Path) -> bool:
    """Whether a folder holds the whole project, and not beside others the package that is installed from it."""
    return (project / "launch.py").exists()


def project_files(project: Path) -> dict[str, Path]:
    """The project's code by its place in the package ("salt_ray/config.py"); of an installed one the package alone.

    Hidden files, compiled ones and what a ``.gitignore`` or ``.rayignore`` names stay behind.
    """
    log = logging.getLogger(__name__)  # Ray's own one would tell of every .gitignore
    ignored = get_excludes_from_ignore_files(project, include_gitignore=True, logger=log)
    found: list[Path] = []
    for name in CONTENT if is_checkout(project) else ("salt_ray",):
        if (project / name).exists():
            _dir_travel(project / name, [*ignored, _no_code], found.append, include_gitignore=True, logger=log)
    return {path.relative_to(project).as_posix(): path for path in found if path.is_file()}


def _no_code(path: Path) -> bool:
    return path.name.startswith(".") or path.name == "__pycache__" or path.suffix == ".pyc"


def write_package(files: Mapping[str, Path], path: Path) -> None:
    """Write a zip with the same bytes for the same files: Ray uploads only what the cluster does not have yet."""
    with ZipFile(path, "w") as package:
        for place in sorted(files):
            package.writestr(ZipInfo(place), files[place].read_bytes(), ZIP_DEFLATED)  # no time of change


def check_size(files: Mapping[str, Path]) -> None:
    """Refuse what is too big to be code.

    Raises:
        ClusterError: naming the largest files and folders.
    """
    sizes = {place: file.stat().st_size for place, file in files.items()}
    total = sum(sizes.values())
    if total <= LIMIT_BYTES:
        return
    folders = Counter()
    for place, size in sizes.items():
        folders[f"{PurePosixPath(place).parent}/"] += size
    raise ClusterError(
        f"{_mib(total)} would travel to the cluster as code, and {_mib(LIMIT_BYTES)} may: the largest files are "
        f"{_largest(sizes)}, the largest folders {_largest(folders)}; move what is no code elsewhere, or name it in "
        ".gitignore"
    )


def _largest(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({_mib(size)})" for name, size in Counter(sizes).most_common(NAMED))


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
