"""What is wrong with a survey: gathered first, raised once, each with its remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from salt_ray.errors import SaltRayError


@dataclass(frozen=True)
class Problem:
    """One line of a SurveyError.

    Attributes:
        file: the file, in Kaggle's layout, or the place in a zip ('train.zip: images/ID.png').
        what: what is wrong with it.
        remedy: what to do about it.
        drops: ids that ``skip_bad`` leaves out because of it; () where it is enough to pass over a file or row; None
            where nothing can be left out to mend it, so that it is raised in any case.
    """

    file: str
    what: str
    remedy: str
    drops: tuple[str, ...] | None = None

    def __str__(self) -> str:
        line = f"{self.file}: {self.what}; {self.remedy}"
        # Names and cells come from outside: a line end or an escape sequence in one must not reach the terminal.
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in line)


class SurveyError(SaltRayError, ValueError):
    """Everything that is wrong with a survey, one line each; ``problems`` is the same as objects."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(list(problems))  # not the text: pickling calls the class with these arguments again
        self.problems = list(problems)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))
