"""The project's code, which travels with a job; Ray unpacks it on every node that works on it.

What travels is listed, by place and kind, and not what stays: data, runs and keys in the project's folder are
never looked at.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]  # a checkout, or where the package is installed
FILES = ("launch.py", "pyproject.toml", "constraints.txt")
FOLDERS = ("salt_ray", "experiments", "benchmarks")
CODE = {".py", ".html", ".css"}


def is_checkout(project: Path) -> bool:
    """Whether a folder holds the whole project, and not beside others the package that is installed from it."""
    return (project / "launch.py").exists()


def project_files(project: Path) -> dict[str, Path]:
    """The code by its place in the package ("salt_ray/section.py"); of an installed project ``salt_ray`` alone."""
    whole = is_checkout(project)
    found = [project / name for name in FILES if whole]
    for folder in FOLDERS if whole else FOLDERS[:1]:
        found += (path for path in sorted((project / folder).rglob("*")) if path.suffix in CODE)
    places = {path.relative_to(project): path for path in found if path.is_file()}
    return {
        place.as_posix(): path
        for place, path in places.items()
        if not any(part.startswith(".") for part in place.parts)
    }


def copy_files(files: Mapping[str, Path], folder: Path) -> None:
    """Copy files to their places in a folder."""
    for place, file in files.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / place)
