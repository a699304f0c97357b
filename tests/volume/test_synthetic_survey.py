"""The synthetic survey of a volume: files that can be used as they are, and agree with each other."""

from __future__ import annotations

import hashlib
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import segyio

from salt_ray.survey.synthetic import SyntheticError
from salt_ray.survey.synthetic_volume import SyntheticVolume
from salt_ray.volume.scan import scan
from salt_ray.volume.synthetic_survey import write_synthetic_volume

INLINES, CROSSLINES, SAMPLES, SEED = 64, 72, 96, 1
NAMES = {"amplitudes.sgy", "truth.sgy", "labels.sgy", "top.csv"}


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("made") / "survey"
    write_synthetic_volume(directory, INLINES, CROSSLINES, SAMPLES, SEED)
    return directory


def digests(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}


def read(path: Path) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Samples of all traces and fields of their headers, by another reader."""
    with segyio.open(path, ignore_geometry=True) as file:
        return file.trace.raw[:], {int(f): file.attributes(f)[:] for f in (29, 71, 109, 115, 117, 181, 185, 189, 193)}


def test_same_arguments_give_same_bytes_and_another_seed_does_not(survey: Path, tmp_path: Path) -> None:
    write_synthetic_volume(tmp_path / "again", INLINES, CROSSLINES, SAMPLES, SEED)
    write_synthetic_volume(tmp_path / "other", 40, 40, 64, SEED + 1)
    write_synthetic_volume(tmp_path / "third", 40, 40, 64, SEED)
    assert digests(survey) == digests(tmp_path / "again") and set(digests(survey)) == NAMES
    assert not set(digests(tmp_path / "other").values()) & set(digests(tmp_path / "third").values())


def test_every_file_can_be_used_as_it_is(survey: Path) -> None:
    found = {name: scan(survey / f"{name}.sgy") for name in ("amplitudes", "truth", "labels")}
    assert not [problem for one in found.values() for problem in one.problems]
    amplitudes, truth = found["amplitudes"].volume, found["truth"].volume
    places = amplitudes.geometry
    assert (places.inline_byte, places.crossline_byte, places.order, places.reversed) == (189, 193, "inline", [])
    assert str(places.inlines) == "1001 to 1127 in steps of 2"
    assert str(places.crosslines) == "2003 to 2216 in steps of 3"
    assert amplitudes.traces.format.ibm and amplitudes.byte_order == "big"
    assert (amplitudes.interval, amplitudes.start) == (4.0, 400.0)
    assert amplitudes.coordinates.spacing == pytest.approx((12.5, 12.5), rel=1e-3)
    assert amplitudes.text[0].startswith("C 1 MADE BY SALT-RAY: A SYNTHETIC SURVEY")
    assert len(amplitudes.odd) == 1 and "positions have no trace" in amplitudes.odd[0]
    assert not places.live[-1, 0] and places.live[-1, -1] and places.live[0, 0]
    assert 0.03 < places.missing / places.traces.size < 0.06
    np.testing.assert_array_equal(places.traces, truth.geometry.traces)


def test_amplitudes_are_the_lines_of_the_earth(survey: Path) -> None:
    values, fields = read(survey / "amplitudes.sgy")
    truth, _ = read(survey / "truth.sgy")
    earth = SyntheticVolume(CROSSLINES, SAMPLES, SEED)
    dead = fields[29] == 2
    assert 0 < dead.sum() < 0.02 * len(dead) and not values[dead].any() and values[~dead].any(1).all()
    for line in (63, 0, 30):
        there = fields[189] == 1001 + 2 * line
        columns = (fields[193][there] - 2003) // 3
        assert len(columns) == CROSSLINES or line == 63
        amplitudes, salt = (section.T[columns] for section in earth.inline(line))
        live = ~dead[there]
        # An IBM float has at least 21 bits.
        np.testing.assert_allclose(values[there][live], amplitudes[live], rtol=2**-21)
        np.testing.assert_array_equal(truth[there], salt)


def test_the_grid_is_turned_and_even(survey: Path) -> None:
    _, fields = read(survey / "amplitudes.sgy")
    assert {int(fields[place][0]) for place in (71, 115, 117)} == {-100, SAMPLES, 4000}
    row, column = (fields[189] - 1001) / 2, (fields[193] - 2003) / 3
    turned = np.exp(1j * np.pi / 6)  # inlines are at right angles to crosslines, in the plane of x + iy
    expected = 432_000 + 6_785_000j + 12.5 * turned * (column + 1j * row)
    assert np.abs((fields[181] + 1j * fields[185]) / 100 - expected).max() < 0.01


def test_labels_are_the_truth_of_a_few_lines(survey: Path) -> None:
    truth, places = read(survey / "truth.sgy")
    labels, labelled = read(survey / "labels.sgy")
    assert np.unique(labelled[189]).tolist() == [1021, 1061, 1101]
    same = np.isin(places[189], labelled[189])
    np.testing.assert_array_equal(labels, truth[same])
    for field in places:
        np.testing.assert_array_equal(places[field][same], labelled[field])
    assert truth.dtype == np.int8 and np.unique(truth).tolist() == [0, 1]


def test_the_top_is_where_the_truth_begins(survey: Path) -> None:
    truth, places = read(survey / "truth.sgy")
    top = pd.read_csv(survey / "top.csv")
    assert list(top) == ["inline", "crossline", "x", "y", "z"]
    has_salt = truth.any(1)
    assert len(top) == has_salt.sum() > 0
    np.testing.assert_array_equal(top[["inline", "crossline"]].T, [places[189][has_salt], places[193][has_salt]])
    np.testing.assert_allclose(top[["x", "y"]].T * 100, [places[181][has_salt], places[185][has_salt]])
    first = truth[has_salt].argmax(1)
    np.testing.assert_array_equal(top["z"], np.where(first > 0, 400 + 4 * first - 2, 400))


def test_memory_does_not_grow_with_the_inlines(tmp_path: Path) -> None:
    crosslines, samples, few, many = 40, 64, 40, 120
    peaks = []
    for inlines in (few, many):
        tracemalloc.start()
        write_synthetic_volume(tmp_path / str(inlines), inlines, crosslines, samples)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # What the further inlines alone would take, as float32; the peak itself varies by a fifth of that.
    assert peaks[1] - peaks[0] < 0.5 * (many - few) * crosslines * samples * 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inlines": 39}, "inlines is 39: choose 40 to 100,000"),
        ({"crosslines": 100_001}, "crosslines is 100001"),
        ({"samples": 63}, "samples is 63: choose 64 to 8,000"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_arguments_out_of_range_are_named(tmp_path: Path, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(SyntheticError, match=message):
        write_synthetic_volume(tmp_path / "survey", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_content_is_left_alone_and_a_failure_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "survey").mkdir()
    (tmp_path / "survey/precious.txt").write_text("mine")
    with pytest.raises(SyntheticError, match="not empty: give another folder or delete it"):
        write_synthetic_volume(tmp_path / "survey", 40, 40, 64)

    def interrupt(line: str) -> None:
        raise KeyboardInterrupt(line)

    with pytest.raises(KeyboardInterrupt, match="40 of 40 inlines written"):
        write_synthetic_volume(tmp_path / "failed", 40, 40, 64, report=interrupt)
    assert [path.name for path in tmp_path.rglob("*")] == ["survey", "precious.txt"]
