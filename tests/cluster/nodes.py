"""A Ray cluster of several nodes on this machine, with this process as its driver."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from head import ROOT, free_port

from salt_ray.artifacts import RunDirectory
from salt_ray.cluster import session
from salt_ray.cluster.training import Outcome, train_folds
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training.progress import Progress
from salt_ray.training.task import FoldTask

# A dead node is noticed within 3 s instead of 15 to 65.
QUICK = {
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}
SECONDS = 240
NODE_MEMORY = 80_000_000  # bytes of its object store


@contextlib.contextmanager
def cluster_with_head(ray_directory: Path, cpus: int) -> Iterator["Cluster"]:  # noqa: F821, UP037
    """A cluster whose head has so many CPUs, and which this process has joined while the block lasts."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(ray_directory))
        patch.delenv("RAY_ADDRESS", raising=False)
        for name, value in QUICK.items():
            patch.setenv(name, value)
        head = {"num_cpus": cpus, "object_store_memory": NODE_MEMORY, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            with session.connect(cluster.address):
                yield cluster
        finally:
            cluster.shutdown()


@contextlib.contextmanager
def growing_cluster(ray_directory: Path, types: dict[str, dict]) -> Iterator[None]:
    """A head without CPUs whose autoscaler starts nodes of these types on this machine; this process has joined it.

    Its node provider is the one of Ray's own tests; what it starts are real nodes.
    """
    import psutil
    from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FakeMultiNodeProvider

    port, file = free_port(), ray_directory / "cluster.json"
    provider = {
        "type": "external",
        "module": f"{FakeMultiNodeProvider.__module__}.{FakeMultiNodeProvider.__name__}",
        "use_node_id_as_ip": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
        "launch_multiple": True,
        "gcs_address": f"127.0.0.1:{port}",
        "head_node_id": FAKE_HEAD_NODE_ID,
    }
    head = {"ray.head.default": {"resources": {}, "node_config": {}, "max_workers": 0}}  # the provider's name for it
    commands = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    lists = [f"{kind}_commands" for kind in commands] + ["cluster_synced_files", "rsync_exclude", "rsync_filter"]
    needed = {"docker": {}, "auth": {}, "file_mounts": {}, "file_mounts_sync_continuously": False}
    needed |= {name: [] for name in lists}
    config = {
        "cluster_name": "growing",
        "max_workers": 8,
        "idle_timeout_minutes": 1,
        "provider": provider,
        "head_node_type": "ray.head.default",
        "available_node_types": head | {name: {"node_config": {}, **kind} for name, kind in types.items()},
        **needed,
    }
    file.write_text(json.dumps(config))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {
        "RAY_TMPDIR": str(ray_directory),
        "RAY_AUTH_MODE": "disabled",  # a process reads its mode once, and this one has
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "PYTHONPATH": str(ROOT),
    }
    options = {
        "port": port,
        "include-dashboard": False,
        "dashboard-agent-listen-port": free_port(),
        "ray-client-server-port": free_port(),
        "node-ip-address": "127.0.0.1",
        "num-cpus": 0,
        "object-store-memory": NODE_MEMORY,
        "autoscaling-config": file,
    }
    command = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block"]
    command += [f"--{name}={value}" for name, value in options.items()]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + SECONDS
        while not (ray_directory / "ray" / "ray_current_cluster").exists():  # written last
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_TMPDIR", str(ray_directory))
            with session.connect(f"127.0.0.1:{port}"):
                yield
    finally:
        for child in psutil.Process(process.pid).children(recursive=True):  # its nodes are the autoscaler's children
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        process.kill()
        process.wait(SECONDS)


class Training(threading.Thread):
    """``train_folds`` in a thread, and what it has said so far."""

    def __init__(self, tasks: list[FoldTask], tiles: TrainingTiles, run: RunDirectory) -> None:
        super().__init__(daemon=True)
        self._arguments = tasks, tiles, run
        self.progress: list[Progress] = []
        self.lines: list[str] = []
        self.outcomes: list[Outcome] = []
        self.start()

    def run(self) -> None:
        self.outcomes = train_folds(*self._arguments, self.progress.append, self.lines.append)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition()`` holds while folds train."""
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert self.is_alive() and time.monotonic() < deadline, self.lines
            time.sleep(0.05)

    def said(self, words: str) -> bool:
        return any(words in line for line in self.lines)

    def end(self) -> list[Outcome]:
        self.join(SECONDS)
        assert not self.is_alive(), self.lines
        return self.outcomes
