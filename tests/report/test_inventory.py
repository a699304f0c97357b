"""Identical tiles are found, and what is odd is counted."""

from __future__ import annotations

import dataclasses

import numpy as np

from salt_ray.metric import UNLABELLED
from salt_ray.report.inventory import counts, duplicates
from salt_ray.survey.folds import FoldTable
from salt_ray.survey.tiles import Survey


def made_survey() -> Survey:
    """Six labelled tiles and two unlabelled ones; a = c = e and b = g; d and h are of one colour, and equal."""
    random = np.random.default_rng(0)
    images = random.integers(0, 255, (8, 6, 6)).astype(np.uint8)
    images[2] = images[4] = images[0]
    images[6] = images[1]
    images[3] = images[7] = 9
    masks = np.zeros((6, 6, 6), bool)
    masks[0, 2] = True  # a row
    masks[2, :, 3] = True  # a stripe
    masks[5] = True
    constant = np.array([False, False, False, True, False, False, False, True])
    ids = np.array(list("abcdefgh"))
    return Survey(ids, images, masks, np.full(8, np.nan, np.float32), constant, ids[6:], "key")


def test_identical_labelled_tiles_are_found_with_what_they_mean() -> None:
    survey = made_survey()
    table = FoldTable(np.array(["a", "b", "c", "e", "f"]), np.array([0, 0, 0, 1, 1]), 2)
    found = duplicates(survey, {"random": table})
    assert found.groups == (("a", "c", "e"),)
    assert (found.other_labels, found.divided, found.with_unlabelled) == (1, 1, 1)
    together = FoldTable(table.ids, np.array([0, 1, 0, 0, 1]), 2)
    same_labels = dataclasses.replace(survey, masks=np.zeros_like(survey.masks))
    found = duplicates(same_labels, {"random": together})
    assert (found.other_labels, found.divided) == (0, 0)


def test_masks_that_are_labelled_in_part_are_counted_as_such_and_differ_only_where_both_are_labelled() -> None:
    survey = made_survey()
    masks = survey.masks.astype(np.int8)
    masks[1, 0] = masks[2, :, 3] = masks[4, 5] = UNLABELLED
    partial = dataclasses.replace(survey, masks=masks)
    found = counts(partial, np.zeros(6, bool))
    assert found["partly labelled tiles"] == 3
    assert (found["empty masks"], found["masks that are all salt"]) == (1, 1)  # d; b, c and e may hold more
    assert found["masks of vertical stripes only"] == 0
    table = FoldTable(np.array(["a", "b", "c", "e", "f"]), np.array([0, 0, 0, 1, 1]), 2)
    masks[0, 2, [0, 1, 2, 4, 5]] = 0  # of its row of salt what the masks of c and e do not know is left
    masks[4, 2, 3] = UNLABELLED
    assert duplicates(partial, {"random": table}).other_labels == 0
    masks[4, 2, 3] = 0
    assert duplicates(partial, {"random": table}).other_labels == 1


def test_kinds_of_tiles_and_masks_are_counted() -> None:
    found = counts(made_survey(), np.array([False] * 5 + [True]))
    assert list(found.values()) == [6, 2, 1, 1, 1, 3, 1, 0, 1]
