"""Figures of a report as SVG that takes its colours and its font from the page: light, dark, or on paper.

Every chart is small enough to be read at a phone's width; several stand side by side on a wide screen. matplotlib's
object-oriented interface alone is used. Its colours are replaced by CSS variables (``--ink``, ``--blue``, …) that hold
colours near Okabe and Ito's, which colour-blind people tell apart; from the seventh line on dashes differ too.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from salt_ray.report.findings import Calibration, Group

WIDTH, HEIGHT = 5, 3.3  # inches: 360 x 238 units of the SVG, near the pixels of a phone
MOST_POINTS = 300  # of a curve: more cannot be seen at this size
SCORE = "score"
#: Each colour as it is drawn, and the CSS variable that takes its place.
INK, GRID = "#1c1e21", "#d9dce1"
BLUE, ORANGE, GREEN, PURPLE, SKY, GOLD = "#0072b2", "#d55e00", "#009e73", "#b5578f", "#56b4e9", "#b58900"
VARIABLES = {
    INK: "--ink", GRID: "--grid", BLUE: "--blue", ORANGE: "--orange", GREEN: "--green", PURPLE: "--purple",
    SKY: "--sky", GOLD: "--gold",
}  # fmt: skip
SERIES = (BLUE, ORANGE, GREEN, PURPLE, SKY, GOLD)
DASHES = ("-", "--", ":", "-.")
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same layout everywhere
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.prop_cycle": cycler(color=[BLUE]),  # also of marks that nobody gave a colour
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "salt-ray",  # the same names inside for the same chart
}


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


@dataclass(frozen=True)
class FoldCurve:
    """How one fold learned.

    Attributes:
        name: of the fold.
        values: loss, validation_loss, score and lr by name, each (e,) over the epochs of all its stages.
        ends: (name, last epoch) of each stage, epochs counted from 1 over all of them.
    """

    name: str
    values: Mapping[str, np.ndarray]
    ends: Sequence[tuple[str, int]]


def learning_curves(training: str, folds: Sequence[FoldCurve]) -> list[Chart]:
    """Loss, validation loss, score and learning rate of all folds of a training."""
    kinds = {
        "score": ("score on the fold's validation tiles", "Flat at the end: longer training would bring little."),
        "loss": ("training loss", "A jump at a line is another stage with other loss weights, not a setback."),
        "validation_loss": ("validation loss", "Rising while the training loss falls: the network learns by heart."),
        "lr": ("learning rate", "When the schedule lowered it, and where a stage began anew."),
    }
    charts = []
    for kind, (title, caption) in kinds.items():

        def draw(axes: Axes, kind: str = kind, title: str = title) -> None:
            for place, fold in enumerate(folds):
                look = {"color": SERIES[place % len(SERIES)], "linestyle": DASHES[place // len(SERIES) % len(DASHES)]}
                begin = 0
                for _, end in fold.ends:  # a line ends with its stage: the next one begins from an earlier epoch
                    kept = begin + thinned(end - begin)
                    label = fold.name if begin == 0 else None
                    mark = "o" if len(kept) == 1 else None  # of one epoch there is no line
                    values = fold.values[kind][kept]
                    axes.plot(kept + 1, values, linewidth=1.6, marker=mark, markersize=4, label=label, **look)
                    begin = end
            ends = {end for fold in folds for _, end in fold.ends[:-1]}
            for end in sorted(ends):
                axes.axvline(end + 0.5, color=INK, linewidth=0.9, linestyle=":")
            if kind == "lr":
                _plain_log(axes)
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
            axes.set(xlabel="epoch", ylabel=title)
            if len(folds) <= len(SERIES):
                axes.legend(loc="best")

        last = ", ".join(f"{fold.name} {fold.values[kind][-1]:.4g}" for fold in folds)
        stages = ", ".join(f"{name} until epoch {end}" for name, end in folds[0].ends)
        alt = f"{title} over epochs, one line a fold; stages: {stages}. At the end: {last}."
        charts.append(Chart(_svg(f"{training}-{kind}", draw), alt, f"{title[0].upper()}{title[1:]}. {caption}"))
    return charts


def thinned(count: int) -> np.ndarray:
    """Places of at most ``MOST_POINTS`` of so many points, evenly over all of them, the ends included."""
    return np.unique(np.linspace(0, count - 1, min(count, MOST_POINTS)).round().astype(np.int64))


def group_bars(key: str, title: str, found: Sequence[Group], overall: float, caption: str) -> Chart:
    """The score of each group as a bar with its standard error; the line is the score of all tiles."""

    def draw(axes: Axes) -> None:
        places = np.arange(len(found))
        errors = [0 if math.isnan(group.error) else group.error for group in found]
        bar = {"color": BLUE, "height": 0.72, "error_kw": {"ecolor": INK, "elinewidth": 1, "capsize": 2}}
        axes.barh(places, [group.score for group in found], xerr=errors, **bar)
        axes.axvline(overall, color=ORANGE, linewidth=1.5, linestyle="--")
        axes.set_yticks(places, [f"{group.name}  ({group.tiles:,})" for group in found], fontsize=9)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set(xlim=(0, 1), xlabel=f"{SCORE} (dashed: all tiles, {overall:.3f})")

    alt = f"{title}: " + "; ".join(f"{g.name} {g.score:.3f} on {g.tiles:,} tiles" for g in found) + "."
    size = (WIDTH, 1.0 + 0.26 * max(5, len(found)))
    left = 0.09 + 0.0145 * max(len(f"{group.name}  ({group.tiles:,})") for group in found)
    return Chart(_svg(key, draw, size, left=left), alt, caption)


def mosaic_dots(found: Sequence[Group], overall: float) -> Chart:
    """The score of each mosaic over the number of its judged tiles."""

    def draw(axes: Axes) -> None:
        axes.plot([g.tiles for g in found], [g.score for g in found], "o", color=BLUE, markersize=5, alpha=0.75)
        axes.axhline(overall, color=ORANGE, linewidth=1.5, linestyle="--")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        axes.set(ylim=(0, 1.02), xlabel="judged tiles of the mosaic", ylabel=f"{SCORE} (dashed: all tiles)")

    lowest = min(found, key=lambda group: group.score)
    alt = (
        f"Score of each of {len(found)} mosaics over the number of its judged tiles; "
        f"the lowest is {lowest.name} with {lowest.score:.3f} on {lowest.tiles} tiles."
    )
    return Chart(
        _svg("mosaic-dots", draw), alt, "A large mosaic far below the line is a section that the models do not know."
    )


def reliability(found: Calibration) -> list[Chart]:
    """Observed against predicted shares, and how many tiles each bin has."""

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle="--", label="perfect")
        errors = np.abs(np.stack([found.low, found.high]) - found.observed)
        axes.errorbar(
            found.predicted, found.observed, errors, color=BLUE, marker="o", linewidth=1.6, elinewidth=1, capsize=2,
            label="tiles, with 95% interval",
        )  # fmt: skip
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="predicted P(salt)", ylabel="tiles that hold salt")
        axes.legend(loc="upper left")

    def draw_counts(axes: Axes) -> None:
        axes.bar(found.predicted, found.tiles, width=0.06, color=BLUE)
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.set(xlim=(0, 1), xlabel="predicted P(salt)", ylabel="tiles")

    bins = list(zip(found.predicted, found.observed, found.tiles, strict=True))
    alt = "; ".join(f"predicted {p:.0%}, observed {o:.0%} of {n:,} tiles" for p, o, n in bins)
    sides = found.tiles[[0, -1]].sum() / found.tiles.sum()
    return [
        Chart(
            _svg("reliability", draw),
            f"Reliability of P(salt): {alt}.",
            "Dots on the dashed line: the probability means what it says. Above it: more salt than predicted.",
        ),
        Chart(
            _svg("reliability-counts", draw_counts),
            "Tiles by predicted P(salt): " + ", ".join(f"{n:,} at {p:.0%}" for p, _, n in bins) + ".",
            f"How many tiles each dot stands for; {sides:.0%} of them are in the outermost bins.",
        ),
    ]


def threshold_curve(
    key: str, name: str, thresholds: np.ndarray, scores: np.ndarray, chosen: float, score: float
) -> Chart:
    """The score over one threshold, with the chosen one marked.

    Args:
        chosen, score: the threshold of the experiment, and the score there.
    """

    def draw(axes: Axes) -> None:
        axes.plot(thresholds, scores, color=BLUE, linewidth=1.8)
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
    flat = f"The highest point, at {thresholds[best]:g}, lies {difference:.4f} above the one in use."
    return Chart(_svg(key, draw, top=0.34), alt, f"{name[0].upper()}{name[1:]}. {flat}")


def _plain_log(axes: Axes) -> None:
    """A logarithmic vertical axis with plain numbers."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 3) if high / low < 1000 else (1,)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _svg(
    key: str,
    draw: Callable[[Axes], None],
    size: tuple[float, float] = (WIDTH, HEIGHT),
    left: float = 0.145,
    top: float = 0.12,
) -> str:
    """Draw on axes within margins (left: a share of the width; top: inches), and make the SVG an element of a page."""
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(size)
        axes = figure.add_axes((left, 0.5 / size[1], 0.97 - left, 1 - (0.5 + top) / size[1]))
        draw(axes)
        written = io.BytesIO()
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return embedded(written.getvalue().decode(), key)


def embedded(svg: str, key: str) -> str:
    """matplotlib's SVG file as an element of a page.

    Args:
        key: begins all names inside, so that charts do not share any.
    """
    key = re.sub(r"[^A-Za-z0-9]+", "-", key)
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # it would hold for the whole page
    root = r'<svg viewBox="\1" aria-hidden="true" focusable="false">'
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', root, svg, count=1)
    svg = re.sub(r' id="([^"]+)"', rf' id="{key}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{key}-\1)", svg)
    svg = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{key}-\1"', svg)
    svg = re.sub(r"font-family: [^;\"]*; ?", "", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return re.sub(r"\n\s*", "\n", svg).strip()
