"""Within an epoch: long ones say how far they are, short ones do not, and nobody waits for the device."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment
from salt_ray.survey.folds import FoldTable
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training import pace
from salt_ray.training.loop import train_fold
from salt_ray.training.pace import LONG_SECONDS, TOLD_SECONDS, Pace, arriving
from salt_ray.training.progress import StepProgress
from salt_ray.training.task import FoldTask

CPU = torch.device("cpu")
ABOUT = {"training": "random", "fold": 1, "stage": "plateau", "epoch": 2, "epochs": 4}


class Epoch:
    """Steps that take so many seconds each, on a clock of its own."""

    def __init__(self, seconds: float, steps: int = 100, epoch_seconds: float | None = None) -> None:
        self.now, self.seconds, self.steps, self.losses = 50.0, seconds, steps, []
        self.told: list[StepProgress] = []
        self.pace = Pace(self.told.append, ABOUT, steps, 8, 2, epoch_seconds, clock=lambda: self.now)

    def train(self, steps: int) -> None:
        for _ in range(steps):
            self.now += self.seconds
            self.losses.append(torch.tensor(float(len(self.losses))))
            self.pace.step(self.losses)


def test_an_epoch_of_minutes_is_followed() -> None:
    epoch = Epoch(seconds=1.5, epoch_seconds=200.0)
    epoch.train(100)
    epoch.pace.end(0.25)
    steps = [progress.step for progress in epoch.told]
    assert steps == [*range(4, 101, 4), 100]  # every six seconds, and once more at the end
    fifth = epoch.told[4]
    assert (fifth.name, fifth.epoch, fifth.epochs, fifth.steps) == ("random-fold-1", 2, 4, 100)
    assert fifth.loss == pytest.approx(sum(range(20)) / 20)
    assert fifth.tiles_per_second == pytest.approx(8 / 1.5)
    assert fifth.seconds_left == pytest.approx(80 * 1.5 + 2 * 200)  # two more epochs, as long as the one before
    assert epoch.told[-1].loss == 0.25


def test_the_first_epoch_estimates_the_others() -> None:
    epoch = Epoch(seconds=2.0)
    epoch.train(50)
    assert epoch.told[-1].seconds_left == pytest.approx((100 - epoch.told[-1].step) * 2.0 + 2 * 200.0)


def test_a_short_epoch_says_nothing() -> None:
    epoch = Epoch(seconds=0.9 * LONG_SECONDS / 100)
    epoch.train(100)
    epoch.pace.end(0.5)
    assert epoch.told == []


def test_the_compiler_s_minute_in_the_first_step_is_no_speed() -> None:
    epoch = Epoch(seconds=1.0)
    epoch.now += 60
    epoch.train(20)
    assert epoch.told[-1].tiles_per_second == pytest.approx(8)


def test_a_loss_that_has_not_arrived_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([None, None, 7.0, None, 9.0])
    asked: list[float] = []

    def slow(value: torch.Tensor):
        asked.append(value.item())
        return lambda: next(answers)

    monkeypatch.setattr(pace, "arriving", slow)
    epoch = Epoch(seconds=TOLD_SECONDS)
    epoch.train(4)
    assert [(one.step, one.loss) for one in epoch.told] == [(1, 7.0)] and len(asked) == 2  # one copy at a time
    epoch.train(1)
    assert [(one.step, one.loss) for one in epoch.told] == [(1, 7.0), (4, 9.0)]


class Waits(TorchDispatchMode):
    """Counts where the host reads a number of the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*arguments, **(options or {}))


@pytest.mark.usefixtures("one_thread")
def test_an_epoch_s_waits_do_not_grow_with_its_steps(
    tiny: Experiment, tiny_tiles: TrainingTiles, tiny_folds: FoldTable, tmp_path: Path, monkeypatch
) -> None:
    told: list[StepProgress] = []
    monkeypatch.setattr(pace, "LONG_SECONDS", 0)
    monkeypatch.setattr(pace, "TOLD_SECONDS", math.inf)  # however slow this machine is: the ends of epochs alone
    counts = {}
    for size in (6, 2):
        (training,) = tiny.trainings
        stage = training.stages[0].replace(epochs=1, batch_size=size)
        task = FoldTask(tiny, training.replace(stages=(stage,)), 0, tiny_folds)
        with Waits() as waits:
            train_fold(task, tiny_tiles, RunDirectory(tmp_path / str(size)), CPU, follow=told.append)
        counts[size] = waits.count
    assert counts[6] == counts[2] > 0
    assert [(one.step, one.steps) for one in told] == [(2, 2), (6, 6)]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_following_an_epoch_on_a_gpu_makes_no_one_wait() -> None:
    told: list[StepProgress] = []
    now = iter(range(0, 10_000, 10))
    following = Pace(told.append, ABOUT, 50, 8, 0, clock=lambda: float(next(now)))
    losses = [torch.rand((), device="cuda")]
    arriving(losses[0])()  # memory for what arrives is taken once
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(49):
            losses.append(losses[-1] + 1)
            following.step(losses)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert told


def test_the_guard_would_notice() -> None:
    with Waits() as waits:
        for _ in range(3):
            torch.ones(()).item()
    assert waits.count == 3
