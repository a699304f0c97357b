"""Sheets that show post-processing at a glance: the largest mosaics, and the tiles that changed most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from salt_ray.postprocessing.corrections import CorrectedMosaic
from salt_ray.postprocessing.draw import ChangedTile, before_after, contact_sheet, read_png, write_png
from salt_ray.storage import StoragePath

MOSAICS, TILES = 12, 16  # as many as one looks through


def write_sheets(folder: StoragePath, mosaics: Sequence[CorrectedMosaic], ids: np.ndarray) -> None:
    """Write ``mosaics.png`` and, where something changed, ``changes.png``.

    Args:
        folder: holds ``pictures/`` of the mosaics.
        ids: (N,) str, of all tiles of the survey.
    """
    largest = sorted(mosaics, key=lambda mosaic: (-len(mosaic.before), mosaic.tiles.number))[:MOSAICS]
    if largest:
        titles = [
            f"mosaic {mosaic.tiles.number}: {len(mosaic.before)} tiles, {mosaic.tiles.labelled.sum()} labelled"
            for mosaic in largest
        ]
        pictures = [read_png(picture_path(folder, mosaic.tiles.number)) for mosaic in largest]
        write_png(folder / "mosaics.png", contact_sheet(list(zip(titles, pictures, strict=True))))
    changed = [
        (int(np.count_nonzero(mosaic.before[tile] != mosaic.after[tile])), mosaic, tile)
        for mosaic in mosaics
        for tile in np.flatnonzero(mosaic.corrected)
    ]
    changed.sort(key=lambda entry: (-entry[0], entry[1].tiles.number, entry[2]))
    if changed:
        write_png(folder / "changes.png", before_after([_changed(*entry[1:], ids) for entry in changed[:TILES]]))


def picture_path(folder: StoragePath, number: int) -> StoragePath:
    """Where the picture of a mosaic lies."""
    return folder / "pictures" / f"mosaic-{number:04d}.png"


def _changed(mosaic: CorrectedMosaic, tile: int, ids: np.ndarray) -> ChangedTile:
    rules = dict.fromkeys(change.rule for change in mosaic.changes if change.tile == tile)
    name, image = ids[mosaic.tiles.tiles[tile]], mosaic.tiles.images[tile]
    return ChangedTile(name, image, mosaic.before[tile], mosaic.after[tile], tuple(rules))
