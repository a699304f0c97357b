"""Descriptions of files from their headers, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from salt_ray.errors import refusal
from salt_ray.survey.problems import shown
from salt_ray.volume.cube import describe_cube
from salt_ray.volume.problem import Problem, VolumeError, options_in
from salt_ray.volume.reading import Reading
from salt_ray.volume.segy import describe_segy
from salt_ray.volume.volume import Volume

_TEXT_LINES = 3  # of the text header, shown


def describe(path: Path, reading: Reading = Reading()) -> Volume:  # noqa: B008 - it is frozen
    """Describe a file, an array (.npy) or SEG-Y, including everything that prevents its use.

    Raises:
        VolumeError: the file cannot be divided into traces.
    """
    return (describe_cube if path.suffix.lower() == ".npy" else describe_segy)(path, reading)


def open_volume(path: Path, reading: Reading = Reading()) -> Volume:  # noqa: B008
    """Open a file that can be used as it is, or with what ``reading`` specifies.

    Raises:
        VolumeError: everything that prevents its use.
    """
    return describe(path, reading).usable()


@dataclass(frozen=True)
class Scanned:
    """The result of a scan; ``volume`` is None if the file could not be divided into traces."""

    path: Path
    volume: Volume | None
    problems: tuple[Problem, ...]

    def lines(self) -> Iterator[str]:
        """What the file is, what is unusual, and what is needed."""
        yield shown(str(self.path))
        if self.volume is not None:
            yield from (f"  {name:<12} {shown(value)}" for name, value in _facts(self.volume))
            yield from (f"  {'odd':<12} {shown(what)}" for what in self.volume.odd)
        for problem in self.problems:
            yield f"  {'needs':<12} {shown(problem.what)}; {shown(problem.remedy)}"
        if not self.problems:
            yield f"  {'usable':<12} as it is" if self.volume is not None else ""

    def as_json(self) -> dict[str, Any]:
        """The same as JSON."""
        problems = [
            {"what": problem.what, "remedy": problem.remedy, "options": options_in(problem)}
            for problem in self.problems
        ]
        found = {} if self.volume is None else _as_json(self.volume)
        return {"file": str(self.path), "usable": not self.problems, "problems": problems, **found}


def scan(path: Path, reading: Reading = Reading()) -> Scanned:  # noqa: B008
    """Check a file's headers and up to 1,000 of its traces; problems are returned, not raised."""
    try:
        volume = describe(path, reading)
    except VolumeError as error:
        return Scanned(path, None, tuple(error.problems))
    except OSError as error:
        return Scanned(path, None, (Problem(str(path), f"cannot be read: {refusal(error)}", "give a readable file"),))
    return Scanned(path, volume, volume.problems)


def _facts(volume: Volume) -> Iterator[tuple[str, str]]:
    traces, geometry = volume.traces, volume.geometry
    yield "format", f"{volume.kind}, {traces.format.name}, {volume.byte_order}-endian"
    interval = "an unknown interval" if volume.interval is None else f"{volume.interval:g} ms (or units of depth)"
    yield "traces", f"{traces.count:,} of {traces.samples:,} samples at {interval}, from {volume.start:g}"
    if geometry is not None and geometry.is_line:
        numbers = "in file order" if volume.kind == "SEG-Y" and geometry.crossline_byte is None else geometry.crosslines
        yield "geometry", f"a 2D line of {geometry.crosslines.count:,} positions, {numbers}"
    elif geometry is not None:
        bytes_ = f" (bytes {geometry.inline_byte}, {geometry.crossline_byte})" if geometry.inline_byte else ""
        yield (
            "geometry",
            f"a volume of {geometry.inlines.count:,} inlines ({geometry.inlines}) and {geometry.crosslines.count:,} "
            f"crosslines ({geometry.crosslines}){bytes_}",
        )
    if volume.dead:
        yield "dead", f"{volume.dead:,} of {volume.sampled:,} traces that were sampled"
    if (places := volume.coordinates) is not None:
        (west, south), (east, north) = places.corners
        yield "coordinates", f"x {west:.1f} to {east:.1f}, y {south:.1f} to {north:.1f}, unit: {places.unit}"
        if places.spacing is not None:
            inlines, crosslines = places.spacing
            between = (
                f"traces {crosslines:.2f}" if inlines is None else f"inlines {inlines:.2f}, crosslines {crosslines:.2f}"
            )
            yield "spacing", f"{between} (bytes {places.bytes[0]}, {places.bytes[1]}, scalar {places.scalar:g})"
    yield from (("text", line) for line in volume.text[:_TEXT_LINES])


def _as_json(volume: Volume) -> dict[str, Any]:
    traces, geometry = volume.traces, volume.geometry
    places = None
    if geometry is not None:
        places = {
            "kind": "line" if geometry.is_line else "volume",
            "inlines": asdict(geometry.inlines),
            "crosslines": asdict(geometry.crosslines),
            "inline_byte": geometry.inline_byte,
            "crossline_byte": geometry.crossline_byte,
            "missing": geometry.missing,
            "unplaced": len(geometry.unplaced),
            "order": geometry.order,
            "reversed": geometry.reversed,
        }
    return {
        "kind": volume.kind,
        "format": traces.format.name,
        "byte_order": volume.byte_order,
        "traces": traces.count,
        "samples": traces.samples,
        "interval": volume.interval,
        "start": volume.start,
        "geometry": places,
        "coordinates": None if volume.coordinates is None else asdict(volume.coordinates),
        "sampled": volume.sampled,
        "dead": volume.dead,
        "odd": list(volume.odd),
        "text": list(volume.text),
    }
