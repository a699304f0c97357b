"""A survey of windows: what it says of itself, and which folds leave which windows out."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salt_ray.metric import UNLABELLED
from salt_ray.survey.folds import FoldError, FoldTable, line_blocks, line_folds, load_folds, near
from salt_ray.survey.problems import SurveyError
from salt_ray.survey.tiles import load_survey
from salt_ray.survey.window import Line, Window, Windows, lines_of

WINDOW = Window(window_px=32, context_px=4, trace_spacing=25.0, sample_interval=4.0)


def made_windows(folder: Path, lines: int = 2) -> Path:
    """Two windows on each of some lines; their right halves are not labelled, their contexts' corners are."""
    random = np.random.default_rng(0)
    named = {f"il{number:04d}": Line(direction="inline", number=number, index=number) for number in range(lines)}
    for name in named:
        for part in ("images", "masks"):
            (folder / "train" / part / name).mkdir(parents=True)
        for trace in (0, 16):
            tile = random.normal(0, 10, (40, 40)).astype(np.float32)
            tile[:, 7] = np.nan
            mask = np.zeros((40, 40), np.uint8)
            mask[20:], mask[:, 20:36], mask[:4] = 1, 255, 255
            np.save(folder / "train" / "images" / name / f"t{trace:04d}-s0000.npy", tile)
            cv2.imwrite(str(folder / "train" / "masks" / name / f"t{trace:04d}-s0000.png"), mask)
    windows = Windows(window=WINDOW, amplitudes={"low": -20.0, "high": 20.0}, lines=named)
    (folder / "windows.json").write_text(windows.model_dump_json())
    return folder


def test_a_survey_of_windows_says_itself_what_its_files_mean(tmp_path: Path) -> None:
    made_windows(tmp_path / "survey")
    for _ in range(2):  # read, and mapped from the cache
        survey = load_survey(tmp_path / "survey", cache=tmp_path / "cache")
        assert survey.window == WINDOW and survey.tile_px == 32 and survey.images.shape == (4, 32, 32)
        assert survey.padded_images.shape == survey.padded_masks.shape == (4, 40, 40)
        assert (survey.padded_images[:, 4:36, 4:36] == survey.images).all()
        assert (survey.padded_masks[:, 4:36, 4:36] == survey.masks).all()
        assert (survey.masks[:, 16:, :16] == 1).all() and (survey.masks[:, :, 16:] == UNLABELLED).all()
        assert (survey.images[:, :, 3] == 128).all() and (survey.scaling.used.low, survey.scaling.used.high) == (
            -20,
            20,
        )
        assert survey.places.tolist() == [[0, 0, 0, 0], [0, 0, 16, 0], [0, 1, 0, 0], [0, 1, 16, 0]]
        assert (lines_of(survey.ids) == survey.sections).all()
        assert any("windows of 32 px with 4 px around them" in line for line in survey.account)


def test_what_does_not_fit_its_own_account_is_refused(tmp_path: Path) -> None:
    def refused(folder: str, match: str) -> None:
        with pytest.raises(SurveyError, match=match):
            load_survey(tmp_path / folder, cache=tmp_path / "cache")

    def changed(folder: str, **fields: object) -> None:
        path = made_windows(tmp_path / folder) / "windows.json"
        path.write_text(Windows.parse(path.read_bytes(), "").model_copy(update=fields).model_dump_json())

    changed("lines", lines={})
    refused("lines", "is not a window tTRACE-sSAMPLE of a line in this file")
    changed("edge", window=WINDOW.model_copy(update={"context_px": 5}))
    refused("edge", "is 40 x 40 px, but the survey's tiles are 42 x 42")
    (made_windows(tmp_path / "damaged") / "windows.json").write_text("{")
    refused("damaged", "windows.json: is damaged")
    (made_windows(tmp_path / "plain") / "windows.json").unlink()
    refused("plain", "NaN or infinity")
    mask = made_windows(tmp_path / "around") / "train" / "masks" / "il0000" / "t0000-s0000.png"
    pixels = np.full((40, 40), 255, np.uint8)
    pixels[0, 0] = 1
    cv2.imwrite(str(mask), pixels)
    refused("around", "il0000-t0000-s0000 has labelled pixels only in its context")


PLACES = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 400), st.integers(0, 400), st.integers(0, 2)), min_size=2, max_size=60
)


def _distance(one: np.ndarray, other: np.ndarray, window_px: int) -> int:
    """Traces from one window to the other along the axis in which they are further apart, pixel by pixel."""
    apart = []
    for axis in (0, 1):
        lines = [range(p[1], p[1] + 1) if p[0] == axis else range(p[2], p[2] + window_px) for p in (one, other)]
        apart.append(min(abs(a - b) for a in (lines[0][0], lines[0][-1]) for b in lines[1]))
        if set(lines[0]) & set(lines[1]):
            apart[-1] = 0
    return max(apart)


@given(PLACES, st.integers(2, 4), st.sampled_from([1, 20, 32, 64]))
def test_no_fold_trains_on_what_is_nearer_to_its_own_than_the_gap(places: list[tuple], count: int, gap: int) -> None:
    rows = np.unique(np.array(places, np.int32), axis=0)
    ids = np.array([f"il{i:03d}" for i in np.random.default_rng(0).permutation(len(rows))])
    try:
        table = line_folds(ids, rows, count, 32, gap)
    except FoldError:
        return
    where = dict(zip(ids, rows, strict=True))
    validated = []
    for fold in range(count):
        training, validation = table.split(fold, table.ids)
        validated += validation.tolist()
        own = [where[i] for i in table.ids[validation]]
        for i in set(range(len(ids))) - set(validation.tolist()):
            is_near = min(_distance(where[table.ids[i]], other, 32) for other in own) < gap
            assert (i in set(training.tolist())) == (not is_near)
    assert sorted(validated) == list(range(len(ids)))


def test_blocks_are_of_neighbouring_lines_or_of_places_along_one() -> None:
    lines = np.array([[0, line, trace, 0] for line in (3, 9, 30, 31, 32, 70) for trace in (0, 16)])
    assert line_blocks(lines, 3).tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    one = np.array([[0, 0, trace, sample] for trace in range(0, 96, 16) for sample in (0, 16)])
    assert line_blocks(one, 3).tolist() == [0] * 4 + [1] * 4 + [2] * 4
    with pytest.raises(FoldError, match="6 places along lines into 7 blocks"):
        line_blocks(one, 7)
    long = np.array([[0, 0, trace, 0] for trace in range(0, 640, 16)])
    table = line_folds(np.array([f"w{i:02d}" for i in range(40)]), long, 2, 32, 32)
    training, _ = table.split(0, table.ids)
    assert long[training, 2].min() - (long[19, 2] + 31) >= 32  # a 2D line is divided, with a gap


def test_inlines_and_crosslines_that_cross_are_near() -> None:
    inline, crossline, far = [[0, 50, 0, 0]], [[1, 20, 40, 0]], [[1, 20, 120, 0]]
    assert near(np.array(crossline), np.array(inline), 32, 32).all()
    assert not near(np.array(far), np.array(inline), 32, 32).any()


def test_a_window_is_near_by_less_than_the_gap() -> None:
    lines, one = np.array([[0, line, 0, 0] for line in (18, 19, 81, 82)]), np.array([[0, 50, 0, 0]])
    assert near(lines, one, 32, 32).tolist() == [False, True, True, False]
    traces = np.array([[0, 50, trace, 0] for trace in (0, 1, 125, 126)])  # up to 31 and 32, or from 125 and 126 on
    middle = np.array([[0, 50, 63, 0]])  # 63 to 94
    assert near(traces, middle, 32, 33).all()
    assert near(traces, middle, 32, 32).tolist() == [False, True, True, False]


def test_the_gap_is_as_long_along_lines_as_across_them() -> None:
    window = WINDOW.model_copy(update={"trace_spacing": 12.5, "line_spacing": 25.0001})
    inline, crossline = np.array([[0, 50, 0, 0]]), np.array([[1, 50, 0, 0]])
    assert window.gap(inline) == (16, 32) and window.gap(crossline) == (32, 16)
    assert window.gap(np.concatenate([crossline, inline])) == (16, 32)
    for line_spacing, lines in ((None, 32), (6.25, 64), (1e6, 1)):
        assert window.model_copy(update={"line_spacing": line_spacing}).gap(inline) == (lines, 32)
    lines = np.array([[0, line, 0, 0] for line in (34, 35, 65, 66)])
    assert near(lines, inline, 32, window.gap(inline)).tolist() == [False, True, True, False]


def test_a_table_says_what_is_left_out_and_loads_without(tmp_path: Path) -> None:
    places = np.array([[0, line, 0, 0] for line in (0, 20, 40, 60)])
    ids = np.array(["a", "b", "c", "d"])
    table = line_folds(ids, places, 2, 32, 32)
    table.save(tmp_path / "folds.csv")
    assert (tmp_path / "folds.csv").read_text() == "id,fold,left_out\na,0,\nb,0,1\nc,1,0\nd,1,\n"
    again = load_folds(tmp_path / "folds.csv", 2)
    assert again.digest == table.digest and (again.left_out == table.left_out).all()
    assert again.split(0, ids)[0].tolist() == [3]
    (tmp_path / "folds.csv").write_text("id,fold\na,0\nb,1\n")
    assert load_folds(tmp_path / "folds.csv", 2).left_out is None
    for cell in ("2", "x", "-1"):
        (tmp_path / "folds.csv").write_text(f"id,fold,left_out\na,0,{cell}\nb,1,\nc,1,\n")
        with pytest.raises(FoldError, match="is not a table of 2 folds"):
            load_folds(tmp_path / "folds.csv", 2)
    with pytest.raises(FoldError, match="has no windows left to train on"):
        line_folds(ids, places // 2, 2, 32, 32)
    plain = FoldTable(ids, np.array([0, 0, 1, 1]), 2)
    assert plain.digest != table.digest and plain.split(0, ids)[0].tolist() == [2, 3]
