"""The command of speed claims."""

import json
from pathlib import Path
from typing import Annotated

import typer

from salt_ray.errors import RunError

commands = typer.Typer()


@commands.command()
def bench(
    names: Annotated[list[str], typer.Argument(help="One or more of the benchmarks in benchmarks/.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the rows as a JSON list.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default: a GPU where there is one.")] = None,
) -> None:
    """Measure speed claims, each against its peer in the same run."""
    try:
        from benchmarks.harness import run_benchmarks
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("benchmarks"):
            raise
        raise RunError("benchmarks lie in the project's folder: run python launch.py bench there") from error

    rows = run_benchmarks(names, typer.echo, device)
    if json_file:
        json_file.write_text(json.dumps(rows, indent=1))
