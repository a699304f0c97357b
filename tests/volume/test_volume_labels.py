"""Labels on the grid of a volume: joined by line numbers, and refused where they do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_labels import CROSSLINES, INLINES, LABELLED, SAMPLES, made_cube, write_labels, write_volume
from made_segy import write_segy

from salt_ray.metric import UNLABELLED
from salt_ray.survey.window import Line
from salt_ray.volume import traces
from salt_ray.volume.labels import choose_lines, label_volume
from salt_ray.volume.lines import line_at, line_name
from salt_ray.volume.problem import VolumeError
from salt_ray.volume.reading import Reading
from salt_ray.volume.scan import open_volume
from salt_ray.volume.volume import Volume

NONE = Reading()


@pytest.fixture(scope="module")
def cube() -> tuple[np.ndarray, np.ndarray]:
    return made_cube()


@pytest.fixture(scope="module")
def volume(cube: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Volume:
    return open_volume(write_volume(tmp_path_factory.mktemp("volume"), cube[0]))


def inline(index: int) -> Line:
    return Line(direction="inline", number=100 + index, index=index)


def crossline(index: int) -> Line:
    return Line(direction="crossline", number=300 + index, index=index)


def test_labels_are_joined_by_numbers_never_by_the_order_of_traces(
    cube: tuple[np.ndarray, np.ndarray], volume: Volume, tmp_path: Path
) -> None:
    salt = cube[1]
    labels = label_volume(volume, write_labels(tmp_path, salt), NONE)
    assert labels.lines() == [inline(row) for row in LABELLED]
    for row in LABELLED:
        assert (labels.on(inline(row)) == salt[row].T).all()
    assert (labels.on(inline(1)) == UNLABELLED).all()
    across = labels.on(crossline(7))
    assert (across[:, list(LABELLED)] == salt[list(LABELLED), 7].T).all()
    assert (np.delete(across, LABELLED, axis=1) == UNLABELLED).all()
    assert labels.said == ["assumed: 1 is salt in labels.sgy"]


def test_one_line_of_a_volume_keeps_its_number(
    cube: tuple[np.ndarray, np.ndarray], volume: Volume, tmp_path: Path
) -> None:
    labels = label_volume(volume, write_labels(tmp_path, cube[1], (40,)), NONE)
    assert labels.lines() == [inline(40)] and (labels.on(inline(40)) == cube[1][40].T).all()


def test_values_that_are_not_labelled_and_that_mean_salt(
    cube: tuple[np.ndarray, np.ndarray], volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.where(cube[1], 3, 5).astype(np.int8)
    values[:, :9] = -1
    path = write_labels(tmp_path, values)
    with pytest.raises(VolumeError, match=r"holds -1, 3, 5: more than two values; give the value of salt with"):
        label_volume(volume, path, NONE)
    expected = np.where(values[20] == -1, UNLABELLED, values[20] == 3).T
    assert (label_volume(volume, path, NONE, salt=3).on(inline(20)) == expected).all()
    expected = np.where(values[20] == 5, UNLABELLED, values[20] == 3).T
    assert (label_volume(volume, path, NONE, salt=3, unlabelled=5).on(inline(20)) == expected).all()
    values = cube[1].astype(np.int8)
    values[20, 7, 5] = 4  # in no trace that is looked at first
    monkeypatch.setattr(traces, "_SAMPLED", 3)
    labels = label_volume(volume, write_labels(tmp_path, values), NONE)
    assert (labels.on(inline(40)) == cube[1][40].T).all()
    with pytest.raises(VolumeError, match=r"holds 4, which is neither salt \(1\), none \(0\) nor unlabelled"):
        labels.on(inline(20))
    with pytest.raises(VolumeError, match="holds no salt in the traces that were sampled"):
        label_volume(volume, write_labels(tmp_path, np.zeros_like(values)), NONE)


def test_samples_have_to_agree(cube: tuple[np.ndarray, np.ndarray], volume: Volume, tmp_path: Path) -> None:
    for path in (
        write_labels(tmp_path, cube[1], interval=2000),
        write_labels(tmp_path, cube[1][:, :, :-1]),
    ):
        with pytest.raises(VolumeError, match=r"but amplitudes\.sgy has 40 samples at 4 from 0; resample or crop"):
            label_volume(volume, path, NONE)


def test_labels_from_elsewhere_are_refused(cube: tuple[np.ndarray, np.ndarray], volume: Volume, tmp_path: Path) -> None:
    numbers = {189: 900 + np.arange(12) // 4, 193: 300 + np.arange(12) % 4}
    path = write_segy(tmp_path / "far.sgy", cube[1].reshape(-1, SAMPLES)[:12], numbers, code=8)
    with pytest.raises(VolumeError, match=r"inlines 900 to 902 and crosslines 300 to 303, .*no trace in common"):
        label_volume(volume, path, NONE, salt=1)


def test_a_cube_of_labels_is_like_the_volume_or_says_its_numbers(
    cube: tuple[np.ndarray, np.ndarray], volume: Volume, tmp_path: Path
) -> None:
    salt, path = cube[1], tmp_path / "labels.npy"
    np.save(path, salt.astype(np.uint8))
    labels = label_volume(volume, path, NONE)
    assert (labels.on(inline(33)) == salt[33].T).all() and (labels.on(crossline(5)) == salt[:, 5].T).all()
    assert labels.lines() == [inline(row) for row in range(INLINES)]  # all is labelled: one direction will do
    assert any("most of the volume is labelled" in line for line in labels.said)

    np.save(path, salt[LABELLED, :][:, 8:].astype(np.uint8))
    with pytest.raises(VolumeError, match=r"has shape \(4, 40, 40\), but amplitudes\.sgy has \(64, 48, 40\)"):
        label_volume(volume, path, NONE)
    about = {"inlines": {"first": 100, "step": 20}, "crosslines": {"first": 308}, "interval": 4.0}
    path.with_suffix(".json").write_text(json.dumps(about))
    labels = label_volume(volume, path, NONE)
    assert labels.lines() == [inline(row) for row in LABELLED]
    assert (labels.on(inline(20))[:, 8:] == salt[20, 8:].T).all() and (labels.on(inline(20))[:, :8] == -1).all()


def test_crosslines_that_are_labelled_are_found(
    cube: tuple[np.ndarray, np.ndarray], volume: Volume, tmp_path: Path
) -> None:
    values = np.full(cube[1].shape, -1, np.int8)
    values[:, 30] = cube[1][:, 30]
    rows, columns = (axis.ravel() for axis in np.indices((INLINES, 2)))
    numbers = {189: 100 + rows, 193: 330 + 10 * columns}
    path = write_segy(tmp_path / "across.sgy", values[:, [30, 40]].reshape(-1, SAMPLES), numbers, code=8)
    labels = label_volume(volume, path, NONE)
    assert labels.lines() == [crossline(30), crossline(40)]
    assert (labels.on(crossline(30)) == cube[1][:, 30].T).all() and (labels.on(crossline(40)) == UNLABELLED).all()
    assert line_name(crossline(30), volume.geometry) == "xl0330"


def test_a_2d_line_is_joined_by_the_numbers_of_its_traces(tmp_path: Path) -> None:
    amplitudes, salt = (part[0] for part in made_cube(1))
    numbers = {193: 10 + np.arange(CROSSLINES)}
    volume = open_volume(write_segy(tmp_path / "line.sgy", amplitudes, numbers))
    path = write_segy(tmp_path / "labels.sgy", salt[5:], {193: 15 + np.arange(CROSSLINES - 5)}, code=8)
    labels = label_volume(volume, path, NONE, salt=1)
    (line,) = labels.lines()
    assert (labels.on(line)[:, 5:] == salt[5:].T).all() and (labels.on(line)[:, :5] == UNLABELLED).all()
    assert line_name(line, volume.geometry) == "line"
    with pytest.raises(VolumeError, match="is a 2D line"):
        choose_lines(volume, [("inline", "1")])

    volume = open_volume(write_segy(tmp_path / "line.sgy", amplitudes, {}))
    with pytest.raises(VolumeError, match=r"has 43 traces, but line\.sgy has 48 without numbers"):
        label_volume(volume, write_segy(tmp_path / "labels.sgy", salt[5:], {}, code=8), NONE, salt=1)
    labels = label_volume(volume, write_segy(tmp_path / "labels.sgy", salt, {}, code=8), NONE, salt=1)
    assert (labels.on(line) == salt.T).all()


def test_lines_are_chosen_by_their_numbers(volume: Volume) -> None:
    chosen = choose_lines(volume, [("inline", "110:140:10"), ("crossline", "300"), ("inline", "95:101")])
    assert [line_name(line, volume.geometry) for line in chosen] == [
        *("il0110", "il0120", "il0130", "il0140", "xl0300", "il0100", "il0101")
    ]
    assert all(line == line_at(volume.geometry, line.direction, line.index) for line in chosen)
    for wrong, message in (
        ("900:950", "has inlines 100 to 163, none of them in 900:950"),
        ("a", "cannot be cut by"),
    ):
        with pytest.raises(VolumeError, match=message):
            choose_lines(volume, [("inline", wrong)])
