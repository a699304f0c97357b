"""The road on a real local Ray, through the command line: end to end, again, and what is refused."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from road import Road, results

import launch
from salt_ray.artifacts import RunDirectory
from salt_ray.cluster.pipeline import Pipeline
from salt_ray.config import Experiment, Folds
from salt_ray.errors import RunError
from salt_ray.mosaic.rules import RULES
from salt_ray.mosaic.table import load_mosaics
from salt_ray.report.terminal import Terminal
from salt_ray.survey.folds import FoldTable


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
    page = (run / "report.html").read_text()
    assert f"{scores['oof']:.4f}" in page and f"{scores['test']:.4f}" in page


def test_the_report_is_made_anew_with_the_same_bytes(
    undisturbed: tuple[Path, str], survey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "moved"
    shutil.copytree(undisturbed[0], run)
    shutil.copytree(survey, run / "survey")  # where a demo has it
    (run / "report.html").unlink()
    monkeypatch.setattr(sys, "argv", ["launch.py", "report", str(run)])
    monkeypatch.setenv("SALT_RAY_DATA", "/nonexistent")
    with pytest.raises(SystemExit) as exit:
        launch.main()
    assert exit.value.code == 0

    def without_place(path: Path) -> str:
        return path.read_text().replace(f"run {path.parent.name}<", "run NAME<")

    assert without_place(run / "report.html") == without_place(undisturbed[0] / "report.html")


def test_out_of_fold_predictions_come_from_models_that_never_saw_the_tile(
    undisturbed: tuple[Path, str], survey: Path
) -> None:
    run, _ = undisturbed
    table = pd.read_csv(run / "folds" / "random" / "folds.csv", dtype={"id": str})
    labelled = sorted(path.stem for path in (survey / "train" / "images").iterdir())
    for fold in (0, 1):
        tiles = np.load(RunDirectory(run).prediction("random", fold, "cosine") / "tiles.npy")
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


def test_a_finished_run_is_not_mixed_with_other_rules(
    road: Road, undisturbed: tuple[Path, str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(undisturbed[0], run)
    before = (run / "experiment.json").read_bytes()
    output = road.run("pipeline", run, "--set", "postprocessing.rules=seed", code=1)
    assert f"error: {run / 'postprocessing'} was made with other settings" in output
    assert "rules: evidence there, seed now" in output and "--run-dir" in output
    assert (run / "experiment.json").read_bytes() == before
    assert results(run) == results(undisturbed[0])


def test_a_checkpoint_for_folds_is_known_by_its_content_and_not_by_its_path(
    undisturbed: tuple[Path, str], survey: Path, tiny: Experiment, tmp_path: Path
) -> None:
    run = RunDirectory(tmp_path / "run")

    def folds(checkpoint: Path) -> FoldTable:
        division = Folds(kind="mosaic", count=2, checkpoint=checkpoint)
        experiment = tiny.replace(trainings=(tiny.trainings[0].replace(folds=division),))
        return Pipeline(experiment, survey, run, Terminal()).tables["random"]

    first, moved = tmp_path / "first.pt", tmp_path / "elsewhere" / "moved.pt"
    shutil.copy(RunDirectory(undisturbed[0]).stage("random", 0, "cosine") / "best.pt", first)
    digest = folds(first).digest
    moved.parent.mkdir()
    first.rename(moved)
    assert folds(moved).digest == digest
    shutil.copy(RunDirectory(undisturbed[0]).stage("random", 1, "cosine") / "best.pt", moved)
    with pytest.raises(RunError, match=r"other settings \(checkpoint: \w+… there, \w+… now\)"):
        folds(moved)


def test_a_fold_that_fails_is_named_and_the_others_finish(road: Road, tmp_path: Path) -> None:
    """The loss overflows at once in every fold: no retry, no traceback, nothing counted as trained."""
    output = road.run("pipeline", tmp_path, "--set", "trainings.0.stages.plateau.lr=1e30", code=1)
    assert "error: random-fold-0, stage plateau: the loss is" in output
    assert "random-fold-1, stage plateau: the loss is" in output
    assert "Traceback" not in output
    assert not list((tmp_path / "trainings").rglob("done.json"))
    assert not (tmp_path / "submission.csv").exists()
    message = road.refused("predict", tmp_path, "--set", "trainings.0.stages.plateau.lr=1e30")
    assert "run train first" in message


@pytest.mark.parametrize(
    ("command", "options", "words"),
    [
        ("prepare", ["--data", "/nonexistent"], "/nonexistent"),
        ("train", ["--set", "network.encoder=resnet19"], "resnet19"),
        ("train", ["--set", "network.encodr=resnet18"], "did you mean 'encoder'"),
        ("train", ["--set", "geometry.crop_px=32"], "geometry.crop_px = 32"),
        ("train", ["--address", "127.0.0.1:1"], "--address"),
        ("train", ["--set", "holdout=/nonexistent.csv"], "hold-out"),
        ("submit", [], "run train first"),
    ],
)
def test_what_a_person_can_put_right_is_one_sentence(
    road: Road, tmp_path: Path, command: str, options: list[str], words: str
) -> None:
    output = road.refused(command, tmp_path, *options)
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert words in line


def test_what_no_node_has_is_one_sentence(road: Road, tmp_path: Path) -> None:
    output = road.run("train", tmp_path, "--set", "resources.cpus_per_fold=1000", code=1)
    assert "Traceback" not in output
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert "resources.cpus_per_fold" in line


@pytest.mark.slow
def test_the_seeds_whole_recipe(road: Road, survey: Path, tiny: Experiment, tmp_path: Path) -> None:
    """Both trainings, the average of all their models, all seven rules; only the network and the numbers are small."""
    options = {
        "network": tiny.network.model_dump_json(),
        "precision": "fp32",
        "trainings.all.folds.count": 2,
        "trainings.all.stages.all.epochs": 1,
        "trainings.all.stages.all.batch_size": 4,
    }
    sets = [word for name, value in options.items() for word in ("--set", f"{name}={value}")]
    output = road.run("pipeline", tmp_path, "--experiment", "experiments/argus.py", *sets)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert set(scores["folds"]) == {"random/0", "random/1", "mosaic/0", "mosaic/1"}
    assert scores["rules"]["kept"] == list(RULES) and not scores["rules"]["alone"]
    assert "4 folds to train" in output
    table = load_mosaics(tmp_path / "mosaics" / "mosaics.csv")
    folds = pd.read_csv(tmp_path / "folds" / "mosaic" / "folds.csv", dtype={"id": str}).set_index("id")["fold"]
    for members in table.members():
        assert folds.reindex(table.ids[members]).dropna().nunique() <= 1  # no mosaic is split
    submission = pd.read_csv(tmp_path / "submission.csv", keep_default_na=False)
    assert submission["id"].tolist() == pd.read_csv(survey / "sample_submission.csv")["id"].tolist()
