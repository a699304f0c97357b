"""Runs from Python: what ``pipeline`` and ``tune`` do on the command line; and the engines, by name."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from salt_ray import experiment_file
from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment
from salt_ray.errors import SaltRayError
from salt_ray.pipeline import steps
from salt_ray.pipeline.engine import Engine
from salt_ray.pipeline.local import LocalEngine
from salt_ray.pipeline.run import Run
from salt_ray.pipeline.search import search
from salt_ray.pipeline.trained import TrainedRun
from salt_ray.pipeline.volumes import Asked, predict_file
from salt_ray.report.comparison import Comparison, Tiles, compare_runs
from salt_ray.report.terminal import Terminal
from salt_ray.storage import StoragePath, storage_path
from salt_ray.tuning.results import trial_table
from salt_ray.tuning.study import load_study
from salt_ray.volume.reading import Reading

EngineName = Literal["ray", "local"]


def load_experiment(name: str | Path, settings: Iterable[str] = ()) -> Experiment:
    """An experiment that the project ships, by its name, or one in a Python or JSON file.

    Args:
        settings: ``FIELD.SUB=VALUE`` as for ``--set``.

    Raises:
        ExperimentError: there is none, or a field is wrong; the message names it.
    """
    return experiment_file.load_experiment(experiment_file.experiment_path(str(name)), settings)


def train(
    experiment: Experiment,
    data: str | Path,
    to: str | StoragePath,
    *,
    folds: Collection[int] | None = None,
    engine: Engine | EngineName = "local",
    quiet: bool = False,
) -> TrainedRun:
    """All steps of a run, or what is left of them: folds, predictions, mosaic rules, submission, scores, report.

    Args:
        experiment: for example ``salt_ray.load_experiment("demo")``, changed by ``replace``.
        data: a survey in Kaggle's layout.
        to: the run directory; the same call again resumes there.
        folds: of every training only these, beside those of an earlier call; None: all.
        engine: "local": all in this process; "ray": on the cluster that this process runs on, or a local Ray.
        quiet: print nothing.

    Raises:
        SaltRayError: the survey, the experiment or the run directory cannot be used; the message says what to do.

    ::

        experiment = salt_ray.load_experiment("demo")
        run = salt_ray.train(experiment, "survey", "runs/first")
        run.scores()["oof"]
    """
    with _at_work(experiment, data, to, engine, quiet) as (run, doing):
        steps.pipeline(run, doing, folds)
    return TrainedRun(run.directory, experiment)


def tune(
    experiment: Experiment,
    data: str | Path,
    to: str | StoragePath,
    *,
    trials: int | None = None,
    engine: Engine | EngineName = "local",
    quiet: bool = False,
) -> pd.DataFrame:
    """A search over what the experiment's ``tune`` section names, or what is left of it; ``best.json`` has its result.

    Args:
        trials: how many in all, instead of ``tune.trials``.
        experiment, data, to, engine, quiet: as for ``train``.

    Returns:
        A row a trial, as in ``study/trials.csv``.

    Raises:
        SaltRayError: as ``train``; or no trial has a value.
    """
    with _at_work(experiment, data, to, engine, quiet) as (run, doing):
        search(run, doing, trials)
    return trial_table(load_study(run.directory))


def predict_volume(
    run: TrainedRun,
    data: str | Path,
    to: str | StoragePath,
    *,
    asked: Asked = Asked(),  # noqa: B008 - it is frozen, as the next one
    reading: Reading = Reading(),  # noqa: B008
    engine: Engine | EngineName = "local",
    quiet: bool = False,
) -> dict[str, Any]:
    """Predict a section or a volume, or what is left of it, into a folder of files with the same traces.

    Args:
        run: of ``load_run``.
        data: SEG-Y, an .npy array, or a section's picture.
        to: a folder.
        asked: directions, step, lines, folds, memory: ``salt_ray.pipeline.volumes.Asked``.
        reading: what the headers leave open: ``salt_ray.volume.reading.Reading``.
        engine, quiet: as for ``train``.

    Returns:
        The content of ``summary.json``.

    Raises:
        SaltRayError: the file does not suit the run, or cannot be read; the message says what to do.
    """
    terminal = Terminal(quiet=quiet)
    with open_engine(engine, terminal) as doing:
        return predict_file(run, Path(data), reading, RunDirectory(storage_path(to)), doing, terminal, asked)


def compare(first: str | StoragePath, second: str | StoragePath, *, on: Tiles = "oof") -> Comparison:
    """Which of two scored runs scores higher, tile by tile, and how sure that is.

    Args:
        first, second: run directories, or ones that hold a run for each of several seeds.
        on: out-of-fold tiles ("oof"), "holdout" or "test".

    Raises:
        RunError: a run is not scored, or the two have other tiles, labels or mosaics.
    """
    return compare_runs(RunDirectory(storage_path(first)), RunDirectory(storage_path(second)), on)


@contextlib.contextmanager
def _at_work(
    experiment: Experiment, data: str | Path, to: str | StoragePath, engine: Engine | EngineName, quiet: bool
) -> Iterator[tuple[Run, Engine]]:
    terminal = Terminal(quiet=quiet)
    opening = open_engine(engine, terminal)  # a wrong name begins no run
    run = Run(experiment, Path(data), RunDirectory(storage_path(to)), terminal)
    with run.held(), opening as doing:
        yield run, doing


def open_engine(
    engine: Engine | EngineName, terminal: Terminal, address: str | None = None
) -> contextlib.AbstractContextManager[Engine]:
    """An engine by its name; one of one's own as it is.

    Args:
        address: a Ray cluster; None: the one that this process runs on, or a local one.

    Raises:
        SaltRayError: there is no engine of that name.
    """
    if engine == "ray":
        from salt_ray.cluster.engine import RayEngine  # Ray: not where it is not needed

        return RayEngine(address, terminal.dashboard)
    if engine == "local":
        return contextlib.nullcontext(LocalEngine())
    if isinstance(engine, str):
        names = " or ".join(map(repr, get_args(EngineName)))
        raise SaltRayError(f"there is no engine {engine!r}: choose {names}, or give one of your own")
    return contextlib.nullcontext(engine)
