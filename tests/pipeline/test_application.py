"""A trained run on another survey: every model on every tile, nothing of the run changed, refusals before any work."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from road import Road, results
from typer.testing import CliRunner

from salt_ray import api
from salt_ray.artifacts import RunDirectory
from salt_ray.cli.main import app
from salt_ray.config import Experiment
from salt_ray.decision import Decision
from salt_ray.errors import RunError
from salt_ray.experiment_file import override
from salt_ray.inference.predict import Model
from salt_ray.metric import score
from salt_ray.pipeline.application import apply
from salt_ray.pipeline.local import LocalEngine
from salt_ray.pipeline.trained import TrainedRun
from salt_ray.report.terminal import Terminal
from salt_ray.survey import rle
from salt_ray.survey.prepared import prepare_survey
from salt_ray.survey.synthetic import write_survey
from salt_ray.survey.tiles import load_survey
from salt_ray.training.models import fold_models

pytestmark = pytest.mark.usefixtures("one_thread")
TILES = 40


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("other") / "tiles"
    write_survey(directory, TILES, seed=9, tile_px=33)
    return directory


def test_every_model_predicts_every_tile_and_the_run_stays_as_it_is(
    road: Road, undisturbed: Path, other: Path, tiny: Experiment, tmp_path: Path
) -> None:
    run, to = undisturbed, tmp_path / "new"
    before = results(run)
    words = ["apply", str(run), "--data", str(other), "--to", str(to)]
    output = road.here_alone(*words)
    assert results(run) == before
    survey = load_survey(other)
    prepared = prepare_survey(survey, tiny)
    varied = ~survey.constant
    masks = np.zeros(survey.images.shape, bool)
    answers = []
    for fold in (0, 1):
        (model,) = fold_models(RunDirectory(run), tiny.trainings[0], fold, "best")
        predicting = Model(tiny, model.checkpoints, prepared.frame, torch.device("cpu"))
        answers.append(predicting.predict(prepared.images[varied]))
    mean = (np.mean([getattr(answer, name).astype(np.float32) for answer in answers], 0) for name in ("masks", "salt"))
    masks[varied] = Decision.of(tiny.prediction).masks(*mean)

    submission = pd.read_csv(to / "submission.csv", keep_default_na=False)
    assert submission["id"].tolist() == survey.ids.tolist()
    np.testing.assert_array_equal(rle.decode(submission["rle_mask"].tolist(), 33, 33), masks)
    with zipfile.ZipFile(to / "masks.zip") as archive:
        for tile, mask in zip(survey.ids, masks, strict=True):
            picture = cv2.imdecode(np.frombuffer(archive.read(f"{tile}.png"), np.uint8), cv2.IMREAD_UNCHANGED)
            np.testing.assert_array_equal(picture, mask * np.uint8(255))
    summary = json.loads((to / "summary.json").read_text())
    assert summary["score"] == pytest.approx(score(np.asarray(survey.masks), masks[: survey.labelled]))
    assert f"{summary['score']:.4f}" in output and summary["tiles"] == TILES and summary["models"] == 2

    chunks = {path: path.stat().st_mtime_ns for path in (to / "predictions").rglob("*.npy")}
    again = road.here_alone(*words, "--set", "prediction.salt_threshold=1")  # decided anew, not predicted anew
    assert chunks == {path: path.stat().st_mtime_ns for path in (to / "predictions").rglob("*.npy")}
    assert f"{TILES} tiles, 0 with salt" in again


def test_a_tile_that_the_run_was_trained_on_is_predicted_and_not_scored(
    road: Road, undisturbed: Path, other: Path, tmp_path: Path
) -> None:
    known = tmp_path / "known"
    shutil.copytree(other, known)
    for folder in ("images", "masks"):
        first = sorted((known / "train" / folder).iterdir())[0]
        trained = pd.read_csv(undisturbed / "folds/random/folds.csv", dtype=str)["id"][0]
        first.rename(first.with_name(f"{trained}.png"))
    for table in ("train.csv", "depths.csv"):
        (known / table).unlink()
    told = road.here_alone("apply", str(undisturbed), "--data", str(known), "--to", str(tmp_path / "to"))
    labelled = load_survey(other).labelled
    assert "1 labelled tiles are not scored: the run was trained on tiles with these ids" in told
    assert f"score on {labelled - 1:,} labelled tiles" in told and "without " not in told


def test_where_no_engine_is_named_it_joins_a_ray(
    undisturbed: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``tests/pipeline/test_engines.py`` shows that it writes the same there."""

    def joined(engine: str, *more: object) -> None:
        raise RunError(f"it joins: {engine}")

    monkeypatch.setattr(api, "open_engine", joined)
    words = ["apply", str(undisturbed), "--data", str(other), "--to", str(tmp_path)]
    assert str(CliRunner().invoke(app, words).exception) == "it joins: ray"


def applied(run: Path, experiment: Experiment, data: Path, to: str = "new") -> None:
    trained = TrainedRun(RunDirectory(run), experiment)
    apply(trained, data, RunDirectory(run / to), LocalEngine(), Terminal(quiet=True))


def test_what_cannot_be_applied_is_a_sentence(
    undisturbed: Path, road: Road, survey: Path, other: Path, tiny: Experiment
) -> None:
    run = undisturbed
    with pytest.raises(RunError, match=r"was trained on the tiles in .*: use predict and submit"):
        applied(run, tiny, survey)
    with pytest.raises(RunError, match=r"settings \(experiment.network.decoder.dropout: 0.2 before, 0.5 now\)"):
        applied(run, override(tiny, ["network.decoder.dropout=0.5"]), other)
    assert not (run / "new").exists()
    with pytest.raises(RunError, match="contains a run that would be overwritten: use another --to"):
        applied(run, tiny, other, to=".")
    words = ["apply", str(run / "nothing"), "--data", str(other), "--to", str(run / "new")]
    assert "there is no run in" in road.here_alone(*words, code=1)


def test_a_run_that_is_not_trained_is_not_applied(tiny: Experiment, other: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"random-fold-0 is not trained in .*: finish it with pipeline"):
        applied(tmp_path, tiny, other)
    (tmp_path / "seed-7").mkdir()
    with pytest.raises(RunError, match=r"contains a run for each seed: pass one of them, .*seed-7"):
        applied(tmp_path, tiny, other)
