"""Tables that a notebook shows: in its own font and colours, light or dark; every value is escaped."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd


def table_html(table: pd.DataFrame, lines: Sequence[str] = (), *, header: bool = True) -> str:
    """A table without its index, as pandas shows it, below lines of text.

    Its class is that of pandas' own tables, which notebooks and websites know how to show.
    """
    with pd.option_context("display.max_colwidth", None):  # a path is shown whole
        shown = table.to_html(index=False, header=header, border=0, na_rep="–", escape=True)
    return "".join(f"<p>{html.escape(line)}</p>\n" for line in lines) + shown


def facts_html(facts: Mapping[str, Any]) -> str:
    """What is known of one thing, a row each."""
    return table_html(pd.DataFrame([(name, str(value)) for name, value in facts.items()]), header=False)
