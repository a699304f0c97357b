"""Checkpoints that are whole or refused: atomic, sealed with a checksum, loaded without executing code.

A checkpoint is a ``torch.save`` file followed by a seal (a tag and the SHA-256 of everything before it). ``torch.load``
reads it as it is; this module also notices a flipped bit, which torch does not.
"""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from salt_ray.artifacts import write_atomically
from salt_ray.errors import SaltRayError

SEAL_TAG = b"salt-ray-sha256:"
SEAL_LENGTH = len(SEAL_TAG) + 32
KEPT = 2  # the newest, and the one before it in case the newest is damaged


class CheckpointError(SaltRayError):
    """A checkpoint that is needed is missing or damaged."""


class CheckpointFolder:
    """The checkpoints of one stage of one fold: ``epoch-00012.pt`` (the newest two) and ``best.pt``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def best_path(self) -> Path:
        return self.directory / "best.pt"

    def save(self, epoch: int, state: dict[str, Any], *, best: bool) -> None:
        """Write a finished epoch's state, then the same as the best one if it is; older epochs are removed last."""
        content = seal({**state, "is_best": best})
        write_atomically(self._path(epoch), content)
        if best:
            write_atomically(self.best_path, content)
        self._prune()

    def newest(self, report: Callable[[str], None]) -> dict[str, Any] | None:
        """The newest usable state; None when no epoch was ever saved. What a crash interrupted is put in order.

        Raises:
            CheckpointError: there are checkpoints, but none is usable. It never starts over by itself.
        """
        for leftover in self.directory.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        for path in reversed(self._epochs()):
            try:
                state = read_checkpoint(path)
            except CheckpointError:
                report(f"{path} is damaged; going on from the one before it")
                continue
            if state["is_best"]:  # a crash may have come between the two writes
                write_atomically(self.best_path, path.read_bytes())
            self._prune()
            return state
        if self._epochs() or self.best_path.exists():
            raise CheckpointError(
                f"no usable checkpoint is left in {self.directory}: restore one, or delete the folder to start over"
            )
        return None

    def _prune(self) -> None:
        for path in self._epochs()[:-KEPT]:
            path.unlink(missing_ok=True)

    def _path(self, epoch: int) -> Path:
        return self.directory / f"epoch-{epoch:05d}.pt"

    def _epochs(self) -> list[Path]:
        return sorted(self.directory.glob("epoch-*.pt"))


def seal(state: dict[str, Any]) -> bytes:
    """Serialise a state of tensors and plain values and append its seal; equal states give equal bytes."""
    buffer = io.BytesIO()
    torch.save(_canonical(state), buffer)
    content = buffer.getvalue()
    return content + SEAL_TAG + hashlib.sha256(content).digest()


def _canonical(value: Any) -> Any:
    """The same value in plain containers with every string interned.

    Pickle writes a string that it has met before as a reference, and goes by identity, not by equality: a state that
    was loaded and one that never left memory would differ in their bytes.
    """
    if isinstance(value, dict):
        return {_canonical(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return sys.intern(value) if type(value) is str else value


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load a sealed checkpoint onto the CPU.

    Raises:
        CheckpointError: missing, damaged, not sealed, or holding anything but tensors and plain values.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing: train this fold first") from error
    content, tag, digest = data[:-SEAL_LENGTH], data[-SEAL_LENGTH:-32], data[-32:]
    if tag != SEAL_TAG or hashlib.sha256(content).digest() != digest:
        raise CheckpointError(
            f"{path} is damaged (its checksum does not fit): restore it, or delete its folder to train that stage again"
        )
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is sealed and yet no checkpoint
        raise CheckpointError(f"{path} is not a checkpoint of salt-ray ({error})") from error
