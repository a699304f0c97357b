"""Predictions in storage: kept chunk by chunk in one order, read row by row, whole with their marker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from salt_ray.artifacts import Folder
from salt_ray.errors import RunError
from salt_ray.inference import stored
from salt_ray.inference.ensemble import ModelPrediction
from salt_ray.inference.probabilities import Probabilities
from salt_ray.inference.stored import StoredPrediction, StoredRecords, write_chunk
from salt_ray.storage import StoragePath, load_array, save_array, storage_path

SIDE = 5
TILES = np.random.default_rng(0).permutation(10) * 3


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "CHUNK", 4)


def answer(tiles: np.ndarray) -> Probabilities:
    masks = np.broadcast_to(tiles[:, None, None] / 32, (len(tiles), SIDE, SIDE)).astype(np.float16)
    return Probabilities(masks, (tiles / 30).astype(np.float32))


def store(directory: StoragePath, tiles: np.ndarray) -> None:
    for part, path, _ in StoredPrediction.open(Folder(directory, {}), tiles).chunks():
        write_chunk(path, answer(part))


def test_an_interrupted_prediction_goes_on_with_the_same_chunks(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "model", {"flip": True})
    first = StoredPrediction.open(folder, TILES).chunks()
    assert np.concatenate([tiles for tiles, _, _ in first]).tolist() == TILES.tolist()
    assert [len(tiles) for tiles, _, _ in first] == [4, 4, 2] and not any(done for _, _, done in first)
    write_chunk(first[1][1], answer(first[1][0]))

    again = StoredPrediction.open(folder, np.sort(TILES))  # another process, which would begin in another order
    assert again.tiles.tolist() == TILES.tolist()
    assert [done for _, _, done in again.chunks()] == [False, True, False]
    again.finish_if_whole()
    assert folder.done is None
    for tiles, path, done in again.chunks():
        if not done:
            write_chunk(path, answer(tiles))
    again.finish_if_whole()
    assert folder.done == {"tiles": 10}
    model = ModelPrediction.load(folder.path)
    assert model.tiles.tolist() == sorted(TILES)
    assert (model.records[model.rows]["mask"] == answer(np.sort(TILES)).masks).all()
    assert (model.records[model.rows]["salt"] == answer(np.sort(TILES)).salt).all()


@pytest.mark.parametrize("rows", [[0], [9], [3, 4], [8, 0, 5, 5], list(range(10))])
def test_rows_are_read_as_they_were_written(tmp_path: Path, rows: list[int]) -> None:
    store(tmp_path, TILES)
    records = StoredRecords(tmp_path)[np.array(rows)]
    assert (records["mask"] == answer(TILES[rows]).masks).all() and (records["salt"] == answer(TILES[rows]).salt).all()


@pytest.mark.parametrize("rows", [[], [0], [9], [3, 4], [8, 0, 5, 5], list(range(10))])
def test_an_object_store_gives_the_same_rows_as_a_disk(bucket: str, tmp_path: Path, rows: list[int]) -> None:
    place = storage_path(f"{bucket}/{tmp_path.name}")
    store(place, TILES)
    store(tmp_path, TILES)
    wanted = np.array(rows, np.int64)
    there, here = StoredRecords(place)[wanted], StoredRecords(tmp_path)[wanted]
    assert there.dtype == here.dtype and there.tobytes() == here.tobytes()


@pytest.mark.parametrize("rows", [[0], [0, 1, 2, 3]], ids=["a part", "all"])
def test_a_damaged_chunk_in_an_object_store_is_one_sentence(bucket: str, tmp_path: Path, rows: list[int]) -> None:
    place = storage_path(f"{bucket}/{tmp_path.name}")
    store(place, TILES)
    path = place / "chunks" / "00000.npy"
    for content in (path.read_bytes()[:150], b"no array"):
        path.write_bytes(content)
        with pytest.raises(RunError, match=rf"00000\.npy is damaged.*delete {place} and "):
            StoredRecords(place)[np.array(rows)]


@pytest.mark.parametrize("rows", [[1], [0, 1, 2, 3]], ids=["a part", "all"])
@pytest.mark.parametrize("part", ["mask", "salt"])
@pytest.mark.parametrize(
    ("value", "fault"), [(np.nan, "NaN or infinity"), (np.inf, "NaN or infinity"), (1.01, "values"), (-0.01, "values")]
)
def test_stored_values_that_are_no_probabilities_are_refused(
    value: float, fault: str, part: str, rows: list[int], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Decided on, they would be empty tiles, also in the mean of all models."""
    places = [tmp_path, storage_path(f"{request.getfixturevalue('bucket')}/{tmp_path.name}")]
    for place in places if value is np.nan else places[:1]:
        store(place, TILES)
        path = place / "chunks" / "00000.npy"
        records = load_array(path)
        records[part][1] = value
        save_array(path, records)
        with pytest.raises(RunError, match=rf"00000\.npy is damaged \(it holds {fault}.*delete {place} and "):
            StoredRecords(place)[np.array(rows)]
        assert (StoredRecords(place)[np.array([0, 2])]["salt"] == answer(TILES[[0, 2]]).salt).all()


def test_a_row_that_is_not_there_yet_is_an_error(tmp_path: Path) -> None:
    store(tmp_path, TILES[:4])
    with pytest.raises(RunError, match=r"00001\.npy is missing: restore it"):
        StoredRecords(tmp_path)[np.array([3, 4])]


def test_a_part_knows_its_tiles_only(tmp_path: Path) -> None:
    store(tmp_path, TILES)
    wanted = np.array([27, 1, 0, 12])  # 1 was not predicted
    part = ModelPrediction.load(tmp_path).part(wanted)
    assert part.tiles.tolist() == [0, 12, 27]
    assert (part.records[part.rows]["salt"] == answer(part.tiles).salt).all()
    found, rows = part.find(wanted)
    assert found.tolist() == [True, False, True, True]
    assert (part.records[rows]["salt"] == answer(wanted[found]).salt).all()
