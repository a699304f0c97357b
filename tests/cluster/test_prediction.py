"""Predictions on the disk: kept chunk by chunk, whole with their marker, and never a NaN among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from salt_ray.artifacts import Folder
from salt_ray.cluster import prediction
from salt_ray.cluster.prediction import PredictionTask, Results
from salt_ray.cluster.session import ClusterError
from salt_ray.inference.ensemble import ModelPrediction
from salt_ray.inference.predict import Probabilities

SIDE = 5


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PredictionTask:
    monkeypatch.setattr(prediction, "CHUNK", 4)
    order = np.random.default_rng(0).permutation(10)
    return PredictionTask(tmp_path / "best.pt", np.arange(10) * 3, order, Folder(tmp_path / "model", {"flip": True}))


def answer(rows: np.ndarray) -> Probabilities:
    masks = np.broadcast_to(rows[:, None, None] / 16, (len(rows), SIDE, SIDE)).astype(np.float16)
    return Probabilities(masks, (rows / 10).astype(np.float32))


def test_an_interrupted_prediction_goes_on_with_the_same_chunks(task: PredictionTask) -> None:
    first = list(Results(task, SIDE).chunks())
    assert np.concatenate([rows for rows, _ in first]).tolist() == task.order.tolist()
    assert not any(done for _, done in first)
    Results(task, SIDE).write(first[1][0], answer(first[1][0]))
    assert task.folder.done is None

    again = Results(task, SIDE)  # another process
    assert [done for _, done in again.chunks()] == [False, True, False]
    assert all((a == b).all() for (a, _), (b, _) in zip(again.chunks(), first, strict=True))
    for rows, done in again.chunks():
        if not done:
            again.write(rows, answer(rows))
    assert task.folder.done == {"tiles": 10}
    model = ModelPrediction.load(task.folder.path)
    assert model.tiles.tolist() == task.tiles.tolist()
    assert (model.masks == answer(np.arange(10)).masks).all()
    assert (model.salt == answer(np.arange(10)).salt).all()


def test_a_marker_that_was_lost_comes_back(task: PredictionTask) -> None:
    results = Results(task, SIDE)
    for rows, _ in list(results.chunks()):
        results.write(rows, answer(rows))
    (task.folder.path / "done.json").unlink()
    Results(task, SIDE).finish_if_whole()
    assert task.folder.done == {"tiles": 10}


def test_a_model_that_answers_nan_is_named(task: PredictionTask) -> None:
    results = Results(task, SIDE)
    (rows, _), *_ = results.chunks()
    broken = answer(rows)
    broken.salt[2] = np.nan
    with pytest.raises(ClusterError, match=r"best\.pt predicts NaN"):
        results.write(rows, broken)
    assert not any(done for _, done in Results(task, SIDE).chunks())
