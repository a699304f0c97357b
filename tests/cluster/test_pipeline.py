"""The road on a real local Ray, through the command line: end to end, again, and after being killed anywhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment
from salt_ray.survey.synthetic import write_survey

ROOT = Path(__file__).parents[2]
SECONDS = 240


@pytest.fixture(scope="module")
def ray_directory() -> Iterator[Path]:
    """A short path of its own: Ray's socket names are limited, and no other Ray's files are in the way."""
    with tempfile.TemporaryDirectory(prefix="salt") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("survey") / "tiles"
    write_survey(directory, 60, seed=1, tile_px=33)
    return directory


@pytest.fixture(scope="module")
def experiment_file(tiny: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("experiment") / "tiny.json"
    path.write_text(tiny.model_dump_json())
    return path


class Road:
    """Runs ``python launch.py`` on one survey and experiment."""

    def __init__(self, survey: Path, experiment: Path, ray_directory: Path) -> None:
        self.options = ["--data", str(survey), "--experiment", str(experiment)]
        self.environment = {**os.environ, "RAY_TMPDIR": str(ray_directory), "COLUMNS": "200"}
        self.environment.pop("RAY_ADDRESS", None)

    def start(self, command: str, run: Path, *more: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "launch.py", command, *self.options, "--run-dir", str(run), *more],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: str, run: Path, *more: str, code: int = 0) -> str:
        process = self.start(command, run, *more)
        output, _ = process.communicate(timeout=SECONDS)
        assert process.returncode == code, output
        return output


@pytest.fixture(scope="module")
def road(survey: Path, experiment_file: Path, ray_directory: Path) -> Road:
    return Road(survey, experiment_file, ray_directory)


def results(run: Path) -> dict[str, bytes]:
    """Every byte of a run that must not depend on how it came about (Ray's own book-keeping is none)."""
    kept = ("folds", "trainings", "predictions")
    files = [path for folder in kept for path in (run / folder).rglob("*") if path.is_file()]
    files += [run / "submission.csv", run / "scores.json"]
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(files)}


@pytest.fixture(scope="module")
def undisturbed(road: Road, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    run = tmp_path_factory.mktemp("undisturbed")
    return run, road.run("pipeline", run)


def test_the_whole_road(undisturbed: tuple[Path, str], survey: Path) -> None:
    run, output = undisturbed
    submission = pd.read_csv(run / "submission.csv", keep_default_na=False)
    assert submission["id"].tolist() == pd.read_csv(survey / "sample_submission.csv")["id"].tolist()
    scores = json.loads((run / "scores.json").read_text())
    assert set(scores["folds"]) == {"0", "1"}
    assert set(scores["trivial"]) == {"all_empty", "best_constant"}
    for value in (*scores["folds"].values(), scores["oof"], scores["test"], *scores["trivial"].values()):
        assert 0 <= value <= 1
    assert "random-fold-0" in output and "tiles/s" in output
    assert "Ray dashboard: http" in output
    assert "\x1b" not in output  # no control characters in a pipe
    for noise in ("Traceback", "WARNING", "(raylet)"):
        assert noise not in output


def test_out_of_fold_predictions_come_from_models_that_never_saw_the_tile(
    undisturbed: tuple[Path, str], survey: Path
) -> None:
    run, _ = undisturbed
    table = pd.read_csv(run / "folds" / "random.csv", dtype={"id": str})
    labelled = sorted(path.stem for path in (survey / "train" / "images").iterdir())
    for fold in (0, 1):
        tiles = np.load(run / "predictions" / "random" / f"fold-{fold}" / "tiles.npy")
        predicted = {labelled[i] for i in tiles if i < len(labelled)}
        assert predicted == set(table["id"][table["fold"] == fold])


def test_the_same_command_again_does_nothing(road: Road, undisturbed: tuple[Path, str]) -> None:
    run, _ = undisturbed
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*.pt")} | results(run)
    started = time.monotonic()
    output = road.run("pipeline", run)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*.pt")} | results(run) == before
    assert "2 of 2 folds are trained already" in output
    assert "Ray dashboard" not in output  # nothing to do: no Ray is started
    assert time.monotonic() - started < 30


def wait_for(condition, process: subprocess.Popen, seconds: float = SECONDS) -> None:
    """Wait until ``condition()`` holds while the process runs."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


def workers(ray_directory: Path) -> list[psutil.Process]:
    """The training workers of our own Ray: processes that Ray has titled so, started from our directory."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        title, environment = " ".join(process.info["cmdline"] or []), process.info["environ"] or {}
        if "RayTrainWorker" in title and environment.get("RAY_TMPDIR") == str(ray_directory):
            found.append(process)
    return found


def test_the_driver_is_killed_then_a_worker_then_one_inside_a_checkpoint_write(
    road: Road, ray_directory: Path, undisturbed: tuple[Path, str], tmp_path: Path
) -> None:
    stage = RunDirectory(tmp_path).stage("random", 0, "plateau")

    first = road.start("train", tmp_path)
    wait_for((stage / "epoch-00001.pt").exists, first)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    wait_for(lambda: not workers(ray_directory), subprocess.Popen(["sleep", str(SECONDS)]), 30)
    assert not (stage / "done.json").exists()

    # A worker that dies in the middle of writing: killed the moment its temporary file is seen.
    second = road.start("pipeline", tmp_path)
    wait_for(lambda: any(stage.glob(".*.tmp")) or (stage / "done.json").exists(), second)
    victims = workers(ray_directory)
    assert victims
    for victim in victims:
        victim.kill()
    output, _ = second.communicate(timeout=SECONDS)
    assert second.returncode == 0, output
    assert results(tmp_path) == results(undisturbed[0])


def test_a_fold_that_fails_is_named_and_the_others_finish(road: Road, tmp_path: Path) -> None:
    """The loss overflows at once in every fold: no retry, no traceback, nothing counted as trained."""
    output = road.run("pipeline", tmp_path, "--set", "trainings.0.stages.plateau.lr=1e30", code=1)
    assert "error: random-fold-0, stage plateau: the loss is" in output
    assert "random-fold-1, stage plateau: the loss is" in output
    assert "Traceback" not in output
    assert not list(tmp_path.rglob("done.json"))
    assert not (tmp_path / "submission.csv").exists()
    message = road.run("predict", tmp_path, "--set", "trainings.0.stages.plateau.lr=1e30", code=1)
    assert "run train first" in message


@pytest.mark.parametrize(
    ("command", "options", "words"),
    [
        ("prepare", ["--data", "/nonexistent"], "/nonexistent"),
        ("train", ["--set", "network.encoder=resnet19"], "resnet19"),
        ("train", ["--set", "network.encodr=resnet18"], "did you mean 'encoder'"),
        ("train", ["--set", "geometry.crop_px=32"], "geometry.crop_px = 32"),
        ("train", ["--address", "127.0.0.1:1"], "--address"),
        ("train", ["--set", "resources.cpus_per_fold=1000"], "resources.cpus_per_fold"),
        ("train", ["--set", "holdout=/nonexistent.csv"], "hold-out"),
        ("submit", [], "run train first"),
    ],
)
def test_what_a_person_can_put_right_is_one_sentence(
    road: Road, tmp_path: Path, command: str, options: list[str], words: str
) -> None:
    output = road.run(command, tmp_path, *options, code=1)
    assert "Traceback" not in output
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert words in line
