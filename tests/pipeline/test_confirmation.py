"""What a search is worth on a fold that judged no trial."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Choice, Experiment, Tune
from salt_ray.experiment_file import load_experiment
from salt_ray.pipeline.local import LocalEngine
from salt_ray.pipeline.run import Run
from salt_ray.pipeline.search import confirm, search
from salt_ray.report.study import report_study
from salt_ray.report.terminal import Terminal
from salt_ray.section import ExperimentError

pytestmark = pytest.mark.usefixtures("one_thread")


def searched(experiment_file: Path, **settings: object) -> Experiment:
    """Dropout is searched: two trials on fold 0."""
    experiment = load_experiment(experiment_file)
    own = experiment.network.decoder.dropout
    dropout = Choice(name="dropout", fields=("network.decoder.dropout",), values=(own, own + 0.25))
    tune = Tune(parameters=(dropout,), trials=2, sampler="qmc", pruner="none", **settings)
    return experiment.replace(name="searched", tune=tune)


def test_the_best_and_the_own_settings_are_trained_on_a_fold_that_chose_neither(
    experiment_file: Path, survey: Path, undisturbed: Path, own_cache: Path, tmp_path: Path
) -> None:
    output = io.StringIO()
    terminal, directory = Terminal(Console(file=output, width=300)), RunDirectory(tmp_path)
    with Run(searched(experiment_file), survey, directory, terminal).held() as run:
        summary = search(run, LocalEngine())
        assert "not used in the search" not in output.getvalue()
        number = 1  # whichever was better: which of two settings wins is not what is tested
        summary = replace(summary, best=replace(summary.best, number=number))
        confirm(run, LocalEngine(), summary, 1)
    found = json.loads((tmp_path / "study" / "confirmation.json").read_text())
    markers = [
        json.loads((RunDirectory(undisturbed).stage("random", 1, stage) / "done.json").read_text())
        for stage in ("plateau", "cosine")
    ]
    assert found["fold"] == 1 and found["number"] == number
    assert found["baseline"] == max(marker["best_score"] for marker in markers)  # its own settings, as any run has them
    assert f"fold 1, not used in the search: own settings {found['baseline']:.4f}, trial-0001" in output.getvalue()
    for trial in (0, number):
        assert not (directory.confirmed(trial).fold("random", 0)).exists()
    if report_study(directory, terminal).best.number == number:
        assert output.getvalue().count("not used in the search") == 2  # later too


def test_a_search_that_confirms_goes_on_to_it_and_is_the_same_search(
    experiment_file: Path, survey: Path, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr("salt_ray.pipeline.search.BASELINE", -1)  # the best is another one, whichever it is
    monkeypatch.setattr("salt_ray.pipeline.search.confirm", lambda run, engine, summary, fold: asked.append(fold))
    for settings in ({}, {"confirm": 1}):
        with Run(
            searched(experiment_file, **settings), survey, RunDirectory(tmp_path), Terminal(quiet=True)
        ).held() as run:
            search(run, LocalEngine())
    assert asked == [1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"confirm": 0}, "confirm = 0 is one of the folds that judge trials: name another one"),
        ({"confirm": 1, "folds": "all"}, "confirm = 1 is one of the folds that judge trials"),
    ],
)
def test_a_fold_that_judges_trials_confirms_nothing(
    experiment_file: Path, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        searched(experiment_file, **settings)


def test_a_fold_that_there_is_not_is_said_before_anything_begins(
    experiment_file: Path, survey: Path, own_cache: Path, tmp_path: Path
) -> None:
    run = Run(searched(experiment_file, confirm=7), survey, RunDirectory(tmp_path / "run"), Terminal(quiet=True))
    with pytest.raises(ExperimentError, match=r"tune\.confirm: random has no fold 7, only 0 … 1"):
        search(run, LocalEngine())
    assert not (tmp_path / "run").exists()
