"""Predicts a section or a volume with the models of a trained run, slab by slab, and writes results trace by trace."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from salt_ray.artifacts import Folder, RunDirectory
from salt_ray.errors import RunError
from salt_ray.pipeline.assembly import TALLIES, assemble
from salt_ray.pipeline.engine import Engine
from salt_ray.pipeline.slabs import SlabWork
from salt_ray.pipeline.trained import TrainedRun
from salt_ray.report.terminal import Terminal
from salt_ray.storage import remove_tree, write_atomically
from salt_ray.survey.amplitudes import MIDDLE_GREY, GreyRange, Scaling
from salt_ray.survey.padding import frame_for
from salt_ray.survey.window import SAME_SCALE
from salt_ray.volume.lines import amplitude_range, sampled_amplitudes
from salt_ray.volume.picture import is_picture, save_section, write_pictures
from salt_ray.volume.reading import Reading
from salt_ray.volume.scan import open_volume
from salt_ray.volume.slabs import Direction, Part, Slab, fingerprint
from salt_ray.volume.volume import Volume

#: Increase it whenever the same inputs give different results.
_FORMAT = 1
#: 8-bit greys, unchanged.
_GREYS = GreyRange(0, 255)
Numbers = tuple[int, int]


@dataclass(frozen=True)
class Asked:
    """Options of a prediction.

    Attributes:
        direction: sections along inlines, or the mean over both directions.
        step: stride between windows in px; None: half a window.
        memory: bytes a process may use in addition to the models.
        folds: use only the models of these folds; None: all.
        inlines, crosslines: first and last number; None: all.
        own_range: use this volume's own range of amplitudes instead of the run's.
        as_is: predict even if trace spacing or sample interval differ from the run's.
    """

    direction: Literal["inline", "both"] = "inline"
    step: int | None = None
    memory: int = 2 << 30
    folds: tuple[int, ...] | None = None
    inlines: Numbers | None = None
    crosslines: Numbers | None = None
    own_range: bool = False
    as_is: bool = False

    @property
    def directions(self) -> tuple[Direction, ...]:
        return ("inline",) if self.direction == "inline" else ("inline", "crossline")


def predict_file(
    trained: TrainedRun,
    data: Path,
    reading: Reading,
    to: RunDirectory,
    engine: Engine,
    terminal: Terminal,
    asked: Asked,
) -> dict[str, Any]:
    """``predict_volume`` for a file: SEG-Y, an .npy array, or a picture of a section, whose results are also pictures.

    Args:
        reading: how to read the file; a picture's sample interval is 1 by default.

    Raises:
        RunError, VolumeError: as in ``predict_volume``; or the file cannot be used.
    """
    data = data.absolute()  # workers have another working directory
    if not is_picture(data):
        return predict_volume(trained, open_volume(data, reading), to, engine, terminal, asked)
    check_place(to)
    reading = reading if reading.interval else replace(reading, interval=1.0)
    volume = open_volume(save_section(data, to.path), reading)
    summary = predict_volume(trained, volume, to, engine, terminal, asked, picture=data)
    write_pictures(to.path)
    return summary


def predict_volume(
    trained: TrainedRun,
    volume: Volume,
    to: RunDirectory,
    engine: Engine,
    terminal: Terminal,
    asked: Asked,
    picture: Path | None = None,
) -> dict[str, Any]:
    """Predict a section or a volume; resumes an interrupted call with the same ``to``.

    The results are ``probability``, ``mask``, ``spread`` and, for both directions, ``difference``, in the volume's
    format; ``top.csv``, ``base.csv``, ``top.xyz``, ``bodies.csv``, ``lines.csv``, ``depths.csv``, ``summary.json`` and
    ``report.html``. The mask is the probability above the run's threshold. The run's classification head and its rule
    for full tiles are not used, as they apply to tiles.

    Args:
        trained: the run, which is not modified.
        volume: ``salt_ray.volume.scan.open_volume``.
        to: a folder on a disk that all machines share.
        picture: the picture that the section was read from, whose name is reported.

    Returns:
        The content of ``summary.json``.

    Raises:
        RunError: the volume does not match the run, another process is writing to ``to``, or it holds other results.
        VolumeError: the volume cannot be read.
    """
    check_place(to)
    if volume.geometry.is_line and asked.direction == "both":
        raise RunError(f"{volume.path} is a 2D line, which has one direction: leave --direction out")
    assumed: list[str] = []

    def say(line: str) -> None:
        terminal.say(line)
        assumed.append(line)

    part, work = _part(volume, asked), _work(trained, volume, to, say, asked)
    at_once = {direction: work.lines_at_once(part, direction, asked.memory) for direction in asked.directions}
    folder = Folder(to.path, _inputs(trained, work, part, at_once, asked), option="--to")
    with to.lock("--to"):
        if folder.done is not None:
            _check_whole(to.path, folder.done)
            if not to.report.exists() and set(TALLIES) <= set(folder.done["files"]):
                _write_report(to.path, volume)
            terminal.say(f"{to.path} is already complete")
            return folder.done
        folder.open()
        about = {"run": str(trained.directory.path), "volume": str(volume.path)}
        write_atomically(to.path / "slabs" / "began.json", json.dumps(about))  # for the status command
        slabs = {
            direction: [
                Slab(direction, lines, to.path / "slabs" / direction / f"{number:05d}.npy")
                for number, lines in enumerate(part.lines(direction, count))
            ]
            for direction, count in at_once.items()
        }
        begun = time.monotonic()
        _predict_missing([slab for each in slabs.values() for slab in each], work, engine, terminal)
        work.check_volume()
        with terminal.bar("writing", part.shape[0], "inlines") as advance:
            found = assemble(volume, part, slabs, trained.decision.mask_threshold, to.path, asked.memory, advance)
        summary = {
            "run": str(trained.directory.path),
            "volume": str(volume.path),
            **({"picture": str(picture)} if picture else {}),
            "sample_format": volume.traces.format.name,
            "reading": _reading(volume),
            "assumed": assumed,
            **folder.inputs,
            **found,
            "seconds": round(time.monotonic() - begun, 1),
        }
        write_atomically(to.path / "summary.json", json.dumps(summary, indent=1))
        folder.finish(**summary)
        remove_tree(to.path / "slabs")
        _write_report(to.path, volume)
    terminal.say(
        f"{summary['traces']:,} traces, {summary['share_of_salt']:.2%} of their samples salt, in {summary['bodies']:,} "
        f"bodies: {', '.join(summary['files'])} in {to.path}; shown in {to.report.name}"
    )
    return summary


def _write_report(to: Path, volume: Volume) -> None:
    from salt_ray.report.volume_page import write_volume_report  # matplotlib: only pictures need it

    write_volume_report(to, volume)


def _check_whole(to: Path, summary: dict[str, Any]) -> None:
    """Check that all results are present, as the slabs they were made from have been deleted.

    Raises:
        RunError: a file is missing.
    """
    for name in summary["files"]:
        if not (to / name).exists():
            raise RunError(f"{to / name} is missing: restore it, or delete {to} and run again to regenerate")


def _reading(volume: Volume) -> dict[str, Any]:
    """Reading options for the results, with the values that were resolved for the volume."""
    geometry = volume.geometry
    return {
        "byte_order": volume.byte_order,
        "samples": volume.traces.samples,
        "interval": volume.interval,
        "inline_byte": geometry.inline_byte,
        "crossline_byte": geometry.crossline_byte,
        "line": geometry.is_line,
    }


def check_place(to: RunDirectory) -> None:
    """Check that results can be written to a folder without overwriting others.

    Raises:
        RunError: they cannot.
    """
    if not isinstance(to.path, Path):
        raise RunError(f"{to.path} is in an object store, where files cannot be written trace by trace: use a folder")
    if to.experiment.exists():
        raise RunError(f"{to.path} contains a run that would be overwritten: use another --to")
    if (to.path / "summary.json").exists() and not (to.path / "inputs.json").exists():
        raise RunError(f"{to.path} contains other results that would be overwritten: use another --to")


def _predict_missing(slabs: list[Slab], work: SlabWork, engine: Engine, terminal: Terminal) -> None:
    """Predict the slabs without a file; the progress bar estimates the remaining time after the first one."""
    windows = {slab: work.windows(slab) for slab in slabs}
    missing = [slab for slab in slabs if not slab.path.exists()]
    with terminal.bar("predicting", sum(windows.values()), "windows") as advance:
        advance(sum(windows.values()) - sum(windows[slab] for slab in missing))
        for slab in engine.predict(missing, work, terminal.say) if missing else ():
            advance(windows[slab])


def _part(volume: Volume, asked: Asked) -> Part:
    """The part of the volume to predict.

    Raises:
        RunError: the volume has none of the lines.
    """
    geometry, ends = volume.geometry, []
    for name, axis, chosen in (
        ("inlines", geometry.inlines, asked.inlines),
        ("crosslines", geometry.crosslines, asked.crosslines),
    ):
        first, last = (axis.first, axis.last) if chosen is None else chosen
        low, high = max(0, -(-(first - axis.first) // axis.step)), min(axis.count, (last - axis.first) // axis.step + 1)
        if low >= high:
            raise RunError(f"{volume.path} has {name} {axis}, none from {first} to {last}: choose others with --{name}")
        ends += [low, high]
    return Part(*ends)


def _work(trained: TrainedRun, volume: Volume, to: RunDirectory, say: Callable[[str], None], asked: Asked) -> SlabWork:
    """Checked settings shared by all slabs; reports assumptions."""
    record, experiment = trained.record, trained.experiment
    for line in trained.remarks:
        say(line)
    _check_pixels(trained, volume, say, asked)
    if trained.decision.full_tiles == "empty":
        say(
            "the run's labels leave tiles inside salt empty (labels.full_tiles): the run knows the edges of salt, so "
            "expect holes in thick salt"
        )
    models = tuple(m.checkpoints for m in trained.models if asked.folds is None or m.fold in asked.folds)
    if not models:
        raise RunError(f"{trained.directory.path} has no models for these folds: choose other --folds")
    if record.window is not None:
        window_px = record.window.window_px
    elif record.tile_px is not None:
        window_px = frame_for(record.tile_px, experiment.geometry).crop_px
    else:
        raise RunError(f"{trained.directory.path} does not record its tile size: train it again")
    step = window_px // 2 if asked.step is None else asked.step
    if not 1 <= step <= window_px:
        raise RunError(f"windows of {window_px} px cannot be {step} px apart: choose a --step from 1 to {window_px}")
    greys = _greys(trained, volume, say, asked)
    missing = volume.geometry.missing
    without = [f"{missing:,} position{'s' * (missing != 1)} without a trace"] * bool(missing)
    without += ["dead traces"] * bool(volume.dead)
    if without:
        say(f"predicted as no salt, and middle grey in the input: {' and '.join(without)}")
    directories = (trained.directory, to)
    return SlabWork(experiment, directories, volume, fingerprint(volume), models, greys, window_px, step)


def _inputs(
    trained: TrainedRun, work: SlabWork, part: Part, at_once: dict[Direction, int], asked: Asked
) -> dict[str, Any]:
    """The inputs that the results depend on."""
    chosen = [
        {"training": model.training, "fold": model.fold, "model": folder.inputs, "trained": folder.done}
        for model, folder in zip(trained.models, trained.folders, strict=True)
        if asked.folds is None or model.fold in asked.folds
    ]
    return {
        "format": _FORMAT,
        "fingerprint": work.fingerprint,
        "interval": work.volume.interval,
        "start": work.volume.start,
        "fill": work.volume.fill,
        "models": chosen,
        "flip": trained.experiment.prediction.flip,
        "mask_threshold": trained.decision.mask_threshold,
        "amplitudes": [work.greys.low, work.greys.high],
        "missing": MIDDLE_GREY,
        "window": work.window_px,
        "step": work.step,
        "direction": asked.direction,
        "rows": [part.first_row, part.last_row],
        "columns": [part.first_column, part.last_column],
        "lines_at_once": at_once,
    }


def _greys(trained: TrainedRun, volume: Volume, say: Callable[[str], None], asked: Asked) -> GreyRange:
    """The range of amplitudes mapped to 0 to 255.

    Raises:
        RunError: the run's range does not match the volume.
        VolumeError: the volume has no range.
    """
    record, run = trained.record, trained.directory.path
    if record.amplitudes is None and volume.traces.format.word == np.uint8 and not asked.own_range:
        say("assumed: values are greys from 0 to 255, like the run's tiles")
        return _GREYS
    own = amplitude_range(volume)
    if record.amplitudes is None or asked.own_range:
        why = "" if asked.own_range else f" ({run} was trained on greys, not amplitudes)"
        say(f"assumed: amplitudes from {own}, the volume's 1st to 99th percentile, are mapped to greys{why}")
        return own
    scaling = Scaling(record.amplitudes, own, record.amplitudes.outside(sampled_amplitudes(volume)))
    remedy = "rescale them to the run's, or use the volume's own range with --own-range"
    record.check_scaling(scaling, str(volume.path), remedy)
    return record.amplitudes


def _check_pixels(trained: TrainedRun, volume: Volume, say: Callable[[str], None], asked: Asked) -> None:
    """Check that the pixel size matches the run's.

    Raises:
        RunError: it does not, and ``as_is`` is not set.
    """
    window = trained.record.window
    if window is None:
        say(
            f"{trained.directory.path} does not record trace spacing and sample interval of its tiles: make sure "
            f"that {volume.path.name} is similar"
        )
        return
    spacing = (None, None)
    if volume.coordinates is not None and volume.coordinates.spacing is not None:
        spacing = volume.coordinates.spacing
    compared = [("sample interval", window.sample_interval, volume.interval)]
    compared.append(("trace spacing along inlines", window.trace_spacing, spacing[1]))
    if asked.direction == "both":
        compared.append(("trace spacing along crosslines", window.trace_spacing, spacing[0]))
    for name, run, here in compared:
        if run is None or here is None:
            say(f"the {name} cannot be compared: it is unknown for the {'run' if run is None else 'volume'}")
        elif abs(here - run) > SAME_SCALE * run:
            what = f"the {name} of {volume.path} is {here:.4g}, but {run:.4g} in the run"
            if not asked.as_is:
                wrong = ", correct it with --interval" if name == "sample interval" else ""
                raise RunError(f"{what}: resample the volume{wrong}, or predict anyway with --as-is")
            say(what)
