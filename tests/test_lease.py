"""A lock in an object store: held by one, and gone with its owner."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from salt_ray import lease
from salt_ray.artifacts import RunDirectory
from salt_ray.errors import RunError
from salt_ray.lease import Lease
from salt_ray.object_store import ObjectPath
from salt_ray.storage import storage_path

HOLD = """
import sys, time
from salt_ray import lease
from salt_ray.artifacts import RunDirectory
from salt_ray.storage import storage_path
lease.RENEW_SECONDS = 0.2
with RunDirectory(storage_path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(100)
"""


def until_interrupted() -> None:
    """Short waits: what interrupts the main thread is noticed between two of them."""
    for _ in range(30_000):
        time.sleep(0.01)


@pytest.fixture
def run(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.2)
    monkeypatch.setattr(lease, "EXPIRY_SECONDS", 120.0)
    monkeypatch.setattr(lease, "SETTLE_SECONDS", 0.1)
    return RunDirectory(storage_path(f"{bucket}/{tmp_path.name}"))


@pytest.fixture
def holder(run: RunDirectory) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(run.path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_process_is_refused_until_the_first_one_is_gone(run: RunDirectory, holder: subprocess.Popen) -> None:
    with pytest.raises(RunError, match="another process is using s3://"), run.lock():
        pass
    holder.kill()
    holder.wait()
    started = time.monotonic()
    with run.lock():
        assert time.monotonic() - started < lease.EXPIRY_SECONDS  # its process is known to be gone
    assert not (run.path / ".lease").exists()


def test_one_on_another_machine_that_renews_nothing_is_gone_after_a_while(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "EXPIRY_SECONDS", 0.5)
    (run.path / ".lease").write_bytes(
        json.dumps({"token": "t", "machine": "elsewhere", "pid": 1, "born": "1"}).encode()
    )
    started = time.monotonic()
    with run.lock():
        assert time.monotonic() - started >= lease.EXPIRY_SECONDS


def test_a_container_with_the_hosts_name_is_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process numbers mean other processes."""
    here = lease._machine()
    assert here == lease._machine()
    monkeypatch.setattr(lease.os, "readlink", lambda path: "pid:[1]")
    assert lease._machine() != here


def test_one_whose_lease_was_taken_over_is_interrupted(run: RunDirectory) -> None:
    """As when this machine was cut off from the store for long."""
    path = ObjectPath(f"{run.path}/.lease")
    with pytest.raises(RunError, match=r"another process has taken over s3://\S+"), Lease(path):
        path.write_bytes(b'{"token": "another"}')
        until_interrupted()
    assert path.exists()  # it is the other one's


@pytest.mark.parametrize("content", [b"", b"{", b"[]"])
def test_a_damaged_lease_is_somebodys_until_it_expires(
    run: RunDirectory, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "EXPIRY_SECONDS", 0.5)
    (run.path / ".lease").write_bytes(content)
    started = time.monotonic()
    with run.lock():
        assert time.monotonic() - started >= lease.EXPIRY_SECONDS


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("ignored", [False, True])
def test_a_lease_that_is_damaged_while_it_is_held_is_lost(run: RunDirectory, ignored: bool) -> None:
    """Also where Ctrl-C is ignored, as in a script's background jobs, and only SIGTERM is heard."""
    if ignored:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    path = ObjectPath(f"{run.path}/.lease")
    with pytest.raises(RunError, match="another process has taken over"), Lease(path):
        path.write_bytes(b"")
        until_interrupted()


def test_a_process_that_hears_no_signal_ends_when_its_lease_is_lost(run: RunDirectory) -> None:
    deaf = HOLD.replace("import sys, time", "import signal, sys, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)")
    words = [sys.executable, "-c", deaf, str(run.path)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    (run.path / ".lease").write_bytes(b"")
    assert process.communicate(timeout=60)[1].endswith("; this one stops\n") and process.returncode == 1


def test_who_ends_before_it_notices_leaves_the_lease_to_the_one_that_has_it(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 60)
    path = ObjectPath(f"{run.path}/.lease")
    with Lease(path):
        path.write_bytes(b'{"token": "another"}')
    assert path.read_bytes() == b'{"token": "another"}'
