"""Commands for sections and volumes."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from salt_ray.cli.options import Output, Quiet, Seed

volume = typer.Typer(no_args_is_help=True, help="Sections and volumes in SEG-Y, or as .npy cubes.")
commands = typer.Typer()
commands.add_typer(volume, name="volume")


class ByteOrder(StrEnum):
    """Of a SEG-Y file's numbers."""

    BIG = "big"
    LITTLE = "little"


class Fill(StrEnum):
    """What takes the place of values that are no numbers."""

    ZERO = "zero"


@volume.command()
def scan(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="SEG-Y files, or .npy cubes.")],
    byte_order: Annotated[ByteOrder | None, typer.Option(help="Of the numbers, whatever headers say.")] = None,
    format_: Annotated[
        int | None,
        typer.Option(
            "--format", metavar="CODE", help="SEG-Y's code of the samples, whatever headers say: 1 IBM, 5 IEEE."
        ),
    ] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="How many samples a trace has.")] = None,
    interval: Annotated[
        float | None, typer.Option(min=1e-6, help="Between samples: ms, or in the unit of depth.")
    ] = None,
    inline_byte: Annotated[
        int | None, typer.Option(min=1, max=237, help="Where inlines are numbered in trace headers. Default: 189.")
    ] = None,
    crossline_byte: Annotated[
        int | None,
        typer.Option(min=1, max=237, help="Where crosslines are numbered, or a line's traces. Default: 193."),
    ] = None,
    line: Annotated[bool, typer.Option("--line", help="Each file is a 2D line, whatever its numbers say.")] = False,
    fill: Annotated[Fill | None, typer.Option(help="zero: put 0 where a value is NaN or infinite.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: a JSON list, one object a file.")] = False,
) -> None:
    """Say what files are, from their headers: what is odd, and which options they need (exit code 1 if any does)."""
    from salt_ray.volume.reading import Reading
    from salt_ray.volume.scan import scan as scanned

    reading = Reading(
        byte_order=byte_order and byte_order.value,
        format=format_,
        samples=samples,
        interval=interval,
        inline_byte=inline_byte,
        crossline_byte=crossline_byte,
        line=line,
        fill=fill is not None,
    )
    found = []
    for path in files:
        found.append(scanned(path, reading))
        if not as_json:
            for text in found[-1].lines():
                typer.echo(text)
    if as_json:
        typer.echo(json.dumps([one.as_json() for one in found], indent=1))
    if any(one.problems for one in found):
        raise typer.Exit(1)


@volume.command()
def synth(
    directory: Path,
    inlines: Annotated[int, typer.Option(help="How many inlines; memory does not grow with them.")] = 120,
    crosslines: Annotated[int, typer.Option(help="How many crosslines.")] = 160,
    samples: Annotated[int, typer.Option(help="Of each trace.")] = 256,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Write a synthetic volume: amplitudes, the truth, labels of every twentieth inline (SEG-Y), top of salt (CSV)."""
    from salt_ray.volume.synthetic_survey import write_synthetic_volume

    write_synthetic_volume(directory, inlines, crosslines, samples, seed, report=Output(quiet).say)
