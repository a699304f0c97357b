"""A survey as arrays: every tile, mask and depth.

Letters: N tiles = L labelled, then U unlabelled, each sorted by id; S tile edge in px.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from salt_ray.survey.amplitudes import Scaling
from salt_ray.survey.window import Window


@dataclass(frozen=True)
class Survey:
    """L labelled tiles, then U unlabelled ones, each sorted by id. The arrays are read-only, mapped from the cache.

    Attributes:
        ids: str (N,).
        images: uint8 (N, S, S), grey; of amplitudes of another type what ``amplitudes.GreyRange`` makes of them.
        masks: bool (L, S, S), True for salt; with unlabelled pixels int8: 1 for salt, 0 for none, -1
            for these (``metric.UNLABELLED``). Of each tile some pixel is labelled.
        depths: float32 (N,), feet; NaN only where the survey has no depths.csv.
        constant: bool (N,): tiles of one colour. They hold no data: never trained on, predicted empty.
        submission_ids: str, the tiles a submission lists, in the order of sample_submission.csv; the unlabelled ids
            where that file or the unlabelled tiles are absent. Tiles left out by ``skip_bad`` stay in this list.
        key: sha256 hex of the content of all files (of the list of problems too, where tiles were left out).
        remarks: what was left out, and what is odd but allowed; a line each.
        account: what the files are and what was assumed of them; a line each.
        samples: type of the images' values in their files, as numpy names it: 'uint8', 'float32', …
        scaling: how amplitudes became greys; None where they were greys of 8 bits (samples 'uint8').
        sections: str (N,), the section that each tile was cut from; None where the survey has no folders of sections.
        window: what all tiles have in common where they are windows, which overlap; with it come
        places: int32 (N, 4), the position of each (``window.Windows.places``),
        padded_images: uint8 (N, P, P), and
        padded_masks: (L, P, P), of the type of masks: the windows with the data around them.
    """

    ids: np.ndarray
    images: np.ndarray
    masks: np.ndarray
    depths: np.ndarray
    constant: np.ndarray
    submission_ids: np.ndarray
    key: str
    remarks: tuple[str, ...] = ()
    account: tuple[str, ...] = ()
    samples: str = "uint8"
    scaling: Scaling | None = None
    sections: np.ndarray | None = None
    window: Window | None = None
    places: np.ndarray | None = None
    padded_images: np.ndarray | None = None
    padded_masks: np.ndarray | None = None

    @property
    def labelled(self) -> int:
        """L."""
        return len(self.masks)

    @property
    def unlabelled(self) -> int:
        """U."""
        return len(self.ids) - len(self.masks)

    @property
    def tile_px(self) -> int:
        """S, in px."""
        return self.images.shape[-1]
