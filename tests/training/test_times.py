"""How long epochs took: every kept epoch once, whatever came between, and no time where one is not known."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment
from salt_ray.errors import RunError
from salt_ray.survey.folds import FoldTable
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training.loop import train_fold
from salt_ray.training.models import FoldModel, trained_stages
from salt_ray.training.progress import Progress
from salt_ray.training.task import FoldTask
from salt_ray.training.times import kept_times, read_times, training_seconds, write_times

CPU = torch.device("cpu")


def row(epoch: int, ended: float, seconds: float) -> dict[str, float]:
    return {"epoch": epoch, "ended": ended, "seconds": seconds}


def stage(folder: Path, epochs: int) -> FoldModel:
    return FoldModel("random", 0, folder.name, 0, folder, {"epochs": epochs, "best_epoch": 1, "best_score": 0.5})


def test_training_time_is_that_of_all_epochs_without_pauses(tmp_path: Path) -> None:
    first, second = stage(tmp_path / "plateau", 3), stage(tmp_path / "cosine", 1)
    write_times(first.folder, [row(1, 1010.0, 10.0), row(2, 1030.0, 20.0), row(3, 5007.0, 7.5)])
    assert training_seconds([first]) == 37.5
    assert training_seconds([first, second]) is None  # its file is absent, as in a run of an older version
    write_times(second.folder, [row(1, 9001.0, 0.0625)])
    assert training_seconds([first, second]) == pytest.approx(37.5625, abs=1e-3)
    assert training_seconds([stage(first.folder, 4), second]) is None  # an older version trained one of four


def test_who_goes_on_has_the_rows_of_the_epochs_that_are_kept(tmp_path: Path) -> None:
    rows = [row(epoch, 1000.0 + epoch, 1.0) for epoch in (1, 2, 3)]
    assert kept_times(tmp_path, 2) == []
    write_times(tmp_path, rows)
    assert [kept_times(tmp_path, epochs) for epochs in (0, 2, 5)] == [[], rows[:2], rows]


@pytest.mark.parametrize(
    "content", ["", "epoch,ended\n1,2\n", "epoch,ended,seconds\n1,2,x\n", "epoch,ended,seconds\n,2,3\n"]
)
def test_a_damaged_note_is_a_sentence_and_training_goes_on(content: str, tmp_path: Path) -> None:
    (tmp_path / "times.csv").write_text(content)
    with pytest.raises(RunError, match=r"times.csv is damaged .*delete .*times.csv"):
        read_times(tmp_path)
    assert kept_times(tmp_path, 1) == []


class Interrupted(Exception):
    pass


@pytest.mark.usefixtures("one_thread")
def test_a_fold_that_was_interrupted_has_the_time_of_every_epoch_once(
    tiny: Experiment, tiny_tiles: TrainingTiles, tiny_folds: FoldTable, tmp_path: Path
) -> None:
    run, task, began = RunDirectory(tmp_path), FoldTask(tiny, tiny.trainings[0], 0, tiny_folds), time.time()
    plateau = run.stage("random", 0, "plateau")

    def stop(progress: Progress) -> None:
        if progress.epoch == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        train_fold(task, tiny_tiles, run, CPU, stop)
    before = read_times(plateau)
    assert before["epoch"].tolist() == [1, 2]
    (plateau / "epoch-00002.pt").write_bytes(b"")  # the second epoch is lost, and trained again
    train_fold(task, tiny_tiles, run, CPU)
    stages, elapsed = trained_stages(run, task.training, 0), time.time() - began
    for one in stages:
        times = read_times(one.folder)
        assert times["epoch"].tolist() == list(range(1, one.marker["epochs"] + 1))
        assert times["ended"].is_monotonic_increasing and (times["seconds"] > 0).all()
        assert times["ended"].between(began - 1e-3, began + elapsed + 1e-3).all()
    after = read_times(plateau)
    assert after.iloc[0].equals(before.iloc[0]) and after["ended"][1] > before["ended"][1]
    assert 0 < training_seconds(stages) < elapsed
