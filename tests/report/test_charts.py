"""Charts take colours and font from the page, share no names, and say what they show."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest

from salt_ray.report import charts
from salt_ray.report.charts import Chart
from salt_ray.report.findings import Calibration, Group


def curve(fold: str, values: dict[str, np.ndarray], stages: list[str]) -> pd.DataFrame:
    """How a fold learned, with the stage of each of its epochs."""
    return pd.DataFrame({"fold": fold, "stage": stages, "epoch": np.arange(len(stages)) + 1} | values)


def draw_all() -> list[Chart]:
    ramp = np.linspace(0.1, 0.9, 7)
    values = {"score": ramp, "loss": 1 - ramp, "validation_loss": ramp[::-1], "lr": np.geomspace(0.1, 0.001, 7)}
    table = pd.concat(curve(f"fold {k}", values, ["plateau"] * 4 + ["cosine"] * 3) for k in range(2))
    found = [Group("no salt", 9, 0.9, 0.1, 0.25), Group("0 to 10%", 1, 0.1, float("nan"), 0.75)]
    bins = {"tiles": [3, 5], "predicted": [0.1, 0.8], "observed": [0.0, 1.0], "low": [0.0, 0.4], "high": [0.3, 1.0]}
    calibration = Calibration(pd.DataFrame(bins), 0.1, 0.1, 0.2)
    return [
        *charts.learning_curves("random", table),
        charts.group_bars("coverage", "Score by share of salt", found, 0.8, "Slivers are hard."),
        charts.mosaic_dots(found, 0.8),
        *charts.reliability(calibration),
        charts.threshold_curve("mask threshold", ramp, 1 - (ramp - 0.5) ** 2, 0.4, 0.99),
    ]


@pytest.fixture(scope="module")
def drawn() -> list[Chart]:
    return draw_all()


def test_a_chart_is_an_element_in_the_pages_colours_and_font(drawn: list[Chart]) -> None:
    for chart in drawn:
        root = ElementTree.fromstring(chart.svg)
        assert root.tag == "svg" and set(root.attrib) == {"viewBox", "aria-hidden", "focusable"}
        assert not re.search(r"(fill|stroke): #", chart.svg)  # a colour that stays as it is when the page turns dark
        assert "var(--ink)" in chart.svg and "font-family" not in chart.svg and "<style" not in chart.svg
        assert [text for element in root.iter("text") if (text := element.text)]


def test_charts_share_no_names_and_find_their_own(drawn: list[Chart]) -> None:
    seen: set[str] = set()
    for chart in drawn:
        names = re.findall(r' id="([^"]+)"', chart.svg)
        assert len(names) == len(set(names)) and not seen & set(names)
        seen |= set(names)
        assert set(re.findall(r'(?:url\(|href=")#([^)"]+)', chart.svg)) <= set(names)


def test_the_same_chart_is_the_same_text(drawn: list[Chart]) -> None:
    assert [chart.svg for chart in draw_all()] == [chart.svg for chart in drawn]


def test_a_chart_says_what_it_shows(drawn: list[Chart]) -> None:
    score, *_, threshold = drawn
    assert "fold 1 0.9" in score.alt and "plateau until epoch 4" in score.alt and "cosine until epoch 7" in score.alt
    assert "in use 0.4 with 0.9900" in threshold.alt and "highest 1.0000 at 0.5" in threshold.alt
    assert "0.0100 above the one in use" in threshold.caption
    assert len({chart.alt for chart in drawn}) == len(drawn)


def test_every_stage_is_seen_even_one_of_one_epoch() -> None:
    values = {name: np.array([0.5, 0.25, 0.375]) for name in ("score", "loss", "validation_loss", "lr")}
    charts_of = [
        charts.learning_curves("t", curve("fold 0", values, stages))[0].svg
        for stages in (["all"] * 3, ["first", "first", "last"])
    ]
    whole, divided = (len(re.findall(r"stroke: var\(--blue\)", svg)) for svg in charts_of)
    assert divided > whole  # the dot of the last stage, which has no line
    assert "<use" in charts_of[1].partition("var(--blue)")[2]


@pytest.mark.parametrize("count", [1, 2, charts.MOST_POINTS, 10 * charts.MOST_POINTS + 7])
def test_long_curves_keep_their_ends_and_are_bounded(count: int) -> None:
    kept = charts.thinned(count)
    assert kept[0] == 0 and kept[-1] == count - 1 and len(kept) == min(count, charts.MOST_POINTS)
    assert (np.diff(kept) > 0).all() and (count == 1 or np.ptp(np.diff(kept)) <= 1)


def test_text_from_outside_is_escaped() -> None:
    chart = charts.group_bars("key", "title", [Group("<b>&", 1, 0.5, 0.1, 1.0)], 0.5, "")
    assert "<b>" not in chart.svg and "&lt;b&gt;&amp;" in chart.svg
