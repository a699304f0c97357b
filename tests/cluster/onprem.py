"""The cluster of cluster-onprem.yaml on pretended machines, used from outside as a person does: Ray's commands."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import requests
from head import free_port
from machines import SHARED, Machine, Site

ROOT = Path(__file__).parents[2]
SECONDS = 900  # for what may take long where others use the cores as well
# What of the project the cluster has to do with: a copy, which nobody edits in the middle of a rehearsal.
PROJECT = (
    "launch.py",
    "salt_ray",
    "experiments",
    "pyproject.toml",
    "constraints.txt",
    "docker/install.sh",
    "cluster-onprem.yaml",
)


class Cluster:
    """The cluster of cluster-onprem.yaml on the machines of a site, as a person outside of it sees it."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.home = site.folder / "outside"
        self.home.mkdir()
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
            "HOME": str(self.home),
            "RAY_TMPDIR": str(self.home),
            "TMPDIR": str(self.home),
            "RAY_AUTH_MODE": "token",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        self.project = self.home / "salt-ray"
        for name in PROJECT:
            copy(ROOT / name, self.project / name)
        self.file = self.project / "cluster-onprem.yaml"
        self.file.write_text(for_site(self.file.read_text(), site))
        self.ray("get-auth-token", "--generate")
        self.token = (self.home / ".ray" / "auth_token").read_text().strip()
        self.url = ""
        for machine in site.machines.values():
            install(self.project, machine)

    def start(self, *words: str) -> subprocess.Popen:
        """A command of Ray's own command line, in a group of processes of its own."""
        return subprocess.Popen(
            [str(Path(sys.executable).parent / "ray"), *words],
            cwd=self.project,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def ray(self, *words: str) -> str:
        """What such a command printed; it must succeed."""
        process = self.start(*words)
        try:
            output, _ = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            end_group(process)
            raise
        assert process.returncode == 0, output
        return output

    def up(self) -> str:
        return self.ray("up", str(self.file), "-y")

    def down(self) -> str:
        return self.ray("down", str(self.file), "-y")

    @contextlib.contextmanager
    def tunnel(self) -> Iterator[None]:
        """``ray dashboard`` while the block lasts; ``url`` is the near end."""
        port = free_port()
        process = self.start("dashboard", str(self.file), "--port", str(port))
        self.url = f"http://127.0.0.1:{port}"
        try:
            wait_until(lambda: self._answers() or process.poll() is not None, "the dashboard answers")
            assert process.poll() is None, process.stdout.read()
            yield
        finally:
            end_group(process)

    def _answers(self) -> bool:
        with contextlib.suppress(requests.RequestException):
            return bool(self.ask("/api/version"))
        return False

    def ask(self, path: str, **parameters: Any) -> Any:
        """The dashboard's answer, through the tunnel."""
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = requests.get(self.url + path, params=parameters, headers=headers, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def status(self, token: str) -> int:
        """The status of an answer to who has this token."""
        headers = {"Authorization": f"Bearer {token}"}
        return requests.get(self.url + "/api/v0/nodes", headers=headers, timeout=30).status_code

    def alive(self) -> list[str]:
        """The names of the machines that are in the cluster now."""
        rows = self.ask("/api/v0/nodes", limit=1000)["data"]["result"]["result"]
        return sorted(self._name(row["node_ip"]) for row in rows if row["state"] == "ALIVE")

    def places(self, kind: str, *names: str) -> set[str]:
        """The machines on which actors (by class) or tasks of these names were."""
        nodes = self.ask("/api/v0/nodes", limit=1000)["data"]["result"]["result"]
        where = {row["node_id"]: self._name(row["node_ip"]) for row in nodes}
        rows = self.ask(f"/api/v0/{kind}", limit=10_000)["data"]["result"]["result"]
        named = [row for row in rows if row["class_name" if kind == "actors" else "name"] in names]
        return {where[row["node_id"]] for row in named if row.get("node_id") in where}

    def left(self) -> list[str]:
        """The machines on which Ray runs: a head, a node, or workers."""
        found = "pgrep -x gcs_server; pgrep -x raylet; pgrep -f '^ray::' || true"
        return [machine.name for machine in self.site.machines.values() if machine.shell(found).split()]

    def _name(self, address: str) -> str:
        return next(machine.name for machine in self.site.machines.values() if machine.address == address)

    def submit(self, command: str, run: str, *more: str) -> subprocess.Popen:
        """Start a command as a job, on the survey and experiment in the shared folder."""
        words = ["--experiment", f"{SHARED}/experiment.json", "--run-dir", f"runs/{run}"]  # the rest is in the file
        job = ["job", "submit", "--address", self.url, "--working-dir", ".", "--"]
        return self.start(*job, "python", "launch.py", command, *words, *more)


def for_site(text: str, site: Site) -> str:
    """cluster-onprem.yaml with the site's addresses, user, key and paths; nothing else differs."""
    head, *workers = (machine.address for machine in site.machines.values())
    changes = {
        "head_ip: 192.0.2.10": f"head_ip: {head}",
        "worker_ips: [192.0.2.11, 192.0.2.12]": f"worker_ips: [{', '.join(workers)}]",
        "ssh_user: ubuntu": "ssh_user: root",
        "ssh_private_key: ~/.ssh/id_ed25519": f"ssh_private_key: {site.key}",
        "=/shared/salt-ray/": f"={SHARED}/",
    }
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def copy(source: Path, target: Path) -> None:
    """Copy a file or a folder, as a clone has it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def install(project: Path, machine: Machine) -> None:
    """What docker/install.sh would install there: our own environment, with its stamp."""
    environment = machine.folder / "home" / "salt-ray-env"
    environment.mkdir(parents=True)
    for name in ("bin", "lib", "pyvenv.cfg"):
        (environment / name).symlink_to(Path(sys.prefix) / name)
    described = [(project / name).read_bytes() for name in ("pyproject.toml", "constraints.txt", "docker/install.sh")]
    (environment / "installed").write_text(f"{hashlib.sha256(b''.join(described)).hexdigest()}  -\n")


def end_group(process: subprocess.Popen) -> None:
    """End a command and what it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def wait_until(condition: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
    """Wait for a condition; its first true value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)
    return value


def finished(job: subprocess.Popen) -> str:
    """What a job printed; it must succeed."""
    try:
        output, _ = job.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        end_group(job)
        raise
    assert job.returncode == 0, output
    return output
