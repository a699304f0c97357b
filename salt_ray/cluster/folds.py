"""Folds as Ray Train runs: one trainer with one worker a fold, so that each stops, fails and restarts alone.

More folds than slots queue here, because a Ray Train run that waits for resources is costly and noisy. Checkpoints are
the training loop's own, in the run directory; Ray Train places, watches and restarts the workers.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from salt_ray.cluster.session import ClusterError, fold_resources, slots  # isort: skip (sets Ray's environment)
import ray
import ray.train
import torch
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from salt_ray.artifacts import RunDirectory
from salt_ray.cluster.board import new_board
from salt_ray.cluster.gauges import Gauges
from salt_ray.errors import SaltRayError
from salt_ray.report.tensorboard import EpochLog
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training.loop import FoldTask, Progress, train_fold

POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Outcome:
    """How a fold ended: its last stage's marker, or why it has none."""

    task: FoldTask
    marker: dict[str, Any] | None
    failure: str | None


def train_folds(
    tasks: Sequence[FoldTask],
    tiles: TrainingTiles,
    run: RunDirectory,
    report: Callable[[Progress], None],
    say: Callable[[str], None],
) -> list[Outcome]:
    """Train every fold, as many at once as the cluster has room for; a fold that fails does not stop the others.

    Args:
        report: gets every fold's newest progress.
        say: gets lines for people.
    """
    wanted = fold_resources(tasks[0].experiment.resources)  # once: folds of one run all train on the same kind
    say(f"{len(tasks)} folds to train on {_words(wanted)} each, {slots(wanted)} at once")
    board, gauges = new_board(), Gauges(tasks[0].experiment.name)
    # A dead controller's resources are given back by a process of Ray Train that has to find this Ray: where several
    # run on a machine it finds none without the address, and the fold would wait for ever.
    here = {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    shared = ray.put(tiles)  # once; workers on this node read it without a copy
    waiting, running, outcomes = deque(tasks), {}, {}
    while waiting or running:
        while waiting and len(running) < max(1, slots(wanted)):
            task = waiting.popleft()
            fit = fit_fold.options(name=f"fit {task.name}", runtime_env={"env_vars": here})
            running[fit.remote(task, [shared], run, board, wanted)] = task
        finished, _ = ray.wait(list(running), timeout=POLL_SECONDS)
        progress, lines = ray.get(board.take.remote())
        for line in lines:
            say(line)
        for row in progress:
            report(row)
            gauges.export(row)
        for reference in finished:
            task = running.pop(reference)
            outcomes[task.name] = _outcome(task, reference)
    return [outcomes[task.name] for task in tasks]


def _words(wanted: dict[str, float]) -> str:
    return " and ".join(f"{amount:g} {kind}" for kind, amount in wanted.items())


def _outcome(task: FoldTask, reference: ray.ObjectRef) -> Outcome:
    try:
        result = ray.get(reference)
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        return Outcome(
            task, None, f"{task.name} failed for good: {reason}; the same command goes on from its checkpoint"
        )
    return Outcome(task, result.get("marker"), result.get("failure"))


# Ray Train restarts workers, but not its own controller: that is this task's retry.
@ray.remote(num_cpus=0, max_retries=2, retry_exceptions=[ray.exceptions.RayActorError])
def fit_fold(
    task: FoldTask, shared: list[ray.ObjectRef], run: RunDirectory, board: Any, resources: dict[str, float]
) -> dict[str, Any]:
    """Run one fold under Ray Train; returns what its worker returned."""
    digest = hashlib.sha256(json.dumps(task.inputs(len(task.training.stages), "")).encode()).hexdigest()
    name = f"{task.experiment.name}-{task.name}-{digest[:8]}"
    # Ray Train's record of an earlier attempt holds no checkpoint of ours, and a torn one would block the run.
    shutil.rmtree(run.ray / name, ignore_errors=True)
    trainer = DataParallelTrainer(
        _train_in_worker,
        train_loop_config={"task": task, "shared": shared, "run": run, "board": board, "resources": resources},
        scaling_config=ray.train.ScalingConfig(
            num_workers=1, use_gpu="GPU" in resources, resources_per_worker=dict(resources)
        ),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=str(run.ray),
            failure_config=ray.train.FailureConfig(max_failures=task.experiment.resources.max_failures),
        ),
    )
    return trainer.fit().return_value


def _train_in_worker(config: dict[str, Any]) -> dict[str, Any]:
    """Ray Train's worker: one fold, from its newest checkpoint; errors that a retry cannot cure are returned."""
    task, board = config["task"], config["board"]
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    torch.set_num_threads(int(config["resources"]["CPU"]))
    log = EpochLog(config["run"].tensorboard / task.name)

    def report(progress: Progress) -> None:
        log.write(progress)
        board.post.remote(progress)  # not ray.train.report, which would hold the loop until the controller's next poll

    def say(line: str) -> None:
        board.say.remote(f"{task.name}: {line}")

    try:
        device = worker_device("GPU" in config["resources"])
        tiles = ray.get(config["shared"][0])
        marker = train_fold(task, tiles, config["run"], device, report, say)
        ray.train.report(marker)
        return {"marker": marker}
    except SaltRayError as error:
        return {"failure": str(error)}
    finally:
        log.close()


def worker_device(gpu: bool) -> torch.device:
    """The device that Ray gave this worker.

    Raises:
        ClusterError: Ray counts a GPU that this PyTorch cannot use.
    """
    if gpu and not torch.cuda.is_available():
        raise ClusterError(
            f"Ray gave this worker a GPU, but PyTorch {torch.__version__} finds none: install its CUDA build there, "
            "or train on the CPU with --set resources.gpus_per_fold=0"
        )
    return torch.device("cuda" if gpu else "cpu")
