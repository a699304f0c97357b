"""The one look of charts, pictures of a search and sheets: colours, lines, font, sizes; and figures as bytes.

The colours are near Okabe and Ito's: colour-blind people tell them apart, as ``tests/report/test_style.py`` measures.
matplotlib's object-oriented interface alone is used, so no display is needed and nothing stays open. The same figure
gives the same bytes.
"""

from __future__ import annotations

import io
from contextlib import AbstractContextManager
from typing import Any

import matplotlib.style
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

DPI = 120  # of a PNG
INK, GRID = "#1c1e21", "#d9dce1"
BLUE, ORANGE, GREEN, PURPLE, SKY = "#0072b2", "#d55e00", "#009e73", "#b5578f", "#56b4e9"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, SKY, INK)
LINES = cycler(linestyle=["-", "--", ":", "-."]) * cycler(color=SERIES)  # from the seventh on dashes differ too
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same layout everywhere
    "text.color": INK,
    "text.parse_math": False,  # a dollar in a name begins no formula
    "axes.titlesize": 11,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.prop_cycle": cycler(color=[BLUE]),  # also of marks that nobody gave a colour
    "axes.grid": True,
    "grid.color": GRID,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "figure.constrained_layout.use": True,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.fonttype": "none",  # text stays text
}


def styled() -> AbstractContextManager[None]:
    """A context, or a decorator, in which figures are made and saved, whatever the user has set."""
    return matplotlib.style.context(["default", STYLE])


class Drawing(Figure):
    """A figure on white that a notebook shows where it is a cell's last value; ``savefig`` writes it to a file.

    It belongs to no window and to no ``pyplot``: it is shown once, and is gone when nobody holds it.
    """

    def _repr_png_(self) -> bytes:
        with styled():
            return png(self)


def png(figure: Figure, compression: int = 6) -> bytes:
    """A figure on white, with ``DPI`` dots an inch; compression from 1, the quickest, to 9."""
    options = {"facecolor": "white", "metadata": {"Software": None}, "pil_kwargs": {"compress_level": compression}}
    return _saved(figure, format="png", dpi=DPI, **options)


def svg(figure: Figure, key: str) -> str:
    """A figure as an SVG file; names inside that something refers to follow from the key, and differ between keys."""
    with matplotlib.rc_context({"svg.hashsalt": key}):
        return _saved(figure, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))).decode()


def _saved(figure: Figure, **options: Any) -> bytes:
    written = io.BytesIO()
    figure.savefig(written, **options)
    return written.getvalue()


def plain_ticks(axis: Axis, low: float, high: float) -> None:
    """Plain numbers at the ticks of a logarithmic axis that shows ``low`` to ``high``; whole ones if these are int."""
    if high / low < 20:
        ticks = MaxNLocator(4, integer=isinstance(low, int), min_n_ticks=1)
    else:
        ticks = LogLocator(subs=(1, 3) if high / low < 1000 else (1,))
    axis.set_major_locator(ticks)
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
