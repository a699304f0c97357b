"""Checkpoints: whole or refused, the one before a damaged one is used, and nothing in them is executed."""

import io
import pickle
from pathlib import Path

import pytest
import torch

from salt_ray.training.checkpoint import CheckpointError, CheckpointFolder, read_checkpoint, seal


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


def test_a_sealed_pickle_with_code_is_refused(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    buffer = io.BytesIO()
    torch.save({"network": Attack()}, buffer, pickle_module=pickle)
    sealed = seal({})[-48:-32]
    import hashlib

    content = buffer.getvalue()
    (tmp_path / "evil.pt").write_bytes(content + sealed + hashlib.sha256(content).digest())
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        read_checkpoint(tmp_path / "evil.pt")
    assert not (tmp_path / "executed").exists()


def test_a_missing_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="train this fold first"):
        read_checkpoint(tmp_path / "best.pt")
