"""The whole assembly on made sections whose places are known: precision, recall, noise, gaps, tile sizes, order."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from salt_ray.config import Mosaics
from salt_ray.mosaic.assemble import assemble
from salt_ray.mosaic.table import MosaicError, MosaicTable
from salt_ray.survey.synthetic import write_survey
from salt_ray.survey.tiles import Survey, load_survey

pytestmark = pytest.mark.usefixtures("one_thread")

TILES = 400
Pairs = set[tuple[str, str, str]]


@pytest.fixture(scope="module", params=[101, 64])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Survey, pd.DataFrame]:
    """A survey and the true places of its tiles."""
    folder = tmp_path_factory.mktemp("made") / "survey"
    write_survey(folder, TILES, seed=11, tile_px=request.param)
    places = pd.read_csv(folder / "truth" / "places.csv", dtype={"id": str})
    return load_survey(folder), places


def touching(ids: np.ndarray, groups: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> Pairs:
    """Every (tile, its neighbour at the right or below, which)."""
    at = dict(zip(zip(groups.tolist(), rows.tolist(), cols.tolist(), strict=True), ids.tolist(), strict=True))
    pairs = set()
    for (group, row, col), tile in at.items():
        for name, place in (("right", (group, row, col + 1)), ("below", (group, row + 1, col))):
            if place in at:
                pairs.add((tile, at[place], name))
    return pairs


def shares(table: MosaicTable, survey: Survey, places: pd.DataFrame, kept: np.ndarray) -> tuple[float, float]:
    """Precision and recall of the adjacent pairs of tiles that were kept and are not constant."""
    present = places[places["id"].isin(survey.ids[kept & ~survey.constant])]
    true = touching(*(present[name].to_numpy() for name in ("id", "section", "row", "col")))
    found = touching(table.ids, table.mosaics, table.rows, table.cols)
    return len(found & true) / len(found), len(found & true) / len(true)


def test_places_are_found(made: tuple[Survey, pd.DataFrame]) -> None:
    survey, places = made
    lines: list[str] = []
    table = assemble(survey.images, survey.ids, survey.constant, Mosaics(), lines.append)
    precision, recall = shares(table, survey, places, np.ones(len(survey.ids), bool))
    assert precision >= 0.995 and recall >= 0.95
    assert not set(table.ids) & set(survey.ids[survey.constant])
    sizes = [len(table.ids[member]) for member in table.members]
    assert sizes == sorted(sizes, reverse=True) and min(sizes) >= 2
    assert f"{len(table.ids):,} tiles placed in {table.count:,} mosaics" in lines[-1]


def test_no_mosaic_has_tiles_of_two_sections(made: tuple[Survey, pd.DataFrame]) -> None:
    """Sections are halves of the true ones: neighbours across the cut stay apart, the others are found as before."""
    survey, places = made
    places = places.set_index("id").loc[survey.ids].reset_index()
    halves = places["section"].astype(str) + np.where(places["col"] % 8 < 4, "-left", "-right")
    lines: list[str] = []
    table = assemble(survey.images, survey.ids, survey.constant, Mosaics(), lines.append, sections=halves.to_numpy(str))
    half_of = dict(zip(survey.ids.tolist(), halves, strict=True))
    assert all(len({half_of[tile] for tile in table.ids[member]}) == 1 for member in table.members)
    sizes = np.bincount(table.mosaics).tolist()
    assert sizes == sorted(sizes, reverse=True)
    varied = places[~survey.constant].assign(section=halves[~survey.constant])
    true = touching(*(varied[name].to_numpy() for name in ("id", "section", "row", "col")))
    found = touching(table.ids, table.mosaics, table.rows, table.cols)
    assert len(found & true) / len(found) >= 0.99 and len(found & true) / len(true) >= 0.9
    assert f"{len(table.ids):,} tiles placed in {table.count:,} mosaics, {sizes[0]} in the largest" == lines[-1]


def layered(random: np.random.Generator) -> np.ndarray:
    """A tile of dipping layers that has no neighbour."""
    rows, columns = np.mgrid[:101, :101]
    layers = ndimage.gaussian_filter1d(np.cumsum(random.normal(size=400)), 3)
    grey = np.interp(rows + random.uniform(-0.3, 0.3) * columns + 100, np.arange(400), layers)
    grey += random.normal(0, 0.1, grey.shape)
    return ((grey - grey.min()) / np.ptp(grey) * 255).astype(np.uint8)


def test_small_sections_do_not_make_mosaics_of_chance() -> None:
    """What is chance is measured in all sections together; in ten tiles alone nearly any pair would look like more."""
    random = np.random.default_rng(3)
    images = np.stack([layered(random) for _ in range(TILES)])
    ids, sections = (np.array([f"{i // size:03d}" for i in range(TILES)]) for size in (1, 10))
    table = assemble(images, ids, np.zeros(TILES, bool), Mosaics(), sections=sections)
    assert np.bincount(table.mosaics).max() == 2  # of which no rule takes notice


@pytest.mark.parametrize("sigma", [3, 5])
def test_noise_other_contrast_and_missing_tiles_are_borne(made: tuple[Survey, pd.DataFrame], sigma: int) -> None:
    survey, places = made
    random = np.random.default_rng(sigma)
    count = len(survey.ids)
    contrast, brightness = random.uniform(0.7, 1.3, (count, 1, 1)), random.uniform(-25, 25, (count, 1, 1))
    noisy = 128 + contrast * (survey.images - 128.0) + brightness + random.normal(0, sigma, survey.images.shape)
    images = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    kept = random.random(count) > 0.1
    table = assemble(images[kept], survey.ids[kept], survey.constant[kept], Mosaics())
    precision, recall = shares(table, survey, places, kept)
    assert precision >= 0.995 and recall >= 0.95


def test_confidence_tells_right_places_from_wrong_ones(made: tuple[Survey, pd.DataFrame]) -> None:
    survey, _ = made
    # Tiles of noise have no neighbours: whatever they are paired with is chance.
    noise = np.random.default_rng(0).integers(0, 256, (300, *survey.images.shape[1:])).astype(np.uint8)
    ids = np.concatenate([survey.ids, [f"noise{i:03d}" for i in range(300)]])
    constant = np.concatenate([survey.constant, np.zeros(300, bool)])
    eager = Mosaics(min_correlation=0.0, compatibility=0.0, loop_compatibility=0.0)
    table = assemble(np.concatenate([survey.images, noise]), ids, constant, eager)
    assert table.confidence.min() >= 0 and table.confidence.max() <= 1
    is_noise = np.char.startswith(table.ids, "noise")
    assert is_noise.sum() > 20
    assert table.confidence[is_noise].mean() < 0.2 < 0.95 < table.confidence[~is_noise].mean()


def test_the_order_of_the_tiles_does_not_matter(made: tuple[Survey, pd.DataFrame]) -> None:
    survey, _ = made
    order = np.random.default_rng(2).permutation(len(survey.ids))
    first = assemble(survey.images, survey.ids, survey.constant, Mosaics())
    second = assemble(survey.images[order], survey.ids[order], survey.constant[order], Mosaics())
    assert first.digest == second.digest


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_few_or_constant_tiles_make_no_mosaic(count: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (count + 3, 32, 32)).astype(np.uint8)
    images[count:] = 9
    ids = np.array([f"t{i}" for i in range(count + 3)])
    table = assemble(images, ids, np.arange(count + 3) >= count, Mosaics())
    assert table.count == 0 and len(table.ids) == 0


def test_arrays_of_different_tiles_are_refused() -> None:
    with pytest.raises(MosaicError, match="one of each per tile"):
        assemble(np.zeros((3, 8, 8), np.uint8), np.array(["a", "b"]), np.zeros(3, bool), Mosaics())
