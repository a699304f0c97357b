"""Files that are whole or absent, and where everything of a run lies.

Nothing here is written in place: a file goes to a temporary name beside its own, is flushed to the disk, and is
renamed; in an object store it is uploaded in one step. A marker is written last, so that its presence proves the rest.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np
import platformdirs

from salt_ray.errors import RunError, SaltRayError
from salt_ray.lease import Lease
from salt_ray.object_store import SCHEME, ObjectPath

ABANDONED_SECONDS = 24 * 3600  # nobody takes this long to fill a folder


StoragePath = Path | ObjectPath


def storage_path(text: str | StoragePath) -> StoragePath:
    """A path on a disk, or in an object store where the text says ``s3://``."""
    if isinstance(text, ObjectPath):
        return text
    return ObjectPath(text) if str(text).startswith(SCHEME) else Path(text)


@contextlib.contextmanager
def atomic_file(path: StoragePath) -> Iterator[BinaryIO]:
    """A binary file that appears under ``path`` when the block ends, or not at all when it raises."""
    if isinstance(path, ObjectPath):
        content = io.BytesIO()
        yield content
        path.write_bytes(content.getvalue())
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def write_atomically(path: StoragePath, content: bytes | str) -> None:
    """Replace ``path`` by ``content`` (text as UTF-8) in one step."""
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def save_array(path: StoragePath, array: np.ndarray) -> None:
    """Save one array as .npy, whole or not at all."""
    with atomic_file(path) as file:
        np.save(file, array)


def load_array(path: StoragePath) -> np.ndarray:
    """Read an array that was saved as .npy.

    Raises:
        RunError: it is damaged.
    """
    content = io.BytesIO(path.read_bytes())
    with readable(path):
        array = np.load(content, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("an archive of arrays")
        return array


@contextlib.contextmanager
def readable(path: StoragePath) -> Iterator[None]:
    """Make a sentence of what numpy raises for a damaged file.

    Raises:
        RunError: it is damaged.
    """
    try:
        yield
    except (ValueError, TypeError, LookupError, EOFError, SyntaxError, TokenError) as error:
        raise RunError(
            f"{path} is damaged ({str(error)[:200]}): delete {path.parent}, and the same command makes it anew"
        ) from error


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
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
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
def only_one(path: Path) -> Iterator[None]:
    """Hold the right to build what will lie at ``path``, after waiting for a process that has it.

    It dies with its owner. Who waited looks again: what it wanted to build may be there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class CacheError(SaltRayError):
    """A cache cannot be written."""


def cache_folder(kind: str) -> Path:
    """Where caches of one kind lie; the environment variable ``SALT_RAY_CACHE`` moves them all."""
    base = os.environ.get("SALT_RAY_CACHE")
    return (Path(base) if base else platformdirs.user_cache_path("salt-ray")) / kind


def _sweep(parent: Path) -> None:
    """Delete temporary folders that killed processes left behind."""
    for folder in parent.glob(".*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if folder.is_dir() and time.time() - folder.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def _sync_directory(directory: Path) -> None:
    """Make a rename survive a power cut."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class RunDirectory:
    """Every path of a run.

    ::

        experiment.json                          the experiment as it ran
        folds/TRAINING/                          folds.csv: id, fold
        trainings/TRAINING/fold-K/STAGE/         one stage of one fold: inputs.json, checkpoints, history.csv, done.json
        trainings/TRAINING/fold-K/               owner, while it trains; micro_batch.json, where memory was short
        predictions/TRAINING/fold-K/STAGE/       one model's probabilities: tiles.npy, chunks/NNNNN.npy, done.json
        mosaics/mosaics.csv                      id, mosaic_id, row, col, confidence
        postprocessing/                          rules.json, changes.csv, tiles.npy, masks.npy, pictures, done.json
        submission.csv, scores.json              the results
        study/                                   a search: study.db (Optuna's), trials.csv, summary.json, pictures
        study/trials/NNNN/                       one trial of it, laid out as a run: experiment.json, trainings/
        best.json                                the experiment that the search found
        seed-K/, seeds.json                      runs over several seeds, laid out as runs; their mean and spread
        tensorboard/                             curves of folds and trials; nothing of the result depends on them
        ray/                                     Ray's own book-keeping; nothing of the result depends on it
    """

    def __init__(self, path: StoragePath) -> None:
        self.path = path.absolute()

    @property
    def experiment(self) -> StoragePath:
        return self.path / "experiment.json"

    @property
    def submission(self) -> StoragePath:
        return self.path / "submission.csv"

    @property
    def scores(self) -> StoragePath:
        return self.path / "scores.json"

    @property
    def ray(self) -> StoragePath:
        return self.path / "ray"

    @property
    def tensorboard(self) -> StoragePath:
        return self.path / "tensorboard"

    @property
    def study(self) -> StoragePath:
        return self.path / "study"

    @property
    def best(self) -> StoragePath:
        return self.path / "best.json"

    @property
    def seeds(self) -> StoragePath:
        return self.path / "seeds.json"

    def seed(self, seed: int) -> RunDirectory:
        return RunDirectory(self.path / f"seed-{seed}")

    def trial(self, number: int) -> RunDirectory:
        return RunDirectory(self.study / "trials" / f"{number:04d}")

    def folds(self, training: str) -> StoragePath:
        return self.path / "folds" / training

    def stage(self, training: str, fold: int, stage: str) -> StoragePath:
        return self.path / "trainings" / training / f"fold-{fold}" / stage

    def prediction(self, training: str, fold: int, stage: str) -> StoragePath:
        return self.path / "predictions" / training / f"fold-{fold}" / stage

    @property
    def mosaics(self) -> StoragePath:
        return self.path / "mosaics"

    @property
    def postprocessing(self) -> StoragePath:
        return self.path / "postprocessing"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process; the lock dies with its owner.

        Raises:
            RunError: another process works on it, or the directory cannot be written.
        """
        if isinstance(self.path, ObjectPath):
            with Lease(self.path / ".lease"):
                yield
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = open(self.path / ".lock", "a+")  # noqa: SIM115 (the block below closes it)
        except OSError as error:
            raise RunError(f"cannot write to {self.path} ({error.strerror}): choose another --run-dir") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise RunError(f"another process works on {self.path}: wait for it, or change --run-dir") from error
            yield

    def identity(self) -> str:
        """What tells this run directory from another one of the same name on another machine; made when it is new."""
        path = self.path / ".id"
        if not path.exists():
            write_atomically(path, secrets.token_hex(16))
        return path.read_text()

    def check_visible(self, identity: str) -> None:
        """Make sure that this process sees the run directory of the driver, and not its own disk in that place.

        Raises:
            RunError: it does not.
        """
        try:
            here = (self.path / ".id").read_text()
        except OSError:
            here = None
        if here != identity:
            raise RunError(
                f"{socket.gethostname()} does not see {self.path}: put the run directory on a folder that all nodes "
                "share, or in an object store (--run-dir s3://BUCKET/PREFIX)"
            )


class Folder:
    """A folder of results with the inputs that they depend on written first and a marker written last."""

    def __init__(self, path: StoragePath, inputs: dict[str, Any]) -> None:
        self.path = path
        self.inputs = json.loads(json.dumps(inputs))

    @property
    def done(self) -> dict[str, Any] | None:
        """The marker's content; None while the work is not finished.

        Raises:
            RunError: what lies there was made from other inputs; the message names the differences.
        """
        self._check()
        path = self.path / "done.json"
        return json.loads(path.read_text()) if path.exists() else None

    def open(self) -> None:
        """Create the folder with its inputs, or go on in one that was made from the same inputs.

        Raises:
            RunError: it was made from others.
        """
        if not self._check():
            write_atomically(self.path / "inputs.json", json.dumps(self.inputs, indent=1))

    def reopen(self) -> None:
        """``open``, to do the work anew: an earlier marker goes first, so that none stands beside half of the new."""
        self.open()
        (self.path / "done.json").unlink(missing_ok=True)
        if isinstance(self.path, Path):
            _sync_directory(self.path)

    def _check(self) -> bool:
        path = self.path / "inputs.json"
        if not path.exists():
            return False
        differences = list(_differences(json.loads(path.read_text()), self.inputs))
        if differences:
            raise RunError(
                f"{self.path} was made with other settings ({'; '.join(differences[:4])}): "
                "use another --run-dir, or delete that folder"
            )
        return True

    def finish(self, **marker: Any) -> None:
        """Write the marker."""
        write_atomically(self.path / "done.json", json.dumps(marker, indent=1))


def _differences(before: Any, now: Any, where: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in before.keys() | now.keys():
            yield from _differences(before.get(key), now.get(key), f"{where}.{key}".lstrip("."))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for i, (a, b) in enumerate(zip(before, now, strict=True)):
            yield from _differences(a, b, f"{where}.{i}")
    elif before != now:
        yield f"{where}: {_short(before)} there, {_short(now)} now"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}…"
