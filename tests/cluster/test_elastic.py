"""Clusters that grow: what an autoscaler may add, and who waits. ``reliability/test_nodes.py`` takes nodes away."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from nodes import NODE_MEMORY, Training, growing_cluster

from salt_ray.artifacts import RunDirectory
from salt_ray.cluster import room
from salt_ray.cluster.session import NODE_TYPES, ClusterError, fold_resources
from salt_ray.config import Experiment, Resources
from salt_ray.survey.folds import FoldTable
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training.task import FoldTask


def test_who_waits_is_said_when_that_begins_and_seldom_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now, lines = 0.0, []
    monkeypatch.setattr(room.time, "monotonic", lambda: now)
    waiting = room.Waiting({"CPU": 4.0, "GPU": 0.5}, ("fold", "folds"), lines.append)
    for now in range(0, 700):
        waiting.now(-2 if now < 10 else 0 if now < 20 else 1 if now < 50 else 3)
    (one, more, again, _) = lines
    assert one == "waiting for a node with 4 CPU and 0.5 GPU: 1 fold without a place"
    assert more == again and "3 folds" in more
    waiting.now(0)
    waiting.now(2)
    assert "2 folds" in lines[-1]


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """For Ray's sockets; not shared with the Ray of other tests, whose address would lie there."""
    with tempfile.TemporaryDirectory(prefix="salt", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.mark.alone
@pytest.mark.slow
def test_an_autoscaler_starts_nodes_for_the_folds_that_wait(
    tiny: Experiment,
    tiny_tiles: TrainingTiles,
    tiny_folds: FoldTable,
    tmp_path: Path,
    short_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    types = {
        "one": {"resources": {"CPU": 1, "object_store_memory": NODE_MEMORY}, "max_workers": 4},
        "big": {"resources": {"CPU": 64, "object_store_memory": NODE_MEMORY}, "max_workers": 0},
    }
    (training,) = tiny.trainings
    experiment = tiny.replace(trainings=(training.replace(stages=(training.stages[0].replace(epochs=1),)),))
    monkeypatch.setenv(NODE_TYPES, '[{"CPU": 1}]')
    with growing_cluster(short_folder, types):
        with pytest.raises(ClusterError, match=r"resources\.cpus_per_fold"):
            fold_resources(Resources(cpus_per_fold=2))
        tasks = [FoldTask(experiment, experiment.trainings[0], fold, tiny_folds) for fold in range(2)]
        training = Training(tasks, tiny_tiles, RunDirectory(tmp_path))
        outcomes = training.end()
        nodes = [node for node in ray.nodes() if node["Resources"].get("CPU")]
    assert all(outcome.marker for outcome in outcomes)
    assert training.lines == [
        "2 folds to train on 1 CPU each, 0 at once",
        "waiting for a node with 1 CPU: 2 folds without a place",
    ]
    assert len(nodes) == 2  # one a fold, and none was taken away before its fold came
