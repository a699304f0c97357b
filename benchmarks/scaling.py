"""How folds share a machine, and what a fold costs a cluster whose work takes no time.

First really: one fold, two, four … at once on the machine's cores, one thread each; the ratio is the efficiency.

Then pretended: nodes of one CPU each on this machine, and a fold of one short epoch for every node. What is measured is
Ray's and the driver's own share, all of it on the few cores of this machine: seconds from the first fold's start to the
last one's end, and what each fold's processes beside the driver (``Fit``, Ray Train's controller) hold.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.harness import figure, row
from benchmarks.overhead import small_folds, under_ray
from salt_ray.artifacts import RunDirectory
from salt_ray.cluster.session import connect
from salt_ray.cluster.training import train_folds

TILES, EPOCHS, RUNS = 240, 12, 3
NODES = (1, 2, 4, 8)
#: Of a pretended node: a small object store, in bytes, and no dashboard beside it.
SMALL = {"object_store_memory": 80_000_000, "include_dashboard": False}
BESIDE_DRIVER = ("ray::Fit", "ray::TrainController")


def measure() -> Iterator[dict]:
    """A row for each number of folds at once, and two for each number of pretended nodes."""
    cores = os.cpu_count() or 1
    counts = [count for count in (1, 2, 4, 8, 16) if count <= cores]
    tasks, data = small_folds(counts[-1], TILES, EPOCHS)
    seconds = {count: [] for count in counts}
    with connect("local"), tempfile.TemporaryDirectory() as folder:
        for i in range(RUNS):
            for count in counts:
                seconds[count].append(under_ray(tasks[:count], data, Path(folder) / f"{count}-{i}"))
    for count in counts[1:]:
        yield row(f"scaling: {count} folds at once against one", seconds[count], seconds[1], "s/epoch", equal=True)
    for nodes in NODES:
        yield from _pretended(nodes)


def _pretended(nodes: int) -> Iterator[dict]:
    from ray.cluster_utils import Cluster

    tasks, data = small_folds(nodes, max(32, 8 * nodes), 1)
    cluster = Cluster(initialize_head=True, head_node_args={**SMALL, "num_cpus": 0})
    try:
        for _ in range(nodes):
            cluster.add_node(num_cpus=1, **SMALL)
        with connect(cluster.address), tempfile.TemporaryDirectory() as folder, _Watch() as watch:
            started = time.monotonic()
            outcomes = train_folds(tasks, data, RunDirectory(Path(folder)), lambda progress: None, lambda line: None)
            seconds = time.monotonic() - started
    finally:
        cluster.shutdown()
    failures = [outcome.failure for outcome in outcomes if outcome.failure]
    if failures:
        raise RuntimeError("; ".join(failures))
    name = f"scaling: {nodes} pretended nodes, a fold of one short epoch on each"
    yield figure(name, [seconds], "s")
    yield figure(f"{name}: beside the driver", [watch.peak / nodes / 1e6], "MB/fold")


class _Watch:
    """The most memory that processes beside the driver have had to themselves at a time, in bytes (``peak``)."""

    def __enter__(self) -> _Watch:
        self.peak, self._end = 0, threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.wait(0.5):
            self.peak = max(self.peak, sum(_own_memory(process) for process in psutil.process_iter(["cmdline"])))


def _own_memory(process: psutil.Process) -> int:
    try:
        line = " ".join(process.info["cmdline"] or ())
        return process.memory_full_info().uss if line.startswith(BESIDE_DRIVER) else 0
    except psutil.Error:
        return 0
