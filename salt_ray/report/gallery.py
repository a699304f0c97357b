"""Pictures for a report: tiles that show where models fail, and mosaics before and after the rules.

Letters: n scored tiles, S tile edge in px.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from salt_ray.postprocessing.draw import draw_mosaic, draw_tile, encode_png
from salt_ray.postprocessing.predicted import MosaicTiles, PredictedMosaic, final_view
from salt_ray.report.finished import FinishedRun
from salt_ray.report.judged import Judged

WORST, UNCERTAIN, RANDOM = 12, 8, 8
MOSAICS = 4
MOSAIC_PX = 640  # longest edge: in 30 tiles an error of ten pixels is still visible
JPEG_QUALITY = 85  # 60 to 130 KB per mosaic, a tenth of a PNG


@dataclass(frozen=True)
class Picture:
    """An image as a data URL, with alternative text."""

    source: str
    alt: str


def worst(judged: Judged) -> np.ndarray:
    """Positions of the tiles with the lowest scores; ties by number of wrong pixels."""
    wrong = judged.wrong.sum(axis=(1, 2))
    return np.lexsort((-wrong, judged.scores))[:WORST]


def most_uncertain(judged: Judged) -> np.ndarray:
    """Positions of the tiles with the least certain predictions."""
    return np.argsort(-judged.doubt, kind="stable")[:UNCERTAIN]


def random_sample(judged: Judged, seed: int) -> np.ndarray:
    """Positions of randomly drawn tiles, the same for the same seed."""
    random = np.random.default_rng([seed, 7])  # 7: a stream of its own
    return random.permutation(len(judged.tiles))[:RANDOM]


def tile_card(finished: FinishedRun, place: int) -> dict[str, Any]:
    """One judged tile: image, truth, prediction and difference."""
    judged, survey = finished.judged, finished.prepared.survey
    tile = judged.tiles[place]
    image, truth, mask = survey.images[tile], judged.truth[place], judged.masks[place]
    labelled, salt = truth >= 0, truth > 0
    count, part = np.count_nonzero(labelled), "the tile" if labelled.all() else "the labelled part"
    missed, false = (float((wrong & labelled).sum() / count) for wrong in (salt & ~mask, mask & ~salt))
    nothing = np.zeros_like(mask)
    name = str(survey.ids[tile])
    # In a difference "added" means missed, "removed" means false positive.
    panels = (
        (draw_tile(image, False, nothing, nothing), f"Tile {name}: the seismic image."),
        (draw_tile(image, labelled, salt, salt), f"Label: salt on {salt.sum() / count:.0%} of {part}."),
        (draw_tile(image, False, mask, mask), f"Prediction: salt on {mask.mean():.0%} of the tile."),
        (draw_tile(image, False, mask & labelled, salt), f"Difference: {missed:.0%} missed, {false:.0%} too much."),
    )
    note = f"{missed:.0%} missed, {false:.0%} too much" if missed or false else "label and prediction are equal"
    pictures = tuple(Picture(data_url(encode_png(panel), "png"), alt) for panel, alt in panels)
    card = {"tile": name, "fold": finished.fold_of[name], "note": note, "pictures": pictures}
    return card | {"score": float(judged.scores[place]), "salt": float(judged.salt[place])}


def changed_mosaics(finished: FinishedRun) -> list[int]:
    """The mosaics to show: those with most corrected tiles, then the largest."""
    table, survey = finished.mosaics, finished.prepared.survey
    corrected = np.isin(table.ids, survey.ids[finished.corrections.tiles])
    changed = np.bincount(table.mosaics, corrected, table.count)
    seen = np.isin(table.ids, survey.ids[finished.prepared.seen_by_rules])
    sizes = np.bincount(table.mosaics, seen, table.count)
    order = np.lexsort((np.arange(table.count), -sizes, -changed))
    return order[sizes[order] > 0][:MOSAICS].tolist()


def mosaic_card(finished: FinishedRun, number: int) -> dict[str, Any]:
    """One mosaic as predicted and after the rules."""
    tiles = MosaicTiles.gather(number, finished.mosaics, finished.prepared)
    before = final_view(PredictedMosaic.gather(tiles, list(finished.models.values())), finished.decision).masks
    after = finished.corrections.apply(tiles.tiles, before)
    added, removed = int((after & ~before).sum()), int((before & ~after).sum())
    changed = int((after != before).any(axis=(1, 2)).sum())
    size = f"{len(before)} tiles, {tiles.labelled.sum()} of them labelled"
    note = f"{size}; tiles changed by the rules: {changed} ({added:,} px added, {removed:,} px removed)"
    pictures = tuple(
        Picture(data_url(jpeg(draw_mosaic(tiles, before, masks)), "jpeg"), f"Mosaic {number} {shown}.")
        for masks, shown in ((before, f"as predicted: {size}"), (after, f"after the rules: {note}"))
    )
    return {"title": f"Mosaic {number}", "note": note, "pictures": pictures}


def png_of(picture: np.ndarray) -> bytes:
    """Encode a picture (H, W, 3), or (H, W, 4) with opacity, as PNG."""
    written = io.BytesIO()
    Image.fromarray(picture).save(written, "PNG")
    return written.getvalue()


def jpeg(picture: np.ndarray) -> bytes:
    """Encode a picture, at most ``MOSAIC_PX`` large, as JPEG without colour subsampling, which keeps thin outlines."""
    fitted = Image.fromarray(picture)
    fitted.thumbnail((MOSAIC_PX, MOSAIC_PX), Image.Resampling.HAMMING, reducing_gap=None)
    written = io.BytesIO()
    fitted.save(written, "JPEG", quality=JPEG_QUALITY, subsampling="4:4:4")
    return written.getvalue()


def data_url(content: bytes, kind: str) -> str:
    """An image as a data URL."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
