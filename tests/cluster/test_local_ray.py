"""A local Ray from outside, while a command trains: its dashboard, its metrics and its ports.

It listens on loopback only, and every port asks for the token but those of metrics.
"""

from __future__ import annotations

import http.client
import json
import re
import stat
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
import pytest
from browser import page_text
from curves import curves
from dashboard import Dashboard, followed
from grafana import shown_gauges
from moments import Moments
from road import SECONDS, Road, wait_for

pytestmark = pytest.mark.alone

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
FIRST_OF_COSINE = "*/fold-0/cosine/.epoch-00001.pt.*"
SERVERS = ("gcs_server", "raylet", "DashboardAgent", "RuntimeEnvAgent", "dashboard.py", "launch.py", "RayTrainWorker")


@pytest.fixture(scope="module")
def training(
    survey: Path, experiment_file: Path, own_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Dashboard]:
    """A command with a home folder of its own, stopped once its one fold has trained the first stage."""
    moments = Moments(tmp_path_factory.mktemp("moments") / "hook")
    with tempfile.TemporaryDirectory(prefix="salt", ignore_cleanup_errors=True) as home:
        road = Road(survey, experiment_file, Path(home))
        for name in [name for name in road.environment if name.startswith("RAY_") and name != "RAY_TMPDIR"]:
            del road.environment[name]
        road.environment["HOME"] = home
        run = tmp_path_factory.mktemp("training")
        with followed(road, run, moments, FIRST_OF_COSINE, "train", "--folds", "0") as shown:
            last = METRICS[-1]
            wait_for(lambda: any(last in owner for owner in metrics_ports(shown).values()), shown.process)
            yield shown


def listening(shown: Dashboard) -> list[tuple[str, str, int]]:
    """Command line, address and port of every socket that takes connections."""
    driver = psutil.Process(shown.process.pid)
    return [
        (" ".join(process.cmdline()), socket.laddr.ip, socket.laddr.port)
        for process in (driver, *driver.children(recursive=True))
        for socket in process.net_connections("inet")
        if socket.status == psutil.CONN_LISTEN
    ]


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


def metrics_ports(shown: Dashboard) -> dict[int, str]:
    """The ports that serve numbers to everybody, and the command lines of their processes."""
    return {port: owner for owner, _, port in listening(shown) if status(f"http://127.0.0.1:{port}/metrics") == 200}


# Ports ---------------------------------------------------------------------------------------------------------------


def test_it_listens_on_loopback_only(training: Dashboard) -> None:
    found = listening(training)
    for server in SERVERS:
        assert any(server in owner for owner, _, _ in found), server
    assert {address.removeprefix("::ffff:") for _, address, _ in found} <= {"127.0.0.1", "::1"}


def test_every_port_but_those_of_metrics_asks_for_the_token(training: Dashboard) -> None:
    unguarded = metrics_ports(training)
    owners = [next(server for server in METRICS if server in owner) for owner in unguarded.values()]
    assert len(set(owners)) == len(owners)  # one port each
    for _, _, port in listening(training):
        if port not in unguarded:
            answer = status(f"http://127.0.0.1:{port}/")
            if answer is None:
                codes = grpc_codes(port)
                assert grpc.StatusCode.UNAUTHENTICATED in codes and grpc.StatusCode.OK not in codes, (port, codes)
            elif answer == 200:
                assert str(port) == training.address.rpartition(":")[2]  # the page that asks for the token
            else:
                assert answer in (401, 403), port


@pytest.mark.parametrize(
    "path", ["/api/jobs/", "/nodes?view=summary", "/api/v0/tasks", "/api/train/v2/runs/v1", "/api/v0/logs", "/timezone"]
)
def test_the_dashboard_tells_nothing_without_the_token(training: Dashboard, path: str) -> None:
    url = training.address + path
    assert status(url) == 401
    assert status(url, token="0" * 64) == 403


def test_no_job_starts_without_the_token(training: Dashboard) -> None:
    url, job = f"{training.address}/api/jobs/", {"entrypoint": "true"}
    assert status(url, body=job) == 401
    assert status(url, token="0" * 64, body=job) == 403
    assert status(url, token=training.token) == 200  # the list of jobs: it is the token that was missing


def test_nothing_shows_the_token(training: Dashboard) -> None:
    assert len(training.token) == 64
    driver = psutil.Process(training.process.pid)
    home = Path(driver.environ()["HOME"])
    assert stat.S_IMODE((home / ".ray").stat().st_mode) == 0o700
    processes = [driver, *driver.children(recursive=True)]
    assert not [process for process in processes if training.token in " ".join(process.cmdline())]
    session = (home / "ray" / "session_latest").resolve()
    logs = [path for path in (*session.rglob("*"), *training.run.rglob("*")) if path.is_file()]
    assert logs
    assert not [path for path in logs if training.token.encode() in path.read_bytes()]


# The dashboard -------------------------------------------------------------------------------------------------------


def test_ray_trains_runs_are_called_as_the_folds_are(training: Dashboard) -> None:
    wait_for(lambda: "RUNNING" in training.train_runs().values(), training.process)
    for name in training.train_runs():
        assert re.fullmatch(r"tiny-random-fold-[01]-[0-9a-f]{8}", name)


def test_scores_are_among_the_metrics(training: Dashboard) -> None:
    names, stage = shown_gauges(), ("tiny", "", "random", "0", "plateau")  # of the board for Grafana
    wait_for(lambda: all(stage in training.metrics().get(name, ()) for name in names), training.process)
    metrics = training.metrics()
    assert set(metrics) == names
    assert 0 <= metrics["score"][stage] <= metrics["best_score"][stage] <= 1
    assert metrics["tiles_per_second"][stage] > 0
    assert metrics["lr"][stage] <= 0.02


def test_the_list_of_tasks_names_folds_and_nothing_drowns_them(training: Dashboard) -> None:
    tasks = training.get("/api/v0/tasks?limit=1000")["data"]["result"]["result"]
    names = [task["name"] for task in tasks]
    assert "fit random-fold-0" in names
    assert "Board.take" not in names


def test_tensorboard_has_every_epoch(training: Dashboard) -> None:
    points = curves(training.run / "tensorboard" / "random-fold-0" / "plateau")["plateau/score"]
    assert [step for step, _ in points] == [1, 2, 3]


@pytest.mark.browser
@pytest.mark.parametrize(
    ("page", "words"),
    [("cluster", "fit random-fold-0"), pytest.param("jobs", "launch.py train", marks=pytest.mark.soak)],
)
def test_a_person_finds_the_folds(page: str, words: str, training: Dashboard, tmp_path: Path) -> None:
    """After typing the token, which the dashboard asks for."""
    text = page_text(f"{training.address}/#/{page}", training.token, words, SECONDS, tmp_path / f"{page}.png")
    assert "Authentication Token Required" not in text
    assert (tmp_path / f"{page}.png").read_bytes().startswith(b"\x89PNG")
