"""What is written has the volume's own traces: every header byte but the sample format's, in their order."""

from __future__ import annotations

import csv
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segyio
from made_segy import SAMPLES, grid_numbers, ibm_bits, waves, write_segy

from salt_ray.errors import RunError
from salt_ray.pipeline.assembly import assemble
from salt_ray.volume.reading import Reading
from salt_ray.volume.scan import open_volume
from salt_ray.volume.slabs import Part, Slab
from salt_ray.volume.volume import Volume

TRACES = 42
FLOATS, BYTES = 5, 8


def numbers_of(order: np.ndarray | slice, **more: Any) -> dict[int, Any]:
    return {place: np.broadcast_to(values, TRACES)[order] for place, values in grid_numbers().items()} | more


def ibm(path: Path) -> Path:
    words = np.vectorize(ibm_bits, otypes=[np.uint32])(waves())
    return write_segy(path, words, code=1)


def unplaced(path: Path) -> Path:
    values, numbers = waves(), grid_numbers()
    values[[3, 30]] = 0
    numbers[189][[3, 30]] = numbers[193][[3, 30]] = 0
    return write_segy(path, values, numbers | {29: np.where(values.any(1), 1, 2)})


KINDS: dict[str, Callable[[Path], Path]] = {
    "ibm": ibm,
    "ieee": write_segy,
    "int16": lambda path: write_segy(path, waves(), code=3),
    "int8": lambda path: write_segy(path, waves() / 4, code=8),
    "little endian": lambda path: write_segy(path, little=True),
    "line": lambda path: write_segy(path, numbers={21: np.arange(TRACES), 73: 10 * np.arange(TRACES), 77: 5}),
    "holes": lambda path: write_segy(path, waves()[7:35:2], numbers_of(slice(7, 35, 2))),
    "along crosslines": lambda path: write_segy(path, waves(), numbers_of(np.arange(TRACES).reshape(6, 7).T.ravel())),
    "no order": lambda path: write_segy(path, waves(), numbers_of(np.random.default_rng(5).permutation(TRACES))),
    "downwards": lambda path: write_segy(path, waves(), numbers_of(slice(None, None, -1))),
    "more text": lambda path: write_segy(path, more=b"\x40" * 3200, binary={3505: ("h", 1)}),
    "late": lambda path: write_segy(path, numbers=grid_numbers() | {109: 100}),
    "dead traces without a place": unplaced,
}


def made(volume: Volume, part: Part, seed: int = 0) -> np.ndarray:
    """Mean and spread of a part, (2, I, K, S), smooth, 0 where there is no trace."""
    values = np.random.default_rng(seed).random((2, *part.shape, volume.traces.samples)).astype(np.float32)
    values[:, part.of(volume.geometry.traces) < 0] = 0
    return values


def slabs_of(volume: Volume, part: Part, values: np.ndarray, to: Path, direction: str, at_once: int) -> list[Slab]:
    found = []
    for number, lines in enumerate(part.lines(direction, at_once)):
        found.append(Slab(direction, lines, to / "slabs" / direction / f"{number}.npy"))
        shifted = [lines.first_row - part.first_row, lines.last_row - part.first_row]
        columns = [lines.first_column - part.first_column, lines.last_column - part.first_column]
        found[-1].save(np.ascontiguousarray(values[:, slice(*shifted), slice(*columns)]))
    return found


def whole(volume: Volume) -> Part:
    rows, columns = volume.geometry.traces.shape
    return Part(0, rows, 0, columns)


def raw_traces(path: Path, volume: Volume, width: int) -> tuple[bytes, np.ndarray, np.ndarray]:
    """What stands before the traces, their headers (n, 240) and their samples' bytes (n, S * width)."""
    content, first = path.read_bytes(), volume.traces.first_byte
    traces = np.frombuffer(content[first:], np.uint8).reshape(-1, 240 + width * volume.traces.samples)
    return content[:first], traces[:, :240], traces[:, 240:]


@pytest.mark.parametrize("kind", KINDS)
def test_headers_are_the_volumes_own_and_samples_are_at_their_places(kind: str, tmp_path: Path) -> None:
    path = KINDS[kind](tmp_path / "in.sgy")
    volume = open_volume(path)
    part, grid = whole(volume), volume.geometry.traces
    first, second = made(volume, part), made(volume, part, 1)
    slabs = {"inline": slabs_of(volume, part, first, tmp_path, "inline", 2)}
    if not volume.geometry.is_line:
        slabs["crossline"] = slabs_of(volume, part, second, tmp_path, "crossline", 3)
    told = assemble(volume, part, slabs, 0.5, tmp_path / "out", memory=1)
    two = len(slabs) == 2
    mean = (first[0] + second[0]) / 2 if two else first[0]
    wanted = {
        "probability": mean,
        "mask": (mean > 0.5).astype(np.float32),
        "spread": np.sqrt((first[1] ** 2 + second[1] ** 2) / 2) if two else first[1],
    } | ({"difference": first[0] - second[0]} if two else {})
    before, headers, _ = raw_traces(path, volume, volume.traces.format.word.itemsize)
    for name, values in wanted.items():
        out, code = tmp_path / "out" / f"{name}.sgy", BYTES if name == "mask" else FLOATS
        head, its_headers, _ = raw_traces(out, volume, 1 if name == "mask" else 4)
        assert head[:3224] + head[3226:] == before[:3224] + before[3226:]
        assert int.from_bytes(head[3224:3226], volume.byte_order) == code
        np.testing.assert_array_equal(its_headers, headers)
        expected = np.zeros((volume.traces.count, volume.traces.samples), np.float32)
        expected[grid[grid >= 0]] = values[grid >= 0]
        with segyio.open(out, ignore_geometry=True, endian=volume.byte_order) as again:
            np.testing.assert_array_equal(again.trace.raw[:], expected)
        ours = open_volume(out, Reading(format=code))
        np.testing.assert_array_equal(ours.traces.read(0, ours.traces.count), expected)
        np.testing.assert_array_equal(ours.geometry.traces, grid)
        assert (ours.interval, ours.start, ours.coordinates) == (volume.interval, volume.start, volume.coordinates)
    placed = mean[grid >= 0]
    assert told["traces"] == volume.traces.count and told["share_of_salt"] == pytest.approx((placed > 0.5).mean())
    assert not [path.name for path in (tmp_path / "out").iterdir() if path.name.endswith(".tmp")]


@pytest.mark.parametrize("memory", [1, 20_000, 1 << 30])
def test_how_many_inlines_are_held_changes_nothing(memory: int, tmp_path: Path) -> None:
    volume = open_volume(KINDS["no order"](tmp_path / "in.sgy"))
    part = whole(volume)
    values = made(volume, part)
    contents = []
    for name, at_once, bound in (("one", 6, 1 << 30), ("other", 1, memory)):
        slabs = slabs_of(volume, part, values, tmp_path / f"{name} slabs", "inline", at_once)
        told = assemble(volume, part, {"inline": slabs}, 0.5, tmp_path / name, bound)
        contents.append({file: (tmp_path / name / file).read_bytes() for file in told["files"]})
    assert contents[0] == contents[1]


def test_outside_a_part_nothing_is_written(tmp_path: Path) -> None:
    path = KINDS["no order"](tmp_path / "in.sgy")
    volume, part = open_volume(path), Part(1, 4, 2, 6)
    values = made(volume, part)
    slabs = {"inline": slabs_of(volume, part, values, tmp_path, "inline", 2)}
    told = assemble(volume, part, slabs, 0.5, tmp_path / "out", 1 << 20)
    out = open_volume(tmp_path / "out" / "probability.sgy")
    assert told["traces"] == out.traces.count == 12
    assert (out.geometry.inlines.first, out.geometry.crosslines.first, out.geometry.traces.shape) == (101, 302, (3, 4))
    np.testing.assert_array_equal(out.traces.read(0, 12)[out.geometry.traces], values[0])
    order = np.argsort(out.geometry.traces.ravel())
    assert (np.diff(part.of(volume.geometry.traces).ravel()[order]) > 0).all()  # in the order of the file


@pytest.mark.parametrize("shape", [(6, 7, SAMPLES), (1, 42, SAMPLES), (42, 1, SAMPLES), (42, SAMPLES)])
def test_an_array_becomes_arrays_of_its_shape(shape: tuple[int, ...], tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", waves().reshape(shape))
    volume = open_volume(tmp_path / "in.npy", Reading(interval=4))
    values = made(volume, whole(volume))
    slabs = {"inline": slabs_of(volume, whole(volume), values, tmp_path, "inline", 4)}
    told = assemble(volume, whole(volume), slabs, 0.5, tmp_path / "out", 1 << 20)
    assert open_volume(tmp_path / "out" / "probability.npy").geometry.crosslines == volume.geometry.crosslines
    tables = ["base.csv", "bodies.csv", "depths.csv", "lines.csv"]
    assert told["files"] == [*tables, "mask.npy", "probability.npy", "spread.npy", "top.csv"]
    probability, mask = (np.load(tmp_path / "out" / f"{name}.npy") for name in ("probability", "mask"))
    assert (probability.dtype, mask.dtype, mask.shape) == (np.float32, np.int8, shape)
    np.testing.assert_array_equal(probability, values[0].reshape(shape))
    np.testing.assert_array_equal(mask, probability > 0.5)
    few = Part(0, volume.geometry.traces.shape[0], 2, 5)
    slabs = {"inline": slabs_of(volume, few, few.of(values.swapaxes(0, 2).swapaxes(0, 1)).transpose(2, 0, 1, 3),
                                tmp_path / "few", "inline", 4)}  # fmt: skip
    assemble(volume, few, slabs, 0.5, tmp_path / "few out", 1 << 20)
    found = np.load(tmp_path / "few out" / "probability.npy")
    assert found.ndim == len(shape)
    again = open_volume(tmp_path / "few out" / "mask.npy")
    assert (again.geometry.crosslines.first, again.interval) == (volume.geometry.crosslines.first + 2, 4)
    np.testing.assert_array_equal(found.ravel(), values[0][:, 2:5].ravel())


def test_horizons_and_bodies_are_in_the_units_of_the_survey(tmp_path: Path) -> None:
    path = write_segy(tmp_path / "in.sgy", numbers=grid_numbers() | {109: 1000})
    volume = open_volume(path)
    part = whole(volume)
    values = np.zeros((2, *part.shape, SAMPLES), np.float32)
    values[0, 1:3, 2:4, 10:21] = 1
    values[0, 5, 6, 40:] = 0.75
    slabs = {"inline": slabs_of(volume, part, values, tmp_path, "inline", 2)}
    told = assemble(volume, part, slabs, 0.5, tmp_path, 1)
    top, base, bodies = (list(csv.DictReader((tmp_path / f"{n}.csv").open())) for n in ("top", "base", "bodies"))
    assert [(row["inline"], row["crossline"]) for row in top] == [
        ("101", "302"), ("101", "303"), ("102", "302"), ("102", "303"), ("105", "306")
    ]  # fmt: skip
    assert float(top[0]["z"]) == 1000 + 4 * 9.5 and float(base[0]["z"]) == 1000 + 4 * 20.5
    assert float(top[-1]["z"]) == pytest.approx(1000 + 4 * (40 - 1 / 3), abs=1e-4)
    assert float(base[-1]["z"]) == 1000 + 4 * 49
    for row in top:
        inline, crossline = int(row["inline"]) - 100, int(row["crossline"]) - 300
        assert float(row["x"]) == pytest.approx(grid_numbers()[181][inline * 7 + crossline] / 100)
        assert float(row["y"]) == pytest.approx(grid_numbers()[185][inline * 7 + crossline] / 100)
    points = np.loadtxt(tmp_path / "top.xyz")
    np.testing.assert_allclose(points, [[float(row[axis]) for axis in "xyz"] for row in top])
    assert bodies[0] == {
        "body": "1", "samples": "44", "inline_first": "101", "inline_last": "102", "crossline_first": "302",
        "crossline_last": "303", "z_first": "1040.0000", "z_last": "1080.0000",
    }  # fmt: skip
    assert (told["bodies"], told["largest_body"], told["traces_with_salt"]) == (2, 44, 5)


def test_what_ends_early_leaves_no_file(tmp_path: Path) -> None:
    volume = open_volume(write_segy(tmp_path / "in.sgy"))
    part = whole(volume)
    slabs = slabs_of(volume, part, made(volume, part), tmp_path, "inline", 2)
    slabs[-1].path.write_bytes(slabs[-1].path.read_bytes()[:-100])
    with pytest.raises(RunError, match="is damaged"):
        assemble(volume, part, {"inline": slabs}, 0.5, tmp_path / "out", 1)
    assert not list((tmp_path / "out").iterdir())


def test_memory_is_bounded_however_large_the_volume(tmp_path: Path) -> None:
    """Slabs of 16 MB, held two inlines at a time."""
    shape = (200, 40, 256)
    path = tmp_path / "in.npy"
    np.save(path, np.zeros(shape, np.int8))
    volume = open_volume(path, Reading(interval=4))
    part = whole(volume)
    slabs = []
    for number, lines in enumerate(part.lines("inline", 20)):
        slabs.append(Slab("inline", lines, tmp_path / f"{number}.npy"))
        values = np.zeros((2, *lines.shape, shape[2]), np.float32)
        values[0, :, 10:30, 100:200] = 0.9
        slabs[-1].save(values)
    memory = 1 << 21
    tracemalloc.start()
    told = assemble(volume, part, {"inline": slabs}, 0.5, tmp_path / "out", memory)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < memory + (1 << 20) < sum(slab.path.stat().st_size for slab in slabs) / 4
    assert told["bodies"] == 1 and told["largest_body"] == 200 * 20 * 100


def test_shares_of_salt_and_spread_are_counted_by_line_and_depth(tmp_path: Path) -> None:
    volume = open_volume(KINDS["no order"](tmp_path / "in.sgy"))
    part = Part(1, 5, 2, 6)
    values = made(volume, part)
    values[:, 0] = 0  # a line of dead traces
    values[:, 2, 1] = 0
    slabs = {"inline": slabs_of(volume, part, values, tmp_path, "inline", 2)}
    assemble(volume, part, slabs, 0.5, tmp_path / "out", 1)
    live = values[0].any(2)
    salt, spread = values[0] > 0.5, values[1]
    lines = [tuple(row.values()) for row in csv.DictReader((tmp_path / "out" / "lines.csv").open())]
    wanted = [("inline", 101 + i, live[i], salt[i], spread[i]) for i in range(1, 4)]
    wanted += [("crossline", 302 + k, live[:, k], salt[:, k], spread[:, k]) for k in range(4)]
    for found, (direction, number, alive, its_salt, its_spread) in zip(lines, wanted, strict=True):
        assert found[:3] == (direction, str(number), str(alive.sum() * SAMPLES))
        assert float(found[3]) == pytest.approx(its_salt[alive].mean(), abs=1e-6)
        assert float(found[4]) == pytest.approx(its_spread[alive].mean(), abs=1e-6)
    depths = np.loadtxt(tmp_path / "out" / "depths.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(depths[:, 0], volume.start + 4 * np.arange(SAMPLES))
    np.testing.assert_array_equal(depths[:, 1], live.sum())
    np.testing.assert_allclose(depths[:, 2], salt[live].mean(0), atol=1e-6)
    np.testing.assert_allclose(depths[:, 3], spread[live].mean(0), atol=1e-6)
