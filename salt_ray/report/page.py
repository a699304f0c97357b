"""``report.html``: one page on how good a run is, where it fails, what changed it, and whether to trust it.

It works offline: styles, figures and pictures are embedded, and its security policy forbids everything else. The same
run gives identical bytes on the same machine; the page contains no time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from salt_ray.errors import PROGRAM
from salt_ray.report import parts
from salt_ray.report.finished import FinishedRun
from salt_ray.storage import StoragePath, write_atomically

TEMPLATE = Path(__file__).parent / "template"
#: Parts of the page in order: name in the template, heading and function.
PARTS: Mapping[str, tuple[str, Callable[[FinishedRun], parts.Part]]] = {
    "answer": ("How good is it?", parts.answer),
    "learning": ("How it learned", parts.learning),
    "where": ("Where does it fail?", parts.where),
    "trust": ("Can its probabilities be trusted?", parts.trust),
    "thresholds": ("Would other thresholds matter?", parts.thresholds),
    "tiles": ("Tiles to look at", parts.tiles),
    "rules": ("What post-processing changed", parts.rules),
    "search": ("What tuning found", parts.search),
    "data": ("Unusual data", parts.data),
    "origin": ("How to reproduce it", parts.origin),
}


def write_report(finished: FinishedRun) -> StoragePath:
    """Write ``report.html`` atomically.

    Raises:
        RunError: the run's scores do not match its predictions.
    """
    path = finished.run.report
    write_atomically(path, render(finished))
    return path


def render(finished: FinishedRun) -> str:
    """Render the page."""
    content = {name: (heading, make(finished)) for name, (heading, make) in PARTS.items()}
    template = environment().get_template("page.html")
    return template.render(
        experiment=finished.experiment,
        scores=finished.scores,
        run=finished.run.path.name,
        program=PROGRAM,
        parts=content,
    )


def environment() -> Environment:
    """The template environment, with autoescaping."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "run_score": lambda value: _number(value, ".4f"),
        "score": lambda value: _number(value, ".3f"),
        "gain": lambda value: _number(value, "+.4f"),
        "minus": lambda text: text.replace("-", "−"),
        "share": lambda value: _number(value, ".1%"),
        "percent": lambda value: _number(value, ".0%"),
        "count": lambda value: f"{value:,}",
    }
    return environment


def _number(value: Any, form: str) -> str:
    """Format a number with a minus sign instead of a hyphen; a dash for None and NaN."""
    if value is None or math.isnan(value):
        return "–"
    return format(value, form).replace("-", "−")
