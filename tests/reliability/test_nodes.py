"""One cluster that loses and gains nodes: folds, trials and predictions on it, and a run directory that it must see.

A test may rely on no node that another one has left: ``two_nodes`` makes it two of one CPU each, beside a head without.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import ray
import torch
from made_run import write_run
from made_segy import grid_numbers, waves, write_segy
from moments import Moment, Moments
from nodes import NODE_MEMORY, SECONDS, Training, cluster_with_head
from optuna.trial import TrialState
from ray._private.node import Node
from ray.cluster_utils import Cluster

from salt_ray.artifacts import RunDirectory
from salt_ray.cluster import prediction, visibility
from salt_ray.cluster import training as folds
from salt_ray.cluster.prediction import Workers, predict_pieces
from salt_ray.cluster.session import slots
from salt_ray.cluster.trials import run_trials
from salt_ray.config import Choice, Experiment, Resources, Tune
from salt_ray.decision import ARGUS
from salt_ray.errors import RunError
from salt_ray.pipeline.local import LocalEngine
from salt_ray.pipeline.trained import load_run
from salt_ray.pipeline.trial import SearchWork
from salt_ray.pipeline.volumes import Asked, predict_volume
from salt_ray.report.terminal import Terminal
from salt_ray.report.trials import TrialView
from salt_ray.storage import write_atomically
from salt_ray.survey.folds import FoldTable
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training.loop import train_fold
from salt_ray.training.task import FoldTask
from salt_ray.tuning.space import study_folder
from salt_ray.tuning.study import Study
from salt_ray.volume.scan import open_volume

pytestmark = [pytest.mark.alone, pytest.mark.slow]

EPOCHS = 4
REMEDY = "cannot access /proc/self/cwd/run: put the run directory on a folder that all nodes share"
LR = Choice(name="lr", fields=("trainings.all.stages.plateau.lr",), values=(0.02, 0.01))


@pytest.fixture(scope="module")
def moments(tmp_path_factory: pytest.TempPathFactory) -> Moments:
    return Moments(tmp_path_factory.mktemp("moments") / "hook")


@pytest.fixture(scope="module")
def cluster(ray_directory: Path, moments: Moments, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in moments.environment.items():  # for every process on its nodes
            patch.setenv(name, value)
        patch.chdir(tmp_path_factory.mktemp("nodes"))  # theirs too
        with cluster_with_head(ray_directory, 0) as cluster:
            yield cluster


def nodes(cluster: Cluster, count: int) -> None:
    """So many of them, beside the head."""
    for node in list(cluster.worker_nodes)[count:]:
        cluster.remove_node(node)
    while len(cluster.worker_nodes) < count:
        add_node(cluster)


def add_node(cluster: Cluster) -> None:
    cluster.add_node(num_cpus=1, object_store_memory=NODE_MEMORY)


@pytest.fixture
def two_nodes(cluster: Cluster) -> Cluster:
    nodes(cluster, 2)
    return cluster


def node_of(cluster: Cluster, moment: Moment) -> Node:
    """The node on which a process is stopped."""
    above = {process.pid for process in psutil.Process(moment.pid).parents()}
    (node,) = (node for node in cluster.worker_nodes if raylet_of(node).pid in above)
    return node


def raylet_of(node: Node) -> psutil.Process:
    return psutil.Process(node.all_processes["raylet"][0].process.pid)


@contextlib.contextmanager
def network_cut(cluster: Cluster, node: Node) -> Iterator[None]:
    """While the block lasts the cluster hears nothing of a node, and the node nothing of the cluster; it is lost then.

    Its raylet stands still: a network between processes of one machine cannot be cut without root's rights.
    """
    raylet = raylet_of(node)
    raylet.suspend()
    try:
        yield
    finally:
        raylet.resume()
        cluster.remove_node(node)


def short(tiny: Experiment, **more: object) -> Experiment:
    """One stage, and no restart after a failure of a worker's own."""
    (training,) = tiny.trainings
    stage = training.stages[0].replace(epochs=EPOCHS, early_stopping=None)
    resources = Resources(max_failures=0)
    return tiny.replace(trainings=(training.replace(stages=(stage,)),), resources=resources, **more)


def files_of(folder: Path) -> dict[str, bytes]:
    """Everything that a fold left behind, but for how long its epochs took."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "times.csv")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_node_that_does_not_see_the_run_directory(
    two_nodes: Cluster,
    tiny: Experiment,
    tiny_tiles: TrainingTiles,
    tiny_folds: FoldTable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What lies below /proc/self/cwd depends on the process that looks; the nodes stay where this process was."""
    shared = RunDirectory(tmp_path / "shared")
    assert visibility.check_nodes_see(shared) == shared.identity()

    monkeypatch.chdir(tmp_path)
    own = RunDirectory(Path("/proc/self/cwd/run"))
    with pytest.raises(RunError, match=f"^{two_nodes.head_node.node_ip_address} {REMEDY}"):
        visibility.check_nodes_see(own)

    monkeypatch.setattr(folds, "check_nodes_see", lambda run: run.identity())  # as if the node came later
    (outcome,) = Training([FoldTask(tiny, tiny.trainings[0], 0, tiny_folds)], tiny_tiles, own).end()
    assert REMEDY in outcome.failure and outcome.marker is None


def test_a_fold_goes_on_elsewhere_when_its_machine_dies_or_loses_its_network(
    two_nodes: Cluster,
    moments: Moments,
    tiny: Experiment,
    tiny_tiles: TrainingTiles,
    tiny_folds: FoldTable,
    tmp_path: Path,
    one_thread: None,
    recovered: Callable[[str, float], None],
) -> None:
    """With no restarts allowed: lost nodes count for nobody, and fold 0 ends with the bytes of an undisturbed one.

    The worker on the node that was cut off trains on for a while and sees the same files. One that finds the token of
    such a worker, which came later, takes its fold over again. Fold 1 is stopped in its first epoch and notices
    nothing, until its worker is killed: that is its own failure.
    """
    cluster, experiment = two_nodes, short(tiny)
    tasks = [FoldTask(experiment, experiment.trainings[0], fold, tiny_folds) for fold in (0, 1)]
    alone, run = RunDirectory(tmp_path / "alone"), RunDirectory(tmp_path / "run")
    train_fold(tasks[0], tiny_tiles, alone, torch.device("cpu"))
    fold = run.stage("random", 0, "plateau").parent

    other = moments.at("*/run/*/fold-1/plateau/.epoch-00001.pt.*")
    first = moments.at("*/run/*/fold-0/plateau/.epoch-00002.pt.*")
    training = Training(tasks, tiny_tiles, run)
    training.until(lambda: other.reached and first.reached)
    assert training.said("2 folds to train on 1 CPU each, 2 at once")

    write_atomically(fold / "owner", "somebody else")
    again = moments.at("*/run/*/fold-0/plateau/.epoch-00003.pt.*")
    first.go_on()
    training.until(lambda: again.reached)
    assert training.said("random-fold-0: its worker was lost and resumes from its checkpoint: another")

    killed = time.monotonic()
    elsewhere = moments.at("*/run/*/fold-0/plateau/.epoch-00003.pt.*")
    cluster.remove_node(node_of(cluster, again), allow_graceful=False)
    training.until(
        lambda: training.said("random-fold-0: its worker was lost and resumes from its checkpoint: its node")
    )
    training.until(lambda: training.said("waiting for a node with 1 CPU: 1 fold without a place"))
    add_node(cluster)
    training.until(lambda: elsewhere.reached)
    recovered("a node was killed: to the next epoch, on a new one", time.monotonic() - killed)

    losses, cut = len(training.lines), time.monotonic()
    last = moments.at("*/run/*/fold-0/plateau/.epoch-00003.pt.*")
    with network_cut(cluster, node_of(cluster, elsewhere)):
        add_node(cluster)
        training.until(lambda: last.reached)
        recovered("a node's network was cut: to the next epoch, on another one", time.monotonic() - cut)
        elsewhere.go_on()
    assert any("random-fold-0: its worker was lost and resumes" in line for line in training.lines[losses:])
    assert not training.said("random-fold-1: its worker")
    os.kill(other.pid, signal.SIGKILL)
    last.go_on()
    whole, crashed = training.end()
    assert whole.marker and files_of(fold) == files_of(alone.stage("random", 0, "plateau").parent)
    assert "failed permanently" in crashed.failure and "was killed or crashed" in crashed.failure


class Search(threading.Thread):
    """A search in a thread, because only the main one can start nodes; and what it has said so far."""

    def __init__(self, experiment: Experiment, folds: FoldTable, tiles: TrainingTiles, run: RunDirectory) -> None:
        super().__init__(daemon=True)
        self.lines: list[str] = []
        self.study = Study(experiment, run, study_folder(experiment, run, {}))
        self._work = SearchWork(experiment, {"random": folds}, run, ARGUS)
        self._tiles = tiles
        self.start()

    def run(self) -> None:
        def say(line: str | None) -> None:
            self.lines += [line] if line else []

        view = TrialView([LR.name], self.study.asked, [], lambda view, event: say(event), say)
        run_trials(self.study, self._work, self._tiles, view)

    def count(self, words: str) -> int:
        return sum(words in line for line in self.lines)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition()`` holds while trials train."""
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert self.is_alive() and time.monotonic() < deadline, self.lines
            time.sleep(0.05)


def test_a_lost_node_is_no_trials_fault_and_a_crash_is(
    two_nodes: Cluster,
    moments: Moments,
    tiny: Experiment,
    tiny_tiles: TrainingTiles,
    tiny_folds: FoldTable,
    tmp_path: Path,
) -> None:
    """With no restarts allowed a trial whose node dies waits and goes on on another; a killed worker is a trial's end.

    The search goes on with the next one. A worker that finds another one's token takes its trial over again.
    """
    cluster, run = two_nodes, RunDirectory(tmp_path)
    tune = Tune(parameters=(LR,), trials=3, folds=(0,), sampler="random", pruner="none", max_concurrent=2)
    epochs = "*/trials/{:04d}/*/plateau/.epoch-{:05d}.pt.*".format
    first, other = moments.at(epochs(0, 1)), moments.at(epochs(1, 1))
    search = Search(short(tiny, tune=tune), tiny_folds, tiny_tiles, run)
    search.until(lambda: first.reached and other.reached)

    write_atomically(run.trial(0).stage("random", 0, "plateau").parent / "owner", "somebody else")
    again = moments.at(epochs(0, 2))
    first.go_on()
    search.until(lambda: again.reached)
    assert search.count("trial-0000: its worker was lost and resumes from its checkpoint: another") == 1
    assert search.count("trial-0000 begins") == 2

    elsewhere = moments.at(epochs(0, 2))
    cluster.remove_node(node_of(cluster, again), allow_graceful=False)
    search.until(lambda: search.count("trial-0000: its worker was lost and resumes from its checkpoint: its node"))
    search.until(lambda: search.count("waiting for a node with 1 CPU: 1 trial without a place"))
    add_node(cluster)
    search.until(lambda: elsewhere.reached)
    os.kill(other.pid, signal.SIGKILL)
    elsewhere.go_on()
    search.join(SECONDS)
    assert not search.is_alive()
    assert [trial.state for trial in search.study.ended] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
    reason = search.study.frozen(1).user_attrs["reason"]
    assert "its worker failed permanently: its process on" in reason


def test_a_machine_that_dies_counts_for_no_prediction_worker(
    two_nodes: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no restarts allowed one of two goes; another one that comes later is used."""
    monkeypatch.setattr(prediction, "RESTARTS", 0)
    found, actors, lines = [], [], []

    @ray.remote(num_cpus=1)
    class Worker:
        def ready(self) -> None:
            pass

        def predict(self) -> None:
            time.sleep(0.1)

    def start() -> tuple[ray.actor.ActorHandle, ray.ObjectRef]:
        actors.append(Worker.remote())
        return actors[-1], actors[-1].ready.remote()

    work = Workers(range(100), start, lambda actor, chunk: actor.predict.remote(), lines.append)
    for chunk in work.answers(lambda: slots({"CPU": 1.0})):
        found.append(chunk)
        if len(found) == 6:
            two_nodes.remove_node(next(iter(two_nodes.worker_nodes)), allow_graceful=False)
        if len(found) == 20:
            add_node(two_nodes)
    assert sorted(found) == list(range(100)) and len(actors) == 3
    (line,) = lines
    assert "its node" in line


def test_a_volume_is_the_same_however_many_nodes_predict_it(
    cluster: Cluster, moments: Moments, tiny: Experiment, tmp_path: Path, one_thread: None
) -> None:
    """Each node stops in its first slab until all have one."""
    labels, one_core = tiny.labels.replace(full_tiles="salt"), Resources(cpus_per_fold=1)
    trained = load_run(write_run(tmp_path / "trained", tiny.replace(labels=labels, resources=one_core)))
    volume = open_volume(write_segy(tmp_path / "a.sgy", waves(8 * 40, 50), grid_numbers(8, 40)))

    def predict(to: Path, engine: Any) -> Path:
        predict_volume(trained, volume, RunDirectory(to), engine, Terminal(quiet=True), Asked())
        return to

    alone = predict(tmp_path / "alone", LocalEngine())
    results = [path.name for path in alone.iterdir() if path.suffix in (".sgy", ".csv", ".xyz")]
    assert len(results) == 9
    for count in (1, 2, 3):
        nodes(cluster, count)
        firsts = [moments.at(f"{tmp_path}/{count}/slabs/inline/.*") for _ in range(count)]
        with ThreadPoolExecutor() as pool:
            end = pool.submit(predict, tmp_path / str(count), SimpleNamespace(predict=predict_pieces))
            deadline = time.monotonic() + SECONDS
            while not all(first.reached for first in firsts):
                assert not end.done() and time.monotonic() < deadline, end
                time.sleep(0.05)
            assert len({node_of(cluster, first).unique_id for first in firsts}) == count
            for first in firsts:
                first.go_on()
            to = end.result(SECONDS)
        assert all((to / name).read_bytes() == (alone / name).read_bytes() for name in results)
