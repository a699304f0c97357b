"""Charts of a predicted volume: lines with their axes, the top of salt as a map, shares by depth, scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from salt_ray.report.charts import WIDTH, Chart, empty_axes, finished_chart, thinned
from salt_ray.report.gallery import data_url, jpeg, png_of
from salt_ray.report.style import BLUE, GREEN, ORANGE, styled

_COLOURS = "viridis_r"  # of the map: the same to colour-blind readers, shallow is light
_BANDS = 9
_MAP_PX = 480


@styled()
def section_chart(
    key: str,
    picture: np.ndarray,
    traces: tuple[int, int],
    depths: tuple[float, float],
    across: str,
    texts: Sequence[str],
) -> Chart:
    """A line as a picture between its axes.

    Args:
        picture: uint8 (height, width, 3).
        traces, depths: first and last of both axes.
        across: what the traces are called.
        texts: what it shows, and what to look for.
    """
    height = float(np.clip(WIDTH * picture.shape[0] / picture.shape[1], 2.2, 4.2))
    figure = Figure((WIDTH, height), layout="none")  # the same for all: to find a layout takes as long as to draw
    axes = figure.add_axes((0.13, 0.5 / height, 0.85, 1 - 0.6 / height))
    axes.set(xlim=_edges(*traces), ylim=_edges(*depths)[::-1], xlabel=across, ylabel="z")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return _with_picture(axes, key, data_url(jpeg(picture), "jpeg"), *texts)


@styled()
def top_map(top: np.ndarray, inlines: tuple[int, int], crosslines: tuple[int, int]) -> Chart:
    """The z of the top of salt by inline and crossline; where there is no salt, the page's own colour.

    Args:
        top: float64 (inlines, crosslines), NaN where there is no salt; it has some.
        inlines, crosslines: first and last number.
    """
    axes = empty_axes(float(np.clip(WIDTH * top.shape[0] / top.shape[1], 2.4, 5.5)))
    low, high = float(np.nanmin(top)), float(np.nanmax(top))
    bounds = MaxNLocator(_BANDS).tick_values(low, high if high > low else low + 1)
    colours = ScalarMappable(BoundaryNorm(bounds, 256), _COLOURS)
    drawn = colours.to_rgba(np.nan_to_num(top, nan=low), bytes=True)
    drawn[np.isnan(top)] = 0
    scale = max(1, _MAP_PX // max(top.shape))
    drawn = drawn.repeat(scale, 0).repeat(scale, 1)
    axes.set(xlim=_edges(*crosslines), ylim=_edges(*inlines)[::-1], xlabel="crossline", ylabel="inline")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, integer=True))
    bar = axes.figure.colorbar(colours, ax=axes, label="z of the top of salt")
    bar.ax.invert_yaxis()
    alt = f"Map of the top of salt by inline and crossline, from z = {low:.0f} to {high:.0f}."
    caption = (
        "The first salt from above in each trace. Blank: no salt, or no trace. Spikes of single traces are doubtful."
    )
    return _with_picture(axes, "top-map", data_url(png_of(drawn), "png"), alt, caption)


@styled()
def depth_shares(depths: pd.DataFrame, doubt: bool) -> Chart:
    """Share of salt at each depth, and how far the models are apart there, where there are several (``doubt``)."""
    axes, shown = empty_axes(4.2), depths.iloc[thinned(len(depths))]
    axes.plot(shown["salt"], shown["z"], color=BLUE, linewidth=1.8, label="salt")
    if doubt:
        axes.plot(shown["spread"], shown["z"], color=ORANGE, linewidth=1.6, linestyle="--", label="mean doubt")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set(xlim=(0, None), xlabel="share of the samples at this depth" + "; mean doubt" * doubt, ylabel="z")
    axes.invert_yaxis()
    axes.legend(loc="best")
    most = depths.loc[depths["salt"].idxmax()]
    alt = f"Share of salt by depth; most salt at z = {most['z']:g}: {most['salt']:.1%}."
    caption = f"Most salt is at z = {most['z']:g}: {most['salt']:.1%} of the samples there."
    if doubt:
        caption += " Doubt: mean spread of the models."
    return finished_chart(axes, "depth-shares", alt, caption)


@styled()
def line_scores(lines: Sequence[dict[str, Any]], overall: float | None) -> Chart:
    """IoU of salt on each labelled line."""
    known = [line for line in lines if line["iou"] is not None]
    axes = empty_axes()
    axes.plot([line["inline"] for line in known], [line["iou"] for line in known], "o", markersize=3.5, alpha=0.75)
    if overall is not None:
        axes.axhline(overall, color=ORANGE, linewidth=1.5, linestyle="--")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    axes.set(ylim=(0, 1.02), xlabel="inline", ylabel="IoU of salt (dashed: all)")
    alt = f"IoU of salt on {len(known)} labelled inlines."
    if known:
        lowest = min(known, key=lambda line: line["iou"])
        alt += f" The lowest is inline {lowest['inline']} with {lowest['iou']:.3f}."
    return finished_chart(axes, "line-scores", alt, alt)


@styled()
def depth_scores(depths: Sequence[dict[str, Any]]) -> Chart:
    """IoU of salt in each range of depth that has some."""
    known = [band for band in depths if band["iou"] is not None]
    axes = empty_axes(1.0 + 0.3 * max(4, len(known)))
    names = [f"{band['z_first']:g} to {band['z_last']:g}" for band in known]
    axes.barh(names, [band["iou"] for band in known], height=0.72, color=GREEN)
    axes.tick_params(axis="y", labelsize=9)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set(xlim=(0, 1), xlabel="IoU of salt", ylabel="z")
    said = "; ".join(f"{name}: {band['iou']:.3f}" for name, band in zip(names, known, strict=True))
    caption = "Ranges of depth in which neither labels nor prediction have salt are left out."
    return finished_chart(axes, "depth-scores", f"IoU of salt by depth: {said}.", caption)


def _edges(first: float, last: float) -> tuple[float, float]:
    """Ends of an axis; one number alone takes a place too."""
    return (first, last) if last > first else (first - 0.5, first + 0.5)


def _with_picture(axes: Axes, key: str, source: str, alt: str, caption: str) -> Chart:
    """The axes with an image as their ground, which keeps its own format: matplotlib would make each a PNG."""
    axes.grid(visible=False)
    chart = finished_chart(axes, key, alt, caption)
    (width, height), place = 72 * axes.figure.get_size_inches(), axes.get_position()
    box = (place.x0 * width, (1 - place.y1) * height, place.width * width, place.height * height)
    sides = " ".join(f'{name}="{side:.2f}"' for name, side in zip(("x", "y", "width", "height"), box, strict=True))
    image = f'<image {sides} preserveAspectRatio="none" href="{source}"/>'
    root, rest = chart.svg.split(">", 1)
    return Chart(f"{root}>{image}{rest}", alt, caption)
