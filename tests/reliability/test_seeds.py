"""A run over several seeds."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from statistics import fmean, stdev

import pytest
import torch
from road import Road, results

from salt_ray.training.checkpoint import read_checkpoint


@pytest.mark.slow
def test_three_seeds_give_mean_and_spread(road: Road, undisturbed: tuple[Path, str], tmp_path: Path) -> None:
    output = road.run("pipeline", tmp_path, "--seeds", "3")
    assert results(tmp_path / "seed-7") == results(undisturbed[0])  # the experiment's own seed is the first
    heads = [
        read_checkpoint(tmp_path / f"seed-{seed}" / "trainings/random/fold-0/cosine/best.pt")["network"][
            "empty_head.weight"
        ]
        for seed in (7, 8, 9)
    ]
    assert not any(torch.equal(*pair) for pair in itertools.combinations(heads, 2))
    each = [json.loads((tmp_path / f"seed-{seed}" / "scores.json").read_text()) for seed in (7, 8, 9)]
    found = json.loads((tmp_path / "seeds.json").read_text())["scores"]
    for name in ("oof", "test"):
        values = [scores[name] for scores in each]
        assert found[name]["each"] == values
        assert found[name]["mean"] == pytest.approx(fmean(values))
        assert found[name]["sd"] == pytest.approx(stdev(values))
        assert f"{fmean(values):.4f} ± {stdev(values):.4f}" in output
        assert all("3 seeds" in (tmp_path / f"seed-{seed}" / "report.html").read_text() for seed in (7, 8, 9))
    again = road.run("pipeline", tmp_path, "--seeds", "3")
    assert "Ray dashboard" not in again  # all is done: nothing is trained again
