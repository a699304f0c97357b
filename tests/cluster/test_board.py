"""What workers post reaches the driver once, every epoch and the newest step, in the order in which it came."""

from __future__ import annotations

from salt_ray.cluster.board import Board
from salt_ray.training.progress import Progress, StepProgress


def after(fold: int, epoch: int) -> Progress:
    return Progress("random", fold, "plateau", epoch, 3, 0.5, 0.6, 0.7, 0.8, 0.01, 9.0, 60.0, 0.0)


def within(fold: int, epoch: int, step: int) -> StepProgress:
    return StepProgress("random", fold, "plateau", epoch, 3, step, 10, 0.5, 9.0, 60.0)


def test_a_step_does_not_hide_the_epoch_before_it() -> None:
    board = Board()
    for progress in (within(0, 1, 8), after(0, 1), within(0, 2, 1), within(1, 1, 4), within(0, 2, 5)):
        board.post(progress)
    board.say("a line")
    assert board.take() == ([after(0, 1), within(1, 1, 4), within(0, 2, 5)], ["a line"])
    assert board.take() == ([], [])
