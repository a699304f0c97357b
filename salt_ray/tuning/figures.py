"""Pictures of a search: how it went, what mattered, where the good values lie, and how the trials learned.

Imported late: matplotlib takes half a second. Its object-oriented interface alone is used, so no display is needed and
nothing stays open. The colours are Okabe and Ito's, which colour-blind people tell apart; marks differ besides.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import matplotlib.style
import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from salt_ray.storage import StoragePath, atomic_file
from salt_ray.tuning.results import Best, Summary, complete_trials, summarize
from salt_ray.tuning.space import BASELINE

WIDTH, HEIGHT, DPI = 10, 6, 120  # inches, dots an inch: 1200 x 720 px
PANELS = 3  # in a row of slices.png
SCORE = "score: mean over IoU thresholds 0.50 … 0.95"
BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY = "#000000", "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
OWN = {"color": BLACK, "marker": "D", "label": "own settings (baseline)"}
BEST = {"color": GREEN, "marker": "*", "label": "best"}
COMPLETE = {"color": BLUE, "marker": "o", "label": "complete"}
#: What has no value, as marks on the lower edge or at the end of a curve.
UNFINISHED = {
    TrialState.PRUNED: {"color": ORANGE, "marker": "x", "label": "pruned"},
    TrialState.FAIL: {"color": PURPLE, "marker": "s", "label": "failed"},
    TrialState.RUNNING: {"color": SKY, "marker": ">", "label": "running"},
}
Looks = dict[int, dict[str, str]]  # by trial number
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture everywhere
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
}


def draw_study(study: optuna.Study, directory: StoragePath) -> list[StoragePath]:
    """Write history.png, importances.png, slices.png and curves.png; the same trials give the same bytes.

    Returns:
        What was written: a picture with nothing to show (no complete trial, no intermediate value, too few trials for
        importances) is left out.

    Raises:
        ResultsError: the study does not search for the highest score.
    """
    complete, summary = complete_trials(study), summarize(study)
    trials = study.get_trials(deepcopy=False)
    looks = {trial.number: _look(trial, summary) for trial in trials}
    written = []
    with matplotlib.style.context(["default", STYLE]):
        figures = {
            "history.png": _history(trials, complete, summary, looks),
            "importances.png": _importances(summary),
            "slices.png": _slices(trials, complete, looks),
            "curves.png": _curves(trials, looks),
        }
        for name, figure in figures.items():
            if figure is not None:
                with atomic_file(directory / name) as file:
                    figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
                written.append(directory / name)
    return written


def _history(
    trials: Sequence[FrozenTrial], complete: Sequence[FrozenTrial], summary: Summary, looks: Looks
) -> Figure | None:
    """Values over trial numbers, with the best so far."""
    if not complete:
        return None
    figure = Figure((WIDTH, HEIGHT))
    axes = figure.add_subplot()
    numbers = [*(trial.number for trial in complete), trials[-1].number]
    best_so_far = [*accumulate((trial.value for trial in complete), max), summary.best.value]
    axes.step(numbers, best_so_far, where="post", color=GREEN, linewidth=2, label="best so far")
    if summary.baseline is not None:
        axes.axhline(summary.baseline, color=BLACK, linestyle="--", linewidth=1, zorder=1.5)
    for trial in complete:
        _point(axes, trial.number, trial, looks)
    for trial in trials:
        _lower_edge(axes, trial.number, trial, looks)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set(
        title=f"{_trials(len(trials))}: {_outcome(summary.best, summary.gain)}",
        xlabel="trial",
        ylabel=SCORE,
    )
    _legend(figure)
    return figure


def _importances(summary: Summary) -> Figure | None:
    """One bar a parameter."""
    if not summary.importances:
        return None
    shares = list(summary.importances.values())
    figure = Figure((WIDTH, 1.5 + 0.45 * max(3, len(shares))))
    axes = figure.add_subplot()
    bars = axes.barh([_wrapped(name, 36) for name in summary.importances], shares, color=BLUE)
    axes.bar_label(bars, [f"{share:.0%}" for share in shares], padding=4)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set(
        title=f"what the best quarter of {summary.spread.n} complete trials has in common",
        xlabel="importance (PED-ANOVA; all parameters together: 100%)",
        xlim=(0, 1.1 * max(shares)),
    )
    return figure


def _slices(trials: Sequence[FrozenTrial], complete: Sequence[FrozenTrial], looks: Looks) -> Figure | None:
    """A panel for each parameter: values over what was sampled."""
    names = list(dict.fromkeys(name for trial in complete for name in trial.params))
    if not names:
        return None
    columns = min(PANELS, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure((WIDTH, max(HEIGHT, 1 + 3 * rows)))
    figure.suptitle("each dot is a trial; thin lines bound the search", fontsize="medium")
    shared = None
    for position, name in enumerate(names):
        axes = shared = figure.add_subplot(rows, columns, position + 1, sharey=shared)
        sampled = [trial for trial in trials if name in trial.params]
        place = _scale(axes, name, sampled)
        for trial in complete:
            if name in trial.params:
                _point(axes, place(trial), trial, looks)
        for trial in sampled:
            _lower_edge(axes, place(trial), trial, looks)
        axes.set_xlabel(_wrapped(name, 30))
        axes.tick_params(labelleft=position % columns == 0)
    figure.supylabel(SCORE, fontsize="medium")
    _legend(figure)
    return figure


def _curves(trials: Sequence[FrozenTrial], looks: Looks) -> Figure | None:
    """Scores over epochs: what pruning saw."""
    reached = []
    for trial in trials:
        points = sorted((step, value) for step, value in trial.intermediate_values.items() if math.isfinite(value))
        if points:
            reached.append((trial, points))
    if not reached:
        return None
    figure = Figure((WIDTH, HEIGHT))
    axes = figure.add_subplot()
    for trial, points in reached:
        look = looks[trial.number]
        strong = look["color"] in (OWN["color"], BEST["color"])
        width, alpha, order = (2.2, 1, 4) if strong else (1, 0.6, 3 if trial.state in UNFINISHED else 2)
        axes.plot(*zip(*points, strict=True), color=look["color"], linewidth=width, alpha=alpha, zorder=order)
        axes.plot(*points[-1], zorder=6 if strong else 5, **_mark(look))
    # The first tenth of the epochs looks alike in all trials: it is cut where it is lower than everything after it.
    begin = max(points[-1][0] for _, points in reached) / 10
    kept = [value for _, points in reached for step, value in points if step >= begin or step == points[-1][0]]
    if max(kept) > min(kept):
        axes.set_ylim(bottom=min(kept) - 0.05 * (max(kept) - min(kept)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set(
        title=f"{_trials(len(reached))} as they learned; marks show where each ended",
        xlabel="epoch, counted over the folds of a trial",
        ylabel=f"best so far, {SCORE}",
    )
    _legend(figure)
    return figure


def _look(trial: FrozenTrial, summary: Summary) -> dict[str, str]:
    """Colour, mark and name in the legend. A baseline that is the best is drawn as the baseline."""
    if trial.state in UNFINISHED:
        look = UNFINISHED[trial.state]
        own = look | {"color": OWN["color"], "label": f"own settings ({look['label']})"}
        return own if trial.number == BASELINE else look
    if trial.number == BASELINE:
        return OWN
    return BEST if summary.best is not None and trial.number == summary.best.number else COMPLETE


def _point(axes: Axes, x: float, trial: FrozenTrial, looks: Looks) -> None:
    """A complete trial at its value."""
    look = looks[trial.number]
    axes.plot(x, trial.value, zorder=3 if look is COMPLETE else 4, **_mark(look))


def _lower_edge(axes: Axes, x: float, trial: FrozenTrial, looks: Looks) -> None:
    """A trial without a value, on the lower edge: its last partial score is not comparable with values."""
    if trial.state in UNFINISHED:
        axes.plot(x, 0, transform=axes.get_xaxis_transform(), clip_on=False, **_mark(looks[trial.number]))


def _mark(look: dict[str, str]) -> dict[str, Any]:
    size = {"*": 15, "o": 6}.get(look["marker"], 7)
    width = 1.8 if look["marker"] == "x" else 0.5
    return look | {"linestyle": "none", "markersize": size, "markeredgewidth": width}


def _legend(figure: Figure) -> None:
    """Each name once, below everything, so that it hides nothing."""
    handles: dict[str, Line2D] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)


def _scale(axes: Axes, name: str, trials: Sequence[FrozenTrial]) -> Callable[[FrozenTrial], float]:
    """Set the horizontal axis up for a parameter; returns where on it a trial lies."""
    distributions = [trial.distributions[name] for trial in trials]
    if isinstance(distributions[0], CategoricalDistribution):
        choices = list(dict.fromkeys(choice for one in distributions for choice in one.choices))
        width = max(6, 36 // len(choices))  # letters that fit between two ticks
        axes.set_xticks(range(len(choices)), [_wrapped(str(choice), width) for choice in choices], fontsize="small")
        axes.set_xlim(-0.5, len(choices) - 0.5)
        # The golden ratio spreads neighbours: equal scores stay visible side by side.
        return lambda trial: choices.index(trial.params[name]) + 0.4 * (trial.number * 0.618034 % 1 - 0.5)
    low, high = min(one.low for one in distributions), max(one.high for one in distributions)
    for bound in (low, high):
        axes.axvline(bound, color="#999999", linewidth=0.8, zorder=1)
    if all(one.log for one in distributions):
        _logarithmic(axes, low, high)
    else:
        whole = all(isinstance(one, IntDistribution) for one in distributions)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=whole, min_n_ticks=1 if whole else 2))
    return lambda trial: trial.params[name]


def _logarithmic(axes: Axes, low: float, high: float) -> None:
    """A logarithmic horizontal axis from ``low`` to ``high`` with plain numbers at its ticks."""
    axes.set_xscale("log")
    if high / low < 20:
        ticks = MaxNLocator(4, integer=isinstance(low, int), min_n_ticks=1)
    else:
        ticks = LogLocator(subs=(1, 3) if high / low < 1000 else (1,))
    axes.xaxis.set_major_locator(ticks)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _trials(count: int) -> str:
    return f"{count} trial{'s' * (count != 1)}"


def _outcome(best: Best, gain: float | None) -> str:
    """The end of a title: what the search was worth."""
    text = f"best {best.value:.4f} (trial {best.number})"
    if gain is None:
        return text
    return f"{text}, {gain:+.4f} against the own settings" if gain else f"{text}, nothing beat the own settings"


def _wrapped(name: str, width: int) -> str:
    """A name on as many lines as it takes, broken behind underscores; a dollar would begin a formula."""
    lines = textwrap.wrap(name.replace("_", "_ "), width)
    return "\n".join(line.replace("_ ", "_") for line in lines).replace("$", r"\$")
