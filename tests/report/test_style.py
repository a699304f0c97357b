"""Colour-blind people tell the colours apart, in pictures and in either theme of the page."""

from __future__ import annotations

import re
from itertools import combinations

import cv2
import numpy as np
import pytest

from salt_ray.report import style
from salt_ray.report.charts import COLOURS
from salt_ray.report.page import TEMPLATE

#: What eyes without one kind of cone make of linear red, green and blue (Machado, Oliveira and Fernandes, 2009).
SEEN = {
    "all cones": np.eye(3),
    "protanopia": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]],
    "deuteranopia": [[0.3674, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]],
    "tritanopia": [[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]],
}
NAMES = [name for name in COLOURS if getattr(style, name) in style.SERIES]
THEMES = {"pictures": {name: getattr(style, name) for name in NAMES}}
BLOCKS = re.findall(r":root {(.*?)}", (TEMPLATE / "page.css").read_text(), re.DOTALL)
for theme, block in zip(("light", "dark"), BLOCKS[:2], strict=True):
    THEMES[theme] = {name: re.search(rf"--{name.lower()}: (#\w+)", block)[1] for name in NAMES}


def lab(colour: str, eyes: str) -> np.ndarray:
    """CIE L*a*b* of what these eyes see of #rrggbb."""
    value = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(SEEN[eyes]) @ linear, 0, 1).astype(np.float32)
    return cv2.cvtColor(seen[None, None], cv2.COLOR_LRGB2LAB)[0, 0]


@pytest.mark.parametrize("eyes", SEEN)
@pytest.mark.parametrize("theme", THEMES)
def test_everybody_tells_the_colours_apart(theme: str, eyes: str) -> None:
    assert len(THEMES[theme]) == len(style.SERIES)
    for first, second in combinations(THEMES[theme], 2):
        difference = np.linalg.norm(lab(THEMES[theme][first], eyes) - lab(THEMES[theme][second], eyes))
        assert difference > 11, (first, second)  # 2 is just noticed


def test_lines_differ_beyond_the_colours_too() -> None:
    looks = [tuple(look.values()) for look in style.LINES]
    assert len(looks) == len(set(looks)) > 3 * len(style.SERIES)
