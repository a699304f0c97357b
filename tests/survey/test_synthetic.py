"""The synthetic survey: Kaggle's layout, TGS's statistics and quirks, continuous sections, and the same bytes again."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from salt_ray.survey import rle
from salt_ray.survey.synthetic import draw_section, label_tile, plan_sections, stretch, tile_table, write_survey

TILES = 200


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("synthetic") / "survey"
    write_survey(directory, TILES, seed=3)
    return directory


def _read_csv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"id": str, "rle_mask": str}, keep_default_na=False)


def _read_folder(folder: Path) -> dict[str, np.ndarray]:
    """Every PNG of a folder as stored, keyed by id."""
    return {path.stem: cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted(folder.iterdir())}


def _images(survey: Path) -> dict[str, np.ndarray]:
    return _read_folder(survey / "train/images") | _read_folder(survey / "test/images")


def _masks(survey: Path) -> dict[str, np.ndarray]:
    return _read_folder(survey / "train/masks") | _read_folder(survey / "truth/masks")


def _digests(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_same_seed_gives_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        write_survey(tmp_path / name, 40, seed, tile_px=48)
    first, again, other = (_digests(tmp_path / name) for name in "abc")
    assert first == again
    assert len(first) == 40 * 2 + 4
    assert not {path for path in first if path.endswith(".png")} & set(other)  # ids follow from the seed


def test_layout_is_complete_and_consistent(survey: Path) -> None:
    train, submission, depths, places = (
        _read_csv(survey / name) for name in ("train.csv", "sample_submission.csv", "depths.csv", "truth/places.csv")
    )
    assert list(train) == list(submission) == ["id", "rle_mask"]
    assert list(depths) == ["id", "z"] and list(places) == ["id", "section", "row", "col"]
    assert set(_read_folder(survey / "train/images")) == set(_read_folder(survey / "train/masks")) == set(train["id"])
    assert (
        set(_read_folder(survey / "test/images")) == set(_read_folder(survey / "truth/masks")) == set(submission["id"])
    )
    ids = [*train["id"], *submission["id"]]
    assert len(ids) == len(set(ids)) == TILES
    assert all(len(tile) == 10 and set(tile) <= set("0123456789abcdef") for tile in ids)
    for table in (depths, places):
        assert sorted(table["id"]) == sorted(ids)
    assert len(submission) == round(TILES / 3)
    assert set(submission["rle_mask"]) == {"1 1"}
    assert depths["z"].dtype == np.int64 and depths["z"].between(50, 959).all()
    assert not places.duplicated(["section", "row", "col"]).any()


def test_run_lengths_of_train_csv_are_the_mask_files(survey: Path) -> None:
    train = _read_csv(survey / "train.csv")
    masks = _read_folder(survey / "train/masks")
    decoded = rle.decode(train["rle_mask"].tolist(), 101, 101)
    for tile, mask in zip(train["id"], decoded, strict=True):
        np.testing.assert_array_equal(masks[tile], mask * np.uint8(255))


def test_images_are_grey_rgb_and_stretched_each_on_its_own(survey: Path) -> None:
    masks = _masks(survey)
    constant = []
    for tile, image in _images(survey).items():
        assert image.dtype == np.uint8 and image.shape == (101, 101, 3)
        assert (image == image[..., :1]).all()
        if image.min() == image.max():
            constant.append(tile)
            assert not masks[tile].any()
        else:
            assert (image.min(), image.max()) == (0, 255)
    assert 2 <= len(constant) <= 0.05 * TILES
    assert {(survey / "train/images" / f"{tile}.png").exists() for tile in constant} == {True, False}


def test_masks_have_the_statistics_and_the_quirk_of_tgs(survey: Path) -> None:
    masks = np.stack(list(_masks(survey).values()))
    assert set(np.unique(masks)) == {0, 255}
    coverage = (masks > 0).mean((1, 2))
    assert coverage.max() < 1  # a tile wholly inside salt is labelled empty
    assert 0.3 < (coverage == 0).mean() < 0.55  # TGS: 0.39; 0.39 over 2,000 tiles here
    stripes = (masks == masks[:, :1]).all((1, 2)) & (coverage > 0)
    assert 0 < stripes.mean() < 0.1  # TGS: 0.028


def test_label_runs_straight_down_from_the_top_of_a_rooted_body() -> None:
    plans = plan_sections(np.random.default_rng(0), 200)
    for number, plan in enumerate(plans):
        amplitude, label = draw_section(np.random.default_rng([1, number]), plan, 32)
        assert amplitude.dtype == np.float32 and np.isfinite(amplitude).all()
        if plan.dead_rows == 0:
            starts = label[1:] & ~label[:-1]
            # Only a sheet has a base, and a body below it starts anew; most columns start once.
            assert (starts.sum(0) <= 3).all() and (starts.sum(0) <= 1).mean() > 0.5
        else:
            assert not (label & (amplitude == 0)).any()


def test_full_tile_becomes_empty_and_any_other_is_kept() -> None:
    full = np.ones((8, 8), bool)
    assert not label_tile(full).any()
    almost = full.copy()
    almost[3, 4] = False
    np.testing.assert_array_equal(label_tile(almost), almost)


def test_stretch_reaches_both_ends_and_leaves_constants_black() -> None:
    np.testing.assert_array_equal(stretch(np.array([[-1.0, 0.0, 1.0]], np.float32)), [[0, 128, 255]])
    np.testing.assert_array_equal(stretch(np.full((2, 2), 7, np.float32)), np.zeros((2, 2), np.uint8))


@pytest.mark.parametrize("step", [(0, 1), (1, 0)], ids=["left-right", "up-down"])
def test_neighbours_continue_each_other(survey: Path, step: tuple[int, int]) -> None:
    images = {tile: image[..., 0].astype(float) for tile, image in _images(survey).items()}
    places = _read_csv(survey / "truth/places.csv")
    at = {(p.section, p.row, p.col): p.id for p in places.itertuples() if np.ptp(images[p.id]) > 0}
    pairs = [
        (tile, at[section, row + step[0], col + step[1]])
        for (section, row, col), tile in at.items()
        if (section, row + step[0], col + step[1]) in at
    ]
    last, first = (np.s_[:, -1], np.s_[:, 0]) if step == (0, 1) else (np.s_[-1], np.s_[0])

    def median_correlation(pairs: list[tuple[str, str]]) -> float:
        edges = [(images[a][last], images[b][first]) for a, b in pairs]
        return float(np.median([np.corrcoef(a, b)[0, 1] for a, b in edges if np.ptp(a) > 0 and np.ptp(b) > 0]))

    order = np.random.default_rng(0).permutation(len(pairs))
    strangers = [(a, pairs[other][1]) for (a, _), other in zip(pairs, order, strict=True)]
    assert len(pairs) > TILES / 2
    assert median_correlation(pairs) > 0.85
    assert abs(median_correlation(strangers)) < 0.3


@pytest.mark.parametrize("tiles", [40, 41, 333, 2000])
def test_plan_has_exactly_the_tiles_asked_for_and_constant_ones_in_both_splits(tiles: int) -> None:
    for seed in range(5):
        for fraction in (0.05, 1 / 3, 0.95):
            plans = plan_sections(np.random.default_rng([seed, 0]), tiles)
            table = tile_table(np.random.default_rng([seed, 1]), plans, fraction)
            assert len(table) == table["id"].nunique() == tiles
            assert table["test"].sum() == round(tiles * fraction)
            assert table.loc[table["constant"], "test"].nunique() == 2
    grid = sum(plan.rows * plan.cols for plan in plans[:-1])
    missing = 1 - sum(len(plan.cells) for plan in plans[:-1]) / grid
    assert tiles < 2000 or 0.02 < missing < 0.05
    assert tiles < 2000 or 0.01 < table["constant"].mean() < 0.03


def test_depth_follows_the_place_only_loosely() -> None:
    table = tile_table(np.random.default_rng(1), plan_sections(np.random.default_rng(0), 2000), 1 / 3)
    assert 0.4 < table["z"].corr(table["depth"]) < 0.9


@pytest.mark.parametrize("tile_px", [32, 256])
def test_smallest_and_largest_tiles(tmp_path: Path, tile_px: int) -> None:
    lines: list[str] = []
    write_survey(tmp_path / "survey", 40, tile_px=tile_px, test_fraction=0.5, report=lines.append)
    images = _images(tmp_path / "survey")
    assert len(images) == 40 and {image.shape for image in images.values()} == {(tile_px, tile_px, 3)}
    assert len(_read_folder(tmp_path / "survey/test/images")) == 20
    assert len(lines) == 2


def test_refuses_a_directory_with_content_and_leaves_it_alone(tmp_path: Path) -> None:
    (tmp_path / "survey").mkdir()
    (tmp_path / "survey/precious.txt").write_text("mine")
    with pytest.raises(ValueError, match="not empty: give another folder or delete it"):
        write_survey(tmp_path / "survey", 40, tile_px=32)
    assert [path.name for path in tmp_path.rglob("*")] == ["survey", "precious.txt"]
    assert (tmp_path / "survey/precious.txt").read_text() == "mine"


def test_an_empty_directory_is_filled(tmp_path: Path) -> None:
    (tmp_path / "survey").mkdir()
    write_survey(tmp_path / "survey", 40, tile_px=32)
    assert len(_images(tmp_path / "survey")) == 40


def test_a_failure_half_way_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(line: str) -> None:
        raise KeyboardInterrupt(line)

    with pytest.raises(KeyboardInterrupt):
        write_survey(tmp_path / "survey", 40, tile_px=32, report=interrupt)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tiles": 39}, "tiles is 39: a survey has at least 40 tiles"),
        ({"seed": -1}, "seed is -1"),
        ({"tile_px": 31}, "tile_px is 31: allowed are 32 to 256 px"),
        ({"tile_px": 257}, "tile_px is 257"),
        ({"test_fraction": 1.0}, r"test_fraction is 1.0: allowed are 0.05 to 0.95"),
        ({"test_fraction": float("nan")}, "test_fraction is nan"),
    ],
)
def test_arguments_out_of_range_are_named(tmp_path: Path, arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_survey(tmp_path / "survey", **arguments)
    assert list(tmp_path.iterdir()) == []
