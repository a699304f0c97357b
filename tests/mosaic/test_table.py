"""Mosaic tables: what they refuse, and that a saved one comes back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from salt_ray.mosaic.table import MosaicError, MosaicTable, load_mosaics


def table_of(ids: str, mosaics: list[int], rows: list[int], cols: list[int]) -> MosaicTable:
    return MosaicTable(
        np.array(list(ids)), np.array(mosaics), np.array(rows), np.array(cols), np.linspace(0.123456, 1, len(ids))
    )


@pytest.fixture
def table() -> MosaicTable:
    return table_of("cabed", [0, 0, 0, 1, 1], [0, 0, 1, 0, 1], [0, 1, 0, 0, 0])


def test_it_comes_back_from_its_file(table: MosaicTable, tmp_path: Path) -> None:
    path = tmp_path / "mosaics.csv"
    table.save(path)
    assert path.read_text().splitlines()[0] == "id,mosaic_id,row,col,confidence"
    again = load_mosaics(path)
    assert again.digest == table.digest
    for name in ("ids", "mosaics", "rows", "cols"):
        assert (getattr(again, name) == getattr(table, name)).all()
    assert again.confidence == pytest.approx(table.confidence, abs=5e-5)


def test_members_are_the_rows_of_each_mosaic(table: MosaicTable) -> None:
    assert [list(table.ids[members]) for members in table.members] == [["c", "a", "b"], ["e", "d"]]
    assert table.count == 2


def test_an_empty_table_has_no_mosaics(tmp_path: Path) -> None:
    empty = table_of("", [], [], [])
    assert empty.count == 0 and empty.members == []
    empty.save(tmp_path / "mosaics.csv")
    assert load_mosaics(tmp_path / "mosaics.csv").count == 0


def test_contradictions_are_refused() -> None:
    with pytest.raises(MosaicError, match="twice"):
        table_of("aa", [0, 0], [0, 0], [0, 1])
    with pytest.raises(MosaicError, match="share a place"):
        table_of("ab", [0, 0], [0, 0], [1, 1])
    with pytest.raises(MosaicError, match="order"):
        table_of("ab", [0, 0], [0, 0], [1, 0])


@pytest.mark.parametrize("content", ["", "id,mosaic_id\na,0\n", "id,mosaic_id,row,col,confidence\na,0,x,0,1\n"])
def test_another_file_is_refused_with_the_remedy(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mosaics.csv"
    path.write_text(content)
    with pytest.raises(MosaicError, match=r"delete .* to regenerate them"):
        load_mosaics(path)
