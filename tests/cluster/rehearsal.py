"""Rehearses cluster-onprem.yaml on pretended machines: a search, a pipeline, and what a cluster goes through meanwhile.

``python tests/cluster/rehearsal.py`` (as root, on Linux) prints the timeline, in seconds since the start.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

# For launch.py and what all tests share, where this is run as a script.
sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))
from curves import events
from machines import SHARED, Machine, NoMachines, running_machines
from onprem import Cluster, end_group, finished, wait_until
from road import results
from tensorboardX.proto.event_pb2 import SessionLog

from salt_ray.config import (
    Cosine,
    Experiment,
    FloatRange,
    Folds,
    Fpn,
    Labels,
    Network,
    Plateau,
    Prediction,
    Stage,
    Training,
    Tune,
)
from salt_ray.survey.synthetic import write_survey

WORKERS = ("one", "two")
# Small machines that notice a death in 10 s at most. As Ray comes, the head asks a machine every 3 s, waits 10 s for an
# answer, and gives it up after five that did not come: up to 65 s; and a machine ends Ray 60 s after it lost its head.
MACHINE_ENVIRONMENT = {
    "RAY_OVERRIDE_RESOURCES": '{"CPU": 1}',
    "RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": str(100_000_000),
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "4",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "20",
    # As Ray comes, the head's one core would have done these few mosaics before another machine has started a process.
    "RAY_scheduler_spread_threshold": "0",
}

FOLDS = (0, 1)
STAGES = ("plateau", "cosine")
EPOCHS = (60, 6)  # of each stage
DISTURBED_EPOCH = 6  # of the first stage, at the earliest: there is work left to go on with
# Two thirds are labelled. Most of these are held out, which leaves 40 for a fold to train on, but 560 for its model to
# predict: seconds of work, so that more than one machine has a part in it.
TILES, TRAINABLE = 600, 80


def small_experiment() -> Experiment:
    """Two folds of both kinds of stage, of which an epoch takes a fraction of a second on one core."""
    weights = {"lovasz_weight": 0.75, "bce_weight": 0.25, "batch_size": 8}
    stages = (
        Stage(name=STAGES[0], epochs=EPOCHS[0], lr=0.02, schedule=Plateau(patience=2), **weights),
        Stage(name=STAGES[1], epochs=EPOCHS[1], lr=0.01, schedule=Cosine(epochs_per_cycle=3), **weights),
    )
    lr = FloatRange(name="lr", fields=("trainings.all.stages.plateau.lr",), low=0.005, high=0.05, log=True)
    return Experiment(
        name="rehearsal",
        seed=7,
        labels=Labels(full_tiles="empty"),
        precision="fp32",  # the same bytes on every processor
        holdout=Path(SHARED) / "holdout.csv",
        network=Network(
            encoder="mnasnet_small",
            pretrained=False,
            decoder=Fpn(widths=(8, 8, 8, 8, 8), pyramid_widths=(2, 2, 2, 2, 2)),
            mask_head_width=4,
        ),
        trainings=(Training(name="random", folds=Folds(count=len(FOLDS)), stages=stages),),
        prediction=Prediction(batch_size=1),  # slower, so that more than one machine has a part in it
        tune=Tune(parameters=(lr,), trials=3, startup_trials=1, grace_epochs=2),
    )


class Timeline:
    """Says what happens, each event with the seconds since the start."""

    def __init__(self, print_line: Callable[[str], None]) -> None:
        self._print, self._start = print_line, time.monotonic()

    def __call__(self, event: str) -> None:
        self._print(f"{time.monotonic() - self._start:6.1f} s  {event}")


Moment = tuple[int, int]  # a stage (its number, from 0) and an epoch of it (from 1)


class Watch:
    """A run, as the files of its folds show it.

    Attributes:
        path: the run directory, as we see it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def newest(self, fold: int) -> Moment:
        """The newest checkpoint; epoch 0 before the first."""
        found = (0, 0)
        for number, stage in enumerate(STAGES):
            folder = self.path / "trainings" / "random" / f"fold-{fold}" / stage
            if epochs := [int(path.stem.removeprefix("epoch-")) for path in folder.glob("epoch-*.pt")]:
                found = (number, max(epochs))
        return found

    def finished(self, fold: int) -> bool:
        return (self.path / "trainings" / "random" / f"fold-{fold}" / STAGES[-1] / "done.json").exists()

    def starts(self, fold: int) -> list[tuple[str, Moment]]:
        """Every start of a stage: the machine, and the epoch of its first report."""
        found = []
        for number, stage in enumerate(STAGES):
            folder = self._curves(fold, stage)
            epochs = [event.step for event in events(folder) if event.session_log.status == SessionLog.START]
            names = [path.name for path in sorted(folder.glob("events.out.tfevents.*"))]
            machines = [re.fullmatch(r"events\.out\.tfevents\.\d+\.(.+)\.\d+", name)[1] for name in names]
            # A file that was made just now may still be empty.
            found += [(machine, (number, epoch)) for machine, epoch in zip(machines, epochs, strict=False)]
        return found

    def machine(self, fold: int) -> str:
        """The machine that trains a fold, or did so last."""
        return self.starts(fold)[-1][0]

    def undisturbed(self, fold: int) -> bool:
        """Whether one machine started every stage once, and reported every epoch once, in order."""
        starts = self.starts(fold)
        return (
            len({machine for machine, _ in starts}) == 1
            and [moment for _, moment in starts] == [(number, 1) for number in range(len(STAGES))]
            and all(
                [event.step for event in events(self._curves(fold, stage)) if event.summary.value]
                == list(range(1, epochs + 1))
                for stage, epochs in zip(STAGES, EPOCHS, strict=True)
            )
        )

    def _curves(self, fold: int, stage: str) -> Path:
        return self.path / "tensorboard" / f"random-fold-{fold}" / stage


@dataclass(frozen=True)
class Disturbance:
    """What a disturbance did to a run.

    Attributes:
        machine: on which it happened.
        newest: each fold's newest checkpoint at that time.
        starts: of each fold: every start of a stage, as the machine and the epoch of the first report.
        undisturbed: the folds that one machine trained without starting a stage or an epoch again.
        different: files that differ from those of the undisturbed run, or are missing on one side.
    """

    machine: str
    newest: list[Moment]
    starts: list[list[tuple[str, Moment]]]
    undisturbed: list[int]
    different: list[str]


@dataclass
class Findings:
    """What the rehearsal found; machines by their names."""

    #: The status with which the dashboard answers who has another token.
    refused: int = 0
    searched: set[str] = field(default_factory=set)
    trained: set[str] = field(default_factory=set)
    predicted: set[str] = field(default_factory=set)
    postprocessed: set[str] = field(default_factory=set)
    #: How many files of results were compared.
    files: int = 0
    killed: Disturbance | None = None
    cut: Disturbance | None = None
    headless: Disturbance | None = None
    #: Machines on which Ray runs after ``ray down``.
    left: list[str] = field(default_factory=list)


class Rehearsal:
    """The acts, each on the cluster as the one before left it."""

    def __init__(self, cluster: Cluster, say: Callable[[str], None]) -> None:
        self._cluster, self._site, self._say = cluster, cluster.site, say
        self._found, self._expected = Findings(), {}
        self._tunnel = contextlib.ExitStack()

    def all(self) -> Findings:
        with self._tunnel:
            self.rise()
            self.search()
            self.undisturbed()
            self.lose_a_worker()
            self.lose_the_network()
            self.lose_the_head()
        self.down()
        return self._found

    def rise(self) -> None:
        """``ray up``, the tunnel, and every machine in the cluster."""
        self._tunnel.close()
        self._say("ray up")
        self._cluster.up()
        self._say("ray up has ended: the head is there")
        self._tunnel.enter_context(self._cluster.tunnel())
        self._found.refused = self._cluster.status("another token")
        self.whole()

    def whole(self) -> None:
        """Wait until every machine is in the cluster."""
        everyone = sorted(self._site.machines)
        wait_until(lambda: self._cluster.alive() == everyone, f"{everyone} in the cluster")
        self._say(f"in the cluster, says the dashboard through the tunnel: {', '.join(everyone)}")

    def search(self) -> None:
        """A search of three trials."""
        self._say("search: job submitted")
        finished(self._cluster.submit("tune", "search", "--set", "trainings.all.stages.plateau.epochs=4"))
        self._found.searched = self._cluster.places("actors", "ImplicitFunc")
        self._say(f"search: finished; trials ran on {_words(self._found.searched)}")

    def undisturbed(self) -> None:
        """A pipeline that nothing happens to."""
        self._say("undisturbed: job submitted")
        finished(self._cluster.submit("pipeline", "undisturbed"))
        watch, found = self.watch("undisturbed"), self._found
        self._expected = results(watch.path)
        found.files = len(self._expected)
        found.trained = {watch.machine(fold) for fold in FOLDS}
        found.predicted = self._cluster.places("actors", "Predictor")
        found.postprocessed = self._cluster.places("tasks", "try_mosaic", "correct_mosaic")
        self._say(
            f"undisturbed: finished, {found.files} files; trained on {_words(found.trained)}, "
            f"predicted on {_words(found.predicted)}, post-processed on {_words(found.postprocessed)}"
        )

    def lose_a_worker(self) -> None:
        """A machine dies while it trains; later somebody switches it on again."""
        job, watch, fold = self.training("killed")
        machine, before = self._site[watch.machine(fold)], watch.starts(fold)
        machine.kill()
        newest = [watch.newest(fold) for fold in FOLDS]
        self._say(f"killed: {machine.name} is dead; fold {fold} has a checkpoint of {_said(newest[fold])}")
        self.continued(watch, fold, before)
        self._found.killed = self.compare(watch, job, machine, newest)
        machine.start()
        self._say(f"killed: {machine.name} is switched on again")
        self.whole()

    def lose_the_network(self) -> None:
        """A machine's network is gone until its fold goes on elsewhere, and comes back while that trains.

        The machine keeps its shared folder, so that for a while there are two that train the fold and write there.
        """
        job, watch, fold = self.training("cut")
        machine, before = self._site[watch.machine(fold)], watch.starts(fold)
        machine.cut()
        newest = [watch.newest(fold) for fold in FOLDS]
        self._say(f"cut: {machine.name} has no network; fold {fold} has a checkpoint of {_said(newest[fold])}")
        self.continued(watch, fold, before)
        machine.join()
        self._say(f"cut: {machine.name} has its network again")
        self._found.cut = self.compare(watch, job, machine, newest)
        self.whole()

    def lose_the_head(self) -> None:
        """The head dies, and the job with it; then ``ray up`` and the same command again."""
        job, watch, _ = self.training("headless")
        head = self._site["head"]
        head.kill()
        newest = [watch.newest(fold) for fold in FOLDS]
        self._say(f"headless: the head is dead; the folds have checkpoints of {' and '.join(map(_said, newest))}")
        end_group(job)
        head.start()
        self._say("headless: the head is switched on again")
        self.rise()
        before = [watch.starts(fold) for fold in FOLDS]  # the workers trained on without a head, for a while
        unfinished = [fold for fold in FOLDS if not watch.finished(fold)]
        job = self._cluster.submit("pipeline", "headless")
        self._say(f"headless: the same command again; unfinished folds: {', '.join(map(str, unfinished)) or 'none'}")
        for fold in unfinished:
            self.continued(watch, fold, before[fold])
        self._found.headless = self.compare(watch, job, head, newest)

    def down(self) -> None:
        """``ray down``; on the workers Ray ends by itself, when it has missed the head for long."""
        self._say("ray down")
        self._cluster.down()
        self._say("ray down has ended")
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not self._cluster.left(), "Ray has ended everywhere", 180)
        self._found.left = self._cluster.left()
        self._say(f"machines on which Ray runs: {_words(self._found.left) or 'none'}")

    def watch(self, run: str) -> Watch:
        return Watch(self._site.shared / "runs" / run)

    def training(self, run: str) -> tuple[subprocess.Popen, Watch, int]:
        """Submit a pipeline and wait until both folds train, and one on a worker is far enough; that one."""
        job, watch = self._cluster.submit("pipeline", run), self.watch(run)
        self._say(f"{run}: job submitted")

        def far_enough() -> list[int]:
            assert job.poll() is None, job.stdout.read()
            if not all(watch.starts(fold) for fold in FOLDS):
                return []
            return [
                fold for fold in FOLDS if watch.machine(fold) in WORKERS and watch.newest(fold) >= (0, DISTURBED_EPOCH)
            ]

        fold, *_ = wait_until(far_enough, "both folds train")
        self._say(f"{run}: fold 0 trains on {watch.machine(0)}, fold 1 on {watch.machine(1)}")
        return job, watch, fold

    def continued(self, watch: Watch, fold: int, before: list[tuple[str, Moment]]) -> None:
        """Wait until a fold has been started once more than ``before``, or is finished."""
        wait_until(lambda: len(watch.starts(fold)) > len(before) or watch.finished(fold), f"fold {fold} goes on")
        for machine, moment in watch.starts(fold):
            if (machine, moment) not in before:
                self._say(f"{watch.path.name}: fold {fold} goes on on {machine}, from {_said(moment)}")

    def compare(self, watch: Watch, job: subprocess.Popen, machine: Machine, newest: list[Moment]) -> Disturbance:
        """Wait for the job; what came of the disturbance."""
        finished(job)
        now, expected = results(watch.path), self._expected
        different = sorted(name for name in now.keys() | expected.keys() if now.get(name) != expected.get(name))
        said = f"DIFFERENT: {_words(different)}" if different else f"all {len(expected)} files equal to the bit"
        self._say(f"{watch.path.name}: finished; {said}")
        starts = [watch.starts(fold) for fold in FOLDS]
        undisturbed = [fold for fold in FOLDS if watch.undisturbed(fold)]
        return Disturbance(machine.name, newest, starts, undisturbed, different)


def _words(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _said(moment: Moment) -> str:
    number, epoch = moment
    return f"epoch {epoch} of stage {STAGES[number]}"


def rehearse(say: Callable[[str], None]) -> Findings:
    """The whole rehearsal, on machines that end with it.

    Raises:
        NoMachines: none can be pretended here.
    """
    with running_machines(("head", *WORKERS), MACHINE_ENVIRONMENT) as site:
        say(f"machines: {', '.join(f'{machine.name} {machine.address}' for machine in site.machines.values())}")
        (site.shared / "experiment.json").write_text(small_experiment().model_dump_json())
        write_survey(site.shared / "data", TILES, seed=1, tile_px=33)
        labelled = pd.read_csv(site.shared / "data" / "train.csv")["id"]
        labelled[TRAINABLE:].to_csv(site.shared / "holdout.csv", index=False)
        return Rehearsal(Cluster(site), say).all()


if __name__ == "__main__":
    try:
        rehearse(Timeline(lambda line: print(line, flush=True)))
    except NoMachines as error:
        sys.exit(f"error: {error}")
