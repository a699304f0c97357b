"""Commands for sections and volumes."""

import json
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from salt_ray.cli.options import Address, AsJson, EngineChoice, EngineName, Output, Quiet, Seed, Set
from salt_ray.cli.places import kept_path
from salt_ray.cli.runs import go_on_as_job, keeping

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


ByteOrderOption = Annotated[ByteOrder | None, typer.Option(help="Of the numbers, whatever headers say.")]
Format = Annotated[
    int | None,
    typer.Option("--format", metavar="CODE", help="SEG-Y's code of the samples, whatever headers say: 1 IBM, 5 IEEE."),
]
Samples = Annotated[int | None, typer.Option(min=1, help="How many samples a trace has.")]
Interval = Annotated[float | None, typer.Option(min=1e-6, help="Between samples: ms, or in the unit of depth.")]
InlineByte = Annotated[
    int | None, typer.Option(min=1, max=237, help="Where inlines are numbered in trace headers. Default: 189.")
]
CrosslineByte = Annotated[
    int | None,
    typer.Option(min=1, max=237, help="Where crosslines are numbered, or a line's traces. Default: 193."),
]
Line = Annotated[bool, typer.Option("--line", help="Each file is a 2D line, whatever its numbers say.")]
FillOption = Annotated[Fill | None, typer.Option(help="zero: put 0 where a value is NaN or infinite.")]


@volume.command()
def scan(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="SEG-Y files, or .npy cubes.")],
    byte_order: ByteOrderOption = None,
    format_: Format = None,
    samples: Samples = None,
    interval: Interval = None,
    inline_byte: InlineByte = None,
    crossline_byte: CrosslineByte = None,
    line: Line = False,
    fill: FillOption = None,
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


class DirectionChoice(StrEnum):
    """Which sections of a volume are predicted."""

    INLINE = "inline"
    BOTH = "both"


@volume.command()
def predict(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A trained run: runs/EXPERIMENT.")],
    data: Annotated[Path, typer.Option(help="A line or a volume: SEG-Y or an .npy array; or a section's picture.")],
    to: Annotated[str, typer.Option(help="Where the results go: a folder.")],
    direction: Annotated[
        DirectionChoice,
        typer.Option(help="Sections along inlines, or the mean of these and those along crosslines."),
    ] = DirectionChoice.INLINE,
    step: Annotated[int | None, typer.Option(min=1, help="Pixels between windows. Default: half a window.")] = None,
    memory: Annotated[
        float, typer.Option(min=0.001, help="GB that the lines at work may take, in each worker, beside its models.")
    ] = 2.0,
    folds: Annotated[
        list[int] | None, typer.Option("--folds", min=0, help="This fold's models only; any number of times.")
    ] = None,
    inlines: Annotated[
        str | None, typer.Option(metavar="FIRST:LAST", help="Only these lines, by their numbers.")
    ] = None,
    crosslines: Annotated[
        str | None, typer.Option(metavar="FIRST:LAST", help="Only these, or only these traces of a line.")
    ] = None,
    own_range: Annotated[
        bool, typer.Option("--own-range", help="Measure the range of amplitudes in this volume, not the run's.")
    ] = False,
    as_is: Annotated[
        bool, typer.Option("--as-is", help="Predict though trace spacing or sample interval are not the run's.")
    ] = False,
    byte_order: ByteOrderOption = None,
    format_: Format = None,
    samples: Samples = None,
    interval: Interval = None,
    inline_byte: InlineByte = None,
    crossline_byte: CrosslineByte = None,
    line: Line = False,
    fill: FillOption = None,
    set_: Set = None,
    engine: EngineName = EngineChoice.RAY,
    address: Address = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Predict a section or a volume with a run's models, slab by slab; the results have the traces of the file."""
    from salt_ray.api import open_engine
    from salt_ray.artifacts import RunDirectory
    from salt_ray.pipeline.trained import load_run
    from salt_ray.pipeline.volumes import Asked, predict_file
    from salt_ray.volume.reading import Reading

    output = Output(quiet, as_json)
    asked = Asked(
        direction=direction.value,
        step=step,
        memory=int(memory * 2**30),
        folds=tuple(folds) if folds else None,
        inlines=_numbers("--inlines", inlines),
        crosslines=_numbers("--crosslines", crosslines),
        own_range=own_range,
        as_is=as_is,
    )
    go_on_as_job(engine, address)
    trained, results = load_run(kept_path(run), set_ or ()), RunDirectory(kept_path(to))
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
    terminal = output.terminal()
    with keeping(results), open_engine(engine, terminal, address) as doing:
        summary = predict_file(trained, data, reading, results, doing, terminal, asked)
    if as_json:
        typer.echo(json.dumps(summary, indent=1))


def _numbers(option: str, text: str | None) -> tuple[int, int] | None:
    """The first and the last of FIRST:LAST."""
    if text is None:
        return None
    found = re.fullmatch(r"(-?\d+):(-?\d+)", text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is not FIRST:LAST, as 100:500", param_hint=option)
    return int(found[1]), int(found[2])


@volume.command()
def score(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="What volume predict has written.")],
    labels: Annotated[Path, typer.Option(help="SEG-Y or an .npy array: salt, 0 for none, -1 or 255 for not labelled.")],
    salt: Annotated[float, typer.Option(help="The labels' value of salt.")] = 1,
    byte_order: ByteOrderOption = None,
    format_: Format = None,
    samples: Samples = None,
    interval: Interval = None,
    inline_byte: InlineByte = None,
    crossline_byte: CrosslineByte = None,
    line: Line = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Compare a predicted section or volume with labels, joined by inline and crossline; options read the labels."""
    from salt_ray.pipeline.volume_scores import score_volume
    from salt_ray.report.volumes import volume_tables
    from salt_ray.volume.reading import Reading
    from salt_ray.volume.scan import open_volume

    reading = Reading(
        byte_order=byte_order and byte_order.value,
        format=format_,
        samples=samples,
        interval=interval,
        inline_byte=inline_byte,
        crossline_byte=crossline_byte,
        line=line,
    )
    found = score_volume(kept_path(str(directory)), open_volume(labels.absolute(), reading), salt)
    terminal = Output(quiet, as_json).terminal()
    for table in volume_tables(found):
        terminal.table(table)
    if as_json:
        typer.echo(json.dumps(found, indent=1))


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
