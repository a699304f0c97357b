"""The commands of a run's steps, in order."""

from typing import TYPE_CHECKING, Annotated

import typer

from salt_ray.cli.options import Probabilities
from salt_ray.cli.runs import run_command

if TYPE_CHECKING:  # imported where it is used: --help should not wait for PyTorch
    from salt_ray.pipeline.engine import Engine
    from salt_ray.pipeline.run import Run

commands = typer.Typer()

FoldNumbers = Annotated[
    list[int] | None, typer.Option("--folds", min=0, help="Use only this fold of every training. Can be repeated.")
]


@run_command(commands)
def pipeline(
    run: "Run",
    engine: "Engine",
    *,
    folds: FoldNumbers = None,
    seeds: Annotated[int, typer.Option(min=1, help="Repeat over this many seeds, and report mean and spread.")] = 1,
) -> None:
    """Prepare, train, predict, post-process, submit, score and report, skipping what is done."""
    from salt_ray.pipeline import steps
    from salt_ray.pipeline.seeds import run_seeds

    if seeds == 1:
        steps.pipeline(run, engine, folds)
    else:
        run_seeds(run, engine, seeds, folds)


@run_command(commands)
def prepare(run: "Run") -> None:
    """Check the tiles, cache them padded, and save the folds."""
    from salt_ray.pipeline import steps

    steps.prepare(run)


@run_command(commands)
def train(
    run: "Run",
    engine: "Engine",
    *,
    folds: FoldNumbers = None,
) -> None:
    """Train every fold. Run it again to resume; finished folds are skipped."""
    from salt_ray.pipeline import steps

    steps.prepare(run)
    steps.train(run, engine, folds)


@run_command(commands, default="tune")
def tune(
    run: "Run",
    engine: "Engine",
    *,
    trials: Annotated[int | None, typer.Option(min=1, help="Total number of trials; default: tune.trials.")] = None,
) -> None:
    """Search loss weights and learning-rate settings. Run it again to resume, even after a crash."""
    from salt_ray.pipeline.search import search

    search(run, engine, trials)


@run_command(commands)
def predict(
    run: "Run",
    engine: "Engine",
    *,
    again: Annotated[
        bool, typer.Option("--again", help="Predict again with folds whose predictions are not from their best model.")
    ] = False,
) -> None:
    """Predict unlabelled tiles with every fold's best model, and labelled ones out of fold."""
    from salt_ray.pipeline import steps

    if again:
        steps.predict_again(run)
    steps.predict(run, engine)


@run_command(commands)
def mosaic(run: "Run") -> None:
    """Assemble the tiles into mosaics; write mosaics/mosaics.csv."""
    from salt_ray.pipeline import steps

    steps.assemble(run)


@run_command(commands)
def postprocess(run: "Run", engine: "Engine") -> None:
    """Correct predictions using mosaic neighbours: choose rules on hidden labels, apply them, draw the mosaics."""
    from salt_ray.pipeline import steps

    steps.postprocess(run, engine)


@run_command(commands)
def submit(run: "Run", *, probabilities: Probabilities = False) -> None:
    """Average the models, apply thresholds and the rules' corrections, and write submission.csv and masks.zip."""
    from salt_ray.pipeline import steps

    steps.submit(run, probabilities)


@run_command(commands)
def score(run: "Run") -> None:
    """Score predictions per fold, out of fold, on the hold-out, and on the test truth if known. Writes scores.json."""
    from salt_ray.pipeline import steps

    steps.score(run)
