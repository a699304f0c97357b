"""Commands that write a synthetic survey, with or without running on it."""

from pathlib import Path
from typing import Annotated

import typer

from salt_ray.cli.options import Address, AsJson, EngineChoice, EngineName, Output, Quiet, Seed, Set, Tiles
from salt_ray.cli.places import run_path
from salt_ray.cli.runs import go_on_as_job, open_run_and_engine

DEMO_TILES = 900  # enough to learn from in minutes on two cores
DEMO_SEED = 0

commands = typer.Typer()


@commands.command()
def demo(
    run_dir: Annotated[str, typer.Option(help="Run directory.")] = "runs/demo",
    set_: Set = None,
    engine: EngineName = EngineChoice.RAY,
    address: Address = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Run every step on a small synthetic survey with a small encoder; takes minutes on two cores."""
    from salt_ray.storage import cache_folder
    from salt_ray.survey.synthetic import write_survey

    go_on_as_job(engine, address)  # first, so that the survey is written where the run is
    place = run_path(run_dir)
    survey = (place if isinstance(place, Path) else cache_folder("surveys")) / "survey"
    if not survey.exists():
        write_survey(survey, DEMO_TILES, DEMO_SEED, report=Output(quiet, as_json).say)
    options = {"run_dir": run_dir, "set_": set_, "engine": engine, "address": address}
    with open_run_and_engine(survey, "demo", **options, quiet=quiet, as_json=as_json) as (run, doing):
        from salt_ray.pipeline.steps import pipeline

        pipeline(run, doing)


@commands.command()
def synth(directory: Path, tiles: Tiles = 2000, seed: Seed = 0, quiet: Quiet = False) -> None:
    """Write a synthetic survey in Kaggle's layout, including the truth of its test tiles."""
    from salt_ray.survey.synthetic import write_survey

    write_survey(directory, tiles, seed, report=Output(quiet).say)
