"""Why a file cannot be used as it is."""

from __future__ import annotations

import re

from salt_ray.survey.problems import Problem, SurveyError

__all__ = ["Problem", "VolumeError", "options_in"]


class VolumeError(SurveyError):
    """Everything wrong with a file of traces, one line each, with the option or file that fixes it."""


def options_in(problem: Problem) -> list[str]:
    """The options named in a problem's remedy; empty if another file is needed."""
    return list(dict.fromkeys(re.findall(r"--[a-z-]+", problem.remedy)))
