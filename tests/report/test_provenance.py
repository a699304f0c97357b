"""What is said of a run's origin is what the files say."""

from __future__ import annotations

import socket
from pathlib import Path

from salt_ray import __version__
from salt_ray.report import provenance

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


def test_versions_and_machine_name_no_host() -> None:
    found = provenance.versions()
    assert {"Python", "ray", "torch", "numpy"} <= set(found) and found["salt-ray"] == __version__
    assert all(part[0].isdigit() for part in found.values())
    machine = provenance.machine()
    assert set(machine) == {"system", "CPU", "cores", "memory", "GPUs"} and all(machine.values())
    name = socket.gethostname()
    assert len(name) < 4 or name not in " ".join(machine.values())
