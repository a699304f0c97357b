"""Folds as Ray Train runs: one trainer with one worker a fold, so that each stops, fails and restarts alone.

More folds than slots queue here, because a Ray Train run that waits for resources is costly; where the cluster can
grow, its autoscaler is told of them. Checkpoints are the training loop's own, in the run directory; Ray Train places,
watches and restarts the workers. PyTorch is imported in a worker alone: the two other processes of every fold, ``Fit``
and Ray Train's controller, do not wait for it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from salt_ray.cluster.session import ClusterError, fold_resources, slots  # isort: skip (sets Ray's environment)
import ray
import ray.train
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from salt_ray.artifacts import RunDirectory
from salt_ray.cluster.board import new_board
from salt_ray.cluster.gauges import Gauges
from salt_ray.cluster.lost_workers import FoldLosses, WorkerInquiry
from salt_ray.cluster.room import POLL_SECONDS, Demand, Waiting, withdraw, words
from salt_ray.cluster.visibility import check_nodes_see
from salt_ray.pipeline.fold import Outcome, try_fold
from salt_ray.pipeline.workplace import keep_memory
from salt_ray.storage import remove_tree
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training.progress import Progress, StepProgress
from salt_ray.training.task import FoldTask

if TYPE_CHECKING:
    import torch

# How long a fold that lost its node waits for a place: longer than any shortage, because Ray Train would count the end
# of its patience as a start that failed.
PATIENCE_SECONDS = 14 * 24 * 3600
# Starts of a fold's worker that may fail before Ray Train gives up: crashes, and nodes lost at that moment. FoldLosses
# does not see them, so that they go unnoticed.
START_FAILURES = 10
# How often a fold is given to Ray Train again, because a process of Ray Train's own was lost.
STARTS = 10
LOST = (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError)


@dataclass(frozen=True)
class FoldWork:
    """What the folds of a run have in common."""

    tiles: ray.ObjectRef
    run: RunDirectory
    identity: str
    board: ray.actor.ActorHandle
    resources: dict[str, float]


def train_folds(
    tasks: Sequence[FoldTask],
    tiles: TrainingTiles,
    run: RunDirectory,
    report: Callable[[Progress | StepProgress], None],
    say: Callable[[str], None],
) -> list[Outcome]:
    """Train every fold, as many at once as the cluster has room for; a fold that fails does not stop the others.

    Args:
        report: gets every fold's progress.
        say: gets lines for people.
    """
    experiment = tasks[0].experiment
    # Once: folds of one run all train on the same kind. By all of them and not by those that are left: with other
    # threads a resumed run would end with other bytes.
    wanted = fold_resources(experiment.resources, len(experiment.all_folds))
    identity = check_nodes_see(run)
    say(f"{len(tasks)} fold{'s' * (len(tasks) != 1)} to train on {words(wanted)} each, {slots(wanted)} at once")
    board, gauges = new_board(), Gauges(experiment.name)
    without_place = Waiting(wanted, ("fold", "folds"), say)
    work = FoldWork(ray.put(tiles), run, identity, board, wanted)  # tiles once; workers here read them without a copy
    options = _beside_the_driver()

    def start(task: FoldTask) -> tuple[ray.actor.ActorHandle, ray.ObjectRef]:
        fit = Fit.options(**options).remote()
        return fit, fit.fold.options(name=f"fit {task.name}").remote(task, work)

    fits = Fits(tasks, start, say)
    with Demand(identity, wanted) as demand:
        while fits.waiting or fits.running:
            places = slots(wanted)  # asked again each time: nodes come and go
            fits.fill(places)
            for task in fits.waiting:
                demand.ask(task.name)
            without_place.now(len(fits.running) - places if places else len(fits.running) + len(fits.waiting))
            finished = fits.finished()
            progress, lines = ray.get(board.take.remote())
            for line in lines:
                say(line)
            for row in progress:
                report(row)
                if isinstance(row, Progress):
                    gauges.export(row)
            fits.collect(finished)
    return [fits.outcomes[task.name] for task in tasks]


def _beside_the_driver() -> dict[str, Any]:
    """Options of an actor whose end must not come before the driver's: any other node may go at any time."""
    context = ray.get_runtime_context()
    environment = {
        # A dead controller's resources are given back by a process of Ray Train that has to find this Ray: where
        # several run on a machine it finds none without the address, and the fold would wait for ever.
        "RAY_ADDRESS": context.gcs_address,
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(PATIENCE_SECONDS),
    }
    return {
        "scheduling_strategy": NodeAffinitySchedulingStrategy(context.get_node_id(), soft=False),
        "runtime_env": {"env_vars": environment},
    }


class Fits:
    """The folds that wait, those that Ray Train runs, and how the others ended.

    Ray Train restarts workers, but not its own processes: that is done here.

    Args:
        start: starts Ray Train for a fold; returns the actor, which lives as long as somebody holds it, and its result.
        say: gets lines for people.
    """

    def __init__(
        self,
        tasks: Sequence[FoldTask],
        start: Callable[[FoldTask], tuple[ray.actor.ActorHandle, ray.ObjectRef]],
        say: Callable[[str], None],
    ) -> None:
        self._start, self._say = start, say
        self.waiting = deque(tasks)
        self.running: dict[ray.ObjectRef, tuple[FoldTask, ray.actor.ActorHandle]] = {}
        self.outcomes: dict[str, Outcome] = {}
        self._starts = Counter()

    def fill(self, places: int) -> None:
        """Start what waits, while there are places."""
        while self.waiting and len(self.running) < places:
            task = self.waiting.popleft()
            self._starts[task.name] += 1
            fit, reference = self._start(task)
            self.running[reference] = task, fit

    def finished(self) -> list[ray.ObjectRef]:
        """Those that have ended, after a second at most."""
        if not self.running:
            time.sleep(POLL_SECONDS)
            return []
        return ray.wait(list(self.running), timeout=POLL_SECONDS)[0]

    def collect(self, finished: Sequence[ray.ObjectRef]) -> None:
        """Note how these ended, or let them begin again."""
        for reference in finished:
            task, _ = self.running.pop(reference)
            try:
                result = ray.get(reference)
            except ray.exceptions.RayError as error:
                cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
                if isinstance(cause, ray.train.ControllerError):
                    cause = cause.controller_failure
                # The process of Fit, Ray Train's controller, or a worker that had not begun: what runs is FoldLosses'.
                lost = isinstance(cause, LOST)
                reason = _now_known(cause) if lost else str(error).strip().splitlines()[-1]
                if lost and self._starts[task.name] < STARTS:
                    self._say(f"{task.name}: a process of Ray Train was lost and starts again: {reason}")
                    self.waiting.appendleft(task)
                    continue
                failure = f"{task.name} failed permanently: {reason}; run the same command again to resume"
                result = Outcome(task, None, failure)
            self.outcomes[task.name] = result


def _now_known(cause: BaseException) -> str:
    """Why a process was lost, without waiting for more: other folds continue meanwhile."""
    loss = WorkerInquiry.of_error(cause).look()
    return "it cannot be reached" if loss is None else loss.reason


# An actor that Ray does not restart: where memory is short, Ray first ends tasks and what it would start again, before
# the worker that takes the memory.
@ray.remote(num_cpus=0)
class Fit:
    """Runs Ray Train for one fold."""

    def fold(self, task: FoldTask, work: FoldWork) -> Outcome:
        """Run one fold under Ray Train; returns what its worker returned."""
        digest = hashlib.sha256(json.dumps(task.inputs(len(task.training.stages), "")).encode()).hexdigest()
        name = f"{task.experiment.name}-{task.name}-{digest[:8]}"
        # Ray Train's record of an earlier attempt holds no checkpoint of ours, and a torn one would block the run.
        remove_tree(work.run.ray / name)
        trainer = DataParallelTrainer(
            _train_in_worker,
            train_loop_config={"task": task, "work": work},  # Ray Train takes a dict alone
            scaling_config=ray.train.ScalingConfig(
                num_workers=1, use_gpu="GPU" in work.resources, resources_per_worker=dict(work.resources)
            ),
            run_config=ray.train.RunConfig(
                name=name,
                storage_path=str(work.run.ray),
                # Its limit would count lost nodes as well.
                failure_config=ray.train.FailureConfig(max_failures=-1, controller_failure_limit=START_FAILURES),
                callbacks=[FoldLosses(task, work.run, work.board)],
            ),
        )
        withdraw(work.identity, task.name)  # Ray Train tells of its worker itself
        return trainer.fit().return_value


def _train_in_worker(config: dict[str, Any]) -> Outcome:
    """Ray Train's worker: ``try_fold``."""
    import torch

    task, work = config["task"], config["work"]
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    torch.set_num_threads(int(work.resources["CPU"]))
    keep_memory()

    def report(progress: Progress | StepProgress) -> None:
        # Not ray.train.report, which would hold the loop until the controller's next poll.
        work.board.post.remote(progress)

    def say(line: str) -> None:
        work.board.say.remote(f"{task.name}: {line}")

    def device() -> torch.device:
        work.run.check_visible(work.identity)
        return worker_device("GPU" in work.resources)

    outcome = try_fold(task, ray.get(work.tiles), work.run, device, report, say)
    if outcome.marker is not None:
        ray.train.report(outcome.marker)
    return outcome


def worker_device(gpu: bool) -> torch.device:
    """The device that Ray gave this worker.

    Raises:
        ClusterError: Ray counts a GPU that this PyTorch cannot use.
    """
    import torch

    if gpu and not torch.cuda.is_available():
        raise ClusterError(
            f"Ray gave this worker a GPU, but PyTorch {torch.__version__} finds none: install its CUDA build there, "
            "or train on the CPU with --set resources.gpus_per_fold=0"
        )
    return torch.device("cuda" if gpu else "cpu")
