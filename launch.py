"""salt-ray's command line: every command is one call into salt_ray. ``python launch.py COMMAND --help`` explains it."""

import contextlib
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, NoReturn

import typer

from salt_ray.config import RemovedField
from salt_ray.errors import Interrupted, SaltRayError, incurable, refusal
from salt_ray.experiment_file import load_experiment
from salt_ray.home import provide_home
from salt_ray.interruption import Interruption
from salt_ray.streams import make_output_safe

if TYPE_CHECKING:  # imported where it is used: --help should not wait for Ray and PyTorch
    from salt_ray.artifacts import RunDirectory
    from salt_ray.pipeline.engine import Engine
    from salt_ray.pipeline.run import Run
    from salt_ray.report.terminal import Terminal
    from salt_ray.storage import StoragePath

ROOT = Path(__file__).resolve().parent
DEMO_TILES = 900  # as many as two cores learn from in minutes
DEMO_SEED = 0
EXIT_ERROR = 1

app = typer.Typer(
    help="K-fold training, tuning, prediction and submission for salt segmentation in seismic tiles, on Ray.",
    epilog="Exit codes: 0 done; 1 a message on standard error says what to do; 2 wrong command line; 130, 143 and 129 "
    "ended by Ctrl-C, SIGTERM and SIGHUP.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


class EngineChoice(StrEnum):
    """What may do a run's work."""

    RAY = "ray"
    LOCAL = "local"


Data = Annotated[
    Path,
    typer.Option(
        envvar="SALT_RAY_DATA",
        help="A survey in Kaggle's layout: a folder with train/, test/ and the CSVs, or the one with its zips.",
    ),
]
ExperimentFile = Annotated[
    str | None,
    typer.Option(
        "--experiment",
        help="An experiment, Python or JSON. Default: what --run-dir was made with, else random_folds (or tune).",
    ),
]
RunDir = Annotated[
    str | None,
    typer.Option(
        help="Where everything of the run lies: a folder, or s3://BUCKET/PREFIX. Default: runs/EXPERIMENT; the "
        "environment's SALT_RAY_RUNS takes the place of runs."
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD.SUB=VALUE", help="Change a field of the experiment; any number of times."),
]
Address = Annotated[
    str | None,
    typer.Option(help="A Ray cluster. Default: the one that this process runs on, or a local one for the command."),
]
EngineName = Annotated[
    EngineChoice,
    typer.Option("--engine", help="What does the work: Ray, or this process alone, with the same results."),
]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave damaged tiles out, saying which, instead of stopping.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Say nothing, unless something goes wrong.")]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        help="For programs: at the end the run's status and results as JSON on standard output; all else goes to "
        "standard error.",
    ),
]
Tiles = Annotated[int, typer.Option(help="How many tiles the survey has.")]
Seed = Annotated[int, typer.Option(help="The same seed writes the same bytes.")]


class Output(NamedTuple):
    """What a command prints: everything, nothing (``quiet``), and for programs one JSON on standard output."""

    quiet: bool = False
    as_json: bool = False

    def say(self, line: str) -> None:
        if not self.quiet:
            typer.echo(line, err=self.as_json)

    def terminal(self) -> "Terminal":
        from salt_ray.report.terminal import Terminal

        return Terminal(quiet=self.quiet, to_stderr=self.as_json)

    def finish(self, run: "RunDirectory") -> None:
        """The last word of a command that did not fail."""
        if self.as_json:
            from salt_ray.report.status import run_status

            typer.echo(json.dumps(run_status(run).as_json(), indent=1))


def run_command(work: Callable[["Run"], None]) -> Callable[["Run"], None]:
    """Make a command of what a function does with a run in this process, with the options that these commands share."""

    def command(
        data: Data = Path("data"),
        experiment: ExperimentFile = None,
        run_dir: RunDir = None,
        set_: Set = None,
        skip_bad: SkipBad = False,
        quiet: Quiet = False,
        as_json: AsJson = False,
    ) -> None:
        with _run(data, experiment, run_dir, set_, Output(quiet, as_json), skip_bad) as run:
            work(run)

    app.command(work.__name__, help=work.__doc__)(command)
    return work


def engine_command(work: Callable[["Run", "Engine"], None]) -> Callable[["Run", "Engine"], None]:
    """The same where an engine does the work."""

    def command(
        data: Data = Path("data"),
        experiment: ExperimentFile = None,
        run_dir: RunDir = None,
        set_: Set = None,
        engine: EngineName = EngineChoice.RAY,
        address: Address = None,
        skip_bad: SkipBad = False,
        quiet: Quiet = False,
        as_json: AsJson = False,
    ) -> None:
        output = Output(quiet, as_json)
        with _run_and_engine(data, experiment, run_dir, set_, output, engine, address, skip_bad) as (run, doing):
            work(run, doing)

    app.command(work.__name__, help=work.__doc__)(command)
    return work


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Before the command: show where an error comes from (its traceback).")
    ] = False,
) -> None:
    """Read by ``main``; what a command does is the same."""


@app.command()
def demo(
    run_dir: Annotated[str, typer.Option(help="Where everything of the run lies.")] = "runs/demo",
    set_: Set = None,
    engine: EngineName = EngineChoice.RAY,
    address: Address = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """The whole road on a small synthetic survey with a small encoder; minutes on two cores."""
    from salt_ray.storage import cache_folder
    from salt_ray.survey.synthetic import write_survey

    _go_on_as_job(engine, address)  # first: the survey is made where the run lies
    run = _run_path(run_dir)
    survey = (run if isinstance(run, Path) else cache_folder("surveys")) / "survey"
    if not survey.exists():
        write_survey(survey, DEMO_TILES, DEMO_SEED, report=Output(quiet, as_json).say)
    file = str(ROOT / "experiments" / "demo.py")
    pipeline(survey, file, run_dir, set_, engine, address, quiet=quiet, as_json=as_json)


@app.command()
def synth(directory: Path, tiles: Tiles = 2000, seed: Seed = 0, quiet: Quiet = False) -> None:
    """Write a synthetic survey in Kaggle's layout, with the truth of its test tiles beside it."""
    from salt_ray.survey.synthetic import write_survey

    write_survey(directory, tiles, seed, report=Output(quiet).say)


@run_command
def prepare(run: "Run") -> None:
    """Check the tiles, cache them padded, and save the folds."""
    from salt_ray.pipeline import steps

    steps.prepare(run)


@engine_command
def train(run: "Run", engine: "Engine") -> None:
    """Train every fold; the same command again continues what is unfinished and skips what is done."""
    from salt_ray.pipeline import steps

    steps.prepare(run)
    steps.train(run, engine)


@app.command()
def tune(
    data: Data = Path("data"),
    experiment: ExperimentFile = None,
    run_dir: RunDir = None,
    trials: Annotated[int | None, typer.Option(min=1, help="How many trials in all; default: tune.trials.")] = None,
    set_: Set = None,
    engine: EngineName = EngineChoice.RAY,
    address: Address = None,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Search loss weights and learning-rate settings; the same command again goes on, also after a crash."""
    output = Output(quiet, as_json)
    with _run_and_engine(data, experiment, run_dir, set_, output, engine, address, skip_bad, "tune") as (run, doing):
        from salt_ray.pipeline.search import search

        search(run, doing, trials)


@app.command()
def study(
    run_dir: Annotated[str, typer.Argument(help="Where the search lies: runs/EXPERIMENT.")],
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Show what a search has found so far, and draw its pictures anew."""
    from salt_ray.artifacts import RunDirectory
    from salt_ray.report.study import report_study

    run, output = RunDirectory(_run_path(run_dir)), Output(quiet, as_json)
    report_study(run, output.terminal())
    output.finish(run)


@app.command()
def predict(
    data: Data = Path("data"),
    experiment: ExperimentFile = None,
    run_dir: RunDir = None,
    set_: Set = None,
    engine: EngineName = EngineChoice.RAY,
    address: Address = None,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
    again: Annotated[
        bool, typer.Option("--again", help="Also where another model of a fold has predicted than is its best.")
    ] = False,
) -> None:
    """Predict unlabelled tiles with every fold's best model, labelled ones with those that never saw them."""
    output = Output(quiet, as_json)
    with _run_and_engine(data, experiment, run_dir, set_, output, engine, address, skip_bad) as (run, doing):
        from salt_ray.pipeline import steps

        if again:
            steps.predict_again(run)
        steps.predict(run, doing)


@run_command
def mosaic(run: "Run") -> None:
    """Assemble the tiles to mosaics; write mosaics/mosaics.csv."""
    from salt_ray.pipeline import steps

    steps.assemble(run)


@engine_command
def postprocess(run: "Run", engine: "Engine") -> None:
    """Let mosaic neighbours correct the predictions: choose rules on hidden labels, apply them, draw the mosaics."""
    from salt_ray.pipeline import steps

    steps.postprocess(run, engine)


@run_command
def submit(run: "Run") -> None:
    """Average the models, apply thresholds and the rules' corrections, and write submission.csv and masks.zip."""
    from salt_ray.pipeline import steps

    steps.submit(run)


@run_command
def score(run: "Run") -> None:
    """Score the predictions per fold, out of fold, on the hold-out and on a known test truth; write scores.json."""
    from salt_ray.pipeline import steps

    steps.score(run)


@app.command()
def apply(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A trained run: runs/EXPERIMENT.")],
    data: Annotated[Path, typer.Option(help="A survey that it has not seen, labelled in part or not at all.")],
    to: Annotated[str, typer.Option(help="Where the masks go: a folder, or s3://BUCKET/PREFIX.")],
    set_: Set = None,
    engine: EngineName = EngineChoice.RAY,
    address: Address = None,
    skip_bad: SkipBad = False,
    own_range: Annotated[
        bool, typer.Option("--own-range", help="Measure the range of amplitudes in this survey, not the run's.")
    ] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Predict the tiles of another survey with a run's models: masks.zip, submission.csv and summary.json."""
    from salt_ray.artifacts import RunDirectory
    from salt_ray.errors import RunError
    from salt_ray.survey.source import Source

    output = Output(quiet, as_json)
    _go_on_as_job(engine, address)
    trained, results = (RunDirectory(_kept_path(name)) for name in (run, to))
    if not trained.experiment.exists():
        raise RunError(f"there is no run in {trained.path}: name one that train or pipeline has made")
    experiment = load_experiment(trained.experiment, set_ or ())
    Source(data)  # a missing folder is said before the seconds that PyTorch takes to load
    from salt_ray.pipeline.application import Application

    terminal = output.terminal()
    application = Application(trained, experiment, data, results, terminal, skip_bad=skip_bad, own_range=own_range)
    with _keeping(results), _engine(engine, address, terminal) as doing:
        summary = application.run(doing)
    if as_json:
        typer.echo(json.dumps(summary, indent=1))


@app.command()
def report(
    place: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Where the run lies; --run-dir says the same.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="The survey of the run. Default: the one inside the run directory (a demo has it there), else what "
            "SALT_RAY_DATA says, else data.",
        ),
    ] = None,
    run_dir: RunDir = None,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write report.html: a scored run on one page, to be read in a browser and sent on."""
    from salt_ray.artifacts import RunDirectory
    from salt_ray.report.finished import check_finished

    name = place or run_dir
    if name is None or (place and run_dir):
        raise typer.BadParameter("name one run: report RUN, or report --run-dir RUN")
    path = _run_path(name)
    check_finished(RunDirectory(path))
    if data is None:
        inside = isinstance(path, Path) and (path / "survey").is_dir()
        data = path / "survey" if inside else Path(os.environ.get("SALT_RAY_DATA", "data"))
    with _run(data, None, name, None, Output(quiet, as_json), skip_bad) as run:
        from salt_ray.pipeline import steps

        steps.report(run)


@app.command()
def status(
    run_dir: Annotated[str, typer.Argument(metavar="RUN", help="Where the run lies: runs/EXPERIMENT.")],
    as_json: AsJson = False,
) -> None:
    """Say what of a run is done, running or waiting, with sizes and times; also while it is worked on."""
    from salt_ray.artifacts import RunDirectory
    from salt_ray.report.status import run_status, status_table

    run = RunDirectory(_run_path(run_dir))
    if as_json:
        Output(as_json=True).finish(run)
        return
    found, terminal = run_status(run), Output().terminal()
    terminal.table(status_table(found))
    if found.next:
        terminal.say(found.next)


@app.command()
def pipeline(
    data: Data = Path("data"),
    experiment: ExperimentFile = None,
    run_dir: RunDir = None,
    set_: Set = None,
    engine: EngineName = EngineChoice.RAY,
    address: Address = None,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
    seeds: Annotated[int, typer.Option(min=1, help="Repeat it over so many seeds: mean and spread.")] = 1,
) -> None:
    """Prepare, train, predict, post-process, submit, score and report, skipping what is done."""
    output = Output(quiet, as_json)
    with _run_and_engine(data, experiment, run_dir, set_, output, engine, address, skip_bad) as (run, doing):
        from salt_ray.pipeline import steps
        from salt_ray.pipeline.seeds import run_seeds

        if seeds == 1:
            steps.pipeline(run, doing)
        else:
            run_seeds(run, doing, seeds)


@app.command()
def bench(
    names: Annotated[list[str], typer.Argument(help="One or more of the benchmarks in benchmarks/.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the rows as a JSON list.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default: a GPU where there is one.")] = None,
) -> None:
    """Measure speed claims, each against its peer in the same run."""
    from benchmarks.harness import run_benchmarks

    rows = run_benchmarks(names, typer.echo, device)
    if json_file:
        json_file.write_text(json.dumps(rows, indent=1))


def _run_path(run_dir: str) -> "StoragePath":
    """Where a run lies: SALT_RAY_RUNS, where it is set, takes the place of the folder runs."""
    from salt_ray.storage import storage_path

    path = storage_path(run_dir)
    root = os.environ.get("SALT_RAY_RUNS")
    if root is None or not isinstance(path, Path) or path.is_absolute():
        return path
    parts = path.parts[1:] if path.parts[:1] == ("runs",) else path.parts
    return storage_path(root) / "/".join(parts)


def _kept_path(run_dir: str) -> "StoragePath":
    """``_run_path``, where what is written there stays."""
    from salt_ray.cluster.package import in_package
    from salt_ray.errors import RunError

    path = _run_path(run_dir)
    if isinstance(path, Path) and not path.is_absolute() and in_package():
        raise RunError(
            f"{path} would lie in the job's unpacked code, which Ray deletes: name a whole path or s3://BUCKET/PREFIX "
            "with --run-dir, or set SALT_RAY_RUNS on the cluster"
        )
    return path


@contextlib.contextmanager
def _run(
    data: Path,
    experiment_file: str | None,
    run_dir: str | None,
    overrides: list[str] | None,
    output: Output,
    skip_bad: bool = False,
    default: str = "random_folds",
) -> "Iterator[Run]":
    """The run that the options describe, held while the block lasts."""
    from salt_ray.artifacts import RunDirectory
    from salt_ray.storage import storage_path
    from salt_ray.survey.source import Source

    if experiment_file is None:
        earlier = _run_path(run_dir) / "experiment.json" if run_dir else None
        experiment_file = earlier if earlier and earlier.exists() else ROOT / "experiments" / f"{default}.py"
    experiment = load_experiment(storage_path(experiment_file), overrides or ())
    Source(data)  # a missing folder is said before the seconds that other modules take to load
    from salt_ray.pipeline.run import Run

    directory = RunDirectory(_kept_path(run_dir or f"runs/{experiment.name}"))
    run = Run(experiment, data, directory, output.terminal(), skip_bad=skip_bad)
    with _keeping(directory), run.held():
        yield run
    output.finish(directory)


@contextlib.contextmanager
def _run_and_engine(
    data: Path,
    experiment_file: str | None,
    run_dir: str | None,
    overrides: list[str] | None,
    output: Output,
    engine: EngineChoice,
    address: str | None,
    skip_bad: bool,
    default: str = "random_folds",
) -> "Iterator[tuple[Run, Engine]]":
    """``_run``, and what does its work; on a cluster the command goes on there, as a job."""
    if experiment_file is not None:  # a mistake in it is said before a job begins
        from salt_ray.storage import storage_path

        load_experiment(storage_path(experiment_file), overrides or ())
    _go_on_as_job(engine, address)
    with (
        _run(data, experiment_file, run_dir, overrides, output, skip_bad, default) as run,
        _engine(engine, address, run.terminal) as doing,
    ):
        yield run, doing


@contextlib.contextmanager
def _engine(engine: EngineChoice, address: str | None, terminal: "Terminal") -> "Iterator[Engine]":
    """What does the work."""
    if engine is EngineChoice.LOCAL:
        from salt_ray.pipeline.local import LocalEngine

        yield LocalEngine()
        return
    from salt_ray.cluster.engine import RayEngine

    with RayEngine(address, terminal.dashboard) as ray_engine:
        yield ray_engine


def _go_on_as_job(engine: EngineChoice, address: str | None) -> None:
    """On a cluster this process only follows the command, which goes on there as a job."""
    if engine is EngineChoice.LOCAL:
        if address is not None:
            raise typer.BadParameter(
                "--address names a Ray cluster, and --engine local uses none: leave one of them out"
            )
        return
    from salt_ray.cluster.jobs import run_as_job

    if (code := run_as_job(address, sys.argv[1:], typer.echo)) is not None:
        raise typer.Exit(code)


@contextlib.contextmanager
def _keeping(run: "RunDirectory") -> Iterator[None]:
    """Say where a signal leaves what is done."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(f"what is done is kept in {run.path}, and the same command goes on") from error


def main() -> None:
    """Run a command; what a person can put right is one message on standard error."""
    debug = sys.argv[1:2] == ["--debug"]
    make_output_safe()
    warnings.filterwarnings("once", category=RemovedField)
    warnings.showwarning = _show_note
    with Interruption() as interruption:
        try:
            if (line := provide_home()) is not None:
                print(_printable(line), file=sys.stderr)
            app()
        except Interrupted as error:
            _end(f"interrupted: {error}", interruption.exit_code)
        except (SystemExit, KeyboardInterrupt):
            if interruption.number is None:
                raise
            _end("interrupted: the same command goes on", interruption.exit_code)
        except SaltRayError as error:
            if debug:
                raise
            _end(f"error: {error}")
        except MemoryError as error:
            if debug:
                raise
            from salt_ray.survey.memory import out_of_memory

            _end(f"error: {out_of_memory('this command', error)}")
        except OSError as error:
            if debug:
                raise
            obstacle = incurable(error)
            _end("error: " + (f"{obstacle}, then the same command goes on" if obstacle else refusal(error)))


def _end(message: str, code: int = EXIT_ERROR) -> NoReturn:
    """End with a message on standard error."""
    print(_printable(message), file=sys.stderr)
    sys.exit(code)


def _show_note(message: Warning | str, category: type[Warning], *where: object, **more: object) -> None:
    """Warnings for people are one line; those of libraries are for whoever debugs them."""
    if issubclass(category, RemovedField):
        print(f"note: {_printable(str(message))}", file=sys.stderr)


def _printable(text: str) -> str:
    """A message without escape sequences, which a terminal would obey: it may hold text of a damaged file."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode("ascii") for c in text)


if __name__ == "__main__":
    main()
