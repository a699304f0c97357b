"""The layout of a run directory, and folders of results whose marker, written last, proves that they are complete."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from salt_ray.compatibility import in_todays_fields
from salt_ray.errors import RunError
from salt_ray.lease import Lease
from salt_ray.object_store import ObjectPath
from salt_ray.storage import StoragePath, delete, fields_if_there, remove_tree, write_atomically

SHARE = "put the run directory on a folder that all nodes share, or in an object store (--run-dir s3://BUCKET/PREFIX)"


class RunDirectory:
    """Every path of a run.

    ::

        experiment.json                          the experiment as it ran
        run.json                                 what made the run, and what it took from its survey (``record``)
        holdout/                                 holdout.csv: id, where the hold-out is drawn
        folds/TRAINING/                          folds.csv: id, fold
        trainings/TRAINING/fold-K/STAGE/         one stage of one fold: inputs.json, checkpoints, history.csv, done.json
                                                 times.csv: when its epochs ended, and how long they took;
                                                 pseudo_labels.npy, where it learns from unlabelled tiles
        trainings/TRAINING/fold-K/               hardware.json: what trained it; owner, while it trains;
                                                 micro_batch.json, where memory was short
        predictions/TRAINING/fold-K/STAGE/       one model's probabilities: tiles.npy, chunks/NNNNN.npy, done.json;
                                                 in STAGE~snapshots those of the mean of the stage's snapshots
        mosaics/mosaics.csv                      id, mosaic_id, row, col, confidence
        thresholds/thresholds.json               where they are chosen: before and after, by fold, with the gain
        postprocessing/                          rules.json, changes.csv, tiles.npy, masks.npy, pictures, done.json
        submission.csv, masks.zip, scores.json   the results
        tile_scores.csv                          the score of every judged tile
        probabilities.zip, tiles.csv             on demand: what stands behind the masks
        report.html                              the results on one page, with pictures
        study/                                   a search: study.db (Optuna's), trials.csv, summary.json, pictures
        study/trials/NNNN/                       one trial of it, laid out as a run: experiment.json, trainings/
        study/confirmed/NNNN/                    its settings trained on a fold that chose none, a run
        best.json                                the experiment that the search found
        seed-K/, seeds.json                      runs over several seeds, laid out as runs; their mean and spread
        tensorboard/                             curves of folds and trials; nothing of the result depends on them
        tracking/                                what MLflow and Weights & Biases have of the run, and their files
        ray/                                     Ray's own book-keeping; nothing of the result depends on it
    """

    def __init__(self, path: StoragePath) -> None:
        self.path = path = path.absolute()
        self.experiment = path / "experiment.json"
        self.record = path / "run.json"
        self.mosaics = path / "mosaics"
        self.holdout = path / "holdout"
        self.thresholds = path / "thresholds"
        self.postprocessing = path / "postprocessing"
        self.submission = path / "submission.csv"
        self.masks = path / "masks.zip"
        self.scores = path / "scores.json"
        self.tile_scores = path / "tile_scores.csv"
        self.probabilities = path / "probabilities.zip"
        self.tiles = path / "tiles.csv"
        self.report = path / "report.html"
        self.study = path / "study"
        self.best = path / "best.json"
        self.seeds = path / "seeds.json"
        self.tensorboard = path / "tensorboard"
        self.tracking = path / "tracking"
        self.ray = path / "ray"

    def seed(self, seed: int) -> RunDirectory:
        return RunDirectory(self.path / f"seed-{seed}")

    def seed_numbers(self) -> list[int]:
        """The seeds of the runs that are in it, where it holds one for each of several."""
        names = (path.name.removeprefix("seed-") for path in self.path.glob("seed-*"))
        return sorted(int(name) for name in names if name.isdecimal())

    def trial(self, number: int) -> RunDirectory:
        return RunDirectory(self.study / "trials" / f"{number:04d}")

    def confirmed(self, number: int) -> RunDirectory:
        return RunDirectory(self.study / "confirmed" / f"{number:04d}")

    def folds(self, training: str) -> StoragePath:
        return self.path / "folds" / training

    def fold(self, training: str, fold: int) -> StoragePath:
        return self.path / "trainings" / training / f"fold-{fold}"

    def stage(self, training: str, fold: int, stage: str) -> StoragePath:
        return self.fold(training, fold) / stage

    def prediction(self, training: str, fold: int, stage: str, snapshots: bool = False) -> StoragePath:
        name = f"{stage}~snapshots" if snapshots else stage  # no stage can have such a name
        return self.path / "predictions" / training / f"fold-{fold}" / name

    @contextlib.contextmanager
    def lock(self, option: str = "--run-dir") -> Iterator[None]:
        """Hold the run for this process; the lock dies with its owner.

        Args:
            option: that says where it is, for messages.

        Raises:
            RunError: another process is using it, or the directory cannot be written.
        """
        if isinstance(self.path, ObjectPath):
            with Lease(self.path / ".lease"):
                yield
            return
        try:
            # A soft lock would outlive its owner.
            held = FileLock(self.path / ".lock", fallback_to_soft=False).acquire(blocking=False)
        except Timeout as error:
            raise RunError(f"another process is using {self.path}: wait for it, or change {option}") from error
        except OSError as error:
            raise RunError(f"cannot write to {self.path} ({error.strerror}): choose another {option}") from error
        with held:
            yield

    def in_use(self) -> bool | None:
        """Whether a process holds the run (``lock``); asking has no side effects. None: unknown on this machine."""
        if isinstance(self.path, ObjectPath):
            return (self.path / ".lease").exists()  # or its holder is gone, and the next command finds out
        locks = Path("/proc/locks")
        try:
            file = (self.path / ".lock").stat()
        except FileNotFoundError:
            return False
        if not locks.exists():
            return None
        place = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
        return any(place in line.split() for line in locks.read_text().splitlines())

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
            raise RunError(f"{socket.gethostname()} cannot access {self.path}: {SHARE}")


class Folder:
    """A folder of results with the inputs that they depend on written first and a marker written last.

    Args:
        again: inputs that may change, because what depends on them is quickly made again; a change of any other one is
            an error. None: all of them.
        option: that says where results go, for messages.
    """

    def __init__(
        self,
        path: StoragePath,
        inputs: dict[str, Any],
        again: frozenset[str] | None = frozenset(),
        option: str = "--run-dir",
    ) -> None:
        self.path, self._option = path, option
        self.inputs = json.loads(json.dumps(inputs))
        self._again = again

    @property
    def done(self) -> dict[str, Any] | None:
        """The marker's content; None while the work is not finished, or has to be done again.

        Raises:
            RunError: what is there was made from other inputs (the message names the differences), or is damaged.
        """
        return None if self.outdated else self._read("done.json")

    @property
    def outdated(self) -> list[str]:
        """What has changed since, in words, where the work has to be done again; empty otherwise.

        Raises:
            RunError: something has changed that must not, or the folder is damaged.
        """
        before = self._read("inputs.json")
        if before is None:
            return []
        differences = self.differences(before)
        fixed = [line for line in differences if self._again is not None and _top(line) not in self._again]
        if fixed:
            raise RunError(
                f"{self.path} was made with different settings ({'; '.join(fixed[:4])}): "
                f"use another {self._option}, or delete that folder"
            )
        return differences

    def differences(self, before: dict[str, Any]) -> list[str]:
        """How inputs differ from this folder's, in words; those of an older version count as it meant them."""
        return list(_differences(in_todays_fields(before, self.inputs), self.inputs))

    def open(self) -> None:
        """Create the folder with its inputs, or resume in one made from the same; outdated results are deleted.

        Raises:
            RunError: it was made from others.
        """
        if self.outdated:
            remove_tree(self.path)
        if self._read("inputs.json") is None:
            write_atomically(self.path / "inputs.json", json.dumps(self.inputs, indent=1))

    def reopen(self) -> None:
        """``open``, to do the work again: an earlier marker goes first, so that none is beside half of the new."""
        self.open()
        delete(self.path / "done.json")

    def _read(self, name: str) -> dict[str, Any] | None:
        return fields_if_there(self.path / name, self.path)

    def finish(self, **marker: Any) -> None:
        """Write the marker."""
        write_atomically(self.path / "done.json", json.dumps(marker, indent=1))


def _top(difference: str) -> str:
    """The input that a difference is in."""
    return difference.partition(":")[0].partition(".")[0]


def _differences(before: Any, now: Any, where: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            yield from _differences(before.get(key), now.get(key), f"{where}.{key}".lstrip("."))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for i, (a, b) in enumerate(zip(before, now, strict=True)):
            yield from _differences(a, b, f"{where}.{i}")
    elif before != now:
        yield f"{where}: {_short(before)} before, {_short(now)} now"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}…"
