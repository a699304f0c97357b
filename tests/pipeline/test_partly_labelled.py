"""A survey of which nobody labelled a part goes the whole way, and a run from before does not take its place."""

from __future__ import annotations

import io
import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from whole_run import make_run, shortened

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment
from salt_ray.errors import RunError
from salt_ray.experiment_file import override
from salt_ray.metric import UNLABELLED, salt_share
from salt_ray.pipeline import steps
from salt_ray.pipeline.local import LocalEngine
from salt_ray.pipeline.run import Run
from salt_ray.pipeline.trained import load_run
from salt_ray.report.terminal import Terminal
from salt_ray.survey.synthetic import write_survey

pytestmark = pytest.mark.usefixtures("one_thread")
EDGE, VOID = 33, 128


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 tiles; of every second mask the left third is void, of one all, of the test truth the upper rows."""
    directory = tmp_path_factory.mktemp("survey") / "tiles"
    write_survey(directory, 60, seed=5, tile_px=EDGE)
    (directory / "train.csv").unlink()  # it says what is under the void
    for number, path in enumerate(sorted((directory / "train" / "masks").iterdir())):
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        mask[:, : EDGE // 3 if number % 2 == 0 else 0] = VOID
        mask[:] = VOID if number == 7 else mask
        cv2.imwrite(str(path), mask)
    for path in (directory / "truth" / "masks").iterdir():
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        mask[:5] = VOID
        cv2.imwrite(str(path), mask)
    return directory


@pytest.fixture(scope="module")
def experiment(tiny: Experiment) -> Experiment:
    settings = ["labels.salt=255", f"labels.ignore={VOID}", "prediction.thresholds=chosen", "holdout=mosaic:0.2"]
    return override(shortened(tiny), settings)


def test_the_whole_road_and_a_run_from_before_is_refused(
    survey: Path, experiment: Experiment, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    make_run(experiment, survey, tmp_path)
    run = Run(experiment, survey, RunDirectory(tmp_path), Terminal())
    steps.report(run)
    said = " ".join(capfd.readouterr().out.split())
    assert f"are not labelled (labels.ignore={VOID}): they are ignored" in said
    assert f"labelled tiles left out: 1 have no labelled pixel (labels.ignore={VOID})" in said

    masks, ids = run.survey.masks, run.survey.ids
    partly = (masks == UNLABELLED).any(axis=(1, 2))
    scores = json.loads((tmp_path / "scores.json").read_text())
    tiles = pd.read_csv(io.BytesIO((tmp_path / "tile_scores.csv").read_bytes()), dtype={"id": str}).set_index("id")
    own = tiles[tiles["set"] != "test"]
    known = np.isin(ids[: len(masks)], own.index)
    assert (
        (known & partly).any()
        and (known & ~partly).any()
        and scores["oof_tiles"] + scores["holdout_tiles"] == sum(known)
    )
    assert own.loc[ids[: len(masks)][known], "salt"].to_numpy() == pytest.approx(salt_share(masks[known]), abs=1e-5)
    assert scores["test_tiles"] == run.survey.unlabelled and (tmp_path / "report.html").exists()
    assert json.loads((tmp_path / "run.json").read_text())["ignored"] == pytest.approx((masks < 0).mean())

    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with Run(experiment, survey, RunDirectory(tmp_path), Terminal()).held() as again:
        steps.prepare(again)
        steps.train(again, LocalEngine())
    assert {path: path.read_bytes() for path in before} == before

    record = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({name: value for name, value in record.items() if name != "ignored"}))
    assert load_run(tmp_path).predict(run.survey.images[0]).masks.shape == (EDGE, EDGE)  # its models serve as before
    for step in (steps.prepare, steps.score):
        with pytest.raises(RunError, match="by a version that skipped tiles"):
            step(Run(experiment, survey, RunDirectory(tmp_path), Terminal()))
