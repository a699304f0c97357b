"""Connected bodies of salt, found in a volume that is seen some inlines at a time.

Samples are connected that share a face. Of every body an extent and a number of samples are kept, so that memory grows
with the number of bodies and not with the volume.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Body(NamedTuple):
    """A body: its samples, and its first and last places (inline, crossline, sample), from 0, in the volume's grid."""

    samples: int
    first: tuple[int, int, int]
    last: tuple[int, int, int]


class Bodies:
    """Bodies so far; ``add`` is given one block of inlines after the other."""

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._samples: list[int] = []
        self._first: list[np.ndarray] = []
        self._last: list[np.ndarray] = []
        self._edge: np.ndarray | None = None  # of the last inline, the number of each sample's body; -1: none

    def add(self, mask: np.ndarray, row: int) -> None:
        """The next inlines, bool (n, K, S), of which ``row`` is the first one's place."""
        from scipy import ndimage  # most commands need none of it

        labels, count = ndimage.label(mask)
        begun = len(self._parents)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:].tolist()
        for number, (size, extent) in enumerate(zip(sizes, ndimage.find_objects(labels), strict=True)):
            self._parents.append(begun + number)
            self._samples.append(size)
            self._first.append(np.add([axis.start for axis in extent], (row, 0, 0)))
            self._last.append(np.add([axis.stop - 1 for axis in extent], (row, 0, 0)))
        if self._edge is not None:
            touching = (self._edge >= 0) & (labels[0] > 0)
            pairs = np.stack([self._edge[touching], labels[0][touching].astype(np.int64) - 1 + begun], axis=1)
            for a, b in np.unique(pairs, axis=0).tolist():
                self._join(a, b)
        self._edge = np.where(labels[-1] > 0, labels[-1].astype(np.int64) - 1 + begun, -1)

    def found(self) -> list[Body]:
        """All bodies, the largest first."""
        whole: dict[int, Body] = {}
        for number in range(len(self._parents)):
            first, last = self._first[number], self._last[number]
            root = self._root(number)
            if root in whole:
                before = whole[root]
                first, last = np.minimum(first, before.first), np.maximum(last, before.last)
            samples = self._samples[number] + (whole[root].samples if root in whole else 0)
            whole[root] = Body(samples, tuple(first.tolist()), tuple(last.tolist()))
        return sorted(whole.values(), key=lambda body: (-body.samples, body.first))

    def _root(self, number: int) -> int:
        while self._parents[number] != number:
            self._parents[number] = self._parents[self._parents[number]]
            number = self._parents[number]
        return number

    def _join(self, a: int, b: int) -> None:
        first, second = sorted((self._root(a), self._root(b)))
        self._parents[second] = first
