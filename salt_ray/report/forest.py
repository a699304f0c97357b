"""Forest plot of a comparison: the difference and its interval on all tiles, and by share of salt."""

from __future__ import annotations

from matplotlib.figure import Figure

from salt_ray.report.comparison import SETS, Comparison
from salt_ray.report.style import BLUE, INK, png, styled

WIDTH, ROW = 9, 0.42  # inches


@styled()
def draw_comparison(comparison: Comparison) -> bytes:
    """Draw a PNG; equal comparisons give identical bytes."""
    rows = {"all tiles": comparison.whole, **comparison.by_salt}
    figure = Figure((WIDTH, 1.6 + ROW * len(rows)))
    axes = figure.add_subplot()
    for place, part in enumerate(rows.values()):
        colour = INK if place == 0 else BLUE
        axes.plot([part.low, part.high], [place, place], color=colour, linewidth=2)
        axes.plot([part.difference], [place], "s" if place == 0 else "o", color=colour)
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_yticks(range(len(rows)), [f"{name} ({part.tiles:,})" for name, part in rows.items()])
    axes.invert_yaxis()
    first, second = comparison.names
    axes.set_xlabel(f"score of {second} minus score of {first}, {SETS[comparison.kind]}; 95 % intervals")
    question = "two recipes" if comparison.of_recipes else "these trained models"
    axes.set_title(f"{second} vs. {first}: {question}; tiles by share of salt (number)", loc="left")
    return png(figure)
