"""Which metrics the driver sets; test_dashboard sees them on a running Ray."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from salt_ray.cluster import gauges
from salt_ray.cluster.gauges import Gauges
from salt_ray.training.progress import Progress

PROGRESS = Progress("random", 3, "plateau", 1, 9, 0.25, 0.75, 0.5, 0.875, 0.0625, 128.0, 60.0, 1000.0)


@pytest.fixture
def values(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], tuple[float, dict]]:
    """What is set, by metric and trial."""
    found: dict[tuple[str, str], tuple[float, dict]] = {}

    class Recorder:
        def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
            self.name, self.keys = name, set(tag_keys)

        def set(self, value: float, tags: dict[str, Any]) -> None:
            assert set(tags) == self.keys and all(isinstance(tag, str) for tag in tags.values())  # Ray demands both
            found[self.name, tags["trial"]] = value, tags

    monkeypatch.setattr(gauges, "Gauge", Recorder)
    return found


def test_a_fold_sets_every_metric_under_its_names(values: dict) -> None:
    Gauges("tiny").export(PROGRESS)
    tags = {"run": "tiny", "trial": "", "training": "random", "fold": "3", "stage": "plateau"}
    assert values == {
        ("salt_ray_score", ""): (0.5, tags),
        ("salt_ray_best_score", ""): (0.875, tags),
        ("salt_ray_loss", ""): (0.25, tags),
        ("salt_ray_lr", ""): (0.0625, tags),
        ("salt_ray_tiles_per_second", ""): (128.0, tags),
    }


def test_trials_are_kept_apart_and_what_is_not_known_is_left_as_it_was(values: dict) -> None:
    shown = Gauges("tiny")
    shown.export(PROGRESS, "trial-0001")
    shown.export(dataclasses.replace(PROGRESS, score=0.625, tiles_per_second=math.nan), "trial-0002")
    shown.export(dataclasses.replace(PROGRESS, score=0.75, tiles_per_second=math.nan), "trial-0001")
    assert values["salt_ray_score", "trial-0001"][0] == 0.75
    assert values["salt_ray_score", "trial-0002"][0] == 0.625
    assert values["salt_ray_tiles_per_second", "trial-0001"][0] == 128.0
    assert ("salt_ray_tiles_per_second", "trial-0002") not in values
