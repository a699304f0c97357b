"""Checkpoints: whole or refused, the one before a damaged one is used, and nothing in them is executed."""

import hashlib
import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from salt_ray.training import checkpoint
from salt_ray.training.checkpoint import (
    SEAL_TAG,
    CheckpointError,
    CheckpointFolder,
    Ownership,
    Superseded,
    read_checkpoint,
)


def state(epoch: int) -> dict:
    return {"network": {"w": torch.full((50,), float(epoch))}, "epoch": epoch, "history": [{"score": 0.5}]}


def fill(folder: CheckpointFolder, epochs: int, best: int) -> None:
    for epoch in range(1, epochs + 1):
        folder.save(epoch, state(epoch), best=epoch == best)


def test_the_newest_two_and_the_best_are_kept(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    fill(folder, 5, best=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.pt", "epoch-00004.pt", "epoch-00005.pt"]
    assert folder.newest(print)["epoch"] == 5
    assert read_checkpoint(folder.best_path)["epoch"] == 2


def test_plain_torch_reads_it_without_executing_code(tmp_path: Path) -> None:
    CheckpointFolder(tmp_path).save(1, state(1), best=True)
    assert torch.load(tmp_path / "best.pt", weights_only=True)["network"]["w"][0] == 1


@pytest.mark.parametrize("damage", ["truncated", "one bit", "empty", "no seal"])
def test_a_damaged_newest_is_passed_over_and_said(tmp_path: Path, damage: str) -> None:
    folder = CheckpointFolder(tmp_path)
    fill(folder, 3, best=1)
    path = tmp_path / "epoch-00003.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"truncated": content[:-100], "one bit": content, "empty": b"", "no seal": content[:-48]}[damage])
    lines: list[str] = []
    assert folder.newest(lines.append)["epoch"] == 2
    assert len(lines) == 1 and "epoch-00003.pt is damaged" in lines[0]


def test_no_usable_checkpoint_is_an_error_and_none_at_all_is_a_start(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    assert folder.newest(print) is None
    fill(folder, 2, best=1)
    for path in tmp_path.glob("epoch-*"):
        path.write_bytes(b"x")
    with pytest.raises(CheckpointError, match="delete the folder to start over"):
        folder.newest(lambda line: None)
    for path in tmp_path.glob("epoch-*"):
        path.unlink()
    with pytest.raises(CheckpointError, match="no usable checkpoint"):
        folder.newest(lambda line: None)


def test_a_crash_between_the_two_writes_is_mended(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    fill(folder, 1, best=1)
    folder.save(2, state(2), best=True)
    folder.best_path.write_bytes((tmp_path / "epoch-00001.pt").read_bytes())  # as if epoch 2's best was never written
    (tmp_path / ".epoch-00003.pt.1-aa.tmp").write_bytes(b"half")
    assert folder.newest(print)["epoch"] == 2
    assert read_checkpoint(folder.best_path)["epoch"] == 2
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_sealed_pickle_with_code_is_refused(tmp_path: Path, zipped: bool) -> None:
    """Anybody can compute a checksum: it is the loading that must not execute what a file says."""
    executed = tmp_path / "executed"

    class Attack:
        def __reduce__(self):
            return (os.system, (f"touch {executed}",))

    def attack() -> bytes:
        buffer = io.BytesIO()
        torch.save({**state(3), "is_best": True, "network": Attack()}, buffer, _use_new_zipfile_serialization=zipped)
        return buffer.getvalue()

    torch.load(io.BytesIO(attack()), weights_only=False)
    assert executed.exists()  # the payload is a real one
    executed.unlink()

    folder = CheckpointFolder(tmp_path / "stage")
    fill(folder, 2, best=1)
    content = attack()
    path = tmp_path / "stage" / "epoch-00003.pt"
    path.write_bytes(content + SEAL_TAG + hashlib.sha256(content).digest())
    with pytest.raises(CheckpointError, match="not a salt-ray checkpoint"):
        read_checkpoint(path)
    assert folder.newest(lambda line: None)["epoch"] == 2
    assert not executed.exists()


def test_sealed_files_that_are_no_checkpoints_are_refused(tmp_path: Path) -> None:
    tensors = io.BytesIO()
    torch.save([torch.ones(3)], tensors)
    for content in (tensors.getvalue(), pickle.dumps({"network": 1}, protocol=2), b"", b"text"):
        (tmp_path / "x.pt").write_bytes(content + SEAL_TAG + hashlib.sha256(content).digest())
        with pytest.raises(CheckpointError, match="not a salt-ray checkpoint"):
            read_checkpoint(tmp_path / "x.pt")


def test_damage_anywhere_is_noticed(tmp_path: Path) -> None:
    """50 flipped bits and 20 truncations, the seal included; the epoch before is used each time."""
    folder = CheckpointFolder(tmp_path)
    fill(folder, 3, best=1)
    path, random = tmp_path / "epoch-00003.pt", np.random.default_rng(0)
    whole = path.read_bytes()
    places = [0, *random.integers(len(whole), size=40), *range(len(whole) - 54, len(whole), 6)]
    lengths = [0, 1, 47, 48, *random.integers(len(whole), size=12), *range(len(whole) - 4, len(whole))]
    damaged = [whole[:length] for length in lengths]
    for place in places:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << random.integers(8)
        damaged.append(bytes(flipped))
    assert len(places) == 50 and len(lengths) == 20
    for content in damaged:
        path.write_bytes(content)
        lines: list[str] = []
        assert folder.newest(lines.append)["epoch"] == 2
        assert len(lines) == 1 and "epoch-00003.pt is damaged" in lines[0]
    path.write_bytes(whole)
    assert folder.newest(print)["epoch"] == 3


def test_short_memory_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Going on from the epoch before, or refusing all, would be wrong: the files are whole."""
    folder = CheckpointFolder(tmp_path)
    fill(folder, 2, best=1)

    def short(*arguments: object, **named: object) -> None:
        torch.empty(1 << 50)

    monkeypatch.setattr(torch, "load", short)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        folder.newest(print)


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_worker_that_was_superseded_writes_nothing_more(tmp_path: Path) -> None:
    stage = tmp_path / "stage"
    old, new = (CheckpointFolder(stage, Ownership(tmp_path)) for _ in range(2))
    assert old.newest(print) is None
    fill(old, 2, best=1)
    assert new.newest(print)["epoch"] == 2
    before = contents(tmp_path)
    for attempt in (lambda: old.save(3, state(99), best=True), lambda: old.newest(print), old.ownership.release):
        with pytest.raises(Superseded, match=r"another worker has taken over"):
            attempt()
        assert contents(tmp_path) == before
    new.save(3, state(3), best=True)
    new.ownership.release()
    with pytest.raises(Superseded):  # the fold is finished, and nobody's any more
        old.save(3, state(99), best=True)
    alone = tmp_path / "alone"
    for epoch in range(1, 4):
        CheckpointFolder(alone).save(epoch, state(epoch), best=epoch in (1, 3))
    assert contents(stage) == contents(alone)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "stage"]


def test_taken_over_between_the_two_writes_the_second_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = Ownership(tmp_path), Ownership(tmp_path)
    folder = CheckpointFolder(tmp_path / "stage", old)
    fill(folder, 1, best=1)
    write = checkpoint.write_atomically

    def then_taken_over(path: Path, content: bytes) -> None:
        write(path, content)
        if path.name == "epoch-00002.pt":
            new.hold()

    monkeypatch.setattr(checkpoint, "write_atomically", then_taken_over)
    with pytest.raises(Superseded):
        folder.save(2, state(2), best=True)
    assert read_checkpoint(folder.best_path)["epoch"] == 1


def test_a_missing_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="train this fold first"):
        read_checkpoint(tmp_path / "best.pt")
