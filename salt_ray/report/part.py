"""What a part of a report is: what the page shows of one question, or why there is nothing to show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Absent:
    """A part without data."""

    reason: str


Part = dict[str, Any] | Absent
