"""One model's probabilities as stored in its folder: chunks of records, in the order in which they are predicted.

A chunk is written whole. Tiles of a mosaic are predicted one after the other, so that few chunks hold all of them.

Letters: n tiles that a model predicts, m of them asked for, S tile edge in px.
"""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from salt_ray.artifacts import Folder
from salt_ray.inference.probabilities import Probabilities
from salt_ray.storage import StoragePath, load_array, readable, save_array

CHUNK = 128  # tiles of one file: 2.6 MB at 101 px, seconds of work on a CPU
HEAD = 4096  # bytes that hold the head of any .npy file of ours
READERS = 8  # chunks read at once from an object store: one is some 30 ms of waiting for each of its requests


class StoredRecords:
    """The records of a folder's chunks; ``records[rows]`` reads some of them.

    A record is ``salt`` (float32, P(salt)) and ``mask`` ((S, S) float16, probabilities).

    Args:
        directory: the folder; it may still be growing.
        edge: S, where it is known: records of other tiles are refused.
    """

    def __init__(self, directory: StoragePath, edge: int | None = None) -> None:
        self._directory, self._edge = directory, edge

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Records (m,) of the rows (m,) int64, counted in the order of prediction.

        Raises:
            RunError: a chunk is missing or damaged.
        """
        if not len(rows):
            return np.empty(0, record_type(0))
        chunks = rows // CHUNK
        first, *others = np.unique(chunks)
        found = self._in_chunk(first, rows[chunks == first])
        records = np.empty(len(rows), found.dtype)
        records[chunks == first] = found

        def fill(chunk: int) -> None:
            records[chunks == chunk] = self._in_chunk(chunk, rows[chunks == chunk])

        if isinstance(self._directory, Path):
            for chunk in others:
                fill(chunk)
        else:
            with ThreadPoolExecutor(READERS) as pool:
                list(pool.map(fill, others))
        return records

    def _in_chunk(self, chunk: int, rows: np.ndarray) -> np.ndarray:
        return _read_rows(chunk_path(self._directory, int(chunk)), rows - chunk * CHUNK, self._edge)


@dataclass(frozen=True)
class StoredPrediction:
    """A model's predictions on their way into a folder.

    Attributes:
        folder: where they go.
        tiles: (n,) int64: positions in the survey, in the order in which they are predicted.
    """

    folder: Folder
    tiles: np.ndarray

    @classmethod
    def open(cls, folder: Folder, tiles: np.ndarray) -> StoredPrediction:
        """Begin, or resume in the original order."""
        folder.open()
        path = folder.path / "tiles.npy"
        if not path.exists():
            save_array(path, tiles)
        return cls(folder, load_array(path))

    def chunks(self) -> list[tuple[np.ndarray, StoragePath, bool]]:
        """Of every chunk the positions of its tiles, its file, and whether that is there."""
        there = {path.name for path in (self.folder.path / "chunks").glob("*.npy")}
        found = []
        for number, start in enumerate(range(0, len(self.tiles), CHUNK)):
            path = chunk_path(self.folder.path, number)
            found.append((self.tiles[start : start + CHUNK], path, path.name in there))
        return found

    def finish_if_whole(self) -> None:
        """Write the marker when the last chunk is there."""
        if all(done for _, _, done in self.chunks()):
            self.folder.finish(tiles=len(self.tiles))


def chunk_count(tiles: np.ndarray) -> int:
    """Files that the predictions of so many tiles (n,) take."""
    return -(-len(tiles) // CHUNK)


def chunk_path(directory: StoragePath, number: int) -> StoragePath:
    return directory / "chunks" / f"{number:05d}.npy"


def record_type(edge: int) -> np.dtype:
    """One tile's record."""
    return np.dtype([("salt", np.float32), ("mask", np.float16, (edge, edge))])


def write_chunk(path: StoragePath, probabilities: Probabilities) -> None:
    """Write (m,) tiles' probabilities, whole or not at all."""
    save_array(path, as_records(probabilities))


def as_records(probabilities: Probabilities) -> np.ndarray:
    """(m,) records of (m, S, S) masks and (m,) P(salt)."""
    records = np.empty(len(probabilities.salt), record_type(probabilities.masks.shape[-1]))
    records["salt"], records["mask"] = probabilities.salt, probabilities.masks
    return records


def _read_rows(path: StoragePath, rows: np.ndarray, edge: int | None) -> np.ndarray:
    """Some records of a chunk. Not all of it is read for a few of them: tiles of a mosaic are next to each other."""
    with readable(path, path.parent.parent):  # the marker is next to the folder of chunks
        if isinstance(path, Path):
            return _records(np.load(path, mmap_mode="r", allow_pickle=False), rows, edge)
        first, last = int(rows.min()), int(rows.max())
        if 2 * (last - first + 1) > CHUNK:  # all of it is two requests, a part of it four
            return _records(np.load(io.BytesIO(path.read_bytes()), allow_pickle=False), rows, edge)
        head = io.BytesIO(path.read_range(0, HEAD))
        np.lib.format.read_magic(head)
        _, _, dtype = np.lib.format.read_array_header_1_0(head)
        content = path.read_range(head.tell() + first * dtype.itemsize, (last - first + 1) * dtype.itemsize)
        return _records(np.frombuffer(content, dtype), rows - first, edge)


def _records(array: np.ndarray, rows: np.ndarray, edge: int | None) -> np.ndarray:
    """Rows of an array, where it holds records and these are of probabilities."""
    if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype.names != ("salt", "mask"):
        raise ValueError("it holds no predictions")
    if array.dtype != record_type(array.dtype["mask"].shape[0] if edge is None else edge):
        raise ValueError("it holds no predictions" + ("" if edge is None else f" of tiles of {edge} px"))
    records = array[rows]
    if fault := Probabilities(records["mask"], records["salt"]).fault():
        raise ValueError(f"it holds {fault}")
    return records
