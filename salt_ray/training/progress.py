"""How far a fold is: what the training loop reports after every epoch, and within those that take long."""

from __future__ import annotations

from dataclasses import dataclass

from salt_ray.training.task import fold_name


@dataclass(frozen=True)
class _Reached:
    """The epoch of a stage that a fold has reached."""

    training: str
    fold: int
    stage: str
    epoch: int
    epochs: int

    @property
    def name(self) -> str:
        """The fold's name in messages, runs and tables."""
        return fold_name(self.training, self.fold)


@dataclass(frozen=True)
class Progress(_Reached):
    """How far a fold is, after an epoch."""

    loss: float
    validation_loss: float
    score: float
    best_score: float
    lr: float
    #: NaN for an epoch of an earlier start, and so is the time left: checkpoints hold no times.
    tiles_per_second: float
    seconds_left: float
    #: When the epoch ended or was read from its checkpoint, in seconds since 1970.
    time: float


@dataclass(frozen=True)
class StepProgress(_Reached):
    """How far a fold is within an epoch."""

    step: int
    #: Of the epoch. After the last one its network is validated.
    steps: int
    #: Mean over the epoch's steps so far.
    loss: float
    tiles_per_second: float
    #: Of the whole fold, as in ``Progress``.
    seconds_left: float
