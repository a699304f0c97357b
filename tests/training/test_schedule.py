"""Schedules agree with PyTorch's, and a restored one goes on as if it had never stopped."""

import math

import numpy as np
import pytest
import torch

from salt_ray.config import Cosine, OneCycle, Plateau, Stage
from salt_ray.section import ExperimentError
from salt_ray.training.schedule import Stopping, build_schedule


def stage(schedule: Plateau | Cosine, lr: float = 0.01) -> Stage:
    return Stage(name="s", epochs=100, batch_size=1, lr=lr, lovasz_weight=1, bce_weight=1, schedule=schedule)


def test_plateau_agrees_with_pytorch() -> None:
    scores = np.random.default_rng(0).normal(size=300).cumsum() * 0.01
    ours = build_schedule(stage(Plateau(patience=3, factor=0.64, min_lr=1e-4)))
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.01)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", patience=3, factor=0.64, min_lr=1e-4, threshold=0, eps=0
    )
    rates = []
    for value in scores:
        ours.step(value)
        reference.step(value)
        rates.append(ours.lr)
        assert ours.lr == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
    assert len(set(rates)) > 5


def test_cosine_agrees_with_pytorch_and_restarts() -> None:
    ours = build_schedule(stage(Cosine(epochs_per_cycle=7, min_lr=0.0005), lr=0.005))
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.005)
    reference = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=7, eta_min=0.0005)
    for epoch in range(30):
        assert ours.lr == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9), epoch
        optimizer.step()
        ours.step(0.0)
        reference.step()
    assert ours.epoch == 30


def test_one_cycle_agrees_with_pytorch_step_by_step() -> None:
    epochs, steps = 5, 7
    cycle = OneCycle(warmup_epochs=0.0, min_lr=1e-4)
    ours = build_schedule(stage(cycle, lr=0.003).replace(epochs=epochs))
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.003)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs * steps, eta_min=1e-4)
    for _ in range(epochs):
        for step in range(steps):
            assert ours.lr_at(step / steps) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
            optimizer.step()
            reference.step()
        ours.step(0.0)


def test_one_cycle_rises_in_a_straight_line_and_ends_at_the_lowest() -> None:
    whole = stage(OneCycle(warmup_epochs=2.0), lr=0.01).replace(epochs=10)
    schedule = build_schedule(whole)
    assert [schedule.lr_at(moment) for moment in (0.0, 0.5)] == pytest.approx([0.0, 0.0025])
    schedule.step(0.0)
    assert [schedule.lr_at(moment) for moment in (0.0, 0.999999)] == pytest.approx([0.005, 0.01], rel=1e-5)
    assert build_schedule(whole, {"epoch": 9}).lr_at(1.0) == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(ExperimentError, match=r"warmup_epochs = 2\.0 must be below epochs = 2"):
        whole.replace(epochs=2)


@pytest.mark.parametrize(
    "schedule",
    [Plateau(patience=1), Cosine(epochs_per_cycle=5), OneCycle(warmup_epochs=3.5)],
    ids=["plateau", "cosine", "one cycle"],
)
def test_a_restored_schedule_goes_on(schedule: Plateau | Cosine | OneCycle) -> None:
    scores = np.random.default_rng(1).normal(size=20)
    whole, first = (build_schedule(stage(schedule)) for _ in range(2))
    for value in scores[:9]:
        whole.step(value)
        first.step(value)
    second = build_schedule(stage(schedule), first.state())
    for value in scores[9:]:
        whole.step(value)
        second.step(value)
        assert second.lr == whole.lr and second.lr_at(0.25) == whole.lr_at(0.25)


def test_stopping_counts_epochs_since_the_best() -> None:
    stopping = Stopping(patience=2)
    assert [stopping.step(value) for value in (0.1, 0.3, 0.3, 0.2)] == [True, True, False, False]
    assert (stopping.best_epoch, stopping.best_score, stopping.ended(100)) == (2, 0.3, True)
    endless = Stopping(patience=None)
    endless.step(-math.inf)
    for _ in range(50):
        endless.step(0.0)
    assert not endless.ended(52) and endless.ended(51)
    assert Stopping(**stopping.state()) == stopping
