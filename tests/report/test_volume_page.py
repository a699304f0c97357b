"""The page of a predicted volume is whole, shows the lines that it says, and asks nobody for anything."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_run import write_run
from made_segy import grid_numbers, waves, write_segy
from page_reader import PageReader, read_page
from PIL import Image

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment, Resources
from salt_ray.errors import RunError
from salt_ray.pipeline.local import LocalEngine
from salt_ray.pipeline.trained import load_run
from salt_ray.pipeline.volume_scores import score_volume
from salt_ray.pipeline.volumes import Asked, predict_volume
from salt_ray.report import predicted_volume, volume_gallery
from salt_ray.report import volume_parts as parts
from salt_ray.report.predicted_volume import PredictedVolume
from salt_ray.report.terminal import Terminal
from salt_ray.report.volume_gallery import DOUBTFUL, EVEN, LABEL, evenly_spread, most_doubtful
from salt_ray.report.volume_page import write_volume_report
from salt_ray.report.volume_parts import PARTS
from salt_ray.volume.reading import Reading
from salt_ray.volume.scan import open_volume

pytestmark = pytest.mark.usefixtures("one_thread")
INLINES, CROSSLINES, SAMPLES = 30, 20, 40
HOSTILE = "<img src=x onerror=alert(1)>{{ 7 * 7 }}"
SMALL = 3 << 20  # bytes


@pytest.fixture(scope="module")
def run(tiny: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    experiment = tiny.replace(labels=tiny.labels.replace(full_tiles="salt"), resources=Resources(cpus_per_fold=1))
    return write_run(tmp_path_factory.mktemp("run") / "run", experiment)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    values = waves(INLINES * CROSSLINES, SAMPLES)
    values[[5, 6]] = 0
    path = tmp_path_factory.mktemp("data") / f"{HOSTILE}.sgy"
    return write_segy(path, values, grid_numbers(INLINES, CROSSLINES))


def predicted(run: Path, data: Path, to: Path, reading: Reading = Reading(), **asked) -> Path:  # noqa: B008
    volume = open_volume(data, reading)
    predict_volume(load_run(run), volume, RunDirectory(to), LocalEngine(), Terminal(quiet=True), Asked(**asked))
    return to


@pytest.fixture(scope="module")
def whole(run: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("whole") / "to"
    return predicted(run, data, to, direction="both", as_is=True)


@pytest.fixture
def folder(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to change, of which few lines are shown."""
    monkeypatch.setattr(volume_gallery, "EVEN", 2)
    monkeypatch.setattr(volume_gallery, "DOUBTFUL", 1)
    to = Path(shutil.copytree(whole, tmp_path / "to"))
    change(to, direction="inline")
    return to


def change(folder: Path, **fields: str) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | fields))


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    values = np.zeros((INLINES, CROSSLINES, SAMPLES), np.int8)
    values[:, 5:15, 10:30] = 1
    return values


@pytest.fixture(scope="module")
def labels(truth: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of all lines."""
    path = tmp_path_factory.mktemp("labels") / "labels.sgy"
    return write_segy(path, truth.reshape(-1, SAMPLES), grid_numbers(INLINES, CROSSLINES), code=8)


def page(folder: Path) -> tuple[str, PageReader]:
    text = (folder / "report.html").read_text()
    return text, read_page(text)


def section(text: str, name: str) -> str:
    return re.search(rf'<section id="{name}".*?</section>', text, re.DOTALL)[0]


def pictures(text: str) -> list[np.ndarray]:
    """Pixels of all pictures, (height, width, 3 or 4)."""
    found = re.findall(r'<image [^>]*href="data:image/\w+;base64,([^"]+)"', text)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in found]


def titles(text: str) -> list[str]:
    return re.findall(r"<strong>((?:Inline|Crossline) \d+|The line)</strong>", text)


def test_all_parts_are_there_and_say_what_the_files_say(whole: Path) -> None:
    text, reader = page(whole)
    summary = json.loads((whole / "summary.json").read_text())
    assert [element.attributes["id"] for element in reader.all("section")] == list(PARTS)
    assert f"{summary['share_of_salt']:.1%}" in section(text, "found")
    assert f"in {summary['bodies']:,} connected" in section(text, "found")
    assert "Nothing to compare" not in text and "has not been compared with labels" in section(text, "found")
    for name in PARTS:
        assert section(text, name).count("Left out: ") == (name == "labels")
    origin = section(text, "origin")
    for value in (summary["run"], summary["sample_format"], "random fold 0, random fold 1", *summary["files"]):
        assert str(value) in origin
    for line in summary["assumed"]:
        assert line.split("<")[0] in origin
    assert summary["assumed"] and "25, but 12.5 in the run" in origin
    depth = pd.read_csv(whole / "depths.csv")
    assert f"Most salt is at z = {depth['z'][depth['salt'].idxmax()]:g}:" in section(text, "depth")


def test_it_asks_nobody_for_anything_and_names_stay_text(whole: Path) -> None:
    text, reader = page(whole)
    assert "<img" not in text and "onerror=alert(1)" in reader.all("h1")[0].text and "{{ 7 * 7 }}" in text
    for element in reader.elements:
        assert element.tag not in ("script", "link", "iframe", "object", "base", "form")
        for name in ("src", "href"):
            assert re.match(r"#|data:image/|$", element.attributes.get(name, ""))
        assert not [name for name in element.attributes if name.startswith("on")]
    assert not re.search(r"url\((?!#)|@import|https?:", text) and len(text.encode()) < SMALL
    (policy,) = [e.attributes["content"] for e in reader.all("meta") if "http-equiv" in e.attributes]
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_charts_take_the_colours_of_a_light_or_a_dark_page(whole: Path) -> None:
    text, _ = page(whole)
    assert "prefers-color-scheme: dark" in text
    drawn = re.findall(r"<svg .*?</svg>", text, re.DOTALL)
    assert len(drawn) > 10
    for one in drawn:
        assert "var(--ink)" in one and "#1c1e21" not in one and "fill: #ffffff" not in one


def test_its_pictures_show_evenly_spread_and_doubtful_lines(whole: Path) -> None:
    text, _ = page(whole)
    lines = pd.read_csv(whole / "lines.csv")
    shown = titles(section(text, "lines"))
    for direction in ("inline", "crossline"):
        own = [int(title.split()[1]) for title in shown if title.startswith(direction.capitalize())]
        assert len(own) == EVEN + DOUBTFUL
        most = lines[lines["direction"] == direction].set_index("line")["spread"]
        assert own[EVEN] == most.idxmax() and (np.diff(own[:EVEN]) == (most.index[-1] - most.index[0] + 1) / EVEN).all()
    found = pictures(section(text, "lines"))
    assert len(found) == 2 * 2 * (EVEN + DOUBTFUL)
    for picture in found:
        assert max(picture.shape[:2]) >= 300 and picture.std() > 10
    salt, doubt = found[0].astype(int), found[1].astype(int)
    assert ((salt[..., 0] - salt[..., 1]) > 60).any() and ((doubt[..., 2] - doubt[..., 1]) > 60).any()


def test_the_map_has_the_depths_of_the_table_at_their_places(folder: Path) -> None:
    lines = ["inline,crossline,x,y,z", "100,300,,,10.0", "100,319,,,90.0", "129,300,,,50.0"]
    (folder / "top.csv").write_text("\n".join(lines) + "\n")
    top = PredictedVolume.load(folder).top_of_salt()
    wanted = np.full((INLINES, CROSSLINES), np.nan)
    wanted[0, 0], wanted[0, -1], wanted[-1, 0] = 10, 90, 50
    np.testing.assert_array_equal(top, wanted)
    write_volume_report(folder)
    (drawn,) = pictures(section(page(folder)[0], "top"))
    assert drawn.shape[2] == 4 and not drawn[drawn.shape[0] // 2].any()
    corners = drawn[[0, 0, -1], [0, -1, 0]]
    assert len(np.unique(corners, axis=0)) == 3 and (corners[:, 3] == 255).all()
    (folder / "top.csv").write_text(lines[0] + "\n")
    assert parts.top(PredictedVolume.load(folder)) == "no salt was found."


def test_only_lines_that_are_shown_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[np.ndarray] = []
    plain = predicted_volume.read_values
    monkeypatch.setattr(predicted_volume, "read_values", lambda volume, n: (read.append(n), plain(volume, n))[1])
    write_volume_report(folder)
    assert len(read) == 3 * 3 and max(map(len, read)) <= max(INLINES, CROSSLINES)
    read.clear()
    monkeypatch.setattr(predicted_volume, "MOST_PX", 8)
    write_volume_report(folder)
    assert max(map(len, read)) <= 8
    assert max(PredictedVolume.load(folder).top_of_salt().shape) <= 8


def test_after_scoring_it_shows_scores_and_labels(folder: Path, labels: Path) -> None:
    assert not greens(page(folder)[0])
    found = score_volume(folder, open_volume(labels))
    text, _ = page(folder)
    beside = section(text, "labels")
    assert f"{found['iou']:.3f}" in section(text, "found") and f"{found['iou']:.3f}" in beside
    for line in sorted(found["lines"], key=lambda line: line["score"])[:10]:
        assert f'<th scope="row">{line["inline"]}</th><td>{line["iou"]:.3f}</td>' in beside
    assert sum(f"{band['z_first']:g} to {band['z_last']:g}" in beside for band in found["depths"]) == 8
    assert greens(text) and "was trained on the lines used for scoring" in section(text, "doubt")
    write_volume_report(folder)  # labels are not at hand any more
    again, _ = page(folder)
    assert not greens(again) and "Labels were not at hand" in again and f"{found['iou']:.3f}" in again


def greens(text: str) -> int:
    """Pixels in the colour of labels."""
    found = [picture for picture in pictures(section(text, "lines"))]
    return sum(int((np.abs(picture.astype(int) - LABEL).max(2) < 40).sum()) for picture in found)


def test_lines_that_trained_the_run_are_left_out_of_scores(
    folder: Path, labels: Path, truth: np.ndarray, tmp_path: Path
) -> None:
    every = score_volume(folder, open_volume(labels))
    few = np.arange(INLINES * CROSSLINES) // CROSSLINES % 10 == 3
    numbers = {place: np.broadcast_to(v, len(few))[few] for place, v in grid_numbers(INLINES, CROSSLINES).items()}
    seen = open_volume(write_segy(tmp_path / "seen.sgy", truth.reshape(-1, SAMPLES)[few], numbers, code=8))
    found = score_volume(folder, open_volume(labels), without=seen)
    inlines = [line["inline"] for line in found["lines"]]
    assert inlines == [line["inline"] for line in every["lines"] if line["inline"] % 10 != 3] and len(inlines) == 27
    assert found["left_out"] == 3 and "Excluded are 3 lines" in section(page(folder)[0], "labels")
    assert "was trained on the lines used for scoring" not in section(page(folder)[0], "doubt")
    with pytest.raises(RunError, match=r"labels no trace of .* outside .*seen\.sgy"):
        score_volume(folder, seen, without=seen)


def test_without_the_file_that_was_predicted_amplitudes_are_missing(folder: Path, data: Path, tmp_path: Path) -> None:
    write_volume_report(folder)
    assert "Amplitudes are missing" not in page(folder)[0]  # it is opened again
    other = write_segy(
        tmp_path / "other.sgy", waves(INLINES * CROSSLINES, SAMPLES, 1), grid_numbers(INLINES, CROSSLINES)
    )
    for path in (other, tmp_path / "gone.sgy"):
        change(folder, volume=str(path))
        write_volume_report(folder)
        text, _ = page(folder)
        assert "Amplitudes are missing" in text and len(pictures(text)) == 7


def test_one_model_on_a_line(run: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "line.npy", waves(50, SAMPLES))
    to = predicted(run, tmp_path / "line.npy", tmp_path / "to", Reading(interval=4), folds=(0,))
    text, _ = page(to)
    assert titles(text) == ["The line"] and len(pictures(text)) == 1
    assert "Only one model was used" in section(text, "doubt") and "a line has no map" in section(text, "top")
    np.save(tmp_path / "labels.npy", (waves(50, SAMPLES, 1) > 0).astype(np.int8))
    score_volume(to, open_volume(tmp_path / "labels.npy", Reading(interval=4)))
    text, _ = page(to)
    assert greens(text) and "of one line" in section(text, "labels")


def test_a_finished_prediction_without_a_page_gets_one(run: Path, data: Path, folder: Path) -> None:
    write_volume_report(folder)
    before = (folder / "report.html").read_text()
    (folder / "report.html").unlink()
    predicted(run, data, folder, direction="both", as_is=True)
    assert (folder / "report.html").read_text() == before
    (folder / "done.json").unlink()
    with pytest.raises(RunError, match="run volume predict first"):
        write_volume_report(folder)


def test_lines_are_chosen_evenly_and_by_doubt() -> None:
    numbers = np.arange(100, 300, 2)
    assert evenly_spread(numbers) == [120, 160, 200, 240, 280] and evenly_spread(numbers[:2]) == [100, 102]
    spread = np.zeros(100)
    spread[[40, 41, 42, 80, 3]] = 0.3, 0.5, 0.4, 0.2, 0.1
    assert most_doubtful(numbers, spread) == [182, 260, 106]


def test_one_inline_and_one_crossline_of_a_volume(run: Path, data: Path, labels: Path, tmp_path: Path) -> None:
    to = predicted(run, data, tmp_path / "inline", inlines=(107, 107))
    text, _ = page(to)
    assert titles(text) == ["The line"] and "Amplitudes are missing" not in text
    assert all(picture.std() > 10 for picture in pictures(section(text, "lines"))) and len(pictures(text)) == 2
    assert not greens(text)
    score_volume(to, open_volume(labels))
    text, _ = page(to)
    assert greens(text) and "of one line" in section(text, "labels") and titles(text) == ["The line"]
    text, _ = page(predicted(run, data, tmp_path / "crossline", crosslines=(307, 307)))
    assert "one crossline of a volume was predicted" in section(text, "lines")
