"""Salt between picked horizons: by line numbers or coordinates, and one sentence where picks do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_labels import CROSSLINES, INLINES, SAMPLES, made_cube, write_volume
from made_segy import grid_numbers, write_segy

from salt_ray.metric import UNLABELLED
from salt_ray.survey.window import Line
from salt_ray.volume.lines import trace_coordinates
from salt_ray.volume.picks import picked_labels
from salt_ray.volume.problem import VolumeError
from salt_ray.volume.scan import open_volume
from salt_ray.volume.tiles import cut_labelled
from salt_ray.volume.volume import Volume


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    return open_volume(write_volume(tmp_path_factory.mktemp("volume"), made_cube()[0]))


def inline(index: int) -> Line:
    return Line(direction="inline", number=100 + index, index=index)


def picks(path: Path, rows: np.ndarray, header: str = "inline,crossline,z") -> Path:
    separator = "," if "," in header or not header else " "
    lines = [separator.join(f"{number:g}" for number in row) for row in rows]
    path.write_text("\n".join([header, *lines] if header else lines))
    return path


@pytest.mark.parametrize("header", ["inline,crossline,z", "Inline Crossline Z", ""])
def test_salt_is_between_top_and_base_where_both_are_picked(volume: Volume, tmp_path: Path, header: str) -> None:
    """Labels are those of a slow loop over picks."""
    random = np.random.default_rng(0)
    tops = np.full((INLINES, CROSSLINES), np.nan)
    tops[[3, 9]] = random.uniform(0, 60, (2, CROSSLINES))
    tops[9, :5] = np.nan
    bases = tops + 50
    files = []
    for name, horizon in (("top", tops), ("base", bases)):
        rows, columns = np.nonzero(np.isfinite(horizon))
        table = np.stack([100 + rows, 300 + columns, horizon[rows, columns]], 1)
        files.append(picks(tmp_path / f"{name}.txt", table, header))
    labels = picked_labels(volume, *files)
    assert labels.lines() == [inline(3), inline(9)] and not labels.said
    below = picked_labels(volume, files[0])
    assert below.said == ["assumed: salt continues from its top to the last sample (no --base)"]
    for row in (3, 9, 10):
        expected, without = np.full((2, SAMPLES, CROSSLINES), UNLABELLED)
        for column, top in enumerate(tops[row]):
            if np.isfinite(top):
                z = 4.0 * np.arange(SAMPLES)
                top = float(f"{top:g}")
                without[:, column] = z >= top
                expected[:, column] = (z >= top) & (z <= float(f"{bases[row, column]:g}"))
        assert (labels.on(inline(row)) == expected).all() and (below.on(inline(row)) == without).all()


def test_picks_that_do_not_fit_are_refused_or_told(volume: Volume, tmp_path: Path) -> None:
    top = picks(tmp_path / "top.csv", np.array([[100, 300, 20], [100, 301, 20], [99, 300, 20], [100, 302, 900]]))
    assert "found: 2 of 4 picks in top.csv are outside the volume and were left out" in picked_labels(volume, top).said
    for name, rows, header, told in (
        ("far", [[900, 300, 20]], "inline,crossline,z", r"has no pick in amplitudes\.sgy \(inlines 100 to 163"),
        ("twice", [[100, 300, 20], [100, 300, 24]], "inline,crossline,z", "has two picks at one trace"),
        ("columns", [[100, 300, 20]], "il,xl,z", "lacks columns inline, crossline and z"),
        ("words", [[100, 300, 20]], "inline,crossline,z\n1,a,2", "cannot be read as a table of picks"),
        ("empty", [], "inline,crossline,z", "holds no pick"),
        ("parts", [[100.5, 300, 20]], "inline,crossline,z", "line numbers that are not integers"),
        (
            "away",
            [[1000, 3000, 20]],
            "x,y,z",
            r"has no pick in amplitudes\.sgy .*; the picks have x 1000, y 3000",
        ),
    ):
        with pytest.raises(VolumeError, match=told):
            picked_labels(volume, picks(tmp_path / name, np.array(rows), header))
    base = picks(tmp_path / "base.csv", np.array([[100, 300, 19], [100, 301, 30]]))
    with pytest.raises(VolumeError, match=r"is above the top at 1 traces \(first: inline 100, crossline 300\)"):
        picked_labels(volume, top, base)


@pytest.mark.parametrize("header", ["X,Y,Z", ""])
def test_picks_may_be_at_coordinates(volume: Volume, tmp_path: Path, header: str) -> None:
    """On the traces of two lines, a few metres off: the same labels as by their numbers."""
    numbers = grid_numbers(INLINES, CROSSLINES)
    rows = np.r_[5 * CROSSLINES : 6 * CROSSLINES, 9 * CROSSLINES : 10 * CROSSLINES]
    x, y = (numbers[byte][rows] / 100 for byte in (181, 185))
    z = np.random.default_rng(0).uniform(0, 150, len(rows)).round()
    assert trace_coordinates(volume).reshape(-1, 2)[rows] == pytest.approx(np.stack([x, y], 1), rel=1e-12)
    by_numbers = picks(tmp_path / "lines.csv", np.stack([numbers[189][rows], numbers[193][rows], z], 1))
    np.savetxt(
        tmp_path / "top.xyz", np.stack([x + 4, y - 3, z], 1), "%.2f", "," if header else " ", header=header, comments=""
    )
    labels = picked_labels(volume, tmp_path / "top.xyz")
    assert labels.lines() == [inline(5), inline(9)]
    assert np.array_equal(labels.top, picked_labels(volume, by_numbers).top, equal_nan=True)
    assert any("are coordinates" in line for line in labels.said) == (header == "")


def test_coordinates_that_the_volume_has_not_are_refused(tmp_path: Path) -> None:
    numbers = {byte: value for byte, value in grid_numbers().items() if byte not in (181, 185)}
    volume = open_volume(write_segy(tmp_path / "v.sgy", numbers=numbers))
    with pytest.raises(VolumeError, match=r"has coordinates, but v\.sgy has none that match its line numbers"):
        picked_labels(volume, picks(tmp_path / "top.csv", np.array([[1000, 2000, 20]]), "x,y,z"))


def test_picks_count_from_the_time_at_which_the_volume_begins(tmp_path: Path) -> None:
    volume = open_volume(write_segy(tmp_path / "v.sgy", numbers={**grid_numbers(), 109: 100}))
    found = picked_labels(volume, picks(tmp_path / "top.csv", np.array([[102, 303, 120]])))
    line = Line(direction="inline", number=102, index=2)
    assert volume.start == 100 and found.on(line)[:, 3].tolist() == [0] * 5 + [1] * 45


def test_a_horizon_on_a_few_lines_is_cut_to_windows(volume: Volume, tmp_path: Path) -> None:
    rows, columns = (axis.ravel() for axis in np.indices((3, CROSSLINES)))
    top = picks(tmp_path / "top.csv", np.stack([110 + 20 * rows, 300 + columns, 40 + columns], 1))
    assert cut_labelled(volume.path, tmp_path / "survey", top=top, window_px=32) == 3 * 4
    assert sorted(path.name for path in (tmp_path / "survey" / "train" / "masks").iterdir()) == [
        "il0110",
        "il0130",
        "il0150",
    ]
