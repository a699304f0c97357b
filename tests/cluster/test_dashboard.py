"""Folds that are being trained, as Ray's dashboard shows them: its REST interface, its metrics, its pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import page_text
from curves import curves
from dashboard import METRICS_SECONDS, Dashboard, followed
from road import SECONDS, Road, wait_for

EPOCHS = 1_000_000  # more than there is time for


@pytest.fixture(scope="module")
def dashboard(road: Road, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    stage = "trainings.0.stages.plateau"
    endless = ["--set", f"{stage}.epochs={EPOCHS}", "--set", f"{stage}.early_stopping=null"]
    with followed(road, "train", tmp_path_factory.mktemp("dashboard"), *endless) as shown:
        yield shown


def test_ray_trains_runs_are_called_as_the_folds_are(dashboard: Dashboard) -> None:
    wait_for(lambda: "RUNNING" in dashboard.train_runs().values(), dashboard.process)
    for name in dashboard.train_runs():
        assert re.fullmatch(r"tiny-random-fold-[01]-[0-9a-f]{8}", name)


def test_scores_are_among_the_metrics(dashboard: Dashboard) -> None:
    names = {"score", "best_score", "loss", "lr", "tiles_per_second"}
    wait_for(lambda: set(dashboard.metrics()) == names, dashboard.process, METRICS_SECONDS)
    metrics = dashboard.metrics()
    folds = set(metrics["score"])
    assert folds and folds <= {("tiny", "", "random", fold, "plateau") for fold in "01"}
    for fold in folds:
        assert 0 <= metrics["score"][fold] <= metrics["best_score"][fold] <= 1
        assert metrics["tiles_per_second"][fold] > 0
        assert metrics["lr"][fold] <= 0.02


def test_the_list_of_tasks_names_folds_and_nothing_drowns_them(dashboard: Dashboard) -> None:
    tasks = dashboard.get("/api/v0/tasks?limit=1000")["data"]["result"]["result"]
    names = [task["name"] for task in tasks]
    assert "fit random-fold-0" in names
    assert "Board.take" not in names


def test_tensorboard_follows_every_epoch(dashboard: Dashboard) -> None:
    folder = dashboard.run / "tensorboard" / "random-fold-0" / "plateau"
    wait_for(lambda: len(curves(folder).get("plateau/score", ())) >= 3, dashboard.process)
    steps = [step for step, _ in curves(folder)["plateau/score"]]
    assert steps == list(range(1, len(steps) + 1))


@pytest.mark.browser
@pytest.mark.parametrize(("page", "words"), [("cluster", "fit random-fold-0"), ("jobs", "launch.py train")])
def test_a_person_finds_the_folds(page: str, words: str, dashboard: Dashboard, tmp_path: Path) -> None:
    """After typing the token, which the dashboard asks for."""
    text = page_text(f"{dashboard.address}/#/{page}", dashboard.token, words, SECONDS, tmp_path / f"{page}.png")
    assert "Authentication Token Required" not in text
    assert (tmp_path / f"{page}.png").read_bytes().startswith(b"\x89PNG")
