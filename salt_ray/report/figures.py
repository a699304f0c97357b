"""Pictures of a search: how it went, what mattered, which values are good, and how the trials learned.

Imported late: matplotlib takes half a second. Optuna's own plots show neither pruned, failed and running trials nor the
experiment's own settings, colour by trial number, and go through ``pyplot`` and its global settings.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from salt_ray.report.style import BLUE, GREEN, INK, ORANGE, PURPLE, SKY, plain_ticks, png, styled
from salt_ray.tuning.results import Summary, complete_trials, summarize
from salt_ray.tuning.space import BASELINE

WIDTH, HEIGHT = 10, 6  # inches
PANELS = 3  # in a row of slices
SCORE = "score: mean over IoU thresholds 0.50 … 0.95"
MARK = {"linestyle": "none", "markersize": 6, "markeredgewidth": 1.5}
OWN = MARK | {"color": INK, "marker": "D", "label": "own settings (baseline)", "zorder": 8}
BEST = MARK | {"color": GREEN, "marker": "*", "label": "best", "zorder": 8, "markersize": 14}
COMPLETE = MARK | {"color": BLUE, "marker": "o", "label": "complete", "zorder": 6, "markersize": 5}
#: What has no value, as marks on the lower edge or at the end of a curve.
UNFINISHED = {
    TrialState.PRUNED: MARK | {"color": ORANGE, "marker": "x", "label": "pruned", "zorder": 7},
    TrialState.FAIL: MARK | {"color": PURPLE, "marker": "s", "label": "failed", "zorder": 7},
    TrialState.RUNNING: MARK | {"color": SKY, "marker": ">", "label": "running", "zorder": 7},
}


@styled()
def draw_study(study: optuna.Study) -> dict[str, bytes]:
    """The pictures history, importances, slices and curves as PNG; the same trials give the same bytes.

    Returns:
        By name. A picture with nothing to show (no complete trial, no intermediate value, too few trials for
        importances) is left out.

    Raises:
        ResultsError: the study does not search for the highest score.
    """
    complete, summary = complete_trials(study), summarize(study)
    trials = study.get_trials(deepcopy=False)
    figures = {
        "history": _history(trials, complete, summary),
        "importances": _importances(summary),
        "slices": _slices(trials, complete, summary),
        "curves": _curves(trials, summary),
    }
    return {name: png(figure) for name, figure in figures.items() if figure is not None}


def _history(trials: Sequence[FrozenTrial], complete: Sequence[FrozenTrial], summary: Summary) -> Figure | None:
    """Values over trial numbers, with the best so far."""
    if not complete:
        return None
    axes = Figure((WIDTH, HEIGHT)).add_subplot()
    numbers = [*(trial.number for trial in complete), trials[-1].number]
    best_so_far = [*accumulate((trial.value for trial in complete), max), summary.best.value]
    axes.step(numbers, best_so_far, where="post", color=GREEN, linewidth=2, label="best so far")
    if summary.baseline is not None:
        axes.axhline(summary.baseline, color=INK, linestyle="--", linewidth=1, zorder=1.5)
    _points(axes, lambda trial: trial.number, trials, summary)
    outcome = f"best {summary.best.value:.4f} (trial {summary.best.number})"
    if summary.gain is not None:
        gain = f"{summary.gain:+.4f} against" if summary.gain else "nothing beat"
        outcome += f", {gain} the own settings"
    axes.set(title=f"{_trials(len(trials))}: {outcome}", xlabel="trial", ylabel=SCORE)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return _with_legend(axes.figure)


def _importances(summary: Summary) -> Figure | None:
    """One bar a parameter."""
    if not summary.importances:
        return None
    shares = list(summary.importances.values())
    axes = Figure((WIDTH, 1.5 + 0.45 * max(3, len(shares)))).add_subplot()
    bars = axes.barh([_wrapped(name, 36) for name in summary.importances], shares)
    axes.bar_label(bars, [f"{share:.0%}" for share in shares], padding=4)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set(
        title=f"what the best quarter of {summary.spread.n} complete trials has in common",
        xlabel="importance (PED-ANOVA; all parameters together: 100%)",
        xlim=(0, 1.1 * max(shares)),
    )
    return axes.figure


def _slices(trials: Sequence[FrozenTrial], complete: Sequence[FrozenTrial], summary: Summary) -> Figure | None:
    """A panel for each parameter: values over what was sampled."""
    names = list(dict.fromkeys(name for trial in complete for name in trial.params))
    if not names:
        return None
    columns = min(PANELS, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure((WIDTH, max(HEIGHT, 1 + 3 * rows)))
    figure.suptitle("each dot is a trial; thin lines bound the search", fontsize="medium")
    figure.supylabel(SCORE, fontsize="medium")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        sampled = [trial for trial in trials if name in trial.params]
        _points(axes, _scale(axes, name, sampled), sampled, summary)
        axes.set_xlabel(_wrapped(name, 30))
    for axes in panels[len(names) :]:
        axes.remove()
    return _with_legend(figure)


def _curves(trials: Sequence[FrozenTrial], summary: Summary) -> Figure | None:
    """Scores over epochs: what pruning saw."""
    reached = []
    for trial in trials:
        points = sorted((step, value) for step, value in trial.intermediate_values.items() if math.isfinite(value))
        if points:
            reached.append((_look(trial, summary), points))
    if not reached:
        return None
    axes = Figure((WIDTH, HEIGHT)).add_subplot()
    for look, points in reached:
        width, alpha = (2.2, 1) if look["color"] in (INK, GREEN) else (1, 0.6)  # the own settings, and the best
        line = {"color": look["color"], "linewidth": width, "alpha": alpha, "zorder": look["zorder"] - 4}
        axes.plot(*zip(*points, strict=True), **line)
        axes.plot(*points[-1], **look)
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
    return _with_legend(axes.figure)


def _look(trial: FrozenTrial, summary: Summary) -> dict[str, Any]:
    """Colour, mark and name in the legend. A baseline that is the best is drawn as the baseline."""
    if trial.state in UNFINISHED:
        look = UNFINISHED[trial.state]
        own = look | {"color": OWN["color"], "label": f"own settings ({look['label']})"}
        return own if trial.number == BASELINE else look
    if trial.number == BASELINE:
        return OWN
    return BEST if summary.best is not None and trial.number == summary.best.number else COMPLETE


def _points(axes: Axes, place: Callable[[FrozenTrial], float], trials: Sequence[FrozenTrial], summary: Summary) -> None:
    """Complete trials at their values, unfinished ones on the lower edge: a partial score compares with no value."""
    edge = {"transform": axes.get_xaxis_transform(), "clip_on": False}
    for trial in trials:
        if trial.state in UNFINISHED:
            axes.plot(place(trial), 0, **edge, **_look(trial, summary))
        elif trial.state is TrialState.COMPLETE:
            axes.plot(place(trial), trial.value, **_look(trial, summary))


def _with_legend(figure: Figure) -> Figure:
    """The figure, with each name once, below everything, so that it hides nothing."""
    handles: dict[str, Line2D] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles))
    return figure


def _scale(axes: Axes, name: str, trials: Sequence[FrozenTrial]) -> Callable[[FrozenTrial], float]:
    """Set the horizontal axis up for a parameter; returns a trial's position on it."""
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
        axes.axvline(bound, color=INK, alpha=0.45, linewidth=0.8, zorder=1)
    if all(one.log for one in distributions):
        axes.set_xscale("log")
        plain_ticks(axes.xaxis, low, high)
    else:
        whole = all(isinstance(one, IntDistribution) for one in distributions)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=whole, min_n_ticks=1 if whole else 2))
    return lambda trial: trial.params[name]


def _trials(count: int) -> str:
    return f"{count} trial{'s' * (count != 1)}"


def _wrapped(name: str, width: int) -> str:
    """A name on as many lines as it takes, broken behind underscores."""
    return "\n".join(textwrap.wrap(name.replace("_", "_ "), width)).replace("_ ", "_")
