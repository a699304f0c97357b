"""Files that are whole or absent, on a disk or in an object store.

Nothing is written in place: a file goes to a temporary name next to its own, is flushed to the disk, and is
renamed; in an object store it is uploaded in one step.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np
import platformdirs
from filelock import FileLock

from salt_ray.errors import RunError
from salt_ray.object_store import SCHEME, ObjectPath

ABANDONED_SECONDS = 24 * 3600  # no process takes this long to fill a folder
#: Names that ``temporary_beside`` gives.
_TEMPORARY = re.compile(r"\..+\.\d+-[0-9a-f]{8}\.tmp")


StoragePath = Path | ObjectPath


def storage_path(text: str | StoragePath) -> StoragePath:
    """A path on a disk, or in an object store where the text says ``s3://``."""
    if isinstance(text, ObjectPath):
        return text
    return ObjectPath(text) if str(text).startswith(SCHEME) else Path(text)


def temporary_beside(path: Path) -> Path:
    """A unique name next to a path, for a file that replaces it when complete."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


@contextlib.contextmanager
def atomic_file(path: StoragePath) -> Iterator[BinaryIO]:
    """A binary file that appears under ``path`` when the block ends, or not at all when it raises."""
    if isinstance(path, ObjectPath):
        content = io.BytesIO()
        yield content
        path.write_bytes(content.getvalue())
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # a full disk shows when bytes are written
            error.filename = str(path)
        raise
    _sync_directory(path.parent)


def write_atomically(path: StoragePath, content: bytes | str) -> None:
    """Replace ``path`` by ``content`` (text as UTF-8) in one step."""
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def read_tail(path: StoragePath, size: int) -> bytes:
    """The last bytes of a file; none where there is no such file."""
    try:
        if isinstance(path, ObjectPath):
            return path.read_range(-size, size)
        with open(path, "rb") as file:
            file.seek(-min(size, file.seek(0, io.SEEK_END)), io.SEEK_END)
            return file.read()
    except FileNotFoundError:
        return b""


def save_array(path: StoragePath, array: np.ndarray) -> None:
    """Save one array as .npy, whole or not at all."""
    with atomic_file(path) as file:
        np.save(file, array)


def load_array(path: StoragePath) -> np.ndarray:
    """Read an array that was saved as .npy.

    Raises:
        RunError: it is missing or damaged.
    """
    with readable(path, path.parent):
        array = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("an archive of arrays")
        return array


def load_fields(path: StoragePath, folder: StoragePath, *needed: str) -> dict[str, Any]:
    """Read a JSON object that has at least the fields ``needed``.

    Args:
        folder: as for ``readable``.

    Raises:
        RunError: it is missing or damaged.
    """
    with readable(path, folder):
        return parse_fields(path.read_bytes(), *needed)


def fields_if_there(path: StoragePath, folder: StoragePath) -> dict[str, Any] | None:
    """Read a JSON object; None where there is no such file.

    Args:
        folder: as for ``readable``.

    Raises:
        RunError: it is damaged.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    with readable(path, folder):
        return parse_fields(content)


def parse_fields(content: bytes, *needed: str) -> dict[str, Any]:
    """The fields of a JSON object.

    Raises:
        ValueError, RecursionError: it is none, or a field of ``needed`` is missing.
    """
    fields = json.loads(content)
    if not isinstance(fields, dict):
        raise ValueError("it is not a JSON object")
    missing = [name for name in needed if name not in fields]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    return fields


@contextlib.contextmanager
def readable(path: StoragePath, folder: StoragePath, maker: str = "pipeline") -> Iterator[None]:
    """Turn what is raised for a missing or damaged file into a clear error.

    Args:
        folder: what to delete, with its marker, to regenerate the file.
        maker: the command that makes it.

    Raises:
        RunError: it is missing or damaged.
    """
    remedy = f"restore it, or delete {folder} and run {maker} to regenerate it"
    try:
        yield
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing: {remedy}") from error
    except (ValueError, TypeError, LookupError, EOFError, SyntaxError, TokenError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        if "allow_pickle" in reason:  # numpy takes what it does not know for a pickle, and advises to trust it
            reason = "it is not an array"
        raise RunError(f"{path} is damaged ({reason}): {remedy}") from error


def remove_tree(path: StoragePath) -> None:
    """Delete a folder and everything in it, if it is there."""
    if isinstance(path, ObjectPath):
        path.remove_tree()
    else:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``path`` when the block ends; where another process was first, its one stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    temporary = temporary_beside(path)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.iterdir():
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())
        try:
            os.rename(temporary, path)
        except OSError:
            if not path.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _sync_directory(path.parent)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``path`` when the block ends, or goes when it raises.

    Args:
        path: a folder that is not there yet, or empty.
    """
    temporary = temporary_beside(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.mkdir()
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold the right to build ``path``, after waiting for a process that has it.

    It dies with its owner. Who waited looks again: what it wanted to build may be there.
    """
    with FileLock(path.with_name(f".{path.name}.lock"), fallback_to_soft=False):
        yield


def cache_folder(kind: str) -> Path:
    """The directory of caches of one kind; the environment variable ``SALT_RAY_CACHE`` moves them all."""
    base = os.environ.get("SALT_RAY_CACHE")
    return (Path(base) if base else platformdirs.user_cache_path("salt-ray")) / kind


def _sweep(parent: Path) -> None:
    """Delete temporary folders that killed processes left behind; those of others have other names."""
    for folder in parent.glob(".*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if (
                _TEMPORARY.fullmatch(folder.name)
                and folder.is_dir()
                and time.time() - folder.stat().st_mtime > ABANDONED_SECONDS
            ):
                shutil.rmtree(folder, ignore_errors=True)


def _sync_directory(directory: Path) -> None:
    """Make a rename survive a power cut."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def delete(path: StoragePath) -> None:
    """Delete a file, if it is there, so that its absence survives a power cut."""
    path.unlink(missing_ok=True)
    if isinstance(path, Path) and path.parent.is_dir():
        _sync_directory(path.parent)
