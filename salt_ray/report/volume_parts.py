"""What the parts of a predicted volume's page say; numbers are those of its files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import numpy as np

from salt_ray.report.parts import Part
from salt_ray.report.predicted_volume import PredictedVolume
from salt_ray.report.trials import clock
from salt_ray.report.volume_charts import depth_scores, depth_shares, line_scores, top_map
from salt_ray.report.volume_gallery import FULL_DOUBT, evenly_spread, line_card, most_doubtful

_WORST = 10
_SUMMARY_HIDDEN = ("assumed", "files")


def found(volume: PredictedVolume) -> Part:
    """Share of salt and bodies."""
    return {"summary": volume.summary, "scores": volume.scores, "bodies": volume.bodies.to_dict("records")}


def doubt(volume: PredictedVolume) -> Part:
    """What can be trusted."""
    lines = volume.lines[volume.lines["direction"] == "inline"]
    return {
        "models": volume.models,
        "both": len(volume.directions) == 2,
        "mean": float(np.average(lines["spread"], weights=lines["samples"])) if len(lines) else None,
        "full": FULL_DOUBT,
        "scores": volume.scores,
        "window": volume.summary["window"],
    }


def lines(volume: PredictedVolume) -> Part:
    """Pictures of lines."""
    if not len(volume.lines):
        return "no trace is alive."
    if volume.is_line and (volume.lines["direction"] == "inline").sum() > 1:
        return "one crossline of a volume was predicted; pictures are made of inlines, or of several crosslines."
    groups = []
    for direction in volume.directions[:1] if volume.is_line else volume.directions:
        own = volume.lines[volume.lines["direction"] == direction]
        numbers, plural = own["line"].to_numpy(), f"{direction}s"
        even = evenly_spread(numbers)
        groups.append(("The line" if volume.is_line else f"{plural.capitalize()}, evenly spread", direction, even))
        if volume.models > 1 and len(numbers) > 1:
            doubtful = most_doubtful(numbers, own["spread"].to_numpy())
            groups.append((f"The most doubtful {plural}", direction, doubtful))
    return {
        "amplitudes": volume.amplitudes is not None,
        "labels": volume.labels is not None,
        "scored": volume.scores is not None,
        "models": volume.models,
        "full": FULL_DOUBT,
        "groups": [
            {
                "title": title,
                "cards": [line_card(volume, volume.line(direction, number), f"{i}") for number in chosen],
            }
            for i, (title, direction, chosen) in enumerate(groups)
        ],
    }


def top(volume: PredictedVolume) -> Part:
    """The map of the top of salt."""
    if volume.is_line:
        return "a line has no map; top.csv has its top of salt."
    depths = volume.top_of_salt()
    if np.isnan(depths).all():
        return "no salt was found."
    geometry = volume.mask.geometry
    axes = [(axis.first, axis.last) for axis in (geometry.inlines, geometry.crosslines)]
    return {"chart": top_map(depths, *axes), "summary": volume.summary}


def depth(volume: PredictedVolume) -> Part:
    """Shares by depth."""
    if not len(volume.depths):
        return "no trace is alive."
    return {"chart": depth_shares(volume.depths, volume.models > 1)}


def labels(volume: PredictedVolume) -> Part:
    """Scores, by line and by depth."""
    scores = volume.scores
    if scores is None:
        return (
            "it was compared with no labels. Where some exist, volume score compares it, and writes this page again "
            "with scores, and with labels in the pictures."
        )
    worst = sorted(scores["lines"], key=lambda line: line["score"])[:_WORST]
    return {
        "scores": scores,
        "worst": worst,
        "lines_chart": line_scores(scores["lines"], scores["iou"]),
        "depths_chart": depth_scores(scores["depths"]),
    }


def origin(volume: PredictedVolume) -> Part:
    """What was predicted, how, and what was assumed."""
    summary, geometry = volume.summary, volume.mask.geometry
    low, high = summary["amplitudes"]
    folds = sorted({(model["training"], model["fold"]) for model in summary["models"]})
    facts = {
        "file": str(volume.source),
        "sample format": summary["sample_format"],
        "predicted": (
            f"a line of {geometry.crosslines.count:,} places"
            if geometry.is_line
            else f"{geometry.inlines.count:,} inlines ({geometry.inlines}), {geometry.crosslines.count:,} crosslines "
            f"({geometry.crosslines})"
        ),
        "traces": f"{summary['traces']:,}, of {summary['samples']:,} samples",
        "z": f"{volume.mask.start:g} to "
        f"{volume.mask.start + (summary['samples'] - 1) * volume.mask.interval:g} in steps of {volume.mask.interval:g}",
        "run": summary["run"],
        "models": ", ".join(f"{training} fold {fold}" for training, fold in folds),
        "sections": "the line" if volume.is_line else "along " + " and ".join(f"{name}s" for name in volume.directions),
        "windows": f"{summary['window']} px, {summary['step']} px apart",
        "left-right flip": "yes" if summary["flip"] else "no",
        "amplitudes": f"{low:.6g} to {high:.6g} become greys",
        "salt": f"where the mean probability is above {summary['mask_threshold']:g}",
        "time": f"{clock(summary['seconds'])} in the call that finished it",
    }
    shown = {name: value for name, value in summary.items() if name not in _SUMMARY_HIDDEN}
    return {
        "facts": facts,
        "assumed": summary["assumed"],
        "files": summary["files"],
        "json": json.dumps(shown, indent=1),
    }


#: Of the page in their order: what the template calls a part, its heading, and what makes it.
PARTS: Mapping[str, tuple[str, Callable[[PredictedVolume], Part]]] = {
    "found": ("What was found", found),
    "doubt": ("How far can it be trusted?", doubt),
    "lines": ("Lines to look at", lines),
    "top": ("The top of salt", top),
    "depth": ("Salt by depth", depth),
    "labels": ("Compared with labels", labels),
    "origin": ("What was predicted, and how", origin),
}
