"""Pictures of a predicted volume's lines: amplitudes with salt and labels outlined, and how far the models are apart.

Letters: H samples, W traces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from salt_ray.report.charts import Chart
from salt_ray.report.predicted_volume import PredictedVolume, Section
from salt_ray.report.volume_charts import section_chart
from salt_ray.survey.window import Line

#: Lines of each direction that are shown.
EVEN, DOUBTFUL = 5, 3
#: A picture's longer edge is at least this, so that outlines are thin.
_EDGE_PX = 640
SALT, LABEL, DOUBT = (220, 15, 15), (0, 215, 135), (150, 30, 200)
#: Of the models' standard deviation, from which on the colour of doubt is full; 0.5 is the most that is possible.
FULL_DOUBT = 0.3
_PALE = 235  # grey where there are no amplitudes, and where there is no trace


def evenly_spread(numbers: np.ndarray) -> list[int]:
    """Up to ``EVEN`` of some lines, as far from each other and from the ends as from each other."""
    count = min(EVEN, len(numbers))
    return numbers[((np.arange(count) + 0.5) * len(numbers) / count).astype(np.int64)].tolist()


def most_doubtful(numbers: np.ndarray, spread: np.ndarray) -> list[int]:
    """Up to ``DOUBTFUL`` of some lines with the largest mean spread, no two of them neighbours, which look alike."""
    found: list[int] = []
    apart = len(numbers) // 10
    for place in np.argsort(-spread, kind="stable").tolist():
        if len(found) < DOUBTFUL and all(abs(place - other) > apart for other in found):
            found.append(place)
    return numbers[found].tolist()


def line_card(volume: PredictedVolume, line: Line, group: str) -> dict[str, Any]:
    """One line: its title, what is told of it, and its pictures."""
    section = volume.section(line)
    lines = volume.lines[volume.lines["direction"] == line.direction]
    row = lines[lines["line"] == line.number].iloc[0]
    title = "The line" if volume.is_line else f"{line.direction.capitalize()} {line.number}"
    across = "crossline" if line.direction == "inline" else "inline"
    across = "trace" if volume.is_line else across
    where = f"{title}, {across}s {section.traces[0]} to {section.traces[1]}"
    key = f"{group}-{line.direction}-{line.number}"
    shown = [(draw_salt(section), "salt", f"{where}: salt on {row.salt:.1%} of it.", "Amplitudes and salt")]
    if volume.models > 1:
        texts = f"{where}: mean doubt {row.spread:.3f}.", "Doubt: how far the models are apart"
        shown.append((draw_doubt(section), "doubt", *texts))
    charts: Sequence[Chart] = [
        section_chart(f"{key}-{kind}", picture, section.traces, section.depths, across, texts)
        for picture, kind, *texts in shown
    ]
    labelled = section.truth is not None and bool((section.truth >= 0).any())
    return {"title": title, "salt": row.salt, "spread": row.spread, "labelled": labelled, "charts": charts}


def draw_salt(section: Section) -> np.ndarray:
    """Grey amplitudes, predicted salt in red, the outline of labelled salt in green; uint8 (h, w, 3)."""
    picture, scale = _ground(section)
    mask = _enlarged(section.mask.astype(np.uint8), scale)
    picture[mask > 0] = _mixed(picture[mask > 0], SALT, 0.22)
    picture[_outline(mask, section.live, scale)] = SALT
    if section.truth is not None:
        labelled = _enlarged((section.truth == 1).astype(np.uint8), scale)
        picture[_outline(labelled, section.live, scale)] = LABEL
    return picture


def draw_doubt(section: Section) -> np.ndarray:
    """Pale amplitudes, the more violet the farther models are apart; salt's outline in black; uint8 (h, w, 3)."""
    picture, scale = _ground(section)
    picture = tint_doubt(picture, _enlarged(section.spread, scale))
    picture[_outline(_enlarged(section.mask.astype(np.uint8), scale), section.live, scale)] = 0
    return picture


def tint_doubt(picture: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """A picture (h, w, 3) paled, the more violet the larger the spread (h, w) over the models."""
    share = np.clip(spread / FULL_DOUBT, 0, 1)[..., None]
    return _mixed(_mixed(picture, (255, 255, 255), 0.45), DOUBT, share)


def _ground(section: Section) -> tuple[np.ndarray, int]:
    """Amplitudes as a picture uint8 (h, w, 3), and how many of its pixels are as wide as a sample."""
    scale = max(1, -(-_EDGE_PX // max(section.mask.shape)))
    greys = np.full(section.mask.shape, _PALE, np.uint8) if section.greys is None else section.greys.copy()
    greys[:, ~section.live] = _PALE
    return np.repeat(_enlarged(greys, scale)[..., None], 3, axis=2), scale


def _enlarged(values: np.ndarray, scale: int) -> np.ndarray:
    return values.repeat(scale, 0).repeat(scale, 1)


def _mixed(picture: np.ndarray, colour: tuple[int, int, int], share: Any) -> np.ndarray:
    return np.rint((1 - share) * picture + share * np.array(colour)).astype(np.uint8)


def _outline(mask: np.ndarray, live: np.ndarray, scale: int) -> np.ndarray:
    """Bool (h, w): the edge of what is not 0, two pixels wide; that of a trace without data (W,) is none."""
    edge = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))) > 0
    dead = np.pad(~live.repeat(scale), 1)
    return edge & ~(dead[:-2] | dead[1:-1] | dead[2:])
