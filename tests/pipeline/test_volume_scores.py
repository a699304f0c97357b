"""A prediction of a volume is compared with labels at the same places, and with those alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_segy import CROSSLINES, INLINES, SAMPLES, grid_numbers, write_segy
from typer.testing import CliRunner

from salt_ray.cli.main import app
from salt_ray.errors import RunError
from salt_ray.metric import tile_scores
from salt_ray.pipeline.volume_scores import score_volume
from salt_ray.volume.problem import VolumeError
from salt_ray.volume.reading import Reading
from salt_ray.volume.scan import open_volume

SHAPE = (INLINES, CROSSLINES, SAMPLES)
READING = {"byte_order": "big", "samples": SAMPLES, "interval": 4.0, "inline_byte": 189, "crossline_byte": 193}
DEAD, WINDOW = 9, 16


@pytest.fixture(scope="module")
def probability() -> np.ndarray:
    values = np.random.default_rng(0).uniform(0.01, 0.99, SHAPE).astype(np.float32)
    values.reshape(-1, SAMPLES)[DEAD] = 0
    return values


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return np.random.default_rng(1).choice([-1, 0, 1], SHAPE, p=[0.3, 0.4, 0.3]).astype(np.int8)


@pytest.fixture
def folder(probability: np.ndarray, tmp_path: Path) -> Path:
    """What volume predict leaves, of its probabilities."""
    return finished(tmp_path / "to", probability, READING | {"line": False}, grid_numbers())


def finished(to: Path, probability: np.ndarray, reading: Mapping[str, Any], numbers: Mapping[int, Any]) -> Path:
    to.mkdir()
    write_segy(to / "probability.sgy", probability.reshape(-1, SAMPLES), numbers)
    summary = {"reading": reading, "mask_threshold": 0.5, "window": WINDOW, "files": ["probability.sgy"]}
    (to / "summary.json").write_text(json.dumps(summary))
    (to / "done.json").write_text("{}")
    return to


def written(path: Path, truth: np.ndarray, traces: np.ndarray, **options: Any) -> Path:
    """Labels of some traces, in this order."""
    numbers = {place: np.broadcast_to(v, INLINES * CROSSLINES)[traces] for place, v in grid_numbers().items()}
    return write_segy(path, truth.reshape(-1, SAMPLES)[traces], numbers, code=8, **options)


def iou_and_accuracy(mask: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    known = truth >= 0
    mask, is_salt = mask[known], truth[known] > 0
    return (mask & is_salt).sum() / (mask | is_salt).sum(), (mask == is_salt).mean()


def test_labels_are_joined_by_their_numbers(
    folder: Path, probability: np.ndarray, truth: np.ndarray, tmp_path: Path
) -> None:
    traces = np.random.default_rng(2).permutation(np.r_[7:21, 35:42])  # inlines 101, 102 and 105, in no order
    found = score_volume(folder, open_volume(written(tmp_path / "labels.sgy", truth, traces)))
    assert found == json.loads((folder / "scores.json").read_text())
    wanted = truth.copy()
    wanted[[0, 3, 4]] = -1
    wanted.reshape(-1, SAMPLES)[DEAD] = -1
    mask = probability > 0.5
    assert (found["iou"], found["accuracy"]) == pytest.approx(iou_and_accuracy(mask, wanted))
    assert found["labelled"] == (wanted >= 0).sum() and [line["inline"] for line in found["lines"]] == [101, 102, 105]
    windows = []
    for row, line in zip((1, 2, 5), found["lines"], strict=True):
        assert (line["iou"], line["accuracy"]) == pytest.approx(iou_and_accuracy(mask[row], wanted[row]))
        starts = (0, 16, 32, 34)  # of 50 samples; 7 traces have one window
        own = [tile_scores(wanted[row].T[s : s + 16][None], mask[row].T[s : s + 16][None])[0] for s in starts]
        assert line["score"] == pytest.approx(np.mean(own)) and line["windows"] == 4
        windows += own
    assert found["score"] == pytest.approx(np.mean(windows)) and found["windows"] == 12
    assert found["depths"][0]["z_first"] == 0 and found["depths"][-1]["z_last"] == 4 * (SAMPLES - 1)
    bands = np.array_split(np.arange(SAMPLES), 8)
    for band, samples in zip(found["depths"], bands, strict=True):
        shares = iou_and_accuracy(mask[..., samples], wanted[..., samples])
        assert (band["iou"], band["accuracy"]) == pytest.approx(shares)
    assert sum(band["labelled"] for band in found["depths"]) == found["labelled"]


def test_what_stands_at_samples_that_nobody_labelled_changes_nothing(
    folder: Path, truth: np.ndarray, tmp_path: Path
) -> None:
    labels = open_volume(written(tmp_path / "labels.sgy", truth, np.arange(42)))
    before = score_volume(folder, labels)
    (other := tmp_path / "other").mkdir()
    values = np.random.default_rng(0).uniform(0.01, 0.99, SHAPE).astype(np.float32)
    values[truth < 0] = np.random.default_rng(5).uniform(0.01, 0.99, (truth < 0).sum())
    values.reshape(-1, SAMPLES)[DEAD] = 0
    other = finished(other / "to", values, READING | {"line": False}, grid_numbers())
    assert score_volume(other, labels) == before


def test_an_array_of_labels_and_another_value_of_salt(folder: Path, truth: np.ndarray, tmp_path: Path) -> None:
    one = score_volume(folder, open_volume(written(tmp_path / "labels.sgy", truth, np.arange(42))))
    np.save(tmp_path / "cube.npy", np.where(truth > 0, 7, np.where(truth < 0, 255, 0)).astype(np.uint8))
    axes = {"inlines": {"first": 100}, "crosslines": {"first": 300}, "interval": 4}
    (tmp_path / "cube.json").write_text(json.dumps(axes))
    cube = open_volume(tmp_path / "cube.npy")
    with pytest.raises(VolumeError, match=r"holds 7, which is neither salt \(1\).*--salt"):
        score_volume(folder, cube)
    assert score_volume(folder, cube, salt=7) | {"labels": ""} == one | {"labels": ""}


def test_labels_that_do_not_fit_are_refused(folder: Path, truth: np.ndarray, tmp_path: Path) -> None:
    everything, path = np.arange(42), tmp_path / "labels.sgy"
    for other, reading in (
        (written(tmp_path / "a.sgy", truth, everything), Reading(interval=2)),
        (write_segy(tmp_path / "b.sgy", truth.reshape(-1, 25)[:42], code=8), Reading()),
    ):
        with pytest.raises(VolumeError, match=r"but probability\.sgy has 50 samples at 4 from 0; resample or crop"):
            score_volume(folder, open_volume(other, reading))
    apart = grid_numbers() | {189: grid_numbers()[189] + 50}
    with pytest.raises(VolumeError, match="no trace in common; give labels of the same survey"):
        score_volume(folder, open_volume(write_segy(path, truth.reshape(-1, SAMPLES), apart, code=8)))
    with pytest.raises(RunError, match="labels no trace"):
        score_volume(folder, open_volume(written(path, np.full_like(truth, -1), everything)))
    (folder / "done.json").unlink()
    with pytest.raises(RunError, match="contains no finished prediction: run volume predict first"):
        score_volume(folder, open_volume(written(path, truth, everything)))


def test_one_line_of_the_volume_is_enough(folder: Path, truth: np.ndarray, tmp_path: Path) -> None:
    whole = score_volume(folder, open_volume(written(tmp_path / "labels.sgy", truth, np.arange(42))))
    one = score_volume(folder, open_volume(written(tmp_path / "one.sgy", truth, np.arange(14, 21))))
    assert one["lines"] == [line for line in whole["lines"] if line["inline"] == 102]


@pytest.mark.parametrize("kind", ["sgy", "npy"])
@pytest.mark.parametrize("part", [np.s_[2:3], np.s_[2:4], np.s_[:, 3:4], np.s_[2:3, 3:4]])
def test_a_part_of_a_volume_has_the_labels_of_its_own_lines(
    part: slice | tuple[slice, slice], kind: str, probability: np.ndarray, truth: np.ndarray, tmp_path: Path
) -> None:
    """One line of a volume is no 2D line: it keeps its number, by which labels of the whole volume are joined."""
    labels = open_volume(written(tmp_path / "labels.sgy", truth, np.arange(42)))
    few = {place: np.broadcast_to(v, 42).reshape(SHAPE[:2])[part].ravel() for place, v in grid_numbers().items()}
    to = finished(tmp_path / "to", probability[part], READING | {"line": False}, few)
    if kind == "npy":
        first = {"inlines": {"first": int(few[189][0])}, "crosslines": {"first": int(few[193][0])}, "interval": 4.0}
        np.save(to / "probability.npy", probability[part])
        (to / "probability.json").write_text(json.dumps(first))
        known = json.loads((to / "summary.json").read_text())
        (to / "summary.json").write_text(json.dumps(known | {"files": ["probability.npy"]}))
    found = score_volume(to, labels)
    wanted = truth.copy()
    wanted.reshape(-1, SAMPLES)[DEAD] = -1
    assert (found["iou"], found["accuracy"]) == pytest.approx(
        iou_and_accuracy(probability[part] > 0.5, wanted[part]), nan_ok=True
    )
    assert [line["inline"] for line in found["lines"]] == np.unique(few[189]).tolist()
    assert found["labelled"] == (wanted[part] >= 0).sum() > 0


def test_the_command_prints_tables_or_json(folder: Path, truth: np.ndarray, tmp_path: Path) -> None:
    labels = written(tmp_path / "labels.sgy", truth, np.arange(42))
    words = ["volume", "score", str(folder), "--labels", str(labels)]
    shown = CliRunner().invoke(app, words)
    found = json.loads((folder / "scores.json").read_text())
    assert shown.exit_code == 0 and f"{found['iou']:.4f}" in shown.output and "inline 103" in shown.output
    assert json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout) == found
