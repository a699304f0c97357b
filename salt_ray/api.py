"""From Python what commands do: ``pipeline``, ``tune``, ``compare``, those of ``volume``; and the engines, by name."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from salt_ray import experiment_file
from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment
from salt_ray.errors import SaltRayError
from salt_ray.pipeline import steps, volume_scores
from salt_ray.pipeline.engine import Engine
from salt_ray.pipeline.local import LocalEngine
from salt_ray.pipeline.run import Run
from salt_ray.pipeline.search import search
from salt_ray.pipeline.trained import TrainedRun
from salt_ray.pipeline.volumes import Asked, predict_file
from salt_ray.report.comparison import Comparison, TileSet, compare_runs
from salt_ray.report.terminal import Terminal
from salt_ray.report.tiles import Tiles
from salt_ray.storage import StoragePath, storage_path
from salt_ray.survey.synthetic import write_survey
from salt_ray.survey.tiles import load_survey
from salt_ray.tuning.results import trial_table
from salt_ray.tuning.study import load_study
from salt_ray.volume.reading import Reading
from salt_ray.volume.scan import Scanned, open_volume, scan
from salt_ray.volume.synthetic_survey import write_synthetic_volume
from salt_ray.volume.tiles import cut_labelled

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
    return TrainedRun(run.directory, experiment, run.data)


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


def synth_survey(to: str | Path, *, tiles: int = 2000, tile_px: int = 101, seed: int = 0, quiet: bool = False) -> None:
    """Write a synthetic survey in Kaggle's layout whose salt is known, also that of its test tiles (``truth``).

    Args:
        to: a folder that is not there yet.
        tiles: how many, two thirds of them labelled.
        tile_px: their edge.
        seed: the same one, and the same numbers, give the same bytes.
        quiet: print nothing.

    Raises:
        SaltRayError: a number out of range, or the folder holds something.
    """
    write_survey(Path(to), tiles, seed, tile_px=tile_px, report=Terminal(quiet=quiet).say)


def load_tiles(data: str | Path, *, labelled: bool = True) -> Tiles:
    """The tiles of a survey to look at, with their labels; or those without a label.

    Args:
        data: a survey in Kaggle's layout.

    Raises:
        SurveyError: the survey cannot be used; the message says what is wrong with which file.
    """
    return Tiles.of_survey(load_survey(Path(data)), labelled=labelled)


def scan_volume(data: str | Path, *, reading: Reading = Reading()) -> Scanned:  # noqa: B008 - it is frozen
    """What a section or a volume is, by its headers and up to 1,000 of its traces, as ``volume scan`` says it.

    Args:
        data: SEG-Y, or an .npy array (inline, crossline, sample) or (trace, sample) of numbers.
        reading: what the headers leave open: intervals in ms or in the unit of depth, first bytes from 1.

    Returns:
        ``.problems`` stand in the way, each with its remedy, and are empty where the file can be used; ``.lines()`` is
        the text, ``.as_json()`` a dict. Whatever is wrong with a file is told there, not raised.
    """
    return scan(Path(data), reading)


def tile_volume(
    data: str | Path | Sequence[str | Path],
    to: str | Path,
    *,
    labels: str | Path | None = None,
    top: str | Path | None = None,
    base: str | Path | None = None,
    salt: float | None = None,
    unlabelled: float | None = None,
    colours: Sequence[str] = (),
    inlines: Sequence[str] = (),
    crosslines: Sequence[str] = (),
    window: int = 128,
    step: int | None = None,
    reading: Reading = Reading(),  # noqa: B008
    labels_reading: Reading = Reading(),  # noqa: B008
    quiet: bool = False,
) -> int:
    """Cut windows from labelled lines: a survey to ``train`` on, as ``volume tiles`` makes it.

    Args:
        data: the amplitudes: one file, or several 2D lines; then ``labels``, ``top`` and ``base`` are folders.
        to: a folder that is not there yet. Its windows are float32 (P, P) px, P being ``window`` and 10 px of context
            on each side, its masks uint8 (P, P): 1 salt, 0 none, 255 not labelled.
        labels: SEG-Y, .npy or pictures of lines; or
        top, base: horizons, CSV or text, z in ms or in the unit of depth.
        salt, unlabelled: values of ``labels``; None: what is not 0 is salt, and -1 and 255 are not labelled.
        colours: of pictures: ``("salt=#ff0000", "none=#0000ff")``.
        inlines, crosslines: of lines to cut: ``("100:500:20", "510")``, the last one included; none: those labelled.
        window: edge in px, a multiple of 32.
        step: from one window to the next, in px; None: half a window.
        reading, labels_reading: what headers leave open; of that of labels byte order, format and samples count.
        quiet: print nothing.

    Returns:
        How many windows were written.

    Raises:
        SaltRayError: a file cannot be used, files do not fit together, nothing is labelled, or the folder holds
            something; the message says what to do.
    """
    one = isinstance(data, str | Path)
    given = {"labels": labels, "top": top, "base": base}
    return cut_labelled(
        [Path(file) for file in ([data] if one else data)],
        Path(to),
        reading,
        **{name: None if path is None else Path(path) for name, path in given.items()},
        labels_reading=labels_reading,
        salt=salt,
        unlabelled=unlabelled,
        colours=colours,
        ranges=[*(("inline", text) for text in inlines), *(("crossline", text) for text in crosslines)],
        window_px=window,
        step=step,
        report=Terminal(quiet=quiet).say,
    )


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


def score_volume(
    to: str | Path,
    labels: str | Path,
    *,
    salt: float = 1,
    without: str | Path | None = None,
    reading: Reading = Reading(),  # noqa: B008
) -> dict[str, Any]:
    """Compare a folder of ``predict_volume`` with labels, joined by the numbers of inlines and crosslines.

    Args:
        to: the folder; ``scores.json`` is written there, and ``report.html`` again.
        labels: SEG-Y or .npy, of the whole volume or some of its lines: ``salt``, 0 for none, -1 or 255 not labelled.
        without: a file whose inlines are left out, for instance of labels that trained the run.
        reading: what the headers of both files leave open.

    Returns:
        The content of ``scores.json``: IoU of salt, accuracy and the metric of tiles, all from 0 to 1, over all, by
        line and by depth.

    Raises:
        SaltRayError: there is no finished prediction, a file cannot be used, or labels have no trace in common with it.
    """
    left_out = None if without is None else open_volume(Path(without).absolute(), reading)
    return volume_scores.score_volume(Path(to), open_volume(Path(labels).absolute(), reading), salt, left_out)


def synth_volume(
    to: str | Path,
    *,
    inlines: int = 120,
    crosslines: int = 160,
    samples: int = 256,
    seed: int = 0,
    quiet: bool = False,
) -> None:
    """Write a synthetic volume whose salt is known: ``amplitudes.sgy``, ``truth.sgy``, ``labels.sgy``, ``top.csv``.

    Args:
        to: a folder that is not there yet.
        inlines, crosslines, samples: its size, traces 12.5 m and samples 4 ms apart; memory does not grow with inlines.
        seed: the same one, and the same size, give the same bytes.
        quiet: print nothing.

    Raises:
        SaltRayError: a size out of range, or the folder holds something.
    """
    write_synthetic_volume(Path(to), inlines, crosslines, samples, seed, report=Terminal(quiet=quiet).say)


def compare(first: str | StoragePath, second: str | StoragePath, *, on: TileSet = "oof") -> Comparison:
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
