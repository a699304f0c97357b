"""Connected bodies of salt, found in a volume that is processed a few inlines at a time.

Samples that share a face are connected. Each body in a block is stored as an extent and a sample count, 32 bytes, so
memory grows with the number of bodies and not with the volume.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class Body(NamedTuple):
    """A body: its number of samples and its extent, first and last (inline, crossline, sample) on the grid, from 0."""

    samples: int
    first: tuple[int, int, int]
    last: tuple[int, int, int]


class Bodies:
    """The bodies found so far; call ``add`` with successive blocks of inlines."""

    def __init__(self) -> None:
        self._count = 0  # of the blocks' bodies
        self._samples: list[np.ndarray] = []  # (n,) per block, like the lists below
        self._ends: list[np.ndarray] = []  # (n, 3, 2), extents
        self._touching: list[np.ndarray] = []  # (m, 2), pairs of bodies that touch across blocks
        self._edge: np.ndarray | None = None  # body number of each sample of the last inline; -1: none

    def add(self, mask: np.ndarray, row: int) -> None:
        """Add the next inlines, bool (n, K, S); ``row`` is the index of the first one."""
        from scipy import ndimage  # most commands do not need it

        labels, count = ndimage.label(mask)
        self._samples.append(np.bincount(labels.ravel(), minlength=count + 1)[1:])
        places = (
            place for extent in ndimage.find_objects(labels) for axis in extent for place in (axis.start, axis.stop)
        )
        ends = np.fromiter(places, np.int32, 6 * count).reshape(count, 3, 2)
        ends[:, 0] += row
        ends[:, :, 1] -= 1
        self._ends.append(ends)
        begins, ending = (
            np.where(inline > 0, inline.astype(np.int64) - 1 + self._count, -1) for inline in labels[[0, -1]]
        )
        if self._edge is not None:
            touching = (self._edge >= 0) & (begins >= 0)
            self._touching.append(np.unique(np.stack([self._edge[touching], begins[touching]], axis=1), axis=0))
        self._edge, self._count = ending, self._count + count

    def found(self) -> Iterator[Body]:
        """All bodies, the largest first."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        if not self._count:
            return
        pairs = np.concatenate([np.empty((0, 2), np.int64), *self._touching])
        shape = (self._count, self._count)
        count, body = connected_components(coo_array((np.ones(len(pairs), bool), pairs.T), shape), directed=False)
        ends = np.concatenate(self._ends)
        samples = np.zeros(count, np.int64)
        first, last = np.full((count, 3), np.iinfo(np.int32).max, np.int32), np.zeros((count, 3), np.int32)
        np.add.at(samples, body, np.concatenate(self._samples))
        np.minimum.at(first, body, ends[:, :, 0])
        np.maximum.at(last, body, ends[:, :, 1])
        for number in np.lexsort((*first.T[::-1], -samples)):
            yield Body(int(samples[number]), tuple(first[number].tolist()), tuple(last[number].tolist()))
