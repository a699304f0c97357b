"""A fold knows what trained it, also after it went on elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment
from salt_ray.errors import RunError
from salt_ray.survey.folds import FoldTable
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training import hardware
from salt_ray.training.hardware import device_name, processor_name, remember_device, trained_on
from salt_ray.training.loop import train_fold
from salt_ray.training.task import FoldTask

CPU = torch.device("cpu")


def test_devices_come_in_the_order_in_which_they_trained_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trained_on(tmp_path) == []
    for name in ("first", "second", "first"):
        monkeypatch.setattr(hardware, "device_name", lambda device, name=name: name)
        remember_device(tmp_path, CPU)
    assert trained_on(tmp_path) == ["first", "second"]


def test_a_damaged_note_is_a_sentence(tmp_path: Path) -> None:
    for content in ("{", '{"trained_on": null}', '{"trained_on": "abc"}', "{}"):
        (tmp_path / "hardware.json").write_text(content)
        with pytest.raises(RunError, match=r"hardware.json is damaged .*delete"):
            trained_on(tmp_path)
        remember_device(tmp_path, CPU)  # training goes on all the same
        assert trained_on(tmp_path) == [device_name(CPU)]


@pytest.mark.usefixtures("one_thread")
def test_training_notes_its_device_and_a_finished_fold_none(
    tiny: Experiment, tiny_tiles: TrainingTiles, tiny_folds: FoldTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = FoldTask(tiny, tiny.trainings[0], 0, tiny_folds)
    train_fold(task, tiny_tiles, RunDirectory(tmp_path), CPU)
    folder = tmp_path / "trainings" / "random" / "fold-0"
    assert trained_on(folder) == [f"{processor_name()}, 1 thread"] == [device_name(CPU)]
    monkeypatch.setattr(hardware, "device_name", lambda device: "another")
    train_fold(task, tiny_tiles, RunDirectory(tmp_path), CPU)
    assert trained_on(folder) == [f"{processor_name()}, 1 thread"]
