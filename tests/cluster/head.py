"""A head node of a Ray cluster, for commands that run as its jobs."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import requests

ROOT = Path(__file__).parents[2]
SECONDS = 180


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def write_project(folder: Path, command: str) -> Path:
    """A copy of the project with some MB of what must not travel, and ``command`` as its launch.py.

    Code in it finds ``salt_ray.travelled``, which no other copy of salt_ray has.
    """
    folder.mkdir()
    (folder / "launch.py").write_text(command)
    for name in ("salt_ray", "experiments"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "salt_ray" / "travelled.py").write_text("")
    shutil.copy(ROOT / ".gitignore", folder)
    for place in (
        "data/train.zip",
        "runs/demo/tiles.npy",
        ".venv/lib/torch.so",
        ".git/pack",
        "tests/left.bin",
        "key.pem",
    ):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(bytes(1 << 20))
    return folder


@contextlib.contextmanager
def running_head(script: Path, **environment: str) -> Iterator[Head]:
    """A head node that takes jobs while the block lasts, with these variables as its cluster's own."""
    with tempfile.TemporaryDirectory(prefix="salt", ignore_cleanup_errors=True) as folder:  # short, for Ray's sockets
        head = Head(Path(folder), script, environment)
        try:
            head.wait()
            yield head
        finally:
            head.process.terminate()  # it takes its processes along
            head.process.wait(SECONDS)


class Head:
    """A head node of its own, with a token, on ports of its own.

    Args:
        script: what ``start`` runs, in its folder.
        own: variables of the cluster; who runs a command on it does not have them.
    """

    def __init__(self, ray_directory: Path, script: Path, own: Mapping[str, str]) -> None:
        self.token, self.script = secrets.token_hex(32), script
        self.address_file = ray_directory / "ray" / "ray_current_cluster"
        self.address, self.dashboard = f"127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            "RAY_TMPDIR": str(ray_directory),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONPATH": str(ROOT),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        options = {
            "port": self.address.rpartition(":")[2],
            "dashboard-port": self.dashboard.rpartition(":")[2],
            "dashboard-agent-listen-port": free_port(),
            "ray-client-server-port": free_port(),
            "node-ip-address": "127.0.0.1",
            "num-cpus": 1,
            "object-store-memory": 80_000_000,
        }
        self.process = subprocess.Popen(
            ["ray", "start", "--head", "--block", *(f"--{name}={value}" for name, value in options.items())],
            env={**self.environment, **own},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            executable=str(Path(sys.executable).parent / "ray"),
        )

    def jobs(self) -> dict[str, dict]:
        """What the dashboard's Jobs page shows, by submission id."""
        answer = requests.get(
            f"{self.dashboard}/api/jobs/", headers={"Authorization": f"Bearer {self.token}"}, timeout=5
        )
        answer.raise_for_status()
        return {job["submission_id"]: job for job in answer.json() if job["submission_id"]}

    def wait(self) -> None:
        """Until it takes jobs; the node's address file is written last."""
        deadline = time.monotonic() + SECONDS
        while not self.address_file.exists():
            assert self.process.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        self.jobs()

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen:
        """The script, started on the head node."""
        return self.run(sys.executable, str(self.script), *arguments, **environment)

    def run(self, *words: str, **environment: str) -> subprocess.Popen:
        """A program in the script's folder; it may talk to the cluster."""
        return subprocess.Popen(
            words,
            cwd=self.script.parent,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
