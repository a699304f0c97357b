"""Reads the board for Grafana: its panels, and the gauges and tags that its queries name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

BOARD = Path(__file__).parents[2] / "docs" / "grafana" / "salt-ray.json"
PREFIX = "ray_salt_ray_"

LABELS = r"[a-z_]+(?:, [a-z_]+)*"
MATCHER = r'[a-z_]+(?:=|!=|=~|!~)"[^"]*"'
SELECTOR = re.compile(rf"(?P<name>[a-z_]+)(?:\{{(?P<matchers>{MATCHER}(?:, {MATCHER})*)\}})?")
AGGREGATION = re.compile(rf"(?:sum|max|min|avg|count) by \((?P<by>{LABELS})\) \((?P<inner>.+)\)")
#: Grafana's own function for the values of a variable.
LABEL_VALUES = re.compile(r"label_values\((?P<inner>.+), (?P<label>[a-z_]+)\)")


def board() -> dict[str, Any]:
    return json.loads(BOARD.read_text())


def parsed(query: str) -> tuple[str, set[str], set[str] | None]:
    """A PromQL query of the kinds that the board needs: a selector, or one that is aggregated.

    Returns:
        The metric, the labels that are matched, and those that its series keep (None: all).
    """
    if match := AGGREGATION.fullmatch(query):
        name, matched, kept = parsed(match["inner"])
        by = set(match["by"].split(", "))
        assert kept is None or by <= kept, query
        return name, matched, by
    match = SELECTOR.fullmatch(query)
    assert match, f"no PromQL that this board needs: {query}"
    return match["name"], {re.split("[=!]", one)[0] for one in (match["matchers"] or "").split(", ") if one}, None


def shown_gauges() -> set[str]:
    """The gauges that panels show, named as on the metrics port, without Ray's and our prefix."""
    names = {parsed(target["expr"])[0] for panel in board()["panels"] for target in panel["targets"]}
    assert all(name.startswith(PREFIX) for name in names)
    return {name.removeprefix(PREFIX) for name in names}
