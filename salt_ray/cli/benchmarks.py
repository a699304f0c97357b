"""The command that runs benchmarks."""

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
    device: Annotated[str | None, typer.Option(help="cpu or cuda. Default: a GPU if available.")] = None,
) -> None:
    """Run benchmarks, each against a reference in the same run."""
    try:
        from benchmarks.harness import run_benchmarks
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("benchmarks"):
            raise
        raise RunError("benchmarks are not installed: run python launch.py bench in a checkout") from error

    rows = run_benchmarks(names, typer.echo, device)
    if json_file:
        json_file.write_text(json.dumps(rows, indent=1))
