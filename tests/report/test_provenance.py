"""What is said of a run's origin is what the files say."""

from __future__ import annotations

import dataclasses
import socket
from pathlib import Path

import pytest

from salt_ray import __version__
from salt_ray.report import provenance
from salt_ray.report.tensorboard import EpochLog
from salt_ray.training.progress import Progress

ONE, OTHER = "0123456789abcdef0123456789abcdef01234567", "f" * 40


def test_the_commit_of_a_checkout(tmp_path: Path) -> None:
    assert provenance.commit(tmp_path) is None
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text(f"{ONE}\n")
    assert provenance.commit(tmp_path) == ONE
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert provenance.commit(tmp_path) is None
    (git / "packed-refs").write_text(
        f"# pack-refs with: peeled\n{OTHER} refs/heads/other\n{ONE} refs/heads/main\n^{OTHER}\n"
    )
    assert provenance.commit(tmp_path) == ONE
    (git / "refs" / "heads" / "main").write_text(f"{OTHER}\n")
    assert provenance.commit(tmp_path) == OTHER
    (git / "HEAD").write_text("<script>")
    assert provenance.commit(tmp_path) is None


def test_training_time_is_that_between_epochs_without_pauses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("salt_ray.report.tensorboard.time.time", lambda: clock[0])
    first = Progress("random", 0, "plateau", 1, 9, 0.25, 0.75, 0.5, 0.875, 0.0625, 128.0, 60.0, 0.0)
    assert provenance.training_seconds(tmp_path / "absent") is None
    for stage, epochs in (
        ("plateau", (1000.0, 1010.0, 1030.0)),
        ("plateau", (5000.0, 5007.0)),
        ("cosine", (9000.0, 9001.0)),
    ):
        log, clock[0] = EpochLog(tmp_path), epochs[0]
        monkeypatch.setattr("tensorboardX.event_file_writer.time.time", lambda: clock[0])
        for time in epochs:
            log.write(dataclasses.replace(first, stage=stage, time=time))
        log.close()
    assert provenance.training_seconds(tmp_path) == pytest.approx(30 + 7 + 1, abs=0.5)
    (file, *_) = sorted(tmp_path.glob("cosine/*"))
    file.write_bytes(file.read_bytes()[:-9])  # a worker was killed within a write
    assert provenance.training_seconds(tmp_path) == pytest.approx(37, abs=0.5)


def test_versions_and_machine_name_no_host() -> None:
    found = provenance.versions()
    assert {"Python", "ray", "torch", "numpy"} <= set(found) and found["salt-ray"] == __version__
    assert all(part[0].isdigit() for part in found.values())
    machine = provenance.machine()
    assert set(machine) == {"system", "CPU", "cores", "memory", "GPUs"} and all(machine.values())
    name = socket.gethostname()
    assert len(name) < 4 or name not in " ".join(machine.values())
