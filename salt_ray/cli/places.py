"""Where run directories are."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from salt_ray.errors import RunError
from salt_ray.storage import StoragePath, storage_path

UNPACKED = ("runtime_resources", "working_dir_files")  # where Ray unpacks a job's code, in the session's folder


def run_path(run_dir: str) -> StoragePath:
    """The path of a run; SALT_RAY_RUNS, if set, replaces the folder runs."""
    path = storage_path(run_dir)
    root = os.environ.get("SALT_RAY_RUNS")
    if root is None or not isinstance(path, Path) or path.is_absolute():
        return path
    parts = path.parts[1:] if path.parts[:1] == ("runs",) else path.parts
    return storage_path(root) / "/".join(parts)


def kept_path(run_dir: str) -> StoragePath:
    """``run_path``, checked to be persistent.

    Raises:
        RunError: it would be inside a job's unpacked code.
    """
    path = run_path(run_dir)
    if isinstance(path, Path) and not path.is_absolute() and in_unpacked_code():
        raise RunError(
            f"{path} would be inside the job's unpacked code, which Ray deletes: use an absolute path or "
            "s3://BUCKET/PREFIX with --run-dir, or set SALT_RAY_RUNS on the cluster"
        )
    return path


def in_unpacked_code() -> bool:
    """Whether the working directory is a job's unpacked code, which Ray deletes some time after the job."""
    return UNPACKED in itertools.pairwise(Path.cwd().parts)
