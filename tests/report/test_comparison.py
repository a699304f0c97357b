"""Two runs compared: none differs from itself, a true difference is found, and what does not compare is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from road import Road
from scipy import stats

import salt_ray
from salt_ray.artifacts import RunDirectory
from salt_ray.errors import RunError
from salt_ray.inference.paired import Difference, difference
from salt_ray.mosaic.table import MosaicTable
from salt_ray.report.comparison import compare_runs
from salt_ray.report.forest import draw_comparison

DRAWS = 400


def neighbours(rng: np.random.Generator, tiles: int) -> np.ndarray:
    """Clusters of one to eight tiles."""
    return np.repeat(np.arange(tiles), rng.integers(1, 9, tiles))[:tiles]


def scores(rng: np.random.Generator, clusters: np.ndarray) -> np.ndarray:
    """What a model scores on tiles, of which neighbours are alike: steps of 0.1, as the metric has."""
    together = rng.normal(0, 0.15, clusters.max() + 1)[clusters]
    return np.clip(np.round(0.8 + together + rng.normal(0, 0.2, len(clusters)), 1), 0, 1)


def test_where_a_coin_says_whose_prediction_is_whose_one_in_twenty_is_called_different() -> None:
    rng, called = np.random.default_rng(0), 0
    clusters = neighbours(rng, 900)
    one, other = scores(rng, clusters), scores(rng, clusters)
    for seed in range(200):
        swapped = (rng.random(clusters.max() + 1) < 0.5)[clusters]
        sides = np.where(swapped, one, other), np.where(swapped, other, one)
        called += difference(*(side[None] for side in sides), clusters, seed, DRAWS).certain
    assert 3 <= called <= 17


def test_two_hundredths_on_as_many_tiles_as_tgs_has_are_found() -> None:
    rng, found = np.random.default_rng(1), 0
    for seed in range(20):
        clusters = neighbours(rng, 3500)
        first = scores(rng, clusters)
        changed = rng.random(3500) < 0.3  # some tiles better, some worse
        second = np.where(changed, first + rng.choice([-0.2, 0.4], 3500) * (2 / 3), first)
        second += 0.02 - (second - first).mean() + rng.normal(0, 0.004)
        found += difference(first[None], second[None], clusters, seed, DRAWS).low > 0
    assert found >= 16


def test_the_interval_is_scipys_where_no_tile_has_a_neighbour() -> None:
    rng = np.random.default_rng(2)
    first = scores(rng, np.arange(500))
    second = np.clip(first + rng.normal(0.01, 0.1, 500), 0, 1)
    ours = difference(first[None], second[None], np.arange(500), draws=4000)
    gains = (second - first,)
    theirs = stats.bootstrap(gains, np.mean, n_resamples=4000, method="percentile", rng=0).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.0012)
    assert ours.difference == pytest.approx(gains[0].mean())
    assert (ours.tiles, ours.clusters, ours.wins + ours.ties + ours.losses) == (500, 500, 500)


def test_neighbours_that_are_alike_make_the_interval_wider() -> None:
    rng = np.random.default_rng(3)
    clusters = np.repeat(np.arange(100), 8)
    first = scores(rng, clusters)[None]
    second = first + rng.normal(0, 0.1, 100)[clusters]
    alone, together = (difference(first, second, groups) for groups in (np.arange(800), clusters))
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_of_recipes_the_interval_holds_how_far_their_runs_scatter() -> None:
    """Three runs a side of one recipe, whose seeds differ by more than the tiles do."""
    rng, called, single = np.random.default_rng(4), 0, 0
    clusters = np.arange(250)
    for seed in range(200):
        tile = rng.normal(0.7, 0.1, 250)
        runs = tile + rng.normal(0, 0.01, (6, 1)) + rng.normal(0, 0.02, (6, 250))
        called += difference(runs[:3], runs[3:], clusters, seed, DRAWS).certain
        single += difference(runs[:1], runs[3:4], clusters, seed, DRAWS).certain
    assert called <= 17 < single


# Runs ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two scored runs of 60 tiles; the second is better wherever there is much salt."""
    rng = np.random.default_rng(5)
    ids = np.array([f"{number:04d}" for number in range(60)])
    salt = np.tile([0.0, 0.05, 0.2, 0.4, 0.6, 0.9], 10)
    first = rng.integers(3, 8, 60) / 10
    places = np.arange(40)
    table = MosaicTable(ids[:40], places // 4, places % 4 // 2, places % 2, np.ones(40))
    for name, values in (("first", first), ("second", first + np.where(salt > 0.5, 0.2, 0.0))):
        run = RunDirectory(tmp_path / name)
        rows = {"id": ids, "set": np.where(np.arange(60) < 50, "oof", "holdout"), "score": values, "salt": salt}
        run.path.mkdir()
        pd.DataFrame(rows).to_csv(run.tile_scores, index=False)
        run.mosaics.mkdir()
        table.save(run.mosaics / "mosaics.csv")
    return tmp_path / "first", tmp_path / "second"


def test_two_runs_by_share_of_salt(pair: tuple[Path, Path]) -> None:
    found = salt_ray.compare(*pair)
    assert (found.whole.tiles, found.whole.clusters) == (50, 10 + 10)
    assert (found.whole.wins, found.whole.ties, found.whole.losses) == (16, 34, 0)
    assert found.whole.difference == pytest.approx(16 * 0.2 / 50) and found.whole.certain
    assert list(found.by_salt) == ["no salt", "to 10 %", "10 to 25 %", "25 to 50 %", "50 to 75 %", "above 75 %"]
    assert found.by_salt["no salt"].difference == 0 and not found.by_salt["no salt"].certain
    assert found.by_salt["above 75 %"].difference == pytest.approx(0.2)
    first, counts, question = found.sentences()
    assert first.startswith("second scores 0.0640 more than first out of fold: ")
    assert "50 tiles in 20 groups of neighbours" in first and "better on 16 tiles, equal on 34, worse on 0" in counts
    assert "these trained models" in question and not found.of_recipes
    assert salt_ray.compare(*pair, on="holdout").whole.tiles == 10
    picture = draw_comparison(found)
    assert picture.startswith(b"\x89PNG") and picture == draw_comparison(found)
    assert json.loads(json.dumps(found.as_json()))["whole"]["tiles"] == 50


def test_a_run_beside_itself_cannot_be_told_apart(pair: tuple[Path, Path]) -> None:
    found = salt_ray.compare(pair[0], pair[0])
    assert found.whole == Difference(50, 20, found.whole.first, found.whole.first, 0.0, 0.0, 0, 50, 0)
    assert "do not differ significantly" in found.sentences()[0] and str(pair[0]) in found.sentences()[0]


def test_a_few_groups_of_neighbours_tell_no_runs_apart(pair: tuple[Path, Path]) -> None:
    """Nine pieces of section, whose interval would leave out 0."""
    for run in pair:
        places = np.arange(50)
        ids = np.array([f"{number:04d}" for number in places])
        MosaicTable(ids, places // 6, places % 6, places * 0, np.ones(50)).save(run / "mosaics" / "mosaics.csv")
    found = salt_ray.compare(*pair)
    verdict, _, few, _ = found.sentences()
    assert found.whole.certain and found.whole.clusters == 9
    assert "do not differ significantly" in verdict and "unreliable with so few groups of neighbours" in few


def test_seeds_of_both_sides_are_about_the_recipes(pair: tuple[Path, Path], tmp_path: Path) -> None:
    for run, name in zip(pair, ("a", "b"), strict=True):
        for seed in (0, 1):
            shutil.copytree(run, tmp_path / name / f"seed-{seed}")
    found = salt_ray.compare(tmp_path / "a", tmp_path / "b")
    assert found.runs == (2, 2) and found.of_recipes and "(2 and 2 seeds)" in found.sentences()[2]
    assert found.whole.difference == pytest.approx(salt_ray.compare(*pair).whole.difference)
    assert not salt_ray.compare(tmp_path / "a", pair[1]).of_recipes


def rewritten(run: Path, **columns: object) -> None:
    path = RunDirectory(run).tile_scores
    pd.read_csv(path, dtype={"id": str}).assign(**columns).to_csv(path, index=False)


def test_what_does_not_compare_is_refused(pair: tuple[Path, Path]) -> None:
    first, second = map(RunDirectory, pair)
    with pytest.raises(RunError, match=r"has no tiles on the test truth: choose another set with --on"):
        compare_runs(first, second, "test")
    other = MosaicTable(*(np.array([value]) for value in ("0000", 0, 0, 0, 1.0)))
    other.save(second.mosaics / "mosaics.csv")
    with pytest.raises(RunError, match="have different mosaics"):
        compare_runs(first, second)
    (second.mosaics / "mosaics.csv").unlink()
    assert compare_runs(first, second).whole.clusters == 20  # those of the first
    rewritten(pair[0], labelled=1.0)  # as without that column
    assert compare_runs(first, second).whole.clusters == 20
    rewritten(pair[0], labelled=0.6)
    with pytest.raises(RunError, match="have different labels"):
        compare_runs(first, second)
    rewritten(pair[0], labelled=1.0)
    rewritten(pair[1], salt=0.5)
    with pytest.raises(RunError, match="have different labels"):
        compare_runs(first, second)
    rewritten(pair[1], id=[f"x{number}" for number in range(60)])
    with pytest.raises(RunError, match=r"were scored on different tiles \(100 differ"):
        compare_runs(first, second)
    second.tile_scores.write_text("id,set\n")
    with pytest.raises(RunError, match=r"tile_scores\.csv"):
        compare_runs(first, second)
    second.tile_scores.unlink()
    with pytest.raises(RunError, match="are not scored: run score"):
        compare_runs(first, second)
    (first.mosaics / "mosaics.csv").unlink()
    shutil.copy(first.tile_scores, second.tile_scores)
    with pytest.raises(RunError, match="has mosaics that define neighbours: run mosaic"):
        compare_runs(first, second)


def test_a_finished_run_says_what_each_tile_scores(road: Road, undisturbed: Path, tmp_path: Path) -> None:
    table = pd.read_csv(undisturbed / "tile_scores.csv", dtype={"id": str})
    told = json.loads((undisturbed / "scores.json").read_text())
    for name, of_set in table.groupby("set"):
        assert of_set["score"].mean() == pytest.approx(told[name]) and len(of_set) == told[f"{name}_tiles"]
    said = road.here_alone("compare", str(undisturbed), str(undisturbed), "--picture", str(tmp_path / "pair.png"))
    assert "do not differ significantly out of fold" in said and "95 % interval" in said
    assert (tmp_path / "pair.png").read_bytes().startswith(b"\x89PNG")
