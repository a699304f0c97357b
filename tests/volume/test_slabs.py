"""Parts of a volume are read as networks see them, few bytes at a time, and stored whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from made_segy import CROSSLINES, INLINES, SAMPLES, grid_numbers, waves, write_segy

from salt_ray.errors import RunError
from salt_ray.survey.amplitudes import MIDDLE_GREY, GreyRange
from salt_ray.volume import traces
from salt_ray.volume.problem import VolumeError
from salt_ray.volume.reading import Reading
from salt_ray.volume.scan import open_volume
from salt_ray.volume.slabs import Part, Slab, fingerprint, read_greys

GREYS = GreyRange(-200, 200)
WHOLE = Part(0, INLINES, 0, CROSSLINES)


@pytest.mark.parametrize("at_once", [1, 2000, 1 << 20])
@pytest.mark.parametrize("gap", [0, 1000, 1 << 20])
def test_greys_are_those_of_each_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int, gap: int) -> None:
    monkeypatch.setattr(traces, "READ_BYTES", at_once)
    monkeypatch.setattr(traces, "GAP_BYTES", gap)
    values, numbers = waves(), grid_numbers()
    values[9] = 0
    order = np.random.default_rng(1).permutation(len(values))[:-5]  # no order, five places without a trace
    path = write_segy(tmp_path / "a.sgy", values[order], {k: np.broadcast_to(v, 42)[order] for k, v in numbers.items()})
    volume = open_volume(path)
    wanted = np.full((INLINES * CROSSLINES, SAMPLES), MIDDLE_GREY, np.uint8)
    wanted[order] = GREYS.greys(values[order])
    there = np.zeros(len(wanted), bool)
    there[order] = True
    there[9], wanted[9] = False, MIDDLE_GREY
    for part in (WHOLE, *WHOLE.lines("inline", 4), *WHOLE.lines("crossline", 2)):
        greys, live = read_greys(volume, part.of(volume.geometry.traces), GREYS)
        np.testing.assert_array_equal(greys, part.of(wanted.reshape(INLINES, CROSSLINES, -1)))
        np.testing.assert_array_equal(live, part.of(there.reshape(INLINES, CROSSLINES)))


@pytest.mark.parametrize("at_once", [1, 2000, 1 << 20])
@pytest.mark.parametrize("gap", [0, 1000])
def test_headers_are_those_of_each_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int, gap: int
) -> None:
    monkeypatch.setattr(traces, "HEADER_READ_BYTES", at_once)
    monkeypatch.setattr(traces, "GAP_BYTES", gap)
    path = write_segy(tmp_path / "a.sgy")
    stored = np.frombuffer(path.read_bytes()[3600:], np.uint8).reshape(-1, 240 + 4 * SAMPLES)[:, :240]
    numbers = np.random.default_rng(0).permutation(len(stored))[:25]
    np.testing.assert_array_equal(open_volume(path).traces.raw_headers(numbers), stored[numbers])
    np.save(tmp_path / "a.npy", waves())
    assert open_volume(tmp_path / "a.npy", Reading(interval=4)).traces.raw_headers(numbers).shape == (25, 0)


def test_lines_make_up_the_part() -> None:
    part = Part(2, 9, 3, 14)
    for direction in ("inline", "crossline"):
        covered = np.zeros((20, 20), int)
        for lines in part.lines(direction, 4):
            lines.of(covered)[:] += 1
        assert part.of(covered).all() and covered.sum() == covered.max() * 7 * 11 == 77


def test_values_that_are_no_numbers_are_refused_or_filled(tmp_path: Path) -> None:
    values = waves()
    path = write_segy(tmp_path / "a.sgy", values)
    volume, filled = open_volume(path), open_volume(path, Reading(fill=True))
    values[11, 3], values[12] = np.nan, np.inf
    write_segy(path, values)
    with pytest.raises(VolumeError, match=r"trace 12, sample 4.*--fill zero"):
        read_greys(volume, volume.geometry.traces, GREYS)
    greys, live = read_greys(filled, volume.geometry.traces, GREYS)
    assert greys.reshape(42, -1)[11, 3] == GREYS.greys(np.zeros(1))[0]
    assert not live.ravel()[12] and (greys.reshape(42, -1)[12] == MIDDLE_GREY).all()


def test_a_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    values, path = waves(), tmp_path / "a.sgy"
    before = fingerprint(open_volume(write_segy(path, values)))
    when = path.stat().st_mtime_ns
    assert fingerprint(open_volume(write_segy(tmp_path / "b.sgy", values))) == before
    others = [
        {"words": values + np.eye(42, SAMPLES, dtype=np.float32)},
        {"numbers": grid_numbers() | {193: grid_numbers()[193][::-1]}},
        {"text": b"other"},
    ]
    for other in others:
        write_segy(path, **({"words": values} | other))
        os.utime(path, ns=(when, when))
        assert fingerprint(open_volume(path)) != before
    volume = open_volume(path)
    path.unlink()
    with pytest.raises(VolumeError, match="cannot be read"):
        fingerprint(volume)


def test_a_slab_is_read_by_rows_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((2, 4, 3, 5)).astype(np.float32)
    slab = Slab("inline", Part(10, 14, 2, 5), tmp_path / "inline" / "00000.npy")
    slab.save(values)
    np.testing.assert_array_equal(slab.read(11, 13, 5), values[:, 1:3])
    whole = slab.path.read_bytes()
    for damaged in (whole[:-1], b"", whole[:60], whole.replace(b"(2, 4", b"(2, 5")):
        slab.path.write_bytes(damaged)
        with pytest.raises(RunError, match=r"00000\.npy is damaged .*delete"):
            slab.read(10, 14, 5)
    slab.save(values + 1)
    with pytest.raises(RunError, match="outside 0 to 1"):
        slab.read(10, 14, 5)
    slab.path.unlink()
    with pytest.raises(RunError, match="missing"):
        slab.read(10, 14, 5)
