"""Which Ray a command joins."""

import socket
from pathlib import Path

import pytest

from salt_ray.cluster import session


@pytest.fixture(autouse=True)
def own_ray_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "ray").mkdir()
    return tmp_path / "ray" / "ray_current_cluster"


def test_alone_it_is_outside_and_in_a_job_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not session._inside_cluster()
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert session._inside_cluster()


def test_a_nodes_address_file_counts_only_while_somebody_answers(own_ray_files: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        own_ray_files.write_text(f"127.0.0.1:{server.getsockname()[1]}")
        assert session._inside_cluster()
    assert not session._inside_cluster()
