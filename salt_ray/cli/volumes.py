"""Commands for sections and volumes."""

import inspect
import json
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from salt_ray.cli.options import Address, AsJson, EngineChoice, EngineName, Output, Quiet, Seed, Set
from salt_ray.cli.places import kept_path
from salt_ray.cli.runs import go_on_as_job, keeping, open_run_and_engine

if TYPE_CHECKING:  # imported where it is used: --help should not wait for it
    from salt_ray.volume.reading import Reading

volume = typer.Typer(no_args_is_help=True, help="Sections and volumes in SEG-Y, or as .npy cubes.")
commands = typer.Typer()
commands.add_typer(volume, name="volume")


class ByteOrder(StrEnum):
    """Byte order of a SEG-Y file."""

    BIG = "big"
    LITTLE = "little"


class Fill(StrEnum):
    """Replacement for NaN and infinite values."""

    ZERO = "zero"


def reading_of(
    byte_order: Annotated[
        ByteOrder | None, typer.Option(help="Byte order of the numbers, overriding the headers.")
    ] = None,
    format_: Annotated[
        int | None,
        typer.Option(
            "--format", metavar="CODE", help="SEG-Y sample format code, overriding the headers: 1 IBM, 5 IEEE."
        ),
    ] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Samples per trace.")] = None,
    interval: Annotated[float | None, typer.Option(min=1e-6, help="Sample interval: ms, or the unit of depth.")] = None,
    inline_byte: Annotated[
        int | None, typer.Option(min=1, max=237, help="Byte of the inline number in trace headers. Default: 189.")
    ] = None,
    crossline_byte: Annotated[
        int | None,
        typer.Option(min=1, max=237, help="Byte of the crossline number, or of a line's trace number. Default: 193."),
    ] = None,
    line: Annotated[
        bool, typer.Option("--line", help="Treat each file as a 2D line, whatever its headers say.")
    ] = False,
    fill: Annotated[Fill | None, typer.Option(help="zero: replace NaN and infinite values by 0.")] = None,
) -> "Reading":
    """Options for reading a file."""
    from salt_ray.volume.reading import Reading

    return Reading(
        byte_order=byte_order and byte_order.value,
        format=format_,
        samples=samples,
        interval=interval,
        inline_byte=inline_byte,
        crossline_byte=crossline_byte,
        line=line or None,
        fill=fill is not None,
    )


def reads_volumes(work: Callable[..., None]) -> Callable[..., None]:
    """Turn a function with a ``reading`` into a command with its own options and those of ``reading_of``."""
    shared = list(inspect.signature(reading_of).parameters.values())
    own = [p for p in inspect.signature(work).parameters.values() if p.name != "reading"]

    def command(**values: Any) -> None:
        reading = reading_of(**{p.name: values.pop(p.name) for p in shared})
        work(reading=reading, **values)

    options = [p.replace(kind=p.KEYWORD_ONLY) for p in (*own, *shared)]
    command.__signature__ = inspect.Signature(options)
    command.__annotations__ = {p.name: p.annotation for p in options}
    volume.command(work.__name__, help=work.__doc__)(command)
    return work


@reads_volumes
def scan(
    reading: "Reading",
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="SEG-Y files, or .npy cubes.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON list for programs, one object per file.")
    ] = False,
) -> None:
    """Describe files from their headers: anything unusual, and the options they need (exit code 1 if any)."""
    from salt_ray.volume.scan import scan as scanned

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


@reads_volumes
def tiles(
    reading: "Reading",
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="The amplitudes: a SEG-Y file or an .npy cube, or several 2D lines."),
    ],
    to: Annotated[Path, typer.Option(help="Output folder for the survey.")],
    labels: Annotated[
        Path | None,
        typer.Option(
            help="The labels: a SEG-Y file or an .npy cube with all or some lines, or a folder of pictures such as "
            "inline_339.png. For several FILEs a folder, as for --top and --base, with files of the same names."
        ),
    ] = None,
    top: Annotated[
        Path | None, typer.Option(help="Instead of --labels, the top of salt as CSV or text: inline, crossline, z.")
    ] = None,
    base: Annotated[
        Path | None, typer.Option(help="The base of salt, likewise. Default: salt continues to the last sample.")
    ] = None,
    salt: Annotated[
        float | None, typer.Option(help="The value of --labels that is salt. Default: the one not 0.")
    ] = None,
    unlabelled: Annotated[
        float | None, typer.Option(help="The value of --labels for unlabelled samples. Default: -1 and 255.")
    ] = None,
    labels_byte_order: Annotated[ByteOrder | None, typer.Option(help="As --byte-order, but for the labels.")] = None,
    labels_format: Annotated[int | None, typer.Option(metavar="CODE", help="As --format, but for the labels.")] = None,
    labels_samples: Annotated[int | None, typer.Option(min=1, help="As --samples, but for the labels.")] = None,
    colour: Annotated[
        list[str] | None,
        typer.Option(metavar="salt=#RRGGBB", help="Meaning of a colour in pictures: salt or none. Can be repeated."),
    ] = None,
    inlines: Annotated[
        list[str] | None, typer.Option(metavar="FIRST[:LAST[:STEP]]", help="Inlines to cut. Default: those labelled.")
    ] = None,
    crosslines: Annotated[
        list[str] | None,
        typer.Option(metavar="FIRST[:LAST[:STEP]]", help="Crosslines to cut. Default: those labelled."),
    ] = None,
    window: Annotated[int, typer.Option(help="Edge of a window in px, a multiple of 32.")] = 128,
    step: Annotated[int | None, typer.Option(help="Stride between windows in px. Default: half a window.")] = None,
    quiet: Quiet = False,
) -> None:
    """Cut windows from labelled lines of a volume, or from 2D lines. Use the survey as --data of train or pipeline."""
    from salt_ray.volume.reading import Reading
    from salt_ray.volume.tiles import cut_labelled

    ranges = [("inline", text) for text in inlines or ()] + [("crossline", text) for text in crosslines or ()]
    chosen = {"labels": labels, "top": top, "base": base, "salt": salt, "unlabelled": unlabelled}
    how = {"colours": colour or (), "ranges": ranges, "window_px": window, "step": step}
    order = labels_byte_order and labels_byte_order.value
    how["labels_reading"] = Reading(byte_order=order, format=labels_format, samples=labels_samples)
    cut_labelled(files, to, reading, **chosen, **how, report=Output(quiet).say)


class DirectionChoice(StrEnum):
    """Which sections of a volume are predicted."""

    INLINE = "inline"
    BOTH = "both"


@reads_volumes
def predict(
    reading: "Reading",
    run: Annotated[str, typer.Argument(metavar="RUN", help="A trained run: runs/EXPERIMENT.")],
    data: Annotated[Path, typer.Option(help="A 2D line or a volume (SEG-Y or .npy), or a picture of a section.")],
    to: Annotated[str, typer.Option(help="Output directory.")],
    direction: Annotated[
        DirectionChoice,
        typer.Option(help="Predict along inlines, or average over both directions."),
    ] = DirectionChoice.INLINE,
    step: Annotated[
        int | None, typer.Option(min=1, help="Stride between windows in px. Default: half a window.")
    ] = None,
    memory: Annotated[
        float, typer.Option(min=0.001, help="Memory limit per worker in GB, in addition to its models.")
    ] = 2.0,
    folds: Annotated[
        list[int] | None, typer.Option("--folds", min=0, help="Only this fold's models; can be repeated.")
    ] = None,
    inlines: Annotated[
        str | None, typer.Option(metavar="FIRST[:LAST]", help="Predict only these inline numbers.")
    ] = None,
    crosslines: Annotated[
        str | None,
        typer.Option(metavar="FIRST[:LAST]", help="Predict only these crossline numbers, or traces of a 2D line."),
    ] = None,
    own_range: Annotated[
        bool, typer.Option("--own-range", help="Use the amplitude range of this volume instead of the run's.")
    ] = False,
    as_is: Annotated[
        bool, typer.Option("--as-is", help="Predict even if trace spacing or sample interval differ from the run's.")
    ] = False,
    set_: Set = None,
    engine: EngineName = EngineChoice.RAY,
    address: Address = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Predict a section or a volume with a run's models. The results have the same traces as the file."""
    from salt_ray.api import open_engine
    from salt_ray.artifacts import RunDirectory
    from salt_ray.pipeline.trained import load_run
    from salt_ray.pipeline.volumes import Asked, predict_file

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
    terminal = output.terminal()
    with keeping(results), open_engine(engine, terminal, address) as doing:
        summary = predict_file(trained, data, reading, results, doing, terminal, asked)
    if as_json:
        typer.echo(json.dumps(summary, indent=1))


def _numbers(option: str, text: str | None) -> tuple[int, int] | None:
    """Parse FIRST:LAST."""
    from salt_ray.volume.lines import named_lines

    if text is None:
        return None
    try:
        first, last, step = named_lines(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None
    if step != 1:
        raise typer.BadParameter(
            f"{text!r} has a step, but all lines are predicted: write FIRST:LAST", param_hint=option
        )
    return first, last


@reads_volumes
def score(
    reading: "Reading",
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Output folder of volume predict.")],
    labels: Annotated[Path, typer.Option(help="SEG-Y or .npy labels: salt, 0 for none, -1 or 255 for unlabelled.")],
    salt: Annotated[float, typer.Option(help="Value of salt in the labels.")] = 1,
    without: Annotated[
        Path | None, typer.Option(help="Exclude the inlines of this file, for example the training labels.")
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Compare a predicted section or volume with labels at the same lines and traces. The options read the labels."""
    from salt_ray.api import score_volume
    from salt_ray.report.volumes import volume_tables

    found = score_volume(kept_path(str(directory)), labels, salt=salt, without=without, reading=reading)
    terminal = Output(quiet, as_json).terminal()
    for table in volume_tables(found):
        terminal.table(table)
    if as_json:
        typer.echo(json.dumps(found, indent=1))


@volume.command()
def synth(
    directory: Path,
    inlines: Annotated[int, typer.Option(help="Number of inlines; memory use does not depend on it.")] = 120,
    crosslines: Annotated[int, typer.Option(help="Number of crosslines.")] = 160,
    samples: Annotated[int, typer.Option(help="Samples per trace.")] = 256,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Write a synthetic volume: amplitudes, truth, labels of every twentieth inline (SEG-Y) and top of salt (CSV)."""
    from salt_ray.volume.synthetic_survey import write_synthetic_volume

    write_synthetic_volume(directory, inlines, crosslines, samples, seed, report=Output(quiet).say)


DEMO_SIZE = (400, 160, 256)  # inlines, crosslines, samples: enough lines for two folds and the gap between them
DEMO_WINDOW, DEMO_STEP = 64, 48


@volume.command()
def demo(
    run_dir: Annotated[str, typer.Option(help="Run directory: a folder.")] = "runs/volume_demo",
    set_: Set = None,
    engine: EngineName = EngineChoice.RAY,
    address: Address = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Run every step on a synthetic volume in minutes: train on 5 % of its lines, predict all, score the others."""
    from salt_ray.artifacts import RunDirectory
    from salt_ray.pipeline.volumes import Asked, check_place, predict_file
    from salt_ray.volume.reading import Reading
    from salt_ray.volume.synthetic_survey import write_synthetic_volume
    from salt_ray.volume.tiles import cut_labelled

    go_on_as_job(engine, address)  # first, so that the volume is written where the run is
    place, say = kept_path(run_dir), Output(quiet, as_json).say
    predicted = RunDirectory(place / "predicted")
    check_place(predicted)
    made, windows = place / "made", place / "windows"
    amplitudes, labels = made / "amplitudes.sgy", made / "labels.sgy"
    if not made.exists():
        write_synthetic_volume(made, *DEMO_SIZE, report=say)
    if not windows.exists():
        cut_labelled(amplitudes, windows, Reading(), labels=labels, window_px=DEMO_WINDOW, report=say)
    options = {"run_dir": run_dir, "set_": set_, "engine": engine, "address": address}
    with open_run_and_engine(windows, "volume_demo", **options, quiet=quiet, as_json=as_json) as (run, doing):
        from salt_ray.pipeline.steps import pipeline
        from salt_ray.pipeline.trained import load_run
        from salt_ray.pipeline.volume_scores import score_volume
        from salt_ray.report.volumes import volume_tables
        from salt_ray.storage import load_fields
        from salt_ray.volume.scan import open_volume

        pipeline(run, doing)
        trained, scores = load_run(run.directory.path), predicted.path / "scores.json"
        asked = Asked(direction="both", step=DEMO_STEP)
        predict_file(trained, amplitudes, Reading(), predicted, doing, run.terminal, asked)
        if not scores.exists():
            score_volume(predicted.path, open_volume(made / "truth.sgy"), without=open_volume(labels))
        found = load_fields(scores, scores, "iou", "lines")
        for table in volume_tables(found):
            run.terminal.table(table)
        run.terminal.say(
            f"IoU of salt on the {len(found['lines'])} inlines without labels: {found['iou']:.4f}; {predicted.report}"
        )
