"""A command as a job of a cluster: where it runs, how its log and its end come back, and what a person is told."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from head import SECONDS, Head, free_port, running_head, write_project
from ray.job_submission import JobStatus

from salt_ray.cluster import jobs, private
from salt_ray.cluster.command import Command
from salt_ray.cluster.jobs import Job, run_as_job
from salt_ray.cluster.session import ClusterError
from salt_ray.errors import Interrupted
from salt_ray.interruption import Interruption

# What a test's command does: as itself it becomes a job; as the job's driver it says where it and a worker's worker
# are, and waits or fails.
COMMAND = """
import argparse, json, os, sys, time
from pathlib import Path
import salt_ray.travelled
from salt_ray.cluster.jobs import run_as_job
from salt_ray.cli.places import in_unpacked_code
from salt_ray.cluster.session import connect
from salt_ray.errors import Interrupted, SaltRayError
import ray

parser = argparse.ArgumentParser()
parser.add_argument("command")
for option in ("--run-dir", "--experiment", "--data", "--address"):
    parser.add_argument(option)
options = parser.parse_args()
try:
    code = run_as_job(options.address, sys.argv[1:], print, Path(__file__).resolve().parent)
except Interrupted as error:
    print(error)
    sys.exit(130)
except SaltRayError as error:
    sys.exit(f"error: {error}")
if code is not None:
    sys.exit(code)
if options.command == "wait":
    print("waiting")
    time.sleep(600)

def look():
    import salt_ray.travelled
    from salt_ray.cli.places import in_unpacked_code
    names = ("AWS_ENDPOINT_URL", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "SALT_RAY_CACHE", "OWN")
    return {
        "code": str(Path(salt_ray.travelled.__file__).parents[1]),
        "folder": os.getcwd(),
        "in_package": in_unpacked_code(),
        "environment": {name: os.environ[name] for name in names if name in os.environ},
    }

@ray.remote(num_cpus=0)
def outer():
    return ray.get(ray.remote(look).remote())

with connect() as dashboard:
    worker = ray.get(outer.options(runtime_env={"env_vars": {"OWN": "1"}}).remote())
files = [str(path) for path in Path().rglob("*") if path.is_file()]
seen = {"dashboard": dashboard, "driver": look(), "worker": worker, "files": files, "experiment": options.experiment}
print("seen " + json.dumps(seen))
sys.exit(3)
"""


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE", private.RAY_JOB_CONFIG_JSON_ENV_VAR):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))


# Where a command runs ------------------------------------------------------------------------------------------------


def test_without_a_cluster_it_stays_here() -> None:
    assert run_as_job(None, ["train"], pytest.fail) is None
    assert run_as_job("local", ["train"], pytest.fail) is None


def test_the_driver_of_a_job_stays_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(private.RAY_JOB_CONFIG_JSON_ENV_VAR, "{}")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert run_as_job(None, ["train"], pytest.fail) is None
    assert run_as_job("10.0.0.1:6379", ["train"], pytest.fail) is None


def test_rays_client_is_refused_with_the_address_to_use() -> None:
    with pytest.raises(ClusterError, match="--address head:6379"):
        run_as_job("ray://head:10001", ["train"], pytest.fail)


def test_auto_wants_a_cluster() -> None:
    with pytest.raises(ClusterError, match="--address HOST:PORT"):
        run_as_job("auto", ["train"], pytest.fail)


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "http://127.0.0.1:{}"])
def test_nobody_answers(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = form.format(free_port())
    with pytest.raises(ClusterError, match=r"cannot connect to (Ray|a dashboard).*check --address"):
        run_as_job(dead, ["train"], pytest.fail)
    monkeypatch.setenv("RAY_ADDRESS", dead)
    with pytest.raises(ClusterError, match=r"cannot connect to (Ray|a dashboard).*check the variable RAY_ADDRESS"):
        run_as_job(None, ["train"], pytest.fail)


@pytest.mark.parametrize(("status", "remedy"), [(401, "RAY_AUTH_TOKEN"), (403, "RAY_AUTH_TOKEN"), (404, "ray start")])
def test_a_dashboard_that_does_not_serve_us(status: int, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(status)

        def log_message(self, *message: object) -> None:
            pass

    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")  # somewhere else: what was asked for counts
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(ClusterError, match=remedy):
            run_as_job(f"http://127.0.0.1:{server.server_port}", ["train"], pytest.fail)
        server.shutdown()
    assert os.environ["RAY_ADDRESS"] == "10.0.0.1:6379"


# What is submitted ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "beginning"),
    [
        (["tune", "--run-dir", "runs/a b/salt é.1"], "salt-ray-tune-salt-"),
        (["train", "--experiment=experiments/demo.py"], "salt-ray-train-demo-"),
        (["train"], "salt-ray-train-"),
        (["--debug", "volume", "predict", "runs/demo", "--to", "runs/cube"], "salt-ray-volume-predict-cube-"),
    ],
)
def test_ids_tell_what_it_is_and_are_unique(arguments: list[str], beginning: str) -> None:
    ids = {jobs._new_id(arguments) for _ in range(100)}
    assert len(ids) == 100
    assert all(id.startswith(beginning) and id.replace("-", "").replace("_", "").isalnum() for id in ids)


@pytest.mark.parametrize(
    ("wanted", "node", "here"),
    [
        ("127.0.0.1:6379", "127.0.0.1:6379", True),
        ("localhost:6379", "127.0.0.1:6379", True),
        ("127.0.0.1:6379", None, False),  # a tunnel
        ("127.0.0.1:7000", "127.0.0.1:6379", False),  # a tunnel beside a cluster of our own
        ("http://127.0.0.1:6379", "127.0.0.1:6379", False),
        ("192.0.2.1:6379", "192.0.2.1:6379", False),  # a worker node, whose file names the head
        ("127.0.0.1:6379", "192.0.2.1:6379", False),
    ],
)
def test_only_the_clusters_own_head_node_is_here(wanted: str, node: str | None, here: bool, tmp_path: Path) -> None:
    if node:
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray" / "ray_current_cluster").write_text(node)
    assert jobs._is_here(wanted) == here


def test_a_job_gets_its_command_and_its_code(tmp_path: Path) -> None:
    submitted, packed = {}, []

    def submit_job(**job: object) -> None:
        submitted.update(job)
        folder = Path(job["runtime_env"]["working_dir"])
        packed.extend(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())

    (tmp_path / "code.py").write_text("")
    command = Command(
        "exec true", ["tune", "--set", "name=a b"], {"salt_ray/code.py": tmp_path / "code.py"}, {"A": "1"}
    )
    Job(SimpleNamespace(submit_job=submit_job), "http://d", "salt-ray-x", print).submit(command)
    assert submitted["entrypoint"] == "exec true" and submitted["submission_id"] == "salt-ray-x"
    assert submitted["metadata"] == {"command": "tune --set 'name=a b'"}
    assert submitted["runtime_env"]["env_vars"] == {"A": "1"} and packed == ["salt_ray/code.py"]


@pytest.mark.parametrize("uri", ["s3://AKIA:hunter2@bucket/x", "s3://bucket/x?access_key=AKIA&secret_key=hunter2"])
def test_keys_are_refused_before_anybody_sees_them(uri: str) -> None:
    with pytest.raises(ClusterError, match="the keys in the URI") as refusal:
        run_as_job("h:1", ["train", f"--run-dir={uri}"], pytest.fail)
    assert "hunter2" not in str(refusal.value)


def test_json_of_a_job_is_refused_before_it_begins() -> None:
    with pytest.raises(ClusterError, match=r"status RUN --json"):
        run_as_job("h:1", ["train", "--json"], pytest.fail)


def test_ctrl_c_while_the_code_travels_says_that_nothing_was_submitted(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(job: Job, command: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "_client", lambda *where: None)
    monkeypatch.setattr(jobs, "Command", SimpleNamespace(elsewhere=lambda *arguments: None))
    monkeypatch.setattr(Job, "submit", interrupted)
    with pytest.raises(Interrupted, match=r"was not submitted.*ray job stop salt-ray-train-") as end:
        run_as_job("http://d:1", ["train"], print)
    assert "still running" not in str(end.value)


def test_a_signal_ends_the_following_and_not_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes while nothing does: inside of asyncio's wait."""

    class Idle(FlakyCluster):
        async def tail_job_logs(self, id: str) -> AsyncIterator[str]:
            yield "a\n"
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
            await jobs.asyncio.sleep(600)

    monkeypatch.setattr(jobs, "_client", lambda *where: Idle())
    monkeypatch.setattr(jobs, "Command", SimpleNamespace(elsewhere=lambda *arguments: None))
    monkeypatch.setattr(Job, "submit", lambda job, command: None)
    with (
        Interruption() as interruption,
        pytest.raises(Interrupted, match=r"is still running; .*ray job logs (?s:.)*ray job stop salt-ray-train-"),
    ):
        run_as_job("http://d:1", ["train"], print)
    assert interruption.exit_code == 143


# How its log and its end come back -----------------------------------------------------------------------------------


class FlakyCluster:
    """Loses the connection after each of ``parts`` of the log but the last; then the job is over."""

    def __init__(self, *parts: str, **details: object) -> None:
        self.parts, self.tries = parts, 0
        self.details = SimpleNamespace(
            **{"status": JobStatus.SUCCEEDED, "driver_exit_code": 0, "message": ""} | details
        )

    async def tail_job_logs(self, id: str) -> AsyncIterator[str]:
        self.tries += 1
        for part in self.parts[: self.tries]:
            yield part
        if self.tries < len(self.parts):
            raise RuntimeError("closed unexpectedly")

    def get_job_info(self, id: str) -> SimpleNamespace:
        return self.details


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "RETRY_SECONDS", (0, 0))


def test_a_lost_connection_is_taken_up_where_it_broke(at_once: None, capsys: pytest.CaptureFixture) -> None:
    said = []
    assert Job(FlakyCluster("a\nb", "b\n", "c\n"), "http://d", "salt-ray-x", said.append).follow() == 0
    assert capsys.readouterr().out == "a\nbb\nc\n"
    assert len(said) == 2 and "closed unexpectedly" in said[0]


def test_every_way_back_earns_new_tries(at_once: None, capsys: pytest.CaptureFixture) -> None:
    said = []
    assert Job(FlakyCluster(*"abcdefgh"), "http://d", "salt-ray-x", said.append).follow() == 0
    assert capsys.readouterr().out == "abcdefgh" and len(said) == 7


def test_it_gives_up_with_the_command_that_follows_again(at_once: None, capsys: pytest.CaptureFixture) -> None:
    class Gone(FlakyCluster):
        async def tail_job_logs(self, id: str) -> AsyncIterator[str]:
            yield "a\n"  # Ray keeps the log; nothing new comes
            raise RuntimeError("closed unexpectedly")

    said = []
    assert Job(Gone(), "http://d", "salt-ray-x", said.append).follow() == 1
    assert capsys.readouterr().out == "a\n" and len(said) == len(jobs.RETRY_SECONDS) + 1
    assert "ray job logs salt-ray-x --address http://d --follow" in said[-1]


def test_a_connection_that_says_nothing_is_made_anew(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    class Silent(FlakyCluster):
        async def tail_job_logs(self, id: str) -> AsyncIterator[str]:
            self.tries += 1
            yield "a\n"
            if self.tries == 1:
                await jobs.asyncio.sleep(60)
            yield "b\n"

        def get_job_info(self, id: str) -> SimpleNamespace:
            self.details.status = JobStatus.RUNNING if self.tries == 1 else JobStatus.SUCCEEDED
            return self.details

    monkeypatch.setattr(jobs, "QUIET_SECONDS", 0.1)
    monkeypatch.setattr(jobs.time, "sleep", lambda seconds: None)
    assert Job(Silent(), "http://d", "salt-ray-x", pytest.fail).follow() == 0
    assert capsys.readouterr().out == "a\nb\n"


@pytest.mark.parametrize(
    ("status", "exit_code", "code", "sentence"),
    [
        (JobStatus.STOPPED, None, 1, "was stopped"),
        (JobStatus.FAILED, 3, 3, "exit code 3"),
        (JobStatus.FAILED, -9, 137, "ended by signal 9; run the same command again"),
        (JobStatus.FAILED, 143, 143, "ended by signal 15; run the same command again"),
        (JobStatus.FAILED, None, 1, "no such conda"),
        (JobStatus.FAILED, 127, 127, "needs the environment"),
    ],
)
def test_how_it_ended(status: JobStatus, exit_code: int | None, code: int, sentence: str) -> None:
    said = []
    cluster = FlakyCluster("", status=status, driver_exit_code=exit_code, message="no such conda")
    assert Job(cluster, "http://d", "salt-ray-x", said.append).follow() == code
    assert sentence in said[-1]


# On a real cluster ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    project = write_project(tmp_path_factory.mktemp("command") / "project", COMMAND)
    with running_head(project / "launch.py") as head:
        yield head


def finished(head: Head, process: subprocess.Popen) -> tuple[dict, dict]:
    """What a command's job saw, and the job; it must have failed with the exit code 3."""
    output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 3, output
    id, job = next((id, job) for id, job in head.jobs().items() if id in output)
    assert job["status"] == "FAILED" and f"{head.dashboard}/#/jobs/{id}" in output and f"ray job stop {id}" in output
    return seen_in(output), job


def seen_in(output: str) -> dict:
    line = next(line for line in output.splitlines() if line.startswith("seen "))
    return json.loads(line.removeprefix("seen "))


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize("named", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_on_the_head_node_the_driver_stays_where_it_is_and_workers_get_the_code(head: Head, named: bool) -> None:
    address = ["--address", head.address] if named else []  # without: what the node's own file says
    seen, job = finished(head, head.start("fail", "--run-dir", "runs/demo", *address, SALT_RAY_CACHE="/c"))
    project = str(head.script.parent)
    assert seen["dashboard"] == head.dashboard.removeprefix("http://")
    assert (seen["driver"]["folder"], seen["driver"]["code"], seen["driver"]["in_package"]) == (project, project, False)
    assert seen["worker"]["in_package"] and seen["worker"]["code"] == seen["worker"]["folder"] != project
    assert seen["worker"]["environment"]["OWN"] == "1" and seen["worker"]["environment"]["SALT_RAY_CACHE"] == "/c"
    assert job["submission_id"].startswith("salt-ray-fail-demo-") and job["metadata"] == {
        "command": "fail --run-dir runs/demo"
    }


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize("tunnel", [pytest.param(False, marks=pytest.mark.soak), True])
def test_from_elsewhere_driver_and_workers_work_in_the_package(head: Head, tunnel: bool, tmp_path: Path) -> None:
    (experiment := tmp_path / "idea.json").write_text("{}")
    address = head.dashboard if tunnel else head.address
    variables = {"RAY_TMPDIR": str(tmp_path), "SALT_RAY_CACHE": "/laptop", "AWS_ENDPOINT_URL": "http://127.0.0.1:5000"}
    process = head.start(
        *["fail", "--experiment", str(experiment), "--address", address], AWS_SECRET_ACCESS_KEY="hunter2", **variables
    )
    seen, job = finished(head, process)
    assert (seen["driver"]["in_package"], seen["worker"]["in_package"]) == (True, True)
    for process in (seen["driver"], seen["worker"]):
        assert process["code"] == process["folder"] != str(head.script.parent)
        assert process["environment"]["AWS_ENDPOINT_URL"] == "http://127.0.0.1:5000"
        assert process["environment"].get("SALT_RAY_CACHE") != "/laptop"
    assert seen["experiment"] == "outside/idea.json" and seen["experiment"] in seen["files"]
    assert {file.partition("/")[0] for file in seen["files"]} == {"launch.py", "salt_ray", "experiments", "outside"}
    assert "hunter2" not in json.dumps(job) and head.token not in json.dumps(job)


@pytest.mark.alone
@pytest.mark.soak
def test_rays_own_command_works_as_well(head: Head) -> None:
    words = ["--address", head.dashboard, "--working-dir", ".", "--", "python", "launch.py", "fail"]
    output, _ = (process := head.run("ray", "job", "submit", *words)).communicate(timeout=SECONDS)
    assert process.returncode != 0 and "exit code 3" in output, output
    seen = seen_in(output)
    assert (seen["driver"]["in_package"], seen["worker"]["in_package"]) == (True, True)
    assert seen["driver"]["code"] == seen["worker"]["code"] != str(head.script.parent)
    assert not [file for file in seen["files"] if file.startswith(("data", "runs", ".venv", ".git/"))]


@pytest.mark.alone
@pytest.mark.slow
def test_the_job_outlives_ctrl_c_and_the_command_that_was_told_stops_it(head: Head) -> None:
    process = head.start("wait", "--address", head.dashboard)
    for line in process.stdout:
        if line == "waiting\n":
            break
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 130 and "still running" in told and "Traceback" not in told
    stop = told[told.index("ray job stop") :].splitlines()[0]
    id = shlex.split(stop)[3]
    assert head.jobs()[id]["status"] == "RUNNING"
    subprocess.run(shlex.split(stop), env=head.environment, check=True, timeout=SECONDS, stdout=subprocess.DEVNULL)
    assert head.jobs()[id]["status"] == "STOPPED"


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize("environment", [{"RAY_AUTH_TOKEN": "0" * 64}, {"RAY_AUTH_MODE": "disabled"}])
def test_a_wrong_or_no_token(head: Head, environment: dict[str, str]) -> None:
    for process in [
        head.start("fail", "--address", address, **environment) for address in (head.address, head.dashboard)
    ]:
        output, _ = process.communicate(timeout=SECONDS)
        assert process.returncode == 1 and "RAY_AUTH_TOKEN" in output.splitlines()[-1]
