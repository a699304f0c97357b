"""Benchmarks: what a row says, and what cannot be run."""

from __future__ import annotations

import pytest
import torch

from benchmarks import harness
from benchmarks.harness import figure, part, row, run_benchmarks
from salt_ray.errors import SaltRayError


def test_a_row_has_medians_and_the_spread_of_the_pairs() -> None:
    found = row("a", [1.0, 2.0, 4.0], [3.0, 3.0, 3.0], "ms/tile", equal=True)
    assert (found["ours"], found["peer"], found["ratio"], found["spread"]) == (2000, 3000, 1.5, [0.75, 3.0])
    assert harness._line(found) == "a: ours 2000, peer 3000 ms/tile, ratio 1.5 (0.75 to 3, n = 3), equal: True"


def test_a_part_is_said_with_its_share() -> None:
    assert harness._line(part("a: forward", [0.1, 0.2, 0.3], 10, 0.8, "of a step")) == (
        "a: forward: 20 ms/tile, 25.0% of a step (n = 3)"
    )
    assert harness._line(figure("a: memory", [3.5], "GB")) == "a: memory: 3.5 GB (n = 1)"


def test_what_there_is_not_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SaltRayError, match="there is no benchmark 'nothing': choose from assemble, "):
        run_benchmarks(["nothing"], print)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device in ("cuda", "tpu"):
        with pytest.raises(SaltRayError, match=f"finds no device '{device}' here: leave --device out"):
            run_benchmarks(["lovasz"], print, device)


def test_a_benchmark_for_either_device_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import lovasz

    asked = []
    monkeypatch.setattr(lovasz, "measure_on", lambda device: asked.append(device) or [])
    assert run_benchmarks(["lovasz"], print, "cpu") == [] and asked == [torch.device("cpu")]
