"""Checkpoints that are whole or refused: atomic, sealed with a checksum, loaded without executing code.

A checkpoint is a ``torch.save`` file followed by a seal (a tag and the SHA-256 of everything before it). ``torch.load``
reads it as it is; this module also notices a flipped bit, which torch does not.

Only one worker writes them: the one that began last (``Ownership``). PyTorch is imported where a state is read or
written: who only looks which checkpoints there are does not wait for it.
"""

from __future__ import annotations

import hashlib
import io
import secrets
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any

from salt_ray.errors import SaltRayError
from salt_ray.storage import StoragePath, read_tail, write_atomically
from salt_ray.training.micro_batch import is_out_of_memory

if TYPE_CHECKING:
    import torch

SEAL_TAG = b"salt-ray-sha256:"
SEAL_LENGTH = len(SEAL_TAG) + 32
KEPT = 2  # the newest, and the one before it in case the newest is damaged


class CheckpointError(SaltRayError):
    """A checkpoint that is needed is missing or damaged."""


class Superseded(SaltRayError):
    """Another worker has begun the same fold since; this one must not write any more."""


class Ownership:
    """The right to write into a fold's folder: a random token in its file ``owner``, which the next worker replaces.

    When the network to a node is cut, Ray restarts its fold elsewhere, while the old worker may train on and see the
    same folder. It finds the other token before its next write, and ends. A worker takes the fold over once, at its
    beginning: never again between stages or epochs, where one that was cut off could take it back.

    What remains open is the time between the look at the token and the end of the write after it: milliseconds for
    small files, as long as the disk or the store needs for a checkpoint.
    """

    def __init__(self, fold_folder: StoragePath) -> None:
        """``fold_folder``: the parent of the folders of the fold's stages."""
        self._path = fold_folder / "owner"
        self._token: str | None = None

    def hold(self) -> None:
        """Take the fold over at the first call; later make sure that no other worker has.

        Raises:
            Superseded: somebody has.
        """
        if self._token is None:
            self._token = secrets.token_hex(16)
            write_atomically(self._path, self._token)
            return
        try:
            found = self._path.read_text()
        except FileNotFoundError:
            found = None
        if found != self._token:
            raise Superseded(f"another worker has taken over {self._path.parent}; this one stops without writing")

    def release(self) -> None:
        """Remove the token: the fold is finished but for its marker.

        Raises:
            Superseded: it is another worker's.
        """
        self.hold()
        self._path.unlink(missing_ok=True)


class CheckpointFolder:
    """The checkpoints of one stage of one fold: ``epoch-00012.pt`` (the newest two), ``best.pt`` and snapshots.

    A snapshot, ``snapshot-00050.pt``, holds the network only: training cannot resume from it.

    Args:
        ownership: the right to write them; None if no other worker can.
    """

    def __init__(self, directory: StoragePath, ownership: Ownership | None = None) -> None:
        self.directory = directory
        self.ownership = ownership

    @property
    def best_path(self) -> StoragePath:
        return self.directory / "best.pt"

    def epoch_path(self, epoch: int) -> StoragePath:
        return self.directory / f"epoch-{epoch:05d}.pt"

    def snapshot_path(self, epoch: int) -> StoragePath:
        return self.directory / f"snapshot-{epoch:05d}.pt"

    def save(self, epoch: int, state: dict[str, Any], *, best: bool, snapshot: bool = False) -> None:
        """Write a finished epoch's state, then the same as the best one if it is; older epochs are removed last.

        Args:
            snapshot: also keep its network; written first, so that a resumed stage has it.

        Raises:
            Superseded: another worker has taken the fold over.
        """
        if snapshot:
            self._write(self.snapshot_path(epoch), seal({"network": state["network"], "is_best": best}))
        content = seal({**state, "is_best": best})
        self._write(self.epoch_path(epoch), content)
        if best:
            self._write(self.best_path, content)
        self._prune()

    def newest(self, report: Callable[[str], None]) -> dict[str, Any] | None:
        """The newest usable state; None when no epoch was ever saved. What a crash interrupted is put in order.

        Raises:
            CheckpointError: there are checkpoints, but none is usable. It never starts over by itself.
            Superseded: another worker has taken the fold over.
        """
        self._hold()
        for leftover in self.directory.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        for path in reversed(self._epochs()):
            try:
                state = read_checkpoint(path)
            except CheckpointError:
                report(f"{path} is damaged; resuming from the one before it")
                continue
            # a crash may have come between the two writes
            if state["is_best"] and read_tail(path, SEAL_LENGTH) != read_tail(self.best_path, SEAL_LENGTH):
                self._write(self.best_path, path.read_bytes())
            self._prune()
            return state
        if self._epochs() or self.best_path.exists():
            raise CheckpointError(
                f"no usable checkpoint is left in {self.directory}: restore one, or delete the folder to start over"
            )
        return None

    def newest_epoch(self) -> int:
        """The epoch of the newest checkpoint, whether or not it is whole; 0 without any."""
        return max((int(path.stem.removeprefix("epoch-")) for path in self._epochs()), default=0)

    def _hold(self) -> None:
        if self.ownership is not None:
            self.ownership.hold()

    def _write(self, path: StoragePath, content: bytes) -> None:
        self._hold()
        write_atomically(path, content)

    def _prune(self) -> None:
        self._hold()
        for path in self._epochs()[:-KEPT]:
            path.unlink(missing_ok=True)

    def _epochs(self) -> list[StoragePath]:
        return sorted(self.directory.glob("epoch-*.pt"))


class Saver:
    """Saves the checkpoints of a stage while the block lasts; on a GPU in a thread, while training continues.

    There a state is copied to the host first, and one is written at a time: who saves the next one waits for the one
    before. On a CPU writing would take from training what it gives, and is done at once.

    Raises (any method, and the end of the block):
        Superseded: another worker has taken the fold over.
        OSError: what writing the state before raised.
    """

    def __init__(self, folder: CheckpointFolder, device: torch.device) -> None:
        self._folder = folder
        self._thread = ThreadPoolExecutor(1, "checkpoints") if device.type == "cuda" else None
        self._writing: Future | None = None

    def __enter__(self) -> Saver:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._thread is not None:
            self._thread.shutdown()
            if error is None:
                self.finish()

    def save(self, epoch: int, state: dict[str, Any], **kinds: bool) -> None:
        """``CheckpointFolder.save``, perhaps later; the state's tensors may change as soon as this returns."""
        if self._thread is None:
            self._folder.save(epoch, state, **kinds)
            return
        self.finish()
        self._writing = self._thread.submit(self._folder.save, epoch, _changed(state, _on_host), **kinds)

    def finish(self) -> None:
        """Wait until what was saved is on the disk."""
        if self._writing is not None:
            self._writing.result()


def seal(state: dict[str, Any]) -> bytes:
    """Serialise a state of tensors and plain values and append its seal; equal states give equal bytes."""
    import torch

    buffer = io.BytesIO()
    torch.save(_changed(state, _interned), buffer)
    with buffer.getbuffer() as content:
        digest = hashlib.sha256(content).digest()
    buffer.seek(0, io.SEEK_END)
    buffer.write(SEAL_TAG + digest)
    return buffer.getvalue()


def _changed(value: Any, change: Callable[[Any], Any]) -> Any:
    """The same value in plain containers, with what these hold, keys too, as ``change`` returns it."""
    if isinstance(value, dict):
        return {change(key): _changed(item, change) for key, item in value.items()}
    return [_changed(item, change) for item in value] if isinstance(value, list) else change(value)


def _interned(value: Any) -> Any:
    """The same string for equal ones.

    Pickle writes a string that it has met before as a reference, and goes by identity, not by equality: a state that
    was loaded and one that never left memory would differ in their bytes.
    """
    return sys.intern(value) if type(value) is str else value


def _on_host(value: Any) -> Any:
    """A copy of a tensor on the host."""
    import torch

    return value.detach().to("cpu", copy=True) if isinstance(value, torch.Tensor) else value


def read_checkpoint(path: StoragePath) -> dict[str, Any]:
    """Load a sealed checkpoint onto the CPU.

    Raises:
        CheckpointError: missing, damaged, not sealed, or holding anything but tensors and plain values.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing: train this fold first") from error
    content, tag, digest = memoryview(data)[:-SEAL_LENGTH], data[-SEAL_LENGTH:-32], data[-32:]
    if tag != SEAL_TAG or hashlib.sha256(content).digest() != digest:
        raise CheckpointError(
            f"{path} is damaged (checksum mismatch): restore it, or delete its folder to train that stage again"
        )
    import torch

    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is sealed and yet no checkpoint
        if is_out_of_memory(error):  # nothing is wrong with the file, and the one before it would be the wrong one
            raise
        raise CheckpointError(f"{path} is not a salt-ray checkpoint ({error})") from error
    if not isinstance(state, dict) or "is_best" not in state:
        raise CheckpointError(f"{path} is not a salt-ray checkpoint")
    return state
