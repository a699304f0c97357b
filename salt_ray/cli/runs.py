"""Commands that work on a run: shared options, and opening the run and its engine."""

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from salt_ray.cli.options import (
    Address,
    AsJson,
    Data,
    EngineChoice,
    EngineName,
    ExperimentFile,
    Output,
    Quiet,
    RunDir,
    Set,
    SkipBad,
)
from salt_ray.cli.places import kept_path, run_path
from salt_ray.errors import Interrupted
from salt_ray.experiment_file import experiment_path, load_experiment

if TYPE_CHECKING:  # imported where it is used: --help should not wait for Ray and PyTorch
    from salt_ray.artifacts import RunDirectory
    from salt_ray.pipeline.engine import Engine
    from salt_ray.pipeline.run import Run


@contextlib.contextmanager
def open_run(
    data: Data = Path("data"),
    experiment: ExperimentFile = None,
    run_dir: RunDir = None,
    set_: Set = None,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
    *,
    default: str = "random_folds",
) -> "Iterator[Run]":
    """Open and lock the run that the options describe.

    Args:
        default: the experiment of a new run.
    """
    from salt_ray.artifacts import RunDirectory
    from salt_ray.survey.source import Source

    file = experiment_path(experiment or default)
    if experiment is None and run_dir is not None and (run_path(run_dir) / "experiment.json").exists():
        file = run_path(run_dir) / "experiment.json"
    chosen = load_experiment(file, set_ or ())
    Source(data)  # report a missing folder before slow imports
    from salt_ray.pipeline.run import Run

    output, directory = Output(quiet, as_json), RunDirectory(kept_path(run_dir or f"runs/{chosen.name}"))
    run = Run(chosen, data, directory, output.terminal(), skip_bad=skip_bad)
    with keeping(directory), run.held():
        yield run
    output.finish(directory)


@contextlib.contextmanager
def open_run_and_engine(
    data: Data = Path("data"),
    experiment: ExperimentFile = None,
    run_dir: RunDir = None,
    set_: Set = None,
    engine: EngineName = EngineChoice.RAY,
    address: Address = None,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
    *,
    default: str = "random_folds",
) -> "Iterator[tuple[Run, Engine]]":
    """``open_run`` with an engine; on a cluster the command continues there as a job."""
    if experiment is not None:  # report mistakes in it before starting a job
        load_experiment(experiment_path(experiment), set_ or ())
    go_on_as_job(engine, address)
    from salt_ray.api import open_engine

    with (
        open_run(data, experiment, run_dir, set_, skip_bad, quiet, as_json, default=default) as run,
        open_engine(engine.value, run.terminal, address) as doing,
    ):
        yield run, doing


def run_command(
    commands: typer.Typer, *, default: str = "random_folds"
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Turn a function of a run, or of a run and an engine, into a command with the options to open these and its own.

    Args:
        default: the experiment of a new run.
    """

    def register(work: Callable[..., None]) -> Callable[..., None]:
        parameters = inspect.signature(work).parameters
        takes_engine = "engine" in parameters
        opening = inspect.signature(open_run_and_engine if takes_engine else open_run).parameters
        shared = [p for p in opening.values() if p.kind is not p.KEYWORD_ONLY]
        own = [p for p in parameters.values() if p.kind is p.KEYWORD_ONLY]

        def command(**values: Any) -> None:
            its = {p.name: values.pop(p.name) for p in own}
            if takes_engine:
                with open_run_and_engine(**values, default=default) as (run, engine):
                    work(run, engine, **its)
            else:
                with open_run(**values, default=default) as run:
                    work(run, **its)

        options = [p.replace(kind=p.KEYWORD_ONLY) for p in (*shared, *own)]
        command.__signature__ = inspect.Signature(options)
        command.__annotations__ = {p.name: p.annotation for p in options}
        commands.command(work.__name__, help=work.__doc__)(command)
        return work

    return register


def go_on_as_job(engine: EngineChoice, address: str | None) -> None:
    """On a cluster, continue the command there as a job and only follow it here."""
    if engine is EngineChoice.LOCAL:
        if address is not None:
            raise typer.BadParameter(
                "--address cannot be used with --engine local, which uses no Ray cluster: leave one of them out"
            )
        return
    from salt_ray.cluster.jobs import run_as_job

    if (code := run_as_job(address, sys.argv[1:], typer.echo)) is not None:
        raise typer.Exit(code)


@contextlib.contextmanager
def keeping(run: "RunDirectory") -> Iterator[None]:
    """On a signal, report where finished work is kept."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(f"finished work is kept in {run.path}; run the same command again to resume") from error
