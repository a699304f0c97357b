"""An .npy cube is the same kind of object as a SEG-Y file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_segy import waves

from salt_ray.volume.reading import Reading
from salt_ray.volume.scan import describe, open_volume

CUBE = waves(12, 20).reshape(3, 4, 20)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    np.save(tmp_path / "cube.npy", CUBE)
    (tmp_path / "cube.json").write_text(json.dumps({"inlines": {"first": 100, "step": 2}, "interval": 4.0}))
    return tmp_path / "cube.npy"


@pytest.mark.parametrize("word", ["<f4", ">f4", "<i2", "|i1", ">f8"])
def test_a_cube_is_read_as_float32(path: Path, word: str) -> None:
    np.save(path, CUBE.astype(word))
    volume = open_volume(path)
    np.testing.assert_array_equal(volume.traces.read(0, 12).reshape(CUBE.shape), CUBE.astype(word).astype(np.float32))
    np.testing.assert_array_equal(volume.geometry.traces, np.arange(12).reshape(3, 4))
    assert (volume.geometry.inlines.last, volume.geometry.crosslines.last, volume.interval) == (104, 4, 4.0)
    np.testing.assert_array_equal(np.concatenate([b.values for b in volume.blocks(100)]), volume.traces.read(0, 12))


def test_an_array_of_two_axes_is_a_line(path: Path) -> None:
    np.save(path, CUBE[0])
    geometry = open_volume(path).geometry
    assert geometry.is_line and geometry.traces.shape == (1, 4)
    np.save(path, CUBE[:, :1])
    assert open_volume(path).geometry.traces.shape == (1, 3)


def test_the_interval_is_asked_for(path: Path) -> None:
    path.with_suffix(".json").unlink()
    with pytest.raises(ValueError, match="--interval"):
        open_volume(path)
    assert open_volume(path, Reading(interval=2.0)).interval == 2.0


@pytest.mark.parametrize(
    ("array", "message"),
    [(np.asfortranarray(CUBE), "Fortran"), (CUBE[0, 0], "of shape"), (CUBE.astype(complex), "numbers")],
)
def test_other_arrays_are_refused(path: Path, array: np.ndarray, message: str) -> None:
    np.save(path, array)
    with pytest.raises(ValueError, match=message):
        describe(path)


def test_damage_is_found(path: Path) -> None:
    whole = path.read_bytes()
    for content in (whole[:-1], whole + b"\0", whole[:20], b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"copy it again|save it with numpy\.save"):
            describe(path)


@pytest.mark.parametrize("content", ["{", "[]", '{"intervall": 4}', '{"interval": 0}', '{"inlines": {"step": 0}}'])
def test_a_json_that_is_wrong_is_refused(path: Path, content: str) -> None:
    path.with_suffix(".json").write_text(content)
    with pytest.raises(ValueError, match=r"cube\.json: .*; correct or remove it"):
        describe(path)


def test_values_that_are_no_numbers_need_an_option(path: Path) -> None:
    cube = CUBE.copy()
    cube[1, 2, 3] = np.nan
    np.save(path, cube)
    with pytest.raises(ValueError, match="first: trace 7, sample 4"):
        open_volume(path)
    (block,) = open_volume(path, Reading(fill=True)).blocks()
    assert block.values[6, 3] == 0
