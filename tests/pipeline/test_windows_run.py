"""Lines of a volume that somebody labelled go the whole way: windows, folds with a gap, training, scores, report."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_labels import LABELLED, made_cube, write_labels, write_volume
from typer.testing import CliRunner
from whole_run import make_run, shortened

from salt_ray.artifacts import RunDirectory
from salt_ray.cli.main import app
from salt_ray.config import Experiment
from salt_ray.errors import RunError
from salt_ray.experiment_file import load_experiment, override
from salt_ray.pipeline import steps
from salt_ray.pipeline.application import apply
from salt_ray.pipeline.local import LocalEngine
from salt_ray.pipeline.run import Run
from salt_ray.pipeline.trained import load_run
from salt_ray.record import RunRecord
from salt_ray.report.comparison import compare_runs
from salt_ray.report.status import run_status
from salt_ray.report.terminal import Terminal
from salt_ray.volume.tiles import cut_labelled

pytestmark = pytest.mark.usefixtures("one_thread")
WINDOW = 32


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("volume")
    amplitudes, salt = made_cube()
    labels = salt.astype(np.int8)
    labels[:, :, :4] = -1
    file, its = write_volume(folder, amplitudes, spacing=12.5), write_labels(folder, labels)
    words = ["volume", "tiles", file, "--labels", its, "--to", folder / "survey", "--window", WINDOW]
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 0, result.output
    return folder / "survey"


@pytest.fixture(scope="module")
def experiment(tiny: Experiment) -> Experiment:
    return override(shortened(tiny), ["labels.full_tiles=null", "prediction.thresholds=chosen"])


def test_labelled_lines_train_and_are_scored(
    survey: Path, experiment: Experiment, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    make_run(experiment, survey, tmp_path)
    run = Run(experiment, survey, RunDirectory(tmp_path), Terminal())
    steps.report(run)
    said = " ".join(capfd.readouterr().out.split())
    assert "folds are blocks of lines (folds.kind=lines), not depth" in said
    assert "mosaic rules are off" in said and "folds random: 2 of blocks of lines" in said

    table = pd.read_csv(tmp_path / "folds" / "random" / "folds.csv", keep_default_na=False, dtype=str)
    of_line = table.groupby(table["id"].str[:6])
    assert of_line["fold"].unique().map(list).to_dict() == {
        "il0100": ["0"], "il0120": ["0"], "il0140": ["1"], "il0160": ["1"]
    }  # fmt: skip
    # Lines 20 and 40 are nearer than a window to the other fold's.
    assert of_line["left_out"].unique().map(list).to_dict() == {
        "il0100": [""], "il0120": ["1"], "il0140": ["0"], "il0160": [""]
    }  # fmt: skip

    scores = json.loads((tmp_path / "scores.json").read_text())
    record = RunRecord.load(tmp_path / "run.json")
    assert scores["oof_tiles"] == len(table) == run.survey.labelled and (tmp_path / "report.html").exists()
    assert record.window == run.survey.window and record.window.trace_spacing == pytest.approx(12.5, abs=0.01)
    assert (record.tile_px, record.full_tiles) == (WINDOW, "salt") and 0 < record.ignored < 0.5
    assert record.amplitudes == run.survey.scaling.used and not (tmp_path / "mosaics").exists()
    assert {step.name: step.state for step in run_status(RunDirectory(tmp_path)).steps}["mosaic"] == "left out"
    same = compare_runs(RunDirectory(tmp_path), RunDirectory(tmp_path))
    assert (same.whole.difference, same.whole.clusters) == (0, len(LABELLED))  # error bars count lines, not windows

    saved = load_experiment(tmp_path / "experiment.json", ())
    assert saved == run.experiment and saved.trainings[0].folds.kind == "lines"
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    make_run(saved, survey, tmp_path)  # as the commands do that are given a run directory only
    changed = [path for path, content in before.items() if path.read_bytes() != content]
    assert not changed

    trained = load_run(tmp_path)
    window = run.survey.images[0].astype(np.float32)
    low, high = record.amplitudes.low, record.amplitudes.high
    assert trained.predict(low + (high - low) * window / 255).masks.shape == (WINDOW, WINDOW)

    amplitudes, salt = made_cube(1)
    file, labels = write_volume(tmp_path, 1.2 * amplitudes), write_labels(tmp_path, salt, (10, 50))
    count = cut_labelled(file, tmp_path / "others", labels=labels, window_px=WINDOW)
    summary = apply(
        trained, tmp_path / "others", RunDirectory(tmp_path / "applied"), LocalEngine(), Terminal(quiet=True)
    )
    assert (summary["scored"], summary["known"], summary["full_tiles"]) == (count, 0, "salt")


def test_lines_are_held_out_with_a_gap(survey: Path, experiment: Experiment, tmp_path: Path) -> None:
    wanted = override(experiment, ["holdout=section:0.25"])
    run = Run(wanted, survey, RunDirectory(tmp_path), Terminal(quiet=True))
    lines = run.survey.places[:, 1]
    held = run.prepared.held_out
    assert len(set(lines[held])) == 1 and set(lines[held]) <= set(LABELLED)
    apart = np.abs(lines[run.prepared.trainable][:, None] - lines[held]).min(axis=1)
    assert len(apart) and apart.min() >= WINDOW
    with pytest.raises(RunError, match="windows overlap, so there are no mosaics to hold out"):
        Run(override(experiment, ["holdout=mosaic:0.1"]), survey, RunDirectory(tmp_path), Terminal(quiet=True))


def test_the_gap_is_as_wide_as_a_window_where_lines_are_further_apart_than_traces(
    experiment: Experiment, tmp_path: Path
) -> None:
    """32 traces of 12.5 m are 16 inlines of 25 m: lines that are 20 apart are far enough from each other."""
    amplitudes, salt = made_cube()
    file, labels = write_volume(tmp_path, amplitudes), write_labels(tmp_path, salt)
    cut_labelled(file, tmp_path / "survey", labels=labels, window_px=WINDOW)
    run = Run(experiment, tmp_path / "survey", RunDirectory(tmp_path / "run"), Terminal(quiet=True))
    assert run.survey.window.line_spacing == pytest.approx(25, abs=0.01) and not run.tables["random"].left_out.any()


def test_a_smaller_gap_leaves_more_to_train_on(survey: Path, experiment: Experiment, tmp_path: Path) -> None:
    folds = [f"trainings.all.folds.{setting}" for setting in ("kind=lines", "gap=20")]
    run = Run(override(experiment, folds), survey, RunDirectory(tmp_path), Terminal(quiet=True))
    assert not run.tables["random"].left_out.any() and not run.remarks[0].startswith("folds")
    wanted = override(experiment, [*folds, "holdout=section:0.25"])
    held = Run(wanted, survey, RunDirectory(tmp_path / "held"), Terminal(quiet=True)).prepared
    assert len(held.trainable) + held.held_out.sum() == run.survey.labelled


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("labels.full_tiles=empty", "labels.full_tiles is empty"),
        ("labels.salt=2", "labels.salt is 2"),
        ("labels.ignore=7", "labels.ignore is 7"),
        ("geometry.crop_px=64", "geometry.crop_px is 64"),
        ("geometry.padded_px=80", "geometry.padded_px is 80"),
        ("amplitudes.nodata=-999.25", "amplitudes.nodata is -999.25"),
    ],
)
def test_settings_that_contradict_the_windows_are_refused(
    survey: Path, experiment: Experiment, tmp_path: Path, setting: str, told: str
) -> None:
    with pytest.raises(RunError, match=told):
        Run(override(experiment, [setting]), survey, RunDirectory(tmp_path), Terminal(quiet=True))


def test_a_run_on_windows_is_applied_to_other_windows_only(
    survey: Path, experiment: Experiment, tmp_path: Path
) -> None:
    windows = Run(experiment, survey, RunDirectory(tmp_path), Terminal(quiet=True)).survey
    record = RunRecord.of(windows, "salt")
    assert record.check_applies(windows, "there") == []
    with pytest.raises(RunError, match="the run was trained on windows, but there holds tiles"):
        record.check_applies(dataclasses.replace(windows, window=None), "there")
    with pytest.raises(RunError, match="the run was trained on tiles, but there holds windows"):
        RunRecord.of(dataclasses.replace(windows, window=None), "salt").check_applies(windows, "there")
    other = windows.window.model_copy(update={"trace_spacing": 25.0, "sample_interval": 4.1})
    assert record.check_applies(dataclasses.replace(windows, window=other), "there") == [
        "trace_spacing differs from training: 25 instead of 12.5"
    ]
