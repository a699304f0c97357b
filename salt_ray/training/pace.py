"""How far an epoch is that takes long: told now and then, without waiting for the device."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from salt_ray.training.progress import StepProgress

LONG_SECONDS = 30  # epochs that train for less say nothing before they end
TOLD_SECONDS = 5  # between two reports, at least


class Pace:
    """Reports the steps of one epoch.

    A loss that is read at once holds the host until the device has computed it. Here it is copied beside the
    computation, and reported at the first later step at which the copy has arrived.

    Args:
        report: told how far the epoch is.
        about: names the epoch: training, fold, stage, epoch, epochs.
        steps: of the epoch.
        tiles: of a step.
        later: how many epochs the fold may take after this one.
        epoch_seconds: how long the epoch before took, validation included; None: not known.
    """

    def __init__(
        self,
        report: Callable[[StepProgress], None],
        about: dict[str, str | int],
        steps: int,
        tiles: int,
        later: int,
        epoch_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._report, self._about, self._clock = report, about, clock
        self._steps, self._tiles, self._later, self._epoch_seconds = steps, tiles, later, epoch_seconds
        self._begun = self._told = clock()
        self._first: float | None = None  # when the first step was over, which may have compiled the network
        self._pending: tuple[int, Callable[[], float | None]] | None = None

    def step(self, losses: list[Tensor]) -> None:
        """One more step is over.

        Args:
            losses: of the steps so far, each of shape () on the device.
        """
        now = self._clock()
        if self._first is None:
            self._first = now
        if self._pending is None and now - self._told >= TOLD_SECONDS:
            self._told, self._pending = now, (len(losses), arriving(torch.stack(losses).mean()))
        if self._pending is not None:
            step, loss = self._pending
            if (value := loss()) is not None:
                self._pending = None
                self._tell(step, value, now)

    def end(self, loss: float) -> None:
        """All steps are over; ``loss`` is their mean."""
        self._tell(self._steps, loss, self._clock())

    def _tell(self, step: int, loss: float, now: float) -> None:
        seconds = (now - self._first) / (step - 1) if step > 1 else now - self._begun
        if seconds * self._steps < LONG_SECONDS:
            return
        left = seconds * (self._steps - step) + self._later * (self._epoch_seconds or seconds * self._steps)
        progress = StepProgress(
            **self._about,
            step=step,
            steps=self._steps,
            loss=loss,
            tiles_per_second=self._tiles / seconds,
            seconds_left=left,
        )
        self._report(progress)


def arriving(value: Tensor) -> Callable[[], float | None]:
    """A number of shape () on its way from a device: what is returned says None until it is here, and never waits."""
    if value.device.type != "cuda":
        return value.item
    here = value.to("cpu", non_blocking=True)  # into pinned memory: anywhere else the host would wait
    copied = torch.cuda.Event()
    copied.record()
    return lambda: here.item() if copied.query() else None
