"""A trained run from Python: arrays in, the same masks out as ``apply`` writes; its results as tables."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from road import ROOT, Road, results

import salt_ray
from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment
from salt_ray.errors import RunError
from salt_ray.inference import predictor
from salt_ray.inference.predict import Model
from salt_ray.inference.predictor import Prediction, Predictor
from salt_ray.metric import UNLABELLED, score, tile_scores
from salt_ray.pipeline.trained import TrainedRun, load_run
from salt_ray.survey.amplitudes import GreyRange
from salt_ray.survey.problems import SurveyError
from salt_ray.survey.synthetic import write_survey
from salt_ray.survey.tiles import Survey, load_survey

pytestmark = pytest.mark.usefixtures("one_thread")
EDGE = 33


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("other") / "tiles"
    write_survey(directory, 40, seed=9, tile_px=EDGE)
    return directory


@pytest.fixture(scope="module")
def survey_of_others(other: Path) -> Survey:
    return load_survey(other)


@pytest.fixture(scope="module")
def run(undisturbed: Path) -> TrainedRun:
    return load_run(undisturbed)


@pytest.fixture(scope="module")
def applied(road: Road, undisturbed: Path, other: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``apply`` wrote, with what stands behind the masks."""
    to = tmp_path_factory.mktemp("applied") / "to"
    road.here_alone("apply", str(undisturbed), "--data", str(other), "--to", str(to), "--probabilities")
    return to


def pictures(file: Path, ids: np.ndarray) -> np.ndarray:
    with zipfile.ZipFile(file) as archive:
        found = [np.frombuffer(archive.read(f"{tile}.png"), np.uint8) for tile in ids]
    return np.stack([cv2.imdecode(content, cv2.IMREAD_UNCHANGED) for content in found])


def test_a_prediction_from_python_is_what_apply_writes(
    run: TrainedRun, applied: Path, survey_of_others: Survey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor, "BLOCK", 16)
    survey = survey_of_others
    prediction = run.predict(survey.images)
    np.testing.assert_array_equal(prediction.masks, pictures(applied / "masks.zip", survey.ids) > 0)
    behind = pictures(applied / "probabilities.zip", survey.ids)
    assert behind.dtype == np.uint16
    np.testing.assert_allclose(behind / 65535, prediction.probabilities, atol=1e-5)
    table = pd.read_csv(applied / "tiles.csv", dtype={"id": str})
    assert table["id"].tolist() == survey.ids.tolist()
    np.testing.assert_allclose(table["salt"], prediction.salt, rtol=1e-5)
    np.testing.assert_allclose(table["salt_spread"], prediction.salt_spread, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(table["spread"], prediction.spread.mean(axis=(1, 2)), rtol=1e-4, atol=1e-7)
    assert (table["models"] == np.where(survey.constant, 0, 2)).all()
    assert not prediction.probabilities[survey.constant].any() and survey.constant.any()


def test_the_mean_and_the_spread_are_over_the_runs_models(run: TrainedRun, survey_of_others: Survey) -> None:
    tiles = survey_of_others.images[~survey_of_others.constant][:5]
    each = [
        Predictor(run.experiment, [model.checkpoints], run.decision, EDGE, None, run.predictor._device).predict(tiles)
        for model in run.models
    ]
    prediction = run.predict(tiles)
    for field, spread in (("probabilities", "spread"), ("salt", "salt_spread")):
        values = np.stack([getattr(one, field) for one in each])
        np.testing.assert_allclose(getattr(prediction, field), values.mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(getattr(prediction, spread), values.std(axis=0), atol=1e-5)
        assert (getattr(prediction, spread) > 0).any()
        assert not any(getattr(one, spread).any() for one in each)


def test_one_array_several_and_a_folder_are_predicted_alike(
    run: TrainedRun, survey_of_others: Survey, tmp_path: Path
) -> None:
    tiles, ids = survey_of_others.images[:4], survey_of_others.ids[:4]
    together = run.predict(tiles)
    for i, tile in enumerate(tiles):
        alone = run.predict(tile)
        assert alone.masks.shape == alone.probabilities.shape == alone.spread.shape == (EDGE, EDGE)
        np.testing.assert_allclose(alone.probabilities, together.probabilities[i], atol=1e-3)  # another batch
        assert alone.salt == pytest.approx(together.salt[i]) and alone.table()["area"].item() == alone.masks.mean()
        Image.fromarray(tile).save(tmp_path / f"{ids[i]}.png")
    (tmp_path / "notes.txt").write_text("not a tile")
    listed, folder = run.predict(list(tiles)), run.predict(tmp_path)
    for field in ("probabilities", "masks", "salt", "spread", "salt_spread"):
        np.testing.assert_array_equal(getattr(listed, field), getattr(together, field))
        np.testing.assert_array_equal(getattr(folder, field), getattr(together, field)[np.argsort(ids)])
    assert folder.ids.tolist() == sorted(ids) and listed.ids.tolist() == ["0", "1", "2", "3"]
    assert together.table().columns.tolist() == ["id", "salt", "salt_spread", "area", "spread"]


def test_models_are_loaded_once(run: TrainedRun, survey_of_others: Survey, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[object] = []
    build = Model.__init__

    def counted(self: Model, *arguments: object) -> None:
        loaded.append(arguments[1])
        build(self, *arguments)

    monkeypatch.setattr(Model, "__init__", counted)
    again = load_run(run.directory.path)
    for tile in survey_of_others.images[:3]:
        again.predict(tile)
    assert loaded == [model.checkpoints for model in again.models]


@pytest.mark.parametrize(
    ("tiles", "words"),
    [
        ([], "no tiles to predict"),
        (np.zeros((2, 20, 33), np.uint8), r"tile 0 is 33 x 20 px, but the run's models expect tiles of 33 x 33 px"),
        (np.zeros((EDGE, EDGE, 3), np.uint8), "tile 0 is 3 x 33 px"),
        (np.zeros((1, EDGE, EDGE), np.float32), r"of type float32, and the run was trained on greys \(uint8\)"),
        (np.zeros((1, EDGE, EDGE), bool), "of type bool: pass numbers"),
    ],
)
def test_what_the_models_cannot_judge_is_refused(run: TrainedRun, tiles: object, words: str) -> None:
    with pytest.raises(RunError, match=words):
        run.predict(tiles)


def test_a_folder_without_usable_tiles_is_refused(run: TrainedRun, tmp_path: Path) -> None:
    with pytest.raises(SurveyError, match="there is no such folder"):
        run.predict(tmp_path / "nothing")
    with pytest.raises(SurveyError, match=r"holds no tiles \(ID.png"):
        run.predict(tmp_path)
    (tmp_path / "a.png").write_bytes(b"no picture")
    np.save(tmp_path / "a.npy", np.zeros((EDGE, EDGE), np.uint8))
    with pytest.raises(SurveyError, match=r"a\.png: has the same id as .*a\.npy"):
        run.predict(tmp_path)
    (tmp_path / "a.npy").unlink()
    with pytest.raises(SurveyError, match=r"a\.png"):
        run.predict(tmp_path)


def test_amplitudes_become_greys_by_the_runs_range(run: TrainedRun, survey_of_others: Survey) -> None:
    tiles = survey_of_others.images[:3].astype(np.float32) / 100 - 1
    greys = GreyRange(-1.0, 1.55)
    scaled = Predictor(run.experiment, [run.models[0].checkpoints], run.decision, EDGE, greys, run.predictor._device)
    plain = Predictor(run.experiment, [run.models[0].checkpoints], run.decision, EDGE, None, run.predictor._device)
    np.testing.assert_array_equal(
        scaled.predict(tiles).probabilities, plain.predict(survey_of_others.images[:3]).probabilities
    )
    with pytest.warns(UserWarning, match=r"of a tile's amplitudes are outside the run's range, -1 to 1\.55"):
        scaled.predict(tiles[0] * 4)
    with pytest.raises(RunError, match=r"is of type uint8, and the run was trained on amplitudes from -1 to 1\.55"):
        scaled.predict(survey_of_others.images[0])
    missing = tiles[0].copy()
    missing[3, 4] = np.nan
    with pytest.raises(RunError, match="non-finite values"):
        scaled.predict(missing)
    filled = np.ma.array(missing, mask=np.isnan(missing))
    assert np.isfinite(scaled.predict(filled).probabilities).all()


def test_the_results_are_tables(run: TrainedRun, undisturbed: Path) -> None:
    models = run.model_table()
    assert models["fold"].tolist() == [0, 1] and models["score"].tolist() == [model.score for model in run.models]
    history = run.history()
    assert history.columns[:3].tolist() == ["training", "fold", "stage"]
    best = history.groupby(["fold", "stage"])["score"].max()
    for model in run.models:
        assert best[model.fold, model.stage] == pytest.approx(model.score)
    scores = run.score_table().set_index("name")
    assert (
        scores.index.tolist() == ["fold 0", "fold 1", "oof", "test"]
        and scores["tiles"].isna().tolist()[:2] == [True] * 2
    )
    assert scores["score"]["oof"] == run.scores()["oof"] and scores["tiles"]["oof"] == run.scores()["oof_tiles"]
    assert repr(run) == f"TrainedRun({undisturbed.name}: 2 models of tiny)"


def test_known_tiles_are_scored_one_by_one(run: TrainedRun, survey_of_others: Survey) -> None:
    known, masks = survey_of_others.images[: survey_of_others.labelled], np.asarray(survey_of_others.masks)
    table = run.evaluate(known, masks)
    assert table["score"].mean() == pytest.approx(score(masks, run.predict(known).masks))
    with pytest.raises(RunError, match="give one mask per tile"):
        run.evaluate(known[:2], masks)
    partial = masks.astype(np.int8)
    partial[:, : EDGE // 2] = UNLABELLED
    table = run.evaluate(known, partial)
    assert (
        table["score"].tolist() == tile_scores(masks[:, EDGE // 2 :], run.predict(known).masks[:, EDGE // 2 :]).tolist()
    )
    partial[3] = UNLABELLED
    with pytest.raises(RunError, match="without a labelled pixel has no score: exclude it"):
        run.evaluate(known, partial)


def test_thresholds_may_be_others(run: TrainedRun, survey_of_others: Survey) -> None:
    none = load_run(run.directory.path, ["prediction.salt_threshold=1"])
    assert not none.predict(survey_of_others.images[:5]).masks.any()


def test_what_is_no_trained_run_is_refused(undisturbed: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"there is no run in .*nowhere"):
        load_run(tmp_path / "nowhere")
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    (run / "scores.json").unlink()
    with pytest.raises(RunError, match="is not scored: run score"):
        load_run(run).scores()
    (RunDirectory(run).stage("random", 1, "cosine") / "done.json").unlink()
    with pytest.raises(RunError, match=r"random-fold-1 is not trained in .*: finish it with pipeline"):
        load_run(run)


def test_the_survey_is_not_needed(undisturbed: Path, tmp_path: Path, survey_of_others: Survey) -> None:
    """A run that was moved, in a process that knows nothing else; it loads no Ray."""
    shutil.copytree(undisturbed, tmp_path / "moved")
    np.save(tmp_path / "tile.npy", survey_of_others.images[0])
    code = """
import sys, numpy as np
import salt_ray
assert not {"ray", "torch", "pandas"} & {*sys.modules} - before, "importing it costs nothing"
run = salt_ray.load_run("moved")
prediction = run.predict(np.load("tile.npy"))
print(prediction.masks.shape, "ray" in sys.modules)
"""
    words = [sys.executable, "-c", f"import sys, numpy; before = {{*sys.modules}}\n{code}"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(tmp_path)}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == f"({EDGE}, {EDGE}) False\n", done.stderr


def test_training_from_python_does_what_the_command_does(
    survey: Path, experiment_file: Path, undisturbed: Path, tmp_path: Path
) -> None:
    experiment = salt_ray.load_experiment(experiment_file)
    run = salt_ray.train(experiment, survey, tmp_path / "run", quiet=True)
    assert results(tmp_path / "run") == results(undisturbed)
    assert isinstance(run, salt_ray.TrainedRun) and run.scores() == load_run(undisturbed).scores()


@pytest.mark.parametrize("begin", [salt_ray.train, salt_ray.tune])
def test_an_engine_that_there_is_not_begins_no_run(begin: Callable, tiny: Experiment, tmp_path: Path) -> None:
    with pytest.raises(salt_ray.SaltRayError, match="there is no engine 'rya': choose 'ray' or 'local', or give one"):
        begin(tiny, tmp_path / "survey", tmp_path / "run", engine="rya")
    assert not (tmp_path / "run").exists()


def test_the_public_names_are_there(tiny: Experiment) -> None:
    for name in salt_ray.__all__:
        assert getattr(salt_ray, name) is not None
    assert dir(salt_ray) == sorted(salt_ray.__all__) and salt_ray.Prediction is Prediction
    with pytest.raises(AttributeError, match="has no attribute 'predict'"):
        _ = salt_ray.predict
    assert isinstance(tiny, salt_ray.Experiment)
    with pytest.raises(salt_ray.SaltRayError, match="there is no experiment tne: name a file, or one of argus, demo"):
        salt_ray.load_experiment("tne")


def test_submit_writes_what_stands_behind_its_masks(road: Road, undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    road.here("submit", run, "--probabilities")
    assert results(run) == results(undisturbed)
    table = pd.read_csv(io.BytesIO((run / "tiles.csv").read_bytes()), dtype={"id": str})
    with zipfile.ZipFile(run / "masks.zip") as archive:
        assert [f"{tile}.png" for tile in table["id"]] == archive.namelist()
