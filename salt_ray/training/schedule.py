"""Learning-rate schedules and early stopping: small objects whose whole state is a dictionary (method section 4).

Scores are "higher is better". Every object is told of an epoch once, after validation, and is made again of its state.
A schedule's ``lr`` is the epoch's, ``lr_at`` that of a moment in it, from 0 to 1.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from salt_ray.config import Cosine, OneCycle, Plateau, Stage


@dataclass
class PlateauSchedule:
    """Multiplies the learning rate by ``factor`` after more than ``patience`` epochs without a better score."""

    config: Plateau
    lr: float
    best: float = -math.inf
    waited: int = 0

    def lr_at(self, moment: float) -> float:
        return self.lr

    def step(self, score: float) -> None:
        """Take note of an epoch's score."""
        if score > self.best:
            self.best, self.waited = score, 0
            return
        self.waited += 1
        if self.waited > self.config.patience:
            self.lr, self.waited = max(self.lr * self.config.factor, self.config.min_lr), 0

    def state(self) -> dict:
        return {"lr": self.lr, "best": self.best, "waited": self.waited}


@dataclass
class CosineSchedule:
    """A half cosine from ``highest`` to ``config.min_lr`` every ``config.epochs_per_cycle`` epochs, then a restart."""

    config: Cosine
    highest: float
    epoch: int = 0

    @property
    def lr(self) -> float:
        phase = (self.epoch % self.config.epochs_per_cycle) / self.config.epochs_per_cycle
        return half_cosine(phase, self.highest, self.config.min_lr)

    def lr_at(self, moment: float) -> float:
        return self.lr

    def step(self, score: float) -> None:
        """Go on to the next epoch; the score does not matter."""
        self.epoch += 1

    def state(self) -> dict:
        return {"epoch": self.epoch}


@dataclass
class OneCycleSchedule:
    """A straight rise to ``highest``, then a half cosine down to ``config.min_lr`` at the end of ``epochs``."""

    config: OneCycle
    highest: float
    epochs: int
    epoch: int = 0

    @property
    def lr(self) -> float:
        """In the middle of the epoch."""
        return self.lr_at(0.5)

    def lr_at(self, moment: float) -> float:
        done, warm = self.epoch + moment, self.config.warmup_epochs
        if done < warm:
            return self.highest * done / warm
        return half_cosine((done - warm) / (self.epochs - warm), self.highest, self.config.min_lr)

    def step(self, score: float) -> None:
        """Go on to the next epoch; the score does not matter."""
        self.epoch += 1

    def state(self) -> dict:
        return {"epoch": self.epoch}


def half_cosine(phase: float, first: float, last: float) -> float:
    """From ``first`` at phase 0 to ``last`` at phase 1."""
    return last + (first - last) * (1 + math.cos(math.pi * phase)) / 2


Schedule = PlateauSchedule | CosineSchedule | OneCycleSchedule


def build_schedule(stage: Stage, state: dict | None = None) -> Schedule:
    """The schedule that a stage names, as its ``state()`` says; None: at its first epoch."""
    match stage.schedule:
        case Plateau() as config:
            return PlateauSchedule(config, **(state or {"lr": stage.lr}))
        case Cosine() as config:
            return CosineSchedule(config, stage.lr, **(state or {}))
        case OneCycle() as config:
            return OneCycleSchedule(config, stage.lr, stage.epochs, **(state or {}))
        case other:
            raise AssertionError(f"no schedule for {other!r}")


@dataclass
class Stopping:
    """Remembers the best epoch, and says when ``patience`` epochs brought nothing better (None: never)."""

    patience: int | None
    best_score: float = -math.inf
    best_epoch: int = 0
    epoch: int = 0

    def step(self, score: float) -> bool:
        """Take note of an epoch's score; True when it is the best so far."""
        self.epoch += 1
        better = score > self.best_score
        if better:
            self.best_score, self.best_epoch = score, self.epoch
        return better

    def ended(self, epochs: int) -> bool:
        """Whether a stage of at most so many epochs is over."""
        return self.epoch >= epochs or (self.patience is not None and self.epoch - self.best_epoch >= self.patience)

    def state(self) -> dict:
        return asdict(self)
