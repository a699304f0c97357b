"""Scores of a predicted volume, as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

_WORST = 10  # lines shown; all are in scores.json


def volume_tables(scores: Mapping[str, Any]) -> Iterator[Table]:
    """Tables of ``scores.json``: overall, the worst lines, and by depth."""
    lines = sorted(scores["lines"], key=lambda line: line["score"])[:_WORST]
    few = (
        f"the {_WORST} lines of {len(scores['lines']):,} with the lowest scores"
        if len(scores["lines"]) > _WORST
        else "lines"
    )
    title = f"labelled samples: {scores['labelled']:,}; score: mean over IoU thresholds 0.50 … 0.95, by window"
    table = Table("where", "IoU of salt", "accuracy", "score", title=title)
    table.add_row("all", _text(scores["iou"]), _text(scores["accuracy"]), _text(scores["score"]), style="bold")
    table.add_section()
    for line in lines:
        table.add_row(f"inline {line['inline']}", *(_text(line[name]) for name in ("iou", "accuracy", "score")))
    table.caption = few
    yield table
    depths = Table("z", "IoU of salt", "accuracy", title="by depth")
    for band in scores["depths"]:
        depths.add_row(f"{band['z_first']:g} to {band['z_last']:g}", _text(band["iou"]), _text(band["accuracy"]))
    yield depths


def _text(share: float | None) -> str:
    return "none" if share is None else f"{share:.4f}"
