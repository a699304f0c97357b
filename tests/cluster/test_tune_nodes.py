"""A search on a cluster that loses nodes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from nodes import NODE_MEMORY, SECONDS, cluster_with_head
from road import workers

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Choice, Experiment, Resources, Tune
from salt_ray.report.trials import TrialView
from salt_ray.storage import write_atomically
from salt_ray.survey.folds import FoldTable
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.tuning.folder import study_folder
from salt_ray.tuning.study import Study

LR = Choice(name="lr", fields=("trainings.all.stages.plateau.lr",), values=(0.02, 0.01))


def searched(tiny: Experiment, epochs: int) -> Experiment:
    """Two trials of one fold, each without a restart after a failure of its own."""
    (training,) = tiny.trainings
    stage = training.stages[0].replace(epochs=epochs, early_stopping=epochs)
    tune = Tune(parameters=(LR,), trials=2, folds=(0,), sampler="random", pruner="none", max_concurrent=2)
    return tiny.replace(trainings=(training.replace(stages=(stage,)),), tune=tune, resources=Resources(max_failures=0))


class Search(threading.Thread):
    """A search in a thread, because only the main one can start nodes; and what it has said so far."""

    def __init__(self, experiment: Experiment, folds: FoldTable, tiles: TrainingTiles, run: RunDirectory) -> None:
        from salt_ray.cluster.trials import TrialWork, trial_resources
        from salt_ray.cluster.visibility import check_nodes_see

        super().__init__(daemon=True)
        self.lines: list[str] = []
        self.study = Study(experiment, run, study_folder(experiment, run, {}))
        self._work = TrialWork(experiment, {"random": folds}, run, check_nodes_see(run), threads=1, gpu=False)
        self._tiles, self._wanted = tiles, trial_resources(experiment)
        self.start()

    def run(self) -> None:
        from salt_ray.cluster.trials import run_trials

        def say(line: str | None) -> None:
            self.lines += [line] if line else []

        view = TrialView(["lr"], self.study.asked, [], lambda view, event: say(event), say)
        run_trials(self.study, self._work, self._tiles, self._wanted, view)

    def count(self, words: str) -> int:
        return sum(words in line for line in self.lines)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition()`` holds while trials run."""
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert self.is_alive() and time.monotonic() < deadline, self.lines
            time.sleep(0.05)


@pytest.mark.cluster
def test_a_lost_node_is_no_trials_fault_and_a_crash_is(
    tiny: Experiment, tiny_tiles: TrainingTiles, tiny_folds: FoldTable, ray_directory: Path, tmp_path: Path
) -> None:
    """With no restarts allowed a node dies, its trial waits and goes on on another one; a killed worker is its end.

    A worker that finds the token of a cut-off one, which came later, takes its trial over again.
    """
    run = RunDirectory(tmp_path)
    with cluster_with_head(ray_directory, 0) as cluster:
        nodes = [cluster.add_node(num_cpus=1, object_store_memory=NODE_MEMORY) for _ in range(2)]
        search = Search(searched(tiny, 400), tiny_folds, tiny_tiles, run)
        stages = [run.trial(number).stage("random", 0, "plateau") for number in range(2)]
        search.until(lambda: all(list(stage.glob("epoch-*.pt")) for stage in stages))
        write_atomically(stages[0].parent / "owner", "somebody else")
        search.until(lambda: search.count("trial-0000: its worker was lost and goes on from its checkpoint: another"))
        search.until(lambda: search.count("trial-0000 begins") == 2)
        cluster.remove_node(nodes[0], allow_graceful=False)
        search.until(lambda: search.count("its worker was lost and goes on from its checkpoint: its node"))
        search.until(lambda: search.count("waiting for a node with 1 CPU: 1 trial without a place"))
        (lost,) = (line.partition(":")[0] for line in search.lines if "checkpoint: its node" in line)
        begun = search.count(f"{lost} begins")
        cluster.add_node(num_cpus=1, object_store_memory=NODE_MEMORY)
        search.until(lambda: search.count(f"{lost} begins") == begun + 1)
        search.until(lambda: len(workers(ray_directory, "ImplicitFunc")) == 2)
        for worker in workers(ray_directory, "ImplicitFunc"):
            worker.kill()
        search.join(SECONDS)
    assert not search.is_alive()
    reasons = [trial.user_attrs["reason"] for trial in search.study.ended]
    assert len(reasons) == 2 and all("its worker failed for good: its process on" in reason for reason in reasons)
