"""A training is announced before it begins: first by counts, then by what earlier epochs took."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from salt_ray.artifacts import RunDirectory
from salt_ray.experiment_file import load_experiment
from salt_ray.pipeline import steps
from salt_ray.pipeline.local import LocalEngine
from salt_ray.pipeline.run import Run
from salt_ray.report.plan import UNKNOWN
from salt_ray.report.terminal import Terminal


def said(path: Path, survey: Path, experiment_file: Path, fold: int) -> list[str]:
    """What training a fold says, from the plan on."""
    stream = io.StringIO()
    terminal = Terminal(Console(file=stream, width=160))
    with Run(load_experiment(experiment_file), survey, RunDirectory(path), terminal).held() as run:
        steps.prepare(run)
        steps.train(run, LocalEngine(), (fold,))
    lines = stream.getvalue().splitlines()
    return lines[next(number for number, line in enumerate(lines) if line.startswith("plan: ")) :]


def test_hours_are_of_the_same_run_or_of_one_before_it(
    survey: Path, experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SALT_RAY_CACHE", str(tmp_path / "cache"))
    first, second = tmp_path / "first", tmp_path / "second"
    counts = "plan: 1 training, 1 fold, 1 at a time, at most 5 epochs: 1 fold of random (5)"
    lines = said(first, survey, experiment_file, 0)
    assert lines[:2] == [counts, f"plan: {UNKNOWN}"]
    (told,) = [line for line in lines[2:] if line.startswith("plan: ")]  # epochs are short: after the first one
    assert re.fullmatch(r"plan: at most about .+ left for all folds, based on the first epoch of random-fold-0", told)
    lines = said(first, survey, experiment_file, 1)
    assert lines[0] == counts and re.fullmatch(r"plan: at most about .+, based on epochs of this run", lines[1])
    lines = said(second, survey, experiment_file, 0)
    assert lines[0] == counts and re.fullmatch(rf"plan: at most about .+, based on epochs of {first}, on .+", lines[1])
