"""``volume tiles`` writes a survey whole or not at all, and says why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_labels import SAMPLES, made_cube, write_labels, write_volume
from made_segy import write_segy
from typer.testing import CliRunner

from salt_ray.cli.main import app
from salt_ray.survey.tiles import load_survey
from salt_ray.survey.window import Windows
from salt_ray.volume import tiles
from salt_ray.volume.lines import amplitude_range, line_at, read_line
from salt_ray.volume.problem import VolumeError
from salt_ray.volume.scan import open_volume
from salt_ray.volume.tiles import cut_labelled


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("volume")
    amplitudes, salt = made_cube()
    return write_volume(folder, amplitudes), write_labels(folder, salt)


def test_the_same_files_give_the_same_bytes_and_lines_are_chosen(files: tuple[Path, Path], tmp_path: Path) -> None:
    file, labels = files
    words = ["volume", "tiles", file, "--labels", labels, "--window", 32, "--inlines", "120:140", "--step", 8, "--to"]
    for name in ("a", "b"):
        result = CliRunner().invoke(app, list(map(str, [*words, tmp_path / name])))
        assert result.exit_code == 0, result.output
        assert "il0120: 6 windows" in result.output and "il0121: 0 windows (no labelled pixel)" in result.output
    first, second = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in ("a", "b")
    )
    assert first == second and len(first) == 2 * 2 * 6 + 1
    assert list(Windows.of(tmp_path / "a").lines) == ["il0120", "il0140"]


def test_windows_of_a_cube_and_of_crosslines_are_cut(tmp_path: Path) -> None:
    amplitudes, salt = made_cube()
    np.save(tmp_path / "cube.npy", amplitudes)
    np.save(tmp_path / "salt.npy", salt)
    cut_labelled(
        *(tmp_path / "cube.npy", tmp_path / "survey"),
        tiles.Reading(interval=4.0),
        labels=tmp_path / "salt.npy",
        ranges=[("crossline", "11"), ("inline", "5")],
        window_px=32,
    )
    survey = load_survey(tmp_path / "survey", cache=tmp_path / "cache")
    for (direction, line, trace, sample), mask in zip(survey.places, survey.masks, strict=True):
        section = salt[line] if direction == 0 else salt[:, line]
        assert (mask == section.T[sample : sample + 32, trace : trace + 32]).all()
    assert set(survey.sections) == {"il0005", "xl0011"} and survey.window.trace_spacing is None


def test_traces_are_read_wherever_they_are_in_the_file(tmp_path: Path) -> None:
    """Crossline-sorted, backwards, with holes and dead traces: a line is what its numbers say."""
    amplitudes = made_cube()[0][:7, :9]
    rows, columns = (axis.T.ravel()[::-1] for axis in np.indices((7, 9)))
    kept = (rows != 3) | (columns > 4)
    amplitudes[5, 2] = 0
    amplitudes[..., :5] = 0  # muted: such zeros widen no range
    rows, columns = rows[kept], columns[kept]
    volume = open_volume(write_segy(tmp_path / "v.sgy", amplitudes[rows, columns], {189: rows + 1, 193: columns + 1}))
    for row in range(7):
        section = read_line(volume, line_at(volume.geometry, "inline", row))
        missing = (np.arange(9) <= 4) & (row == 3) | (row == 5) & (np.arange(9) == 2)
        assert np.isnan(section[:, missing]).all() and (section[:, ~missing] == amplitudes[row, ~missing].T).all()
    section = read_line(volume, line_at(volume.geometry, "crossline", 7))
    assert (section == amplitudes[:, 7].T).all()
    values = amplitudes[rows, columns]
    low, high = np.percentile(values[values != 0], [1, 99], method="nearest")
    assert (amplitude_range(volume).low, amplitude_range(volume).high) == (low, high)


def test_nothing_is_left_of_what_was_not_finished(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def full(*words: object) -> bool:
        written.append(words)
        if len(written) == 5:
            raise OSError(28, "No space left on device")
        return True

    monkeypatch.setattr(tiles.cv2, "imwrite", full)
    with pytest.raises(OSError, match="No space left"):
        cut_labelled(files[0], tmp_path / "survey", labels=files[1], window_px=32)
    assert not list(tmp_path.iterdir())


def test_each_mistake_is_one_sentence_and_nothing_is_written(files: tuple[Path, Path], tmp_path: Path) -> None:
    file, labels = files
    none = write_labels(tmp_path, np.zeros((64, 48, SAMPLES), np.int8))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    for to, how, told in (
        ("to", {}, "needs exactly one kind of labels; give --labels FILE, or --top FILE"),
        ("to", {"labels": labels, "top": labels}, "needs exactly one kind of labels"),
        ("to", {"labels": labels, "base": labels}, "cannot be used with --base, which needs --top; leave --base out"),
        ("to", {"top": labels, "salt": 1}, "cannot be used with --salt"),
        ("to", {"labels": labels, "colours": ["salt=#ff0000"]}, "cannot be used with --colour"),
        ("to", {"labels": tmp_path / "no"}, "no: does not exist"),
        ("to", {"labels": labels, "window_px": 100}, "choose a multiple of 32"),
        ("to", {"labels": labels, "step": 500}, "is not between 1 and 128"),
        ("full", {"labels": labels}, "exists and is not empty"),
        ("to", {"labels": labels, "ranges": [("inline", "101:119")]}, "has no labelled pixel on the chosen lines"),
        ("to", {"labels": none, "salt": 1}, "has no salt on the chosen lines"),
    ):
        with pytest.raises(VolumeError, match=told):
            cut_labelled(file, tmp_path / to, **how)
    assert sorted(tmp_path.rglob("*")) == before


def test_labels_are_read_with_options_of_their_own(files: tuple[Path, Path], tmp_path: Path) -> None:
    """What a message about a file of labels advises does what it says, and nothing to the amplitudes."""
    file, _ = files
    labels = write_labels(tmp_path, made_cube()[1], binary={3225: ("h", 77), 3221: ("H", 0)})
    content = bytearray(labels.read_bytes())
    content[3220:3222] = bytes(2)
    for place in range(3600, len(content), 240 + SAMPLES):
        content[place + 114 : place + 116] = bytes(2)
    labels.write_bytes(content)
    words = ["volume", "tiles", file, "--labels", labels, "--window", 32, "--to", tmp_path / "survey"]
    told = []
    for option, value in (("format", 8), ("byte-order", "big"), ("samples", SAMPLES)):
        result = CliRunner().invoke(app, list(map(str, words)))
        told.append(" ".join(str(result.exception or result.output).split()))
        assert result.exit_code and f"--labels-{option}" in told[-1] and f" --{option}" not in told[-1], told
        words += [f"--labels-{option}", value]
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 0 and not (told[0] == told[1] == told[2]), result.output
    with pytest.raises(VolumeError, match="cannot be used with --labels-format, which needs --labels with values"):
        cut_labelled(file, tmp_path / "to", top=labels, labels_reading=tiles.Reading(format=8))
