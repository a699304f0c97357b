"""Folds that are being trained, as Ray's dashboard shows them: its REST interface, its metrics, its pages."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from browser import page_text
from curves import curves
from road import SECONDS, Road, wait_for

METRICS_SECONDS = 30  # Ray hands metrics on every 10 s
EPOCHS = 1_000_000  # more than there is time for


@dataclass(frozen=True)
class Dashboard:
    """The dashboard of a training that goes on."""

    process: subprocess.Popen
    run: Path
    address: str
    token: str

    def get(self, path: str) -> Any:
        """What the REST interface answers; {} while it has nothing to tell."""
        request = urllib.request.Request(self.address + path, headers={"Authorization": f"Bearer {self.token}"})
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            assert error.code != 401, "the token is not accepted"
            return {}

    def train_runs(self) -> dict[str, str]:
        """The status of every run of Ray Train, by name."""
        return {run["name"]: run["status"] for run in self.get("/api/train/v2/runs/v1").get("train_runs", [])}

    def metrics(self) -> dict[str, dict[tuple[str, str, str, str, str], float]]:
        """Our metrics, by name and by run, trial, training, fold and stage."""
        (node,) = self.get("/nodes?view=summary")["data"]["summary"]
        port = node["raylet"]["metricsExportPort"]
        found: dict[str, dict] = {}
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=SECONDS) as answer:
            for line in answer.read().decode().splitlines():
                if match := re.fullmatch(r"ray_salt_ray_(\w+)\{(.*)\} (\S+)", line):
                    name, labels, value = match.groups()
                    tags = dict(re.findall(r'(\w+)="([^"]*)"', labels))
                    key = tuple(tags[tag] for tag in ("run", "trial", "training", "fold", "stage"))
                    found.setdefault(name, {})[key] = float(value)
        return found


@pytest.fixture(scope="module")
def dashboard(road: Road, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    run = tmp_path_factory.mktemp("dashboard")
    stage = "trainings.0.stages.plateau"
    process = road.start("train", run, "--set", f"{stage}.epochs={EPOCHS}", "--set", f"{stage}.early_stopping=null")
    try:
        said = []
        for line in process.stdout:
            said.append(line)
            if address := re.search(r"Ray dashboard: (http://\S+)", line):
                break
        assert process.poll() is None and address, "".join(said)
        ray = [str(Path(sys.executable).with_name("ray")), "get-auth-token"]
        token = subprocess.run(ray, capture_output=True, text=True, check=True).stdout.strip()
        shown = Dashboard(process, run, address[1], token)
        wait_for(lambda: bool(list(run.rglob("epoch-*.pt"))), process)
        yield shown
    finally:
        process.kill()  # Ray's processes end with their driver
        process.communicate()


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
