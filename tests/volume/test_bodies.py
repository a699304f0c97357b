"""Bodies found block by block are those of the whole volume."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import ndimage

from salt_ray.volume.bodies import Bodies, Body


def whole(mask: np.ndarray) -> list[Body]:
    labels, count = ndimage.label(mask)
    found = []
    for number in range(1, count + 1):
        places = np.argwhere(labels == number)
        found.append(Body(len(places), tuple(places.min(0).tolist()), tuple(places.max(0).tolist())))
    return sorted(found, key=lambda body: (-body.samples, body.first))


@pytest.mark.parametrize("at_once", [1, 2, 5, 13])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_blocks_give_the_bodies_of_the_whole(at_once: int, share: float) -> None:
    mask = np.random.default_rng(3).random((13, 8, 9)) < share
    bodies = Bodies()
    for row in range(0, 13, at_once):
        bodies.add(mask[row : row + at_once], row)
    found = list(bodies.found())
    assert sorted(found) == sorted(whole(mask)) and sum(body.samples for body in found) == mask.sum()
    assert [body.samples for body in found] == sorted((body.samples for body in found), reverse=True)


def test_two_arms_that_meet_in_a_later_inline_are_one_body() -> None:
    mask = np.zeros((4, 5, 1), bool)
    mask[:3, 0] = mask[:3, 4] = mask[3] = True
    bodies = Bodies()
    for row in range(4):
        bodies.add(mask[row : row + 1], row)
    assert list(bodies.found()) == [Body(11, (0, 0, 0), (3, 4, 0))]
    assert list(Bodies().found()) == []


def test_a_body_takes_a_few_bytes() -> None:
    mask = np.zeros((4, 30, 50), bool)
    mask[::2, ::2, ::2] = True
    bodies = Bodies()
    bodies.add(mask, 0)  # what is loaded then is no body's
    count, blocks = mask.sum(), 5
    tracemalloc.start()
    for block in range(1, blocks + 1):
        bodies.add(mask, block * len(mask))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 40 * blocks * count
    assert len(list(bodies.found())) == (blocks + 1) * count
