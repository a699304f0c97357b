"""Options that commands share, and what a command prints."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

if TYPE_CHECKING:  # imported where it is used: --help should not wait for it
    from salt_ray.artifacts import RunDirectory
    from salt_ray.report.terminal import Terminal


class EngineChoice(StrEnum):
    """What may do a run's work."""

    RAY = "ray"
    LOCAL = "local"


class SetChoice(StrEnum):
    """Which tiles two runs are compared on."""

    OOF = "oof"
    HOLDOUT = "holdout"
    TEST = "test"


# Panels of --help, below a command's own options.
EXPERIMENT, WORK, SAID = "The experiment", "Where the work is done", "What is printed"

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
        rich_help_panel=EXPERIMENT,
        help="An experiment, Python or JSON. Default: what --run-dir was made with, else random_folds (or tune).",
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
        help="Address of a Ray cluster. Default: the one this process runs on, or a local one for this command.",
    ),
]
EngineName = Annotated[
    EngineChoice,
    typer.Option(
        "--engine", rich_help_panel=WORK, help="Run on Ray, or in this process only; the results are the same."
    ),
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Skip damaged tiles and list them, instead of stopping.")]
Probabilities = Annotated[
    bool,
    typer.Option(
        "--probabilities",
        help="Also write probabilities.zip (16-bit PNG) and tiles.csv (P(salt) and model disagreement).",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", rich_help_panel=SAID, help="Print nothing but errors.")]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        rich_help_panel=SAID,
        help="Print the run's status and results as JSON on standard output; everything else goes to standard error.",
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
        from salt_ray.report.terminal import Terminal  # rich

        return Terminal(quiet=self.quiet, to_stderr=self.as_json)

    def finish(self, run: "RunDirectory") -> None:
        """The last word of a command that did not fail."""
        if self.as_json:
            from salt_ray.report.status import run_status

            typer.echo(json.dumps(run_status(run).as_json(), indent=1))
