"""A run directory that other nodes do not see: what lies below /proc/self/cwd depends on the process that looks."""

from __future__ import annotations

from pathlib import Path

import pytest
from nodes import NODE_MEMORY, Training, cluster_with_head

from salt_ray.artifacts import RunDirectory
from salt_ray.cluster import folds, visibility
from salt_ray.config import Experiment
from salt_ray.errors import RunError
from salt_ray.survey.folds import FoldTable
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training.task import FoldTask

REMEDY = "does not see /proc/self/cwd/run: put the run directory on a folder that all nodes share"


@pytest.mark.cluster
def test_a_node_that_does_not_see_the_run_directory(
    tiny: Experiment,
    tiny_tiles: TrainingTiles,
    tiny_folds: FoldTable,
    ray_directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path / "..")  # Ray Train leaves a folder where the nodes are
    with cluster_with_head(ray_directory, 0) as cluster:
        node = cluster.add_node(num_cpus=1, object_store_memory=NODE_MEMORY)
        shared = RunDirectory(tmp_path / "shared")
        assert visibility.check_nodes_see(shared) == shared.identity()

        monkeypatch.chdir(tmp_path)  # the nodes stay where they were
        own = RunDirectory(Path("/proc/self/cwd/run"))
        with pytest.raises(RunError, match=f"^{node.node_ip_address} {REMEDY}"):
            visibility.check_nodes_see(own)

        monkeypatch.setattr(folds, "check_nodes_see", lambda run: run.identity())  # as if the node came later
        (outcome,) = Training([FoldTask(tiny, tiny.trainings[0], 0, tiny_folds)], tiny_tiles, own).end()
    assert REMEDY in outcome.failure and outcome.marker is None
