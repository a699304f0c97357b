"""The progress of a run: steps that are done, begun, running or waiting, with sizes and times.

Reads only names, markers and small files, so it works while another process is using the run.
"""

from __future__ import annotations

import contextlib
import math
import os
import shlex
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from optuna.trial import TrialState
from rich.table import Table

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment, Training
from salt_ray.errors import PROGRAM, RunError
from salt_ray.experiment_file import load_experiment
from salt_ray.inference.stored import chunk_count
from salt_ray.record import chosen_folds
from salt_ray.report.trials import clock
from salt_ray.storage import StoragePath, fields_if_there, load_array, readable
from salt_ray.training.checkpoint import CheckpointFolder
from salt_ray.training.models import fold_models
from salt_ray.training.task import fold_name

State = Literal["done", "running", "begun", "waiting", "left out"]


@dataclass(frozen=True)
class Step:
    """One part of a run.

    Attributes:
        detail: progress and results.
        size: bytes on disk; None in an object store, or if there is nothing yet.
        changed: time of the last write, in seconds since 1970; None likewise.
    """

    name: str
    state: State
    detail: str
    size: int | None
    changed: float | None


@dataclass(frozen=True)
class Status:
    """The progress of a run, or of the prediction of a volume.

    Attributes:
        experiment: its name; the volume's file for a prediction.
        in_use: whether a process is working on it; None if this machine cannot tell.
        next: what to do next, in one sentence; empty if finished.
        results: the contents of the run's JSON files that exist: ``scores``, ``seeds``, and the ``summary`` of a
            search or a prediction.
    """

    run: str
    experiment: str
    in_use: bool | None
    steps: tuple[Step, ...]
    next: str
    results: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def run_status(run: RunDirectory) -> Status:
    """Inspect a run, or an output folder of ``volume predict``.

    Raises:
        RunError: there is none, or a file of it is damaged.
    """
    if not run.experiment.exists():
        inputs = fields_if_there(run.path / "inputs.json", run.path)
        if inputs is not None and "lines_at_once" in inputs:
            return _volume_status(run, inputs)
        raise RunError(f"there is no run in {run.path}: give another path, or create it with pipeline")
    experiment = load_experiment(run.experiment)
    in_use = run.in_use()
    seeds = run.seed_numbers()
    steps = tuple(_seeds(run, seeds) if seeds else _steps(run, experiment, bool(in_use)))
    results = _results(run.scores, run.seeds, run.study / "summary.json")
    more = " --seeds N" if seeds else ""
    command = (
        f"{'tune' if run.study.exists() else 'pipeline'} --data SURVEY --run-dir {shlex.quote(str(run.path))}{more}"
    )
    return Status(str(run.path), experiment.name, in_use, steps, _next(steps, in_use, command), results)


def status_table(status: Status) -> Table:
    """Table of the steps, in order."""
    table = Table(title=f"{status.experiment}: {status.run}", title_justify="left")
    for name in ("step", "state", "", "size", "last written"):
        table.add_column(name, justify="right" if name == "size" else "left")
    styles = {"done": "green", "running": "bold", "begun": "yellow", "waiting": "dim", "left out": "dim"}
    for step in status.steps:
        size = "" if step.size is None else size_text(step.size)
        changed = "" if step.changed is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(step.changed))
        table.add_row(step.name, step.state, step.detail, size, changed, style=styles[step.state])
    return table


def size_text(size: int) -> str:
    """Format a number of bytes."""
    return f"{size / 1e3:,.0f} kB" if size < 1e6 else f"{size / 1e6:,.1f} MB" if size < 1e9 else f"{size / 1e9:,.2f} GB"


def _steps(run: RunDirectory, experiment: Experiment, running: bool) -> Iterator[Step]:
    folds = [run.folds(training.name) for training in experiment.trainings]
    tables = [folder for folder in folds if _marker(folder) is not None]
    detail = f"{len(tables)} of {len(folds)} fold tables"
    yield _step("prepare", _state(len(tables) == len(folds), bool(tables)), detail, *folds)
    if run.study.exists():
        yield _search(run, experiment, running)
        return
    placed, rules = _marker(run.mosaics), experiment.postprocessing.rules
    chooses = experiment.prediction.thresholds == "chosen"
    in_folds = any(training.folds.kind == "mosaic" for training in experiment.trainings)
    windows = any(training.folds.kind == "lines" for training in experiment.trainings)
    if placed is None and rules == "none" and (windows or not (chooses or in_folds)):
        yield _step("mosaic", "left out", "no mosaics needed")
    else:
        detail = f"{placed['tiles']:,} tiles in {placed['mosaics']:,} mosaics" if placed else ""
        yield _step("mosaic", _state(placed is not None, run.mosaics.exists()), detail, run.mosaics)
    chosen = chosen_folds(run, experiment)
    for training, fold in experiment.all_folds:
        if (training, fold) in chosen:
            yield _training(run, training, fold, running)
        else:
            yield Step(f"train {fold_name(training.name, fold)}", "left out", "not selected by --folds", None, None)
    for training, fold in chosen:
        yield _prediction(run, experiment, training, fold)
    if chooses:
        state = _state(_marker(run.thresholds) is not None, run.thresholds.exists())
        yield _step("thresholds", state, "", run.thresholds)
    done = _marker(run.postprocessing)
    if rules == "none":
        yield _step("postprocess", "left out", "postprocessing.rules is none")
    else:
        failed = f"{len(done['failed'])} mosaics failed" if done and done["failed"] else ""
        yield _step("postprocess", _state(done is not None, run.postprocessing.exists()), failed, run.postprocessing)
    scores = fields_if_there(run.scores, run.scores)
    yield _step("submit", _state(run.submission.exists()), "", run.submission)
    yield _step("score", _state(scores is not None), f"out of fold {scores['oof']:.4f}" if scores else "", run.scores)
    yield _step("report", _state(run.report.exists()), "", run.report)


def _seeds(run: RunDirectory, seeds: list[int]) -> Iterator[Step]:
    """Each seed's run as one step."""
    for seed in seeds:
        path = run.seed(seed).path
        if not run.seed(seed).experiment.exists():
            yield Step(path.name, "begun", "", None, None)
            continue
        status = run_status(run.seed(seed))
        unfinished = [step for step in status.steps if step.state not in ("done", "left out")]
        state = "running" if status.in_use else _state(not unfinished, begun=True)
        detail = unfinished[0].name if unfinished else f"out of fold {status.results['scores']['oof']:.4f}"
        yield _step(path.name, state, detail, path)


def _search(run: RunDirectory, experiment: Experiment, running: bool) -> Step:
    from salt_ray.tuning.study import load_study  # imports sqlalchemy, which is slow and only needed for searches

    trials = load_study(run).get_trials(deepcopy=False)
    ended = sum(trial.state.is_finished() for trial in trials)
    complete = [trial.value for trial in trials if trial.state is TrialState.COMPLETE]
    detail = f"{ended} of {experiment.tune.trials} trials ended" + (f", best {max(complete):.4f}" if complete else "")
    state: State = "running" if running else _state(ended >= experiment.tune.trials, begun=True)
    return _step("search", state, detail, run.study)


def _training(run: RunDirectory, training: Training, fold: int, running: bool) -> Step:
    """State of the newest stage that has begun; a fold being trained contains a file ``owner``."""
    folders = [run.stage(training.name, fold, stage.name) for stage in training.stages]
    name, detail, state = f"train {fold_name(training.name, fold)}", "", "waiting"
    for stage, folder in zip(training.stages, folders, strict=True):
        done = _marker(folder)
        if done is not None:
            detail = f"{stage.name}: best {done['best_score']:.4f} in epoch {done['best_epoch']} of {done['epochs']}"
            state = "done" if stage is training.stages[-1] else "begun"
        elif folder.exists():
            epoch = CheckpointFolder(folder).newest_epoch()
            detail, state = f"{stage.name}: epoch {epoch} of at most {stage.epochs}", "begun"
    if state == "begun" and running and (run.fold(training.name, fold) / "owner").exists():
        state = "running"
    return _step(name, state, detail, run.fold(training.name, fold))


def _prediction(run: RunDirectory, experiment: Experiment, training: Training, fold: int) -> Step:
    name = f"predict {fold_name(training.name, fold)}"
    models = fold_models(run, training, fold, experiment.prediction.models)
    if not models:
        return _step(name, "waiting", "")
    folder, by = models[0].predictions(run), models[0].stage + (", snapshots" if models[0].of_snapshots else "")
    done = _marker(folder)
    if done is not None:
        return _step(name, "done", f"{done['tiles']:,} tiles with stage {by}", folder)
    if not (folder / "tiles.npy").exists():
        return _step(name, "waiting", f"with stage {by}", folder)
    chunks, there = chunk_count(load_array(folder / "tiles.npy")), len(list((folder / "chunks").glob("*.npy")))
    return _step(name, "begun", f"{there} of {chunks} chunks", folder)


def _volume_status(run: RunDirectory, inputs: Mapping[str, Any]) -> Status:
    """Progress of ``pipeline.volumes``; slabs are deleted when everything is written."""
    folder, in_use, done = run.path / "slabs", run.in_use(), _marker(run.path)
    with readable(run.path / "inputs.json", run.path, "volume predict"):
        ends = {"inline": inputs["rows"], "crossline": inputs["columns"]}
        count = sum(
            -(-(ends[direction][1] - ends[direction][0]) // lines)
            for direction, lines in inputs["lines_at_once"].items()
        )
    began = fields_if_there(folder / "began.json", folder) or {}
    whole = _times(*folder.glob("*/[0-9]*.npy"))
    if done is not None:
        predicted = Step("predict", "done", f"{count} slabs", None, None)
        written = f"{done['traces']:,} traces, {done['share_of_salt']:.2%} salt, {done['bodies']:,} bodies"
        steps = [predicted, _step("write", "done", written, *(run.path / name for name in done["files"]))]
    else:
        all_there = len(whole) == count
        left = _seconds_left(whole, count, _times(folder / "began.json")) if in_use else math.nan
        detail = f"{len(whole)} of {count} slabs" + (f", about {clock(left)} left" if left > 0 else "")
        state = "running" if in_use and not all_there else _state(all_there, bool(whole))
        steps = [_step("predict", state, detail, folder)]
        steps.append(Step("write", "running" if in_use and all_there else "waiting", "", None, None))
    results = _results(run.path / "summary.json", run.scores)
    if "scores" in results:
        iou = results["scores"].get("iou")
        steps.append(_step("score", "done", "" if iou is None else f"IoU of salt {iou:.4f}", run.scores))
    known = {**began, **(done or {})}
    volume = known.get("volume", "VOLUME")
    words = (known.get("run", "RUN"), "--data", volume, "--to", str(run.path))
    command = f"volume predict {shlex.join(words)}, with the same options,"
    return Status(str(run.path), Path(volume).name, in_use, tuple(steps), _next(tuple(steps), in_use, command), results)


def _seconds_left(whole: Sequence[float], count: int, began: Sequence[float]) -> float:
    """Remaining time for the missing slabs, at the speed of the current process; NaN before its first one.

    Args:
        whole: when each finished slab was written.
        began: when the process started; empty if unknown.
    """
    its = [when for when in whole if began and when >= began[0]]
    return (count - len(whole)) * (max(its) - began[0]) / len(its) if its else math.nan


def _times(*places: Path) -> list[float]:
    """When files were written, in seconds since 1970 by the file server's clock."""
    return [file.st_mtime for place in places for file in _files(place)]


def _results(*files: StoragePath) -> dict[str, Any]:
    found = {file.name.removesuffix(".json"): fields_if_there(file, file) for file in files}
    return {name: content for name, content in found.items() if content is not None}


def _next(steps: tuple[Step, ...], in_use: bool | None, command: str) -> str:
    unfinished = [step.name for step in steps if step.state in ("running", "begun", "waiting")]
    if in_use:
        return "a process is working on it"
    if not unfinished:
        return ""
    return f"next: {unfinished[0]}; run {PROGRAM} {command} to resume"


def _state(done: bool, begun: bool = False) -> State:
    return "done" if done else "begun" if begun else "waiting"


def _step(name: str, state: State, detail: str, *places: StoragePath) -> Step:
    files = [file for place in places if isinstance(place, Path) for file in _files(place)]
    size = sum(file.st_size for file in files) if files else None
    return Step(name, state, detail, size, max((file.st_mtime for file in files), default=None))


def _files(place: Path) -> Iterator[os.stat_result]:
    for file in place.rglob("*") if place.is_dir() else [place]:
        with contextlib.suppress(FileNotFoundError):  # a running process deletes older checkpoints
            if stat.S_ISREG((found := file.stat()).st_mode):
                yield found


def _marker(folder: StoragePath) -> dict[str, Any] | None:
    return fields_if_there(folder / "done.json", folder)
