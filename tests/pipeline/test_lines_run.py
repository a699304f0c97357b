"""2D lines that somebody labelled go the whole way: windows, a run, a search; another line is predicted, and scored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_labels import CROSSLINES, made_cube, write_line
from typer.testing import CliRunner
from whole_run import make_run, shortened

from salt_ray.artifacts import RunDirectory
from salt_ray.cli.main import app
from salt_ray.config import Experiment
from salt_ray.errors import RunError
from salt_ray.experiment_file import override
from salt_ray.pipeline.application import apply
from salt_ray.pipeline.local import LocalEngine
from salt_ray.pipeline.run import Run
from salt_ray.pipeline.search import search
from salt_ray.pipeline.trained import load_run
from salt_ray.pipeline.volumes import Asked, predict_file
from salt_ray.record import RunRecord
from salt_ray.report.comparison import compare_runs
from salt_ray.report.terminal import Terminal
from salt_ray.volume.reading import Reading
from salt_ray.volume.scan import open_volume

pytestmark = pytest.mark.usefixtures("one_thread")
ROWS = {"north": 10, "middle": 27, "south": 44}
OTHER, WINDOW = 35, 32
QUIET = Terminal(quiet=True)


def called(*words: object) -> str:
    result = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three labelled lines as a survey of windows, and another line with its truth."""
    folder = tmp_path_factory.mktemp("lines")
    amplitudes, salt = made_cube()
    for name, row in ROWS.items():
        write_line(folder / "lines" / f"{name}.sgy", amplitudes[row])
        write_line(folder / "labels" / f"{name}.sgy", salt[row], code=8)
    write_line(folder / "other" / "east.sgy", amplitudes[OTHER])
    write_line(folder / "truth" / "east.sgy", salt[OTHER], code=8)
    lines = sorted((folder / "lines").iterdir())
    called("volume", "tiles", *lines, "--labels", folder / "labels", "--window", WINDOW, "--to", folder / "survey")
    return folder


@pytest.fixture(scope="module")
def experiment(tiny: Experiment) -> Experiment:
    return override(shortened(tiny), ["labels.full_tiles=null", "resources.cpus_per_fold=1"])


@pytest.fixture(scope="module")
def run(files: Path, experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run")
    make_run(experiment, files / "survey", path)
    return path


def test_each_line_is_in_one_fold_and_another_is_predicted_and_scored(run: Path, files: Path, tmp_path: Path) -> None:
    table = pd.read_csv(run / "folds" / "random" / "folds.csv", keep_default_na=False, dtype=str)
    of_line = table.groupby(table["id"].str.split("-").str[0])
    assert set(of_line.groups) == set(ROWS) and (of_line["fold"].nunique() == 1).all()
    assert (table["left_out"] == "").all()  # lines of their own files are no neighbours
    window = RunRecord.load(run / "run.json").window
    assert (window.window_px, window.trace_spacing, window.sample_interval) == (WINDOW, 12.5, 4.0)
    whole = compare_runs(RunDirectory(run), RunDirectory(run))
    assert whole.whole.clusters == len(ROWS) and "is unreliable with so few" in " ".join(whole.sentences())

    line, first, to = files / "other" / "east.sgy", tmp_path / "first", tmp_path / "predicted"
    predict_file(load_run(run), line, Reading(), RunDirectory(first), LocalEngine(), QUIET, Asked())
    half = np.median(open_volume(first / "probability.sgy").traces.read(0, CROSSLINES))  # of the line is salt then
    trained = load_run(run, [f"prediction.mask_threshold={half:.6f}"])
    predict_file(trained, line, Reading(), RunDirectory(to), LocalEngine(), QUIET, Asked())
    called("volume", "score", to, "--labels", files / "truth" / "east.sgy")
    salt = made_cube()[1][OTHER]
    mask = open_volume(to / "mask.sgy").traces.read(0, CROSSLINES) > 0
    told = json.loads((to / "scores.json").read_text())
    assert told["iou"] == pytest.approx((mask & salt).sum() / (mask | salt).sum()) and 0.2 < mask.mean() < 0.8
    assert "east.sgy" in (to / "report.html").read_text()


def test_a_line_of_another_scale_is_refused(run: Path, files: Path, tmp_path: Path) -> None:
    wide = write_line(tmp_path / "wide" / "a.sgy", made_cube()[0][OTHER], spacing=25)
    with pytest.raises(RunError, match=r"trace spacing along inlines of .* is 25, but 12\.5 in the run"):
        to = RunDirectory(tmp_path / "to")
        predict_file(load_run(run), wide, Reading(), to, LocalEngine(), QUIET, Asked())


def test_windows_of_another_line_are_none_that_the_run_knows(run: Path, files: Path, tmp_path: Path) -> None:
    line, truth = files / "other" / "east.sgy", files / "truth" / "east.sgy"
    called("volume", "tiles", line, "--labels", truth, "--window", WINDOW, "--to", tmp_path / "others")
    summary = apply(load_run(run), tmp_path / "others", RunDirectory(tmp_path / "to"), LocalEngine(), QUIET)
    assert (summary["known"], summary["scored"]) == (0, summary["labelled"]) and summary["labelled"] > 0


def test_windows_are_searched_with(files: Path, experiment: Experiment, tmp_path: Path) -> None:
    (training,) = experiment.trainings
    one_stage = experiment.replace(trainings=(training.replace(stages=training.stages[:1]),))
    wanted = override(one_stage, ["tune.trials=2"])
    with Run(wanted, files / "survey", RunDirectory(tmp_path), QUIET).held() as held:
        found = search(held, LocalEngine())
    assert found.best is not None and found.best.value >= 0
    best = json.loads((tmp_path / "best.json").read_text())
    assert best["trainings"][0]["folds"]["kind"] == "lines" and best["geometry"]["crop_px"] == WINDOW
