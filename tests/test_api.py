"""What commands for volumes do, from Python: the whole way on a small synthetic one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_run import RECORD, write_run

import salt_ray
from salt_ray.config import Experiment, Resources

pytestmark = pytest.mark.usefixtures("one_thread")
LINE = 1021  # labelled


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("made") / "to"
    salt_ray.synth_volume(to, inlines=40, crosslines=40, samples=64, quiet=True)
    return to


def test_a_volume_goes_the_whole_way(made: Path, tiny: Experiment, tmp_path: Path) -> None:
    amplitudes, windows = made / "amplitudes.sgy", tmp_path / "windows"
    assert not salt_ray.scan_volume(amplitudes).problems
    count = salt_ray.tile_volume(
        amplitudes, windows, labels=str(made / "labels.sgy"), inlines=(f"{LINE}",), window=32, quiet=True
    )
    shapes = {np.load(path).shape for path in windows.rglob("*.npy")}
    assert count == len(list(windows.rglob("*.npy"))) > 0 and shapes == {(52, 52)}
    experiment = tiny.replace(labels=tiny.labels.replace(full_tiles="salt"), resources=Resources(cpus_per_fold=1))
    run = write_run(tmp_path / "run", experiment, RECORD.model_copy(update={"amplitudes": None, "samples": "uint8"}))
    to, asked = tmp_path / "predicted", salt_ray.Asked(inlines=(LINE - 2, LINE), own_range=True)
    summary = salt_ray.predict_volume(salt_ray.load_run(run), amplitudes, to, asked=asked, quiet=True)
    assert summary["rows"][1] - summary["rows"][0] == 2
    found = salt_ray.score_volume(to, made / "truth.sgy", without=made / "labels.sgy")
    assert found == json.loads((to / "scores.json").read_text())
    assert [line["inline"] for line in found["lines"]] == [LINE - 2] and found["left_out"] == 1
    assert 0 <= found["iou"] <= 1


def test_what_is_wrong_with_a_file_is_told_and_what_cannot_be_done_is_raised(made: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "cube.npy", np.ones((2, 3, 4), np.float32))
    (problem,) = salt_ray.scan_volume(tmp_path / "cube.npy").problems
    assert "--interval" in problem.remedy
    reading = salt_ray.Reading(interval=4.0)
    assert not salt_ray.scan_volume(str(tmp_path / "cube.npy"), reading=reading).problems
    with pytest.raises(salt_ray.SaltRayError, match="is not empty"):
        salt_ray.synth_volume(made, quiet=True)
    with pytest.raises(salt_ray.SaltRayError, match="no finished prediction"):
        salt_ray.score_volume(tmp_path, made / "truth.sgy")
    with pytest.raises(salt_ray.SaltRayError, match="needs exactly one kind of labels"):
        salt_ray.tile_volume(made / "amplitudes.sgy", tmp_path / "windows", quiet=True)
    with pytest.raises(salt_ray.SaltRayError, match="none of them in 7"):
        salt_ray.tile_volume(
            made / "amplitudes.sgy", tmp_path / "windows", labels=made / "labels.sgy", crosslines=("7",), quiet=True
        )
