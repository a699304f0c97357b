"""What is odd or wrong with a SEG-Y file is found, and refused with the option that settles it."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import segyio
from made_segy import CROSSLINES, INLINES, SAMPLES, grid_numbers, ibm_bits, waves, write_segy
from opened import GRID, TRACES, refused, said

from salt_ray.volume.problem import VolumeError
from salt_ray.volume.reading import Reading
from salt_ray.volume.scan import describe, open_volume


@pytest.mark.parametrize("little", [False, True])
def test_a_plain_volume_is_used_as_it_is(path: Path, little: bool) -> None:
    volume = open_volume(write_segy(path, little=little))
    geometry = volume.geometry
    assert volume.odd == () and (volume.interval, volume.start) == (4.0, 0.0)
    assert volume.byte_order == ("little" if little else "big")
    assert not geometry.is_line and (geometry.inlines.first, geometry.crosslines.last) == (100, 306)
    np.testing.assert_array_equal(geometry.traces, GRID)
    assert volume.text[0] == "C 1 MADE FOR A TEST"
    assert volume.coordinates.spacing == pytest.approx((25, 12.5), abs=0.01) and volume.coordinates.scalar == 0.01
    np.testing.assert_array_equal(np.concatenate([b.values for b in volume.blocks()]), waves())


def test_ibm_called_ieee_and_ieee_called_ibm_are_refused(path: Path) -> None:
    write_segy(path, np.vectorize(ibm_bits, otypes=[np.uint32])(waves()).view(np.float32))
    assert "they look like IBM" in refused(path) and "--format 1" in refused(path)
    right = open_volume(path, Reading(format=1)).traces.read(0, TRACES)
    np.testing.assert_allclose(right, waves(), rtol=1e-5)
    write_segy(path, waves().view(np.uint32), code=1)
    assert "they look like IEEE" in refused(path)
    np.testing.assert_array_equal(open_volume(path, Reading(format=5)).traces.read(0, TRACES), waves())
    assert not describe(path, Reading(format=1)).problems  # somebody insists


def test_a_missing_sample_format_is_asked_for(path: Path) -> None:
    for little in (False, True):
        write_segy(path, binary={3225: ("h", 0)}, little=little)
        assert "is not a SEG-Y file" in refused(path) and "--format" in refused(path)
        volume = open_volume(path, Reading(format=5))
        assert volume.byte_order == ("little" if little else "big")
        np.testing.assert_array_equal(volume.traces.read(0, TRACES), waves())
    assert "--format" in refused(path, format=17)


def test_of_two_lengths_the_size_decides(path: Path) -> None:
    for binary, trace in ((SAMPLES, 77), (77, SAMPLES)):
        write_segy(path, numbers={**grid_numbers(), 115: trace}, binary={3221: ("H", binary)})
        volume = open_volume(path)
        assert volume.traces.samples == SAMPLES and "gives 77 samples per trace" in said(volume)
    write_segy(path, numbers={**grid_numbers(), 115: 0}, binary={3221: ("H", 0)})
    assert "--samples" in refused(path)
    np.testing.assert_array_equal(open_volume(path, Reading(samples=SAMPLES)).traces.read(0, TRACES), waves())
    write_segy(path, numbers={**grid_numbers(), 115: 78}, binary={3221: ("H", 77)})
    assert "none fits its size" in refused(path) and "--samples" in refused(path)
    lengths = np.where(np.arange(TRACES) == 7, 40, SAMPLES)
    write_segy(path, numbers={**grid_numbers(), 115: lengths})
    assert "different lengths" in refused(path) and not describe(path, Reading(samples=SAMPLES)).problems


@pytest.mark.parametrize(("cut", "where"), [(1, "after 49 of 50 samples"), (399, "header")])
def test_a_cut_file_says_where_it_ends(path: Path, cut: int, where: str) -> None:
    write_segy(path, cut=cut)
    assert f"it ends in trace {TRACES} ({where})" in refused(path)
    path.write_bytes(path.read_bytes()[:3700])
    assert "is truncated" in refused(path)
    path.write_bytes(b"")
    assert "is truncated" in refused(path)


def test_velocities_and_empty_files_are_told(path: Path) -> None:
    assert "same sign" in said(open_volume(write_segy(path, np.abs(waves()) + 1500)))
    assert "same sign" in said(open_volume(write_segy(path, (waves() > 0).astype("f4"))))
    assert "are dead" in said(open_volume(write_segy(path, waves() * 0)))


@pytest.mark.parametrize("order", ["<", ">"])
def test_seismic_unix_files_are_refused_by_name(path: Path, order: str) -> None:
    header = bytearray(240)
    struct.pack_into(order + "HH", header, 114, SAMPLES, 4000)
    path.write_bytes(b"".join(header + row.astype(order + "f4").tobytes() for row in waves()))
    assert "Seismic Unix" in refused(path)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("traces", "interval"), [(TRACES, 0), (2, 0), (1, 4000), (2, 4000)])
def test_seismic_unix_files_that_are_short_or_without_an_interval_are_known(
    path: Path, order: str, traces: int, interval: int
) -> None:
    header = bytearray(240)
    struct.pack_into(order + "HH", header, 114, SAMPLES, interval)
    path.write_bytes(b"".join(header + row.astype(order + "f4").tobytes() for row in waves(traces)))
    assert "Seismic Unix" in refused(path)
    path.write_bytes(bytes(200))
    assert "it is truncated, or not SEG-Y" in refused(path)


def test_other_files_are_no_segy(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(10_000))
    assert "is not a SEG-Y file" in refused(path)


def test_any_damage_to_headers_ends_in_an_answer(path: Path) -> None:
    """Random bytes in random headers: a description or a VolumeError, never anything else."""
    random = np.random.default_rng(3)
    content = np.frombuffer(write_segy(path).read_bytes(), np.uint8)
    starts = [3200, *(3600 + i * (240 + 4 * SAMPLES) for i in range(3))]
    answers = set()
    for _ in range(150):
        damaged = content.copy()
        for place in random.choice([3216, 3220, 3224, 3500, 3504, 3506, 3268, *starts], random.integers(1, 4)):
            length = int(random.integers(1, 40))
            damaged[place : place + length] = random.choice([0, 255, random.integers(0, 256)], length)
        path.write_bytes(damaged.tobytes()[: random.choice([len(damaged), random.integers(3600, len(damaged))])])
        try:
            answers.add(bool(describe(path).problems))
        except VolumeError:
            answers.add(None)
    assert answers == {True, False, None}


@pytest.mark.parametrize("code", [1, 5])
@pytest.mark.parametrize("little", [False, True])
def test_files_of_another_writer_are_read(path: Path, code: int, little: bool) -> None:
    cube = waves().reshape(INLINES, CROSSLINES, SAMPLES)
    spec = segyio.spec()
    spec.format, spec.sorting, spec.endian = code, 2, "little" if little else "big"
    spec.ilines, spec.xlines, spec.samples = (
        10 + np.arange(INLINES),
        20 + np.arange(CROSSLINES),
        2.0 * np.arange(SAMPLES),
    )
    with segyio.create(path, spec) as file:
        file.bin.update({segyio.BinField.Interval: 2000, segyio.BinField.Samples: SAMPLES})
        for index, trace in enumerate(cube.reshape(TRACES, SAMPLES)):
            row, column = divmod(index, CROSSLINES)
            file.header[index] = {189: 10 + row, 193: 20 + column, 115: SAMPLES, 117: 2000}
            file.trace[index] = trace
    volume = open_volume(path)
    assert (volume.interval, volume.byte_order, volume.geometry.order) == (2.0, spec.endian, "inline")
    np.testing.assert_array_equal(volume.geometry.traces, GRID)
    np.testing.assert_allclose(volume.traces.read(0, TRACES).reshape(cube.shape), cube, rtol=2e-6 if code == 1 else 0)
