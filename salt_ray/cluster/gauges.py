"""How far folds and trials are, as metrics on Ray's metrics port; Prometheus and the dashboard read them there."""

from __future__ import annotations

import math

from ray.util.metrics import Gauge

from salt_ray.training.progress import Progress

TAGS = ("run", "trial", "training", "fold", "stage")
#: Ray puts ``ray_`` before each name.
GAUGES = {
    "salt_ray_score": ("score", "Score of the fold's validation tiles, mean over IoU thresholds."),
    "salt_ray_best_score": ("best_score", "Best score of the stage so far."),
    "salt_ray_loss": ("loss", "Mean training loss of the epoch."),
    "salt_ray_lr": ("lr", "Learning rate of the epoch."),
    "salt_ray_tiles_per_second": ("tiles_per_second", "Training tiles per second, validation left out."),
}


class Gauges:
    """Exports what the driver is told of its folds or trials.

    For the driver's process alone: a worker may be gone before its next export, and its values with it.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self._gauges = {field: Gauge(name, description, tag_keys=TAGS) for name, (field, description) in GAUGES.items()}

    def export(self, progress: Progress, trial: str = "") -> None:
        """Set every gauge whose value is known; ``trial`` is empty where no search runs."""
        tags = {
            "run": self._run,
            "trial": trial,
            "training": progress.training,
            "fold": str(progress.fold),
            "stage": progress.stage,
        }
        for field, gauge in self._gauges.items():
            value = getattr(progress, field)
            if not math.isnan(value):
                gauge.set(value, tags)
