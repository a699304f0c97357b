"""What a training is going to do and how long it takes: counted, and said where it is known from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Choice, Experiment, Tune
from salt_ray.report.plan import UNKNOWN, Plan, duration, epochs_left, search_plan
from salt_ray.storage import write_atomically
from salt_ray.survey.folds import FoldTable
from salt_ray.training.progress import Progress, StepProgress
from salt_ray.training.speed import Speed, own_speed, remember_speed, remembered_speed
from salt_ray.training.task import FoldTask
from salt_ray.training.times import write_times

NAN = float("nan")


@pytest.fixture
def tasks(tiny: Experiment, tiny_folds: FoldTable) -> list[FoldTask]:
    """Two folds of a plateau of 3 epochs and a cosine of 2."""
    return [FoldTask(tiny, tiny.trainings[0], fold, tiny_folds) for fold in range(2)]


def rows(count: int, seconds: float) -> list[dict[str, float]]:
    return [{"epoch": epoch, "ended": 1000.0 + epoch, "seconds": seconds} for epoch in range(1, count + 1)]


def after(fold: int, stage: str, epoch: int, epochs: int, left: float) -> Progress:
    return Progress("random", fold, stage, epoch, epochs, 0.5, 0.6, 0.7, 0.8, 0.01, 9.0, left, 0.0)


def within(fold: int, epoch: int, step: int, left: float) -> StepProgress:
    return StepProgress("random", fold, "plateau", epoch, 3, step, 10, 0.5, 9.0, left)


def test_a_plan_counts_and_says_that_hours_are_not_known(tasks: list[FoldTask], tmp_path: Path) -> None:
    plan = Plan(tasks, RunDirectory(tmp_path), 1, None)
    assert plan.lines() == [
        "plan: 1 training, 2 folds, 1 at a time, at most 10 epochs: 2 folds of random (10)",
        f"plan: {UNKNOWN}",
    ]


@pytest.mark.parametrize(("at_once", "words"), [(1, "10 min"), (2, "5 min"), (9, "5 min")])
def test_hours_follow_from_a_speed_and_the_places(at_once: int, words: str, tasks: list[FoldTask], tmp_path) -> None:
    tiles = np.count_nonzero(tasks[0].folds.trains(0))
    speed = Speed(60 / tiles, "epochs of runs/before, on a machine")
    plan = Plan(tasks, RunDirectory(tmp_path), at_once, speed)
    assert plan.lines()[1] == f"plan: at most about {words}, based on epochs of runs/before, on a machine"


def test_what_is_trained_already_is_not_counted(tasks: list[FoldTask], tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert epochs_left(tasks[0], run) == 5
    plateau, cosine = run.stage("random", 0, "plateau"), run.stage("random", 0, "cosine")
    write_times(plateau, rows(1, 30.0))
    assert epochs_left(tasks[0], run) == 4
    marker = '{"epochs": 2, "best_epoch": 1, "best_score": 0.5}'  # stopped early
    write_atomically(plateau / "done.json", marker)
    assert epochs_left(tasks[0], run) == 2
    write_times(cosine, rows(1, 30.0))
    assert epochs_left(tasks[0], run) == 1
    (cosine / "times.csv").write_text("damaged")
    assert epochs_left(tasks[0], run) == 2
    write_atomically(cosine / "done.json", marker)
    assert epochs_left(tasks[0], run) == 0


def test_the_first_steps_say_once_how_long_all_takes(tasks: list[FoldTask], tmp_path: Path) -> None:
    plan = Plan(tasks, RunDirectory(tmp_path), 1, None)
    assert plan.see(after(0, "plateau", 1, 3, NAN)) is None  # of an earlier start: no speed
    # Half of the second epoch, of 60 s each: 30 s, then three more; and five of the fold that waits.
    line = plan.see(within(0, 2, 5, 210.0))
    assert line == "plan: at most about 8 min left for all folds, based on the first steps of random-fold-0"
    assert plan.seconds_left() == pytest.approx(210 + 300)
    assert plan.see(within(0, 2, 6, 204.0)) is None
    assert plan.see(after(0, "cosine", 1, 2, 60.0)) is None and plan.seconds_left() == pytest.approx(60 + 300)


def test_short_epochs_say_it_after_the_first_one(tasks: list[FoldTask], tmp_path: Path) -> None:
    plan = Plan(tasks, RunDirectory(tmp_path), 2, None)
    line = plan.see(after(1, "plateau", 1, 3, 40.0))
    assert line == "plan: at most about 50 s left for all folds, based on the first epoch of random-fold-1"


def test_a_fold_that_stopped_early_is_not_waited_for(tasks: list[FoldTask], tmp_path: Path) -> None:
    plan = Plan(tasks, RunDirectory(tmp_path), 1, None)
    plan.see(after(0, "plateau", 1, 3, 40.0))
    plan.see(after(1, "plateau", 1, 3, 40.0))  # one at a time: the other has ended
    assert plan.seconds_left() == pytest.approx(40)
    plan.see(after(1, "cosine", 2, 2, 0.0))
    assert plan.seconds_left() == 0


def test_a_run_s_own_epochs_go_before_those_of_others(tasks: list[FoldTask], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SALT_RAY_CACHE", str(tmp_path / "cache"))
    run, experiment = RunDirectory(tmp_path / "run"), tasks[0].experiment
    assert own_speed(run, tasks) is None and remembered_speed(experiment) is None
    remember_speed(run, tasks)
    assert remembered_speed(experiment) is None  # nothing was trained
    write_times(run.stage("random", 0, "plateau"), rows(2, 24.0))
    write_times(run.stage("random", 1, "plateau"), rows(1, 48.0))
    write_atomically(run.fold("random", 0) / "hardware.json", '{"trained_on": ["NVIDIA H200"]}')
    tiles = [np.count_nonzero(task.folds.trains(task.fold)) for task in tasks]
    speed = own_speed(run, tasks)
    assert speed.seconds_per_tile == pytest.approx((2 * 24 + 48) / (2 * tiles[0] + tiles[1]))
    remember_speed(run, tasks)
    found = remembered_speed(experiment.replace(seed=8, network=experiment.network.replace(pretrained=True)))
    assert found == Speed(speed.seconds_per_tile, f"epochs of {run.path}, on NVIDIA H200")
    other = experiment.replace(network=experiment.network.replace(mask_head_width=8))
    assert remembered_speed(other) is None
    (file,) = (tmp_path / "cache" / "speeds").iterdir()
    words = '{{"seconds_per_tile": {}, "run": "", "devices": {}}}'
    for damage in ("", "[]", words.format('"x"', "[]"), words.format("NaN", "[]"), words.format("1", "2")):
        file.write_text(damage)
        assert remembered_speed(experiment) is None


def test_a_search_says_its_trials(tiny: Experiment) -> None:
    lr = Choice(name="lr", fields=("trainings.all.stages.all.lr",), values=(0.01, 0.02))
    experiment = tiny.replace(tune=Tune(trials=9, folds="all", parameters=(lr,)))
    line = "plan: 7 of 9 trials left, each 2 folds and at most 10 epochs"
    assert search_plan(experiment, 7, 9, 12, None).startswith(f"{line}; the duration")
    assert search_plan(experiment, 7, 9, 12, Speed(1.0, "epochs of x")) == f"{line}: about 2 min, based on epochs of x"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (59, "59 s"), (60, "1 min"), (3570, "1 h 00 min"), (7500, "2 h 05 min"), (4e6, "1,111 h 07 min")],
)
def test_durations_are_read_by_people(seconds: float, words: str) -> None:
    assert duration(seconds) == words
