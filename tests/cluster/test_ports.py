"""A local Ray from outside: it listens on loopback only, and every port asks for the token but those of metrics."""

from __future__ import annotations

import http.client
import json
import os
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
import pytest

ROOT = Path(__file__).parents[2]
SECONDS = 60
#: Says where its dashboard is once a task has run, and goes on until its input is closed.
DRIVER = """
import sys
from salt_ray.cluster.session import connect
import ray
with connect() as dashboard:
    ray.get(ray.remote(lambda: 1).remote())
    print(dashboard, flush=True)
    sys.stdin.read()
"""
#: A method of each kind of server that listens for gRPC; without a token none answers.
METHODS = (
    "NodeInfoGcsService/GetAllNodeInfo",  # GCS
    "NodeManagerService/GetNodeStats",  # raylet
    "ObjectManagerService/Pull",  # raylet
    "CoreWorkerService/PushTask",  # drivers and workers
    "ReporterService/GetTraceback",  # agent
)
#: Who serves numbers for Prometheus, which may be read without the token. The first two have fixed ports, which another
#: Ray on the machine may hold; then they go without.
METRICS = ("monitor.py", "dashboard.py", "DashboardAgent")
SERVERS = ("gcs_server", "raylet", "DashboardAgent", "RuntimeEnvAgent", "dashboard.py", "-c")


@dataclass(frozen=True)
class LocalRay:
    """A local Ray that a driver started with a home folder of its own."""

    driver: psutil.Process
    folder: Path
    dashboard: str

    @property
    def processes(self) -> list[psutil.Process]:
        return [self.driver, *self.driver.children(recursive=True)]

    @property
    def token(self) -> str:
        return (self.folder / ".ray" / "auth_token").read_text()

    def listening(self) -> list[tuple[str, str, int]]:
        """Command line, address and port of every socket that takes connections."""
        return [
            (" ".join(process.cmdline()), socket.laddr.ip, socket.laddr.port)
            for process in self.processes
            for socket in process.net_connections("inet")
            if socket.status == psutil.CONN_LISTEN
        ]


@pytest.fixture(scope="module")
def local_ray(ray_directory: Path) -> Iterator[LocalRay]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"RAY_TMPDIR": str(ray_directory), "HOME": str(ray_directory)}
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        dashboard = driver.stdout.readline().strip()
        assert dashboard, "the driver did not start its Ray"
        ray = LocalRay(psutil.Process(driver.pid), ray_directory, dashboard)
        deadline = time.monotonic() + SECONDS
        while not any("DashboardAgent" in owner for owner in metrics_ports(ray).values()):  # the last to listen
            assert time.monotonic() < deadline
            time.sleep(0.5)
        yield ray
    finally:
        driver.stdin.close()
        driver.wait(SECONDS)


def status(url: str, token: str | None = None, body: dict | None = None) -> int | None:
    """The status of an HTTP answer; None where nobody speaks HTTP."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    content = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, content, headers), timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, http.client.HTTPException):
        return None


def grpc_codes(port: int) -> set[grpc.StatusCode]:
    """What a port answers to a call of each of the METHODS without a token."""
    codes = set()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for method in METHODS:
            try:
                channel.unary_unary(f"/ray.rpc.{method}")(b"", timeout=30)
                codes.add(grpc.StatusCode.OK)
            except grpc.RpcError as error:
                codes.add(error.code())
    return codes


def metrics_ports(ray: LocalRay) -> dict[int, str]:
    """The ports that serve numbers to everybody, and the command lines of their processes."""
    return {port: owner for owner, _, port in ray.listening() if status(f"http://127.0.0.1:{port}/metrics") == 200}


def test_it_listens_on_loopback_only(local_ray: LocalRay) -> None:
    listening = local_ray.listening()
    for server in SERVERS:
        assert any(server in owner for owner, _, _ in listening), server
    assert {address.removeprefix("::ffff:") for _, address, _ in listening} <= {"127.0.0.1", "::1"}


def test_every_port_but_those_of_metrics_asks_for_the_token(local_ray: LocalRay) -> None:
    unguarded = metrics_ports(local_ray)
    owners = [next(server for server in METRICS if server in owner) for owner in unguarded.values()]
    assert len(set(owners)) == len(owners)  # one port each
    for _, _, port in local_ray.listening():
        if port not in unguarded:
            answer = status(f"http://127.0.0.1:{port}/")
            if answer is None:
                codes = grpc_codes(port)
                assert grpc.StatusCode.UNAUTHENTICATED in codes and grpc.StatusCode.OK not in codes, (port, codes)
            elif answer == 200:
                assert str(port) == local_ray.dashboard.rpartition(":")[2]  # the page that asks for the token
            else:
                assert answer in (401, 403), port


@pytest.mark.parametrize(
    "path", ["/api/jobs/", "/nodes?view=summary", "/api/v0/tasks", "/api/train/v2/runs/v1", "/api/v0/logs", "/timezone"]
)
def test_the_dashboard_tells_nothing_without_the_token(local_ray: LocalRay, path: str) -> None:
    url = f"http://{local_ray.dashboard}{path}"
    assert status(url) == 401
    assert status(url, token="0" * 64) == 403


def test_no_job_starts_without_the_token(local_ray: LocalRay) -> None:
    url, job = f"http://{local_ray.dashboard}/api/jobs/", {"entrypoint": "true"}
    assert status(url, body=job) == 401
    assert status(url, token="0" * 64, body=job) == 403
    assert status(url, token=local_ray.token) == 200  # the list of jobs: it is the token that was missing


def test_a_run_holds_no_token(undisturbed: tuple[Path, str]) -> None:
    """Nor does what the command printed; the user's token, since the command ran with the user's home."""
    run, printed = undisturbed
    token = os.environ.get("RAY_AUTH_TOKEN") or (Path.home() / ".ray" / "auth_token").read_text().strip()
    assert token not in printed
    for path in run.rglob("*"):
        assert not path.is_file() or token.encode() not in path.read_bytes(), path


def test_nothing_shows_the_token(local_ray: LocalRay) -> None:
    assert len(local_ray.token) == 64
    home = local_ray.folder / ".ray"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert not [process for process in local_ray.processes if local_ray.token in " ".join(process.cmdline())]
    session = (local_ray.folder / "ray" / "session_latest").resolve()
    logs = [path for path in session.rglob("*") if path.is_file()]
    assert logs
    assert not [path for path in logs if local_ray.token.encode() in path.read_bytes()]
