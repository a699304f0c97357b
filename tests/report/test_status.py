"""How far a run is: read from what lies there, also while somebody works on it, and without a trace."""

from __future__ import annotations

import hashlib
import json
import shlex
from pathlib import Path

import pytest
import torch

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment
from salt_ray.errors import RunError
from salt_ray.report.status import Status, run_status, size_text
from salt_ray.storage import write_atomically
from salt_ray.survey.folds import FoldTable
from salt_ray.survey.prepared import TrainingTiles
from salt_ray.training.loop import train_fold
from salt_ray.training.progress import Progress
from salt_ray.training.task import FoldTask

pytestmark = pytest.mark.usefixtures("one_thread")


class Interrupted(Exception):
    pass


def train(run: RunDirectory, task: FoldTask, tiles: TrainingTiles, until: tuple[str, int] | None = None) -> None:
    """A fold, or the beginning of one: up to an epoch of a stage."""

    def stop(progress: Progress) -> None:
        if (progress.stage, progress.epoch) == until:
            raise Interrupted

    if until is None:
        train_fold(task, tiles, run, torch.device("cpu"))
        return
    with pytest.raises(Interrupted):
        train_fold(task, tiles, run, torch.device("cpu"), stop)


@pytest.fixture
def run(tiny: Experiment, tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(tmp_path / "run")
    write_atomically(directory.experiment, tiny.model_dump_json())
    return directory


def step(status: Status, name: str) -> tuple[str, str]:
    (found,) = [step for step in status.steps if step.name == name]
    return found.state, found.detail


def test_a_new_run_waits_from_its_beginning(run: RunDirectory) -> None:
    status = run_status(run)
    assert {step.state for step in status.steps} <= {"waiting", "left out"}
    assert status.next.startswith("next: prepare; run python launch.py pipeline ")
    assert str(run.path) in status.next and status.in_use is False


def test_thresholds_that_are_chosen_are_a_step_which_needs_mosaics(run: RunDirectory, tiny: Experiment) -> None:
    plain = tiny.replace(postprocessing=tiny.postprocessing.replace(rules="none"))
    states = {}
    for thresholds in ("given", "chosen"):
        prediction = tiny.prediction.replace(thresholds=thresholds)
        write_atomically(run.experiment, plain.replace(prediction=prediction).model_dump_json())
        states[thresholds] = {step.name: step.state for step in run_status(run).steps}
    assert states["given"]["mosaic"] == "left out" and "thresholds" not in states["given"]
    assert states["chosen"]["mosaic"] == states["chosen"]["thresholds"] == "waiting"
    write_atomically(run.thresholds / "done.json", "{}")
    assert step(run_status(run), "thresholds")[0] == "done"


def test_the_next_command_can_be_copied(run: RunDirectory) -> None:
    moved = RunDirectory(run.path.rename(run.path.with_name("it's a run")))
    assert shlex.split(run_status(moved).next)[-4:] == ["--run-dir", str(moved.path), "to", "resume"]


def test_folds_are_told_by_their_newest_stage(
    run: RunDirectory, tiny: Experiment, tiny_folds: FoldTable, tiny_tiles: TrainingTiles
) -> None:
    (training,) = tiny.trainings
    first, second = (FoldTask(tiny, training, fold, tiny_folds) for fold in (0, 1))
    plateau, cosine = training.stages
    train(run, first, tiny_tiles, until=("plateau", 2))
    status = run_status(run)
    assert step(status, "train random-fold-0") == ("begun", f"plateau: epoch 2 of at most {plateau.epochs}")
    assert step(status, "train random-fold-1") == ("waiting", "")
    train(run, first, tiny_tiles, until=("cosine", 1))
    assert step(run_status(run), "train random-fold-0") == ("begun", f"cosine: epoch 1 of at most {cosine.epochs}")
    train(run, first, tiny_tiles)
    train(run, second, tiny_tiles, until=("plateau", 1))
    with run.lock():
        status = run_status(run)
    done = json.loads((run.stage("random", 0, "cosine") / "done.json").read_text())
    text = f"cosine: best {done['best_score']:.4f} in epoch {done['best_epoch']} of {cosine.epochs}"
    assert step(status, "train random-fold-0") == ("done", text)
    assert step(status, "train random-fold-1")[0] == "running"
    assert status.in_use and status.next == "a process is working on it"
    assert run_status(run).in_use is False


def test_sizes_and_times_are_those_of_the_files(
    run: RunDirectory, tiny: Experiment, tiny_folds: FoldTable, tiny_tiles: TrainingTiles
) -> None:
    train(run, FoldTask(tiny, tiny.trainings[0], 0, tiny_folds), tiny_tiles)
    files = [path for path in run.stage("random", 0, "plateau").parent.rglob("*") if path.is_file()]
    (fold,) = [step for step in run_status(run).steps if step.name == "train random-fold-0"]
    assert fold.size == sum(path.stat().st_size for path in files)
    assert fold.changed == max(path.stat().st_mtime for path in files)


def test_looking_changes_nothing_and_reads_as_json(
    run: RunDirectory, tiny: Experiment, tiny_folds: FoldTable, tiny_tiles: TrainingTiles
) -> None:
    train(run, FoldTask(tiny, tiny.trainings[0], 0, tiny_folds), tiny_tiles, until=("plateau", 1))

    def content() -> dict[str, str]:
        files = [path for path in run.path.rglob("*") if path.is_file()]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    before = content()
    status = run_status(run)
    assert content() == before
    read = json.loads(json.dumps(status.as_json()))
    assert read["experiment"] == tiny.name and len(read["steps"]) == len(status.steps)


def test_what_is_no_run_is_one_sentence(run: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"there is no run in .*create it with pipeline"):
        run_status(RunDirectory(tmp_path / "nothing"))


def test_each_seed_of_a_run_is_a_step(run: RunDirectory, tiny: Experiment) -> None:
    for seed in (10, 9):
        write_atomically(run.seed(seed).experiment, tiny.replace(seed=seed).model_dump_json())
    run.seed(11).path.mkdir()
    (run.path / "seed-of-mine").mkdir()
    status = run_status(run)
    assert [(step.name, step.state, step.detail) for step in status.steps] == [
        ("seed-9", "begun", "prepare"),
        ("seed-10", "begun", "prepare"),
        ("seed-11", "begun", ""),
    ]
    assert status.next.startswith("next: seed-9;") and "--seeds N to resume" in status.next
    write_atomically(run.seeds, json.dumps({"first_seed": 9, "scores": {}}))
    assert run_status(run).as_json()["results"] == {"seeds": {"first_seed": 9, "scores": {}}}


def test_damaged_scores_cost_no_more_than_themselves(run: RunDirectory) -> None:
    write_atomically(run.scores, "{")
    with pytest.raises(RunError, match=r"scores.json is damaged.*delete \S*scores.json and run"):
        run_status(run)


def test_a_damaged_marker_names_its_folder(run: RunDirectory) -> None:
    write_atomically(run.mosaics / "done.json", "{")
    with pytest.raises(RunError, match=r"done.json is damaged.*delete .*mosaics"):
        run_status(run)


@pytest.mark.parametrize(("size", "text"), [(999, "1 kB"), (12_345_678, "12.3 MB"), (2_500_000_000, "2.50 GB")])
def test_sizes_read_well(size: int, text: str) -> None:
    assert size_text(size) == text
