"""Arrays of a survey on disk, so that the second start maps them into memory instead of decoding 26,000 PNGs.

    CACHE/KEY/*.npy, meta.json    one survey; meta.json is written last and says which arrays belong to it
    CACHE/index/FINGERPRINT       the KEY that the files of this fingerprint had

Folders appear under their name in one rename. Of two processes that build the same survey one renames first, and the
other takes what it finds.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tokenize
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from salt_ray.storage import atomic_folder, temporary_beside, write_atomically
from salt_ray.survey.amplitudes import GreyRange, Scaling
from salt_ray.survey.survey import Survey
from salt_ray.survey.window import Window

#: Raised when the meaning of the arrays changes: older folders are then rebuilt.
FORMAT = 3


class CacheDamage(Exception):
    """A cached survey lacks an array or holds another than its meta.json says; the message names it."""


def recall(cache: Path, fingerprint: str) -> str | None:
    """The key that was ``remember``-ed for a fingerprint; None if there is none."""
    path = cache / "index" / fingerprint
    return path.read_text(encoding="ascii") if path.is_file() else None


def remember(cache: Path, fingerprint: str, key: str) -> None:
    write_atomically(cache / "index" / fingerprint, key)


def load(cache: Path, key: str) -> Survey | None:
    """The survey of ``key``, its arrays mapped read-only; None if it was never stored.

    Raises:
        CacheDamage: it was, but is not whole.
    """
    folder = cache / key
    if not folder.is_dir():
        return None
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        if meta["format"] != FORMAT:
            raise CacheDamage(f"meta.json has format {meta['format']}, this version writes {FORMAT}")
        arrays = {name: map_array(folder / f"{name}.npy", *described) for name, described in meta["arrays"].items()}
        remarks, account, samples = tuple(meta["lines"]), tuple(meta["account"]), str(meta["samples"])
        window = meta.get("window")
        return Survey(
            **arrays,
            key=key,
            remarks=remarks,
            account=account,
            samples=samples,
            scaling=_scaling(meta["scaling"]),
            window=None if window is None else Window(**window),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CacheDamage(f"{type(error).__name__}: {error}") from error


def _scaling(fields: dict[str, Any] | None) -> Scaling | None:
    """What ``asdict`` made of one."""
    if fields is None:
        return None
    return Scaling(GreyRange(**fields["used"]), GreyRange(**fields["own"]), float(fields["outside"]))


def store(cache: Path, survey: Survey) -> str:
    """Put a survey under its key, unless a whole one is there already; a damaged one is replaced. Returns the key."""
    try:
        if load(cache, survey.key) is not None:
            return survey.key  # another process was first, or the files were only touched
    except CacheDamage:
        discard(cache / survey.key)
    arrays = {name: value for name, value in vars(survey).items() if isinstance(value, np.ndarray)}
    with atomic_folder(cache / survey.key) as folder:
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
        described = {name: [list(array.shape), array.dtype.str] for name, array in arrays.items()}
        meta = {"format": FORMAT, "lines": survey.remarks, "account": survey.account, "arrays": described}
        meta |= {"samples": survey.samples, "scaling": None if survey.scaling is None else asdict(survey.scaling)}
        meta |= {} if survey.window is None else {"window": survey.window.model_dump()}
        write_atomically(folder / "meta.json", json.dumps(meta, indent=1))
    return survey.key


def discard(folder: Path) -> None:
    """Delete a damaged folder: in one rename, so that no process finds half of it under its name."""
    aside = temporary_beside(folder)
    with contextlib.suppress(FileNotFoundError):  # another process has just done so
        os.rename(folder, aside)
        shutil.rmtree(aside, ignore_errors=True)


def map_array(path: Path, shape: list[int], dtype: str) -> np.ndarray:
    """A .npy file mapped read-only; never anything that has to be unpickled.

    Raises:
        CacheDamage: it holds another array.
        OSError, ValueError: it is missing, not an array, or truncated.
    """
    # Nothing can be mapped of an empty array; np.load raises ValueError where the file is shorter than its header says.
    try:
        array = np.load(path, mmap_mode="r" if np.prod(shape) else None, allow_pickle=False)
    except tokenize.TokenError as error:  # numpy reads a header as Python's literals
        raise CacheDamage(f"{path.name} has a damaged header") from error
    if not isinstance(array, np.ndarray):
        raise CacheDamage(f"{path.name} is an archive of arrays, expected one")
    if list(array.shape) != shape or array.dtype.str != dtype:
        raise CacheDamage(f"{path.name} is {array.dtype.str} {array.shape}, expected {dtype} {tuple(shape)}")
    return array
