"""The road from tiles to a page: what a finished run holds, what the same command does again, and what is refused.

The work is done without Ray; ``reliability/test_one_run.py`` ends with the same bytes on a Ray.
"""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pandas as pd
import pytest
import torch
from road import ROOT, Road, results

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment, Folds
from salt_ray.errors import RunError
from salt_ray.mosaic.table import load_mosaics
from salt_ray.pipeline.run import Run
from salt_ray.pipeline.trained import load_run
from salt_ray.postprocessing.rules import RULES
from salt_ray.report.finished import load_scores
from salt_ray.report.status import run_status
from salt_ray.report.terminal import Terminal
from salt_ray.survey.folds import FoldTable
from salt_ray.training.checkpoint import read_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_whole_road(undisturbed: Path, survey: Path) -> None:
    submission = pd.read_csv(undisturbed / "submission.csv", keep_default_na=False)
    assert submission["id"].tolist() == pd.read_csv(survey / "sample_submission.csv")["id"].tolist()
    scores = json.loads((undisturbed / "scores.json").read_text())
    assert set(scores["folds"]) == {"0", "1"}
    assert set(scores["trivial"]) == {"all_empty", "best_constant"}
    for value in (*scores["folds"].values(), scores["oof"], scores["test"], *scores["trivial"].values()):
        assert 0 <= value <= 1
    page = (undisturbed / "report.html").read_text()
    assert f"{scores['oof']:.4f}" in page and f"{scores['test']:.4f}" in page


def test_the_report_is_made_anew_with_the_same_bytes(
    road: Road, undisturbed: Path, survey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "moved"
    shutil.copytree(undisturbed, run)
    shutil.copytree(survey, run / "survey")  # where a demo has it
    (run / "report.html").unlink()
    monkeypatch.setenv("SALT_RAY_DATA", "/nonexistent")
    road.here_alone("report", str(run))

    def without_place(path: Path) -> str:
        return path.read_text().replace(f"run {path.parent.name}<", "run NAME<")

    assert without_place(run / "report.html") == without_place(undisturbed / "report.html")


def test_out_of_fold_predictions_come_from_models_that_never_saw_the_tile(undisturbed: Path, survey: Path) -> None:
    table = pd.read_csv(undisturbed / "folds" / "random" / "folds.csv", dtype={"id": str})
    labelled = sorted(path.stem for path in (survey / "train" / "images").iterdir())
    for fold in (0, 1):
        (path,) = (undisturbed / "predictions" / "random" / f"fold-{fold}").glob("*/tiles.npy")
        tiles = np.load(path)
        predicted = {labelled[i] for i in tiles if i < len(labelled)}
        assert predicted == set(table["id"][table["fold"] == fold])


def test_the_same_command_again_does_nothing(road: Road, undisturbed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*.pt")} | results(undisturbed)
    output = road.here("pipeline", undisturbed)
    assert {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*.pt")} | results(undisturbed) == before
    assert "2 of 2 folds are already trained" in output
    assert "Ray dashboard" not in output and "Ray runs without" not in output  # nothing to do: no Ray is started


def test_other_rules_and_thresholds_change_what_comes_after_training_and_nothing_else(
    road: Road, undisturbed: Path, tmp_path: Path
) -> None:
    """And back again it is the same run, to the byte."""
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    kept = {path: path.read_bytes() for name in ("trainings", "predictions") for path in (run / name).rglob("*.*")}
    changes = ["--set", "postprocessing.rules=argus", "--set", "prediction.mask_threshold=0.3"]
    output = " ".join(road.here("pipeline", run, *changes).split())
    assert f"regenerating {run / 'postprocessing'} (" in output and "rules: evidence before, argus now" in output
    assert "2 of 2 folds are already trained" in output and "2 of 2 models have already predicted" in output
    assert "epochs are compared as when the run began: mask threshold 0.4," in output
    assert {path: path.read_bytes() for path in kept} == kept
    page = (run / "report.html").read_text()
    assert "mask threshold 0.4," in page and "mask threshold 0.3," in page
    road.here("pipeline", run, "--set", "postprocessing.rules=evidence", "--set", "prediction.mask_threshold=0.4")
    assert results(run) == results(undisturbed)


def test_a_checkpoint_for_folds_is_known_by_its_content_and_not_by_its_path(
    undisturbed: Path, survey: Path, tiny: Experiment, tmp_path: Path
) -> None:
    run = RunDirectory(tmp_path / "run")

    def folds(checkpoint: Path) -> FoldTable:
        division = Folds(kind="mosaic", count=2, checkpoint=checkpoint)
        experiment = tiny.replace(trainings=(tiny.trainings[0].replace(folds=division),))
        return Run(experiment, survey, run, Terminal()).tables["random"]

    first, moved = tmp_path / "first.pt", tmp_path / "elsewhere" / "moved.pt"
    shutil.copy(RunDirectory(undisturbed).stage("random", 0, "cosine") / "best.pt", first)
    digest = folds(first).digest
    moved.parent.mkdir()
    first.rename(moved)
    assert folds(moved).digest == digest
    shutil.copy(RunDirectory(undisturbed).stage("random", 1, "cosine") / "best.pt", moved)
    with pytest.raises(RunError, match=r"different settings \(checkpoint: \w+… before, \w+… now\)"):
        folds(moved)


def test_one_fold_is_tried_and_the_others_follow_with_the_same_bytes(
    road: Road, undisturbed: Path, tmp_path: Path
) -> None:
    first = road.here("train", tmp_path, "--folds", "1")
    assert "random-fold-1: " in first and "(scored 0." in first
    assert not (tmp_path / "trainings" / "random" / "fold-0").exists()
    assert "there is no fold 2: choose from 0 … 1" in road.refused("train", tmp_path, "--folds", "2")

    output = road.here("pipeline", tmp_path, "--folds", "1")  # everything that one fold can say
    assert "one fold, random-fold-1: no ensemble and no evidence for mosaic rules, which need two" in output
    of_one, of_all = load_scores(tmp_path / "scores.json"), load_scores(undisturbed / "scores.json")
    assert of_one["folds"] == {"1": of_all["folds"]["1"]} and of_one["oof"] == of_one["folds"]["1"]
    assert of_one["oof_tiles"] < of_all["oof_tiles"] and of_one["rules"]["kept"] == []
    assert len(load_run(tmp_path).models) == 1
    assert "pipeline --data SURVEY --folds 1 --experiment" in (tmp_path / "report.html").read_text()
    steps = {step.name: step.state for step in run_status(RunDirectory(tmp_path)).steps}
    assert steps["train random-fold-0"] == "left out" and "waiting" not in steps.values()

    beside = tmp_path.with_name("beside")
    shutil.copytree(tmp_path, beside)
    road.here("train", beside, "--folds", "0")
    assert "one fold" not in road.here("predict", beside)
    road.here("pipeline", tmp_path)  # all folds, of which one has predicted
    assert results(tmp_path) == results(undisturbed)


def test_a_fold_that_fails_is_named_and_the_others_finish(road: Road, tmp_path: Path) -> None:
    """The loss overflows at once in every fold: no retry, no traceback, nothing counted as trained."""
    output = road.here("pipeline", tmp_path, "--set", "trainings.0.stages.plateau.lr=1e30", code=1)
    assert "error: random-fold-0, stage plateau: the loss is" in output and "in epoch 1" in output
    assert "random-fold-1, stage plateau: the loss is" in output
    assert "Traceback" not in output
    assert not list((tmp_path / "trainings").rglob("done.json"))
    assert not (tmp_path / "submission.csv").exists()
    message = road.refused("predict", tmp_path, "--set", "trainings.0.stages.plateau.lr=1e30")
    assert "run train first" in message


def test_without_a_usable_checkpoint_nothing_starts_over(road: Road, undisturbed: Path, tmp_path: Path) -> None:
    """A fold was interrupted after the last epoch of its first stage, and every checkpoint of it was truncated."""
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    stage = RunDirectory(run).stage("random", 0, "plateau")
    shutil.rmtree(RunDirectory(run).stage("random", 0, "cosine"))
    for name in ("done.json", "history.csv"):
        (stage / name).unlink()
    for path in stage.glob("*.pt"):
        path.write_bytes(path.read_bytes()[:-1000])
    before = {path: path.read_bytes() for path in stage.glob("*.pt")}
    output = road.here("train", run, code=1)
    assert f"error: no usable checkpoint is left in {stage}: restore one, or delete the folder" in output
    assert "Traceback" not in output
    assert {path: path.read_bytes() for path in stage.glob("*.pt")} == before
    assert not (stage / "done.json").exists()


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
    output = road.here("train", tmp_path, "--set", "resources.cpus_per_fold=1000", code=1)
    assert "Traceback" not in output
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert "resources.cpus_per_fold" in line


def small(tiny: Experiment) -> list[str]:
    """Options that leave of any recipe the small network and an epoch a stage."""
    values = {
        "network": tiny.network.model_dump_json(),
        "precision": "fp32",
        "labels.full_tiles": "empty",  # there are too few tiles to tell
        "trainings.all.folds.count": 2,
        "trainings.all.stages.all.epochs": 1,
        "trainings.all.stages.all.batch_size": 4,
    }
    return [word for name, value in values.items() for word in ("--set", f"{name}={value}")]


def test_two_seeds_give_mean_and_spread(road: Road, tiny: Experiment, tmp_path: Path) -> None:
    output = road.here("pipeline", tmp_path, *small(tiny), "--seeds", "2")
    check_seeds(tmp_path, output, (7, 8))


@pytest.mark.alone
@pytest.mark.soak
def test_three_seeds_give_mean_and_spread(road: Road, undisturbed: Path, tmp_path: Path) -> None:
    output = road.run("pipeline", tmp_path, "--seeds", "3")
    assert results(tmp_path / "seed-7") == results(undisturbed)  # the experiment's own seed is the first
    check_seeds(tmp_path, output, (7, 8, 9))
    again = road.run("pipeline", tmp_path, "--seeds", "3")
    assert "Ray dashboard" not in again  # all is done: nothing is trained again


def check_seeds(run: Path, output: str, seeds: tuple[int, ...]) -> None:
    folders = [run / f"seed-{seed}" for seed in seeds]
    weights = [
        read_checkpoint(folder / "trainings/random/fold-0/cosine/best.pt")["network"]["empty_head.weight"]
        for folder in folders
    ]
    assert not any(torch.equal(*pair) for pair in itertools.combinations(weights, 2))
    each = [json.loads((folder / "scores.json").read_text()) for folder in folders]
    found = json.loads((run / "seeds.json").read_text())["scores"]
    for name in ("oof", "test"):
        values = [scores[name] for scores in each]
        assert found[name]["each"] == values
        assert found[name]["mean"] == pytest.approx(fmean(values))
        assert found[name]["sd"] == pytest.approx(stdev(values))
        assert f"{fmean(values):.4f} ± {stdev(values):.4f}" in output
    assert all(f"{len(seeds)} seeds" in (folder / "report.html").read_text() for folder in folders)


@pytest.mark.slow
def test_the_whole_argus_baseline(road: Road, survey: Path, tiny: Experiment, tmp_path: Path) -> None:
    """Both trainings, the average of all their models, all seven rules; only the network and the numbers are small."""
    road.here("pipeline", tmp_path, "--experiment", f"{ROOT}/experiments/argus.py", *small(tiny))
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert set(scores["folds"]) == {"random/0", "random/1", "mosaic/0", "mosaic/1"}
    assert scores["rules"]["kept"] == list(RULES) and not scores["rules"]["alone"]
    table = load_mosaics(tmp_path / "mosaics" / "mosaics.csv")
    folds = pd.read_csv(tmp_path / "folds" / "mosaic" / "folds.csv", dtype={"id": str}).set_index("id")["fold"]
    for members in table.members:
        assert folds.reindex(table.ids[members]).dropna().nunique() <= 1  # no mosaic is split
    submission = pd.read_csv(tmp_path / "submission.csv", keep_default_na=False)
    assert submission["id"].tolist() == pd.read_csv(survey / "sample_submission.csv")["id"].tolist()
