"""Commands that inspect a run, or apply its models to other data."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from salt_ray.cli.options import (
    Address,
    AsJson,
    EngineChoice,
    EngineName,
    Output,
    Probabilities,
    Quiet,
    RunDir,
    Set,
    SetChoice,
    SkipBad,
)
from salt_ray.cli.places import kept_path, run_path
from salt_ray.cli.runs import go_on_as_job, keeping, open_run

commands = typer.Typer()


@commands.command()
def apply(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A trained run: runs/EXPERIMENT.")],
    data: Annotated[Path, typer.Option(help="Another survey, partly labelled or unlabelled.")],
    to: Annotated[str, typer.Option(help="Output directory: a folder, or s3://BUCKET/PREFIX.")],
    set_: Set = None,
    engine: EngineName = EngineChoice.RAY,
    address: Address = None,
    skip_bad: SkipBad = False,
    own_range: Annotated[
        bool, typer.Option("--own-range", help="Use the amplitude range of this survey instead of the run's.")
    ] = False,
    probabilities: Probabilities = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Predict the tiles of another survey with a run's models: masks.zip, submission.csv and summary.json."""
    from salt_ray.api import open_engine
    from salt_ray.artifacts import RunDirectory
    from salt_ray.pipeline import application
    from salt_ray.pipeline.trained import load_run
    from salt_ray.survey.source import Source

    output = Output(quiet, as_json)
    go_on_as_job(engine, address)
    trained, results = load_run(kept_path(run), set_ or ()), RunDirectory(kept_path(to))
    Source(data)  # report a missing folder before slow imports
    terminal = output.terminal()
    options = {"skip_bad": skip_bad, "own_range": own_range, "probabilities": probabilities}
    with keeping(results), open_engine(engine, terminal, address) as doing:
        summary = application.apply(trained, data, results, doing, terminal, **options)
    if as_json:
        typer.echo(json.dumps(summary, indent=1))


@commands.command()
def report(
    place: Annotated[str | None, typer.Argument(metavar="RUN", help="The run directory; same as --run-dir.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="The survey of the run. Default: the one inside the run directory (as in a demo), else "
            "SALT_RAY_DATA, else data.",
        ),
    ] = None,
    run_dir: RunDir = None,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write report.html: a scored run on one page, to read in a browser and share."""
    from salt_ray.artifacts import RunDirectory
    from salt_ray.report.finished import check_finished

    name = place or run_dir
    if name is None or (place and run_dir):
        raise typer.BadParameter("give exactly one run: report RUN, or report --run-dir RUN")
    path = run_path(name)
    check_finished(RunDirectory(path))
    if data is None:
        inside = isinstance(path, Path) and (path / "survey").is_dir()
        data = path / "survey" if inside else Path(os.environ.get("SALT_RAY_DATA", "data"))
    with open_run(data, run_dir=name, skip_bad=skip_bad, quiet=quiet, as_json=as_json) as run:
        from salt_ray.pipeline import steps

        steps.report(run)


@commands.command()
def compare(
    first: Annotated[str, typer.Argument(metavar="RUN_A", help="A scored run, or one of several seeds.")],
    second: Annotated[str, typer.Argument(metavar="RUN_B", help="Another one, on the same tiles.")],
    on: Annotated[
        SetChoice, typer.Option(help="Out-of-fold tiles before mosaic rules, the hold-out, or the test truth if known.")
    ] = SetChoice.OOF,
    picture: Annotated[
        Path | None, typer.Option(help="Also write a PNG of the difference and its interval, by share of salt.")
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Compare two runs tile by tile: which scores higher, and how certain that is."""
    from salt_ray.artifacts import RunDirectory
    from salt_ray.report.comparison import compare_runs, comparison_table

    output = Output(quiet, as_json)
    found = compare_runs(RunDirectory(run_path(first)), RunDirectory(run_path(second)), on.value)
    for line in found.sentences():
        output.say(line)
    output.terminal().table(comparison_table(found))
    if picture is not None:
        from salt_ray.report.forest import draw_comparison  # matplotlib: only pictures need it
        from salt_ray.storage import write_atomically

        write_atomically(picture, draw_comparison(found))
        output.say(f"picture: {picture}")
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=1))


@commands.command()
def status(
    run_dir: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="A run directory such as runs/EXPERIMENT, or an output folder of volume predict."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Show which steps of a run are done, running or waiting, with sizes and times. Works during a run."""
    from salt_ray.artifacts import RunDirectory
    from salt_ray.report.status import run_status, status_table

    run = RunDirectory(run_path(run_dir))
    if as_json:
        Output(as_json=True).finish(run)
        return
    found, terminal = run_status(run), Output().terminal()
    terminal.table(status_table(found))
    if found.next:
        terminal.say(found.next)


@commands.command()
def study(
    run_dir: Annotated[str, typer.Argument(help="Run directory of the search: runs/EXPERIMENT.")],
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Show the results of a search so far, and redraw its figures."""
    from salt_ray.artifacts import RunDirectory
    from salt_ray.report.study import report_study

    run, output = RunDirectory(run_path(run_dir)), Output(quiet, as_json)
    report_study(run, output.terminal())
    output.finish(run)
