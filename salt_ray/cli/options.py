"""Options shared by commands, and their output."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

if TYPE_CHECKING:  # imported where it is used: --help should not wait for it
    from salt_ray.artifacts import RunDirectory
    from salt_ray.report.terminal import Terminal


class EngineChoice(StrEnum):
    """Where a run's work is done."""

    RAY = "ray"
    LOCAL = "local"


class SetChoice(StrEnum):
    """The tiles on which two runs are compared."""

    OOF = "oof"
    HOLDOUT = "holdout"
    TEST = "test"


# Panels of --help, below a command's own options.
EXPERIMENT, WORK, OUTPUT = "Experiment", "Where to run", "Output"

Data = Annotated[
    Path,
    typer.Option(
        envvar="SALT_RAY_DATA",
        help="A survey in Kaggle's layout: a folder with train/, test/ and the CSV files, unpacked or as zips.",
    ),
]
ExperimentFile = Annotated[
    str | None,
    typer.Option(
        "--experiment",
        rich_help_panel=EXPERIMENT,
        help="Experiment file, Python or JSON. Default: that of --run-dir, else random_folds (tune for a search).",
    ),
]
RunDir = Annotated[
    str | None,
    typer.Option(
        help="Run directory: a folder, or s3://BUCKET/PREFIX. Default: runs/EXPERIMENT; SALT_RAY_RUNS replaces runs."
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD.SUB=VALUE",
        rich_help_panel=EXPERIMENT,
        help="Change a field of the experiment; can be repeated.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=WORK,
        help="Address of a Ray cluster. Default: the current cluster, else a local one for this command.",
    ),
]
EngineName = Annotated[
    EngineChoice,
    typer.Option("--engine", rich_help_panel=WORK, help="Run on Ray or in this process. The results are the same."),
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Skip and list damaged tiles instead of stopping.")]
Probabilities = Annotated[
    bool,
    typer.Option(
        "--probabilities",
        help="Also write probabilities.zip (16-bit PNG) and tiles.csv (P(salt) and model disagreement).",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", rich_help_panel=OUTPUT, help="Print only errors.")]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        rich_help_panel=OUTPUT,
        help="Print status and results as JSON on standard output, and everything else on standard error.",
    ),
]
Tiles = Annotated[int, typer.Option(help="Number of tiles.")]
Seed = Annotated[int, typer.Option(help="Random seed; the same seed gives identical files.")]


class Output(NamedTuple):
    """Output of a command: everything, nothing (``quiet``), or JSON on standard output (``as_json``)."""

    quiet: bool = False
    as_json: bool = False

    def say(self, line: str) -> None:
        if not self.quiet:
            typer.echo(line, err=self.as_json)

    def terminal(self) -> "Terminal":
        from salt_ray.report.terminal import Terminal  # rich

        return Terminal(quiet=self.quiet, to_stderr=self.as_json)

    def finish(self, run: "RunDirectory") -> None:
        """Final output of a successful command."""
        if self.as_json:
            from salt_ray.report.status import run_status

            typer.echo(json.dumps(run_status(run).as_json(), indent=1))
