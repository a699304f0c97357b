"""What is wrong with a survey: collected first, raised once, each with its fix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from salt_ray.errors import SaltRayError

#: Characters; names and cells may be of any length.
_MOST_SHOWN = 400


@dataclass(frozen=True)
class Problem:
    """One line of a SurveyError.

    Attributes:
        file: the file, in Kaggle's layout, or the place in a zip ('train.zip: images/ID.png').
        what: what is wrong with it.
        remedy: how to fix it.
        drops: ids that ``skip_bad`` leaves out because of it; () where it is enough to pass over a file or row; None
            where skipping something does not fix it, so that it is always raised.
    """

    file: str
    what: str
    remedy: str
    drops: tuple[str, ...] | None = None

    def __str__(self) -> str:
        return f"{shown(self.file)}: {shown(self.what)}; {shown(self.remedy)}"


def shown(text: str) -> str:
    """Text from outside for a message: cut, and without line ends and escape sequences, which a terminal would obey."""
    text = text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class Unsuited(ValueError):
    """A whole file, but not of the kind that is read: another copy of it would not help."""


class SurveyError(SaltRayError, ValueError):
    """Everything that is wrong with a survey, one line each; ``problems`` is the same as objects."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(list(problems))  # not the text: pickling calls the class with these arguments again
        self.problems = list(problems)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))
