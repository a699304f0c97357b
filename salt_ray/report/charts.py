"""Charts of a report as SVG that takes its colours and its font from the page: light, dark, or on paper.

Every chart is small enough to be read at a phone's width; several stand side by side on a wide screen. The colours are
replaced by CSS variables (``--ink``, ``--blue``, …).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from salt_ray.report import style
from salt_ray.report.findings import Calibration, Group
from salt_ray.report.style import BLUE, INK, LINES, ORANGE, SERIES, plain_ticks, styled, svg

WIDTH, HEIGHT = 5, 3.3  # inches: 360 x 238 units of the SVG, near the pixels of a phone
MOST_POINTS = 300  # of a curve: more cannot be seen at this size
SCORE = "score"
#: What learning curves show: the title of the axis, and what to look for.
CURVES = {
    "score": ("score on the fold's validation tiles", "Flat at the end: longer training would bring little."),
    "loss": ("training loss", "A jump at a line is a new stage with other loss weights, not a setback."),
    "validation_loss": ("validation loss", "Rising while the training loss falls: the network overfits."),
    "lr": ("learning rate", "When the schedule lowered it, and where a new stage began."),
}
COLOURS = ("INK", "GRID", "BLUE", "ORANGE", "GREEN", "PURPLE", "SKY")  # that the page has, in small letters


@dataclass(frozen=True)
class Chart:
    """A drawn figure.

    Attributes:
        svg: an ``<svg>`` element without a size of its own.
        alt: what it shows, for those who do not see it.
        caption: what to look for.
    """

    svg: str
    alt: str
    caption: str


@styled()
def learning_curves(training: str, table: pd.DataFrame) -> list[Chart]:
    """Loss, validation loss, score and learning rate of all folds of a training.

    Args:
        table: a row an epoch: the names of ``fold`` and ``stage``, ``epoch``, counted from 1 over all stages of a fold,
            ``loss``, ``validation_loss``, ``score`` and ``lr``.
    """
    spans = _spans(table)
    stages = ", ".join(
        f"{stage} until epoch {end}" for stage, end in spans.loc[spans.index.unique("fold")[0]]["max"].items()
    )
    charts = []
    for kind, (title, caption) in CURVES.items():
        axes = empty_axes()
        draw_curves(axes, table, kind)
        last = ", ".join(f"{fold} {curve[kind].iloc[-1]:.4g}" for fold, curve in table.groupby("fold", sort=False))
        alt = f"{title} over epochs, one line a fold; stages: {stages}. At the end: {last}."
        charts.append(finished_chart(axes, f"{training}-{kind}", alt, f"{title[0].upper()}{title[1:]}. {caption}"))
    return charts


def draw_curves(axes: Axes, table: pd.DataFrame, kind: str) -> None:
    """One of ``CURVES`` on axes, a line a fold; the table is that of ``learning_curves``."""
    spans = _spans(table)
    folds = spans.index.unique("fold")
    looks = dict(zip(folds, itertools.cycle(LINES), strict=False))
    for (fold, _), stage in table.groupby(["fold", "stage"], sort=False):
        # A line ends with its stage: the next one begins from an earlier epoch.
        kept = stage.iloc[thinned(len(stage))]
        label = fold if kept["epoch"].iloc[0] == 1 else None
        mark = "o" if len(kept) == 1 else None  # of one epoch there is no line
        axes.plot(kept["epoch"], kept[kind], linewidth=1.6, marker=mark, markersize=4, label=label, **looks[fold])
    for begin in sorted(set(spans["min"]) - {1}):
        axes.axvline(begin - 0.5, color=INK, linewidth=0.9, linestyle=":")
    if kind == "lr":
        axes.set_yscale("log")
        plain_ticks(axes.yaxis, *axes.get_ylim())
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    axes.set(xlabel="epoch", ylabel=CURVES[kind][0])
    if len(folds) <= len(SERIES):
        axes.legend(loc="best")


def _spans(table: pd.DataFrame) -> pd.DataFrame:
    """First and last epoch of each stage of each fold."""
    return table.groupby(["fold", "stage"], sort=False)["epoch"].agg(["min", "max"])


def thinned(count: int) -> np.ndarray:
    """Places of at most ``MOST_POINTS`` of so many points, evenly over all of them, the ends included."""
    return np.unique(np.linspace(0, count - 1, min(count, MOST_POINTS)).round().astype(np.int64))


@styled()
def group_bars(key: str, title: str, found: Sequence[Group], overall: float, caption: str) -> Chart:
    """The score of each group as a bar with its standard error; the line is the score of all tiles."""
    axes = empty_axes(1.0 + 0.26 * max(5, len(found)))
    names = [f"{group.name}  ({group.tiles:,})" for group in found]
    draw_bars(axes, names, [group.score for group in found], [group.error for group in found], overall)
    axes.set_xlabel(f"{SCORE} (dashed: all tiles, {overall:.3f})")
    alt = f"{title}: " + "; ".join(f"{g.name} {g.score:.3f} on {g.tiles:,} tiles" for g in found) + "."
    return finished_chart(axes, key, alt, caption)


def draw_bars(
    axes: Axes, names: Sequence[str], scores: Sequence[float], errors: Sequence[float], dashed: float
) -> None:
    """Scores as bars on axes, the first on top, with their errors (NaN: not known), and a dashed line."""
    bar = {"height": 0.72, "error_kw": {"ecolor": INK, "elinewidth": 1, "capsize": 2}}
    axes.barh(names, scores, xerr=list(errors), **bar)
    axes.axvline(dashed, color=ORANGE, linewidth=1.5, linestyle="--")
    axes.tick_params(axis="y", labelsize=9)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, 1)


@styled()
def mosaic_dots(found: Sequence[Group], overall: float) -> Chart:
    """The score of each mosaic over the number of its judged tiles."""
    axes = empty_axes()
    axes.plot([g.tiles for g in found], [g.score for g in found], "o", markersize=5, alpha=0.75)
    axes.axhline(overall, color=ORANGE, linewidth=1.5, linestyle="--")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    axes.set(ylim=(0, 1.02), xlabel="judged tiles of the mosaic", ylabel=f"{SCORE} (dashed: all tiles)")
    lowest = min(found, key=lambda group: group.score)
    alt = (
        f"Score of each of {len(found)} mosaics over the number of its judged tiles; "
        f"the lowest is {lowest.name} with {lowest.score:.3f} on {lowest.tiles} tiles."
    )
    caption = "A large mosaic far below the line may be a section unlike the training data."
    return finished_chart(axes, "mosaic-dots", alt, caption)


@styled()
def reliability(found: Calibration) -> list[Chart]:
    """Observed against predicted shares, and how many tiles each bin has."""
    shares, counts, bins = empty_axes(), empty_axes(), found.bins
    shares.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle="--", label="perfect")
    errors = (bins["observed"] - bins["low"], bins["high"] - bins["observed"])
    line = {"marker": "o", "linewidth": 1.6, "elinewidth": 1, "capsize": 2}
    shares.errorbar("predicted", "observed", errors, data=bins, color=BLUE, label="tiles, with 95% interval", **line)
    shares.yaxis.set_major_formatter(PercentFormatter(1))
    shares.set(ylim=(0, 1.02), ylabel="tiles that hold salt")
    shares.legend(loc="upper left")
    counts.bar("predicted", "tiles", data=bins, width=0.06)
    counts.set(ylabel="tiles")
    for axes in (shares, counts):
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.set(xlim=(0, 1), xlabel="predicted P(salt)")
    rows = list(bins[["predicted", "observed", "tiles"]].itertuples(index=False))
    alt = "; ".join(f"predicted {p:.0%}, observed {o:.0%} of {n:,} tiles" for p, o, n in rows)
    sides = bins["tiles"].iloc[[0, -1]].sum() / bins["tiles"].sum()
    return [
        finished_chart(
            shares,
            "reliability",
            f"Reliability of P(salt): {alt}.",
            "Dots on the dashed line: the probability is well calibrated. Above it: more salt than predicted.",
        ),
        finished_chart(
            counts,
            "reliability-counts",
            "Tiles by predicted P(salt): " + ", ".join(f"{n:,} at {p:.0%}" for p, _, n in rows) + ".",
            f"How many tiles each dot stands for; {sides:.0%} of them are in the outermost bins.",
        ),
    ]


@styled()
def threshold_curve(name: str, thresholds: np.ndarray, scores: np.ndarray, chosen: float, score: float) -> Chart:
    """The score over one threshold, with the chosen one marked.

    Args:
        chosen, score: the threshold of the experiment, and the score there.
    """
    axes = empty_axes()
    axes.plot(thresholds, scores, linewidth=1.8)
    axes.axvline(chosen, color=ORANGE, linewidth=1, linestyle="--")
    axes.plot(chosen, score, "D", color=ORANGE, markersize=7)
    axes.set_title(f"in use: {chosen:g}, score {score:.4f}", loc="left", fontsize=9)
    axes.set(xlim=(0, 1), xlabel=name, ylabel=SCORE)
    best = int(np.argmax(scores))
    difference = max(0.0, float(scores[best]) - score)
    alt = (
        f"Score over the {name}, from {scores[0]:.3f} at {thresholds[0]:g} to {scores[-1]:.3f} at {thresholds[-1]:g}; "
        f"highest {scores[best]:.4f} at {thresholds[best]:g}; in use {chosen:g} with {score:.4f}."
    )
    flat = f"The highest point, at {thresholds[best]:g}, is {difference:.4f} above the one in use."
    return finished_chart(axes, name.replace(" ", "-"), alt, f"{name[0].upper()}{name[1:]}. {flat}")


def empty_axes(height: float = HEIGHT) -> Axes:
    """Of a new figure; ``height`` in inches."""
    return Figure((WIDTH, height)).add_subplot()


def finished_chart(axes: Axes, key: str, alt: str, caption: str) -> Chart:
    """The figure of the axes as an element of a page; charts with different keys share no names inside."""
    drawn = svg(axes.figure, key)
    drawn = drawn[drawn.index("<svg") :].replace("xlink:href", "href")
    drawn = re.sub(r"<!--.*?-->|<style.*?</style>", "", drawn, flags=re.DOTALL)  # a style would hold for the page
    root = r'<svg viewBox="\1" aria-hidden="true" focusable="false">'
    drawn = re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', root, drawn, count=1)
    drawn = re.sub(r'<g id="[^"]+"', "<g", drawn)  # nothing refers to them, and every figure has the same
    drawn = re.sub(r"font-family: [^;\"]*; ?", "", drawn)
    for name in COLOURS:
        drawn = drawn.replace(getattr(style, name), f"var(--{name.lower()})")
    return Chart(re.sub(r"\n\s*", "\n", drawn).strip(), alt, caption)
