"""Why a file cannot be used as it is."""

from __future__ import annotations

import re

from salt_ray.survey.problems import Problem, SurveyError

__all__ = ["Problem", "VolumeError", "options_in"]


class VolumeError(SurveyError):
    """Everything that is wrong with a file of traces, one line each, with the option or the file that is needed."""


def options_in(problem: Problem) -> list[str]:
    """The options that settle a problem, as its remedy names them; none where another file is needed."""
    return list(dict.fromkeys(re.findall(r"--[a-z-]+", problem.remedy)))
