"""One set of rules for every table that a person makes."""

import csv

import numpy as np
import pytest

from salt_ray.survey import rle
from salt_ray.survey.tables import read_table


def test_masks_of_large_tiles_are_read_back() -> None:
    """csv stops at 131,072 characters a field; a fine mask of 300 px is longer."""
    mask = np.indices((300, 300)).sum(axis=0) % 2 == 0
    (text,) = rle.encode(mask[None])
    assert len(text) > 300_000
    limit = csv.field_size_limit(131_072)
    try:
        rows, problems = read_table(f"id,rle_mask\na,{text}\nb,\n".encode(), "train.csv", "rle_mask")
    finally:
        csv.field_size_limit(limit)
    assert rows == {"a": text, "b": ""} and not problems
    np.testing.assert_array_equal(rle.decode([rows["a"]], 300, 300)[0], mask)


def test_a_list_of_ids_needs_no_other_column() -> None:
    assert read_table(b"id\nb\na\n", "ids.csv") == ({"b": "b", "a": "a"}, [])
    with pytest.raises(ValueError, match=r"has no column id$"):
        read_table(b"b\na\n", "ids.csv")
