"""Windows: square tiles cut from sections and volumes with the data around them, and what a survey of them says.

    windows.json                          what all windows have in common, and the lines that they come from
    train/images/LINE/tTRACE-sSAMPLE.npy  float32 (P, P): the window and its context; NaN where there is no data
    train/masks/LINE/tTRACE-sSAMPLE.png   uint8 (P, P): 1 salt, 0 none, 255 not labelled

TRACE and SAMPLE are the place of the window's first pixel on its line, counted from 0, its context aside.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from salt_ray.config import Experiment, HoldoutShare
from salt_ray.errors import RunError
from salt_ray.survey.amplitudes import GreyRange
from salt_ray.survey.layout import WINDOWS_JSON
from salt_ray.survey.meaning import Meaning
from salt_ray.survey.problems import Problem, SurveyError, shown

#: What a window's mask says of a pixel.
SALT, NO_SALT, NOT_LABELLED = 1, 0, 255
#: Between the places of 2D lines, each from a file of its own: they are no neighbours, whatever the gap of folds.
APART = 1 << 16
#: Pixels whose sides differ by a larger share have another scale.
SAME_SCALE = 0.1
#: A line's direction by the number that stands for it in ``Windows.places``.
DIRECTIONS = ("inline", "crossline")
_ROUNDING = 0.01  # of coordinates, in lines
_WINDOW = re.compile(r"t(\d{1,9})-s(\d{1,9})")


class Window(BaseModel):
    """What all windows of a survey have in common, and what its models have to see again.

    Attributes:
        window_px: edge of the square that a network sees and that is judged.
        context_px: samples and traces around it, on each of its four sides, that a tile's file holds too.
        trace_spacing: between neighbouring traces along the windows' lines, in the unit of the coordinates; None where
            headers do not say.
        sample_interval: between samples, in ms, or in the unit of depth.
        line_spacing: between neighbouring lines, in the same unit; None where headers do not say, and of 2D lines.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    window_px: Annotated[int, Field(gt=0, multiple_of=32)]
    context_px: Annotated[int, Field(ge=0)]
    trace_spacing: Annotated[float, Field(gt=0)] | None
    sample_interval: Annotated[float, Field(gt=0)]
    line_spacing: Annotated[float, Field(gt=0)] | None = None

    def gap(self, places: np.ndarray) -> tuple[int, int]:
        """How many inlines, and how many crosslines, are as far apart as a window is wide.

        Where spacings are not known, as many as a window has traces.

        Args:
            places: (n, 4) of ``Windows.places``; which direction windows have says which spacing is which.
        """
        lines = self.window_px
        if self.trace_spacing is not None and self.line_spacing is not None:
            lines = max(1, math.ceil(self.window_px * self.trace_spacing / self.line_spacing - _ROUNDING))
        return (lines, self.window_px) if (places[:, 0] == 0).any() else (self.window_px, lines)

    def other_scale(self, other: Window) -> list[str]:
        """A line for each side of a pixel that differs from another's by more than ``SAME_SCALE``, or is not known."""
        lines = []
        for name in ("trace_spacing", "sample_interval"):
            own, its = getattr(self, name), getattr(other, name)
            if own is None or its is None:
                lines.append(f"it is not known whether pixels have the same {name} as in training")
            elif abs(its / own - 1) > SAME_SCALE:
                lines.append(f"pixels have a different {name} than in training: {its:g}, not {own:g}")
        return lines

    @property
    def tile_px(self) -> int:
        """Edge of a tile's file: the window and its context, P."""
        return self.window_px + 2 * self.context_px


class Line(BaseModel):
    """The position of a line: its direction, its number, and how many lines of the grid come before it.

    A 2D line is the first inline of a grid that has no other; the next ones follow ``APART`` lines from it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    direction: Literal["inline", "crossline"]
    number: int
    index: Annotated[int, Field(ge=0, lt=2**31)]


class Windows(BaseModel):
    """The content of ``windows.json``.

    Attributes:
        window: what all windows have in common.
        amplitudes: the range of the volume that becomes greys from 0 to 255, that of the windows whatever they hold.
        lines: by the names of their folders.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    window: Window
    amplitudes: GreyRange
    lines: dict[str, Line]

    @classmethod
    def of(cls, directory: Path) -> Self | None:
        """Those of the survey in a folder; None where its tiles are no windows.

        Raises:
            SurveyError: the file is damaged.
        """
        path = directory / WINDOWS_JSON
        return cls.parse(path.read_bytes(), str(path)) if path.is_file() else None

    @classmethod
    def parse(cls, content: bytes, place: str) -> Self:
        """The content of a file.

        Raises:
            SurveyError: it is damaged.
        """
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            what = f"is damaged ({'.'.join(map(str, first['loc'])) or 'content'}: {first['msg']})"
            raise SurveyError([Problem(place, what, "cut the windows again with volume tiles")]) from error

    def meaning(self, said: Meaning) -> Meaning:
        """What the values of the survey's files mean; a range of greys that is said counts before its own."""
        return replace(said, salt=SALT, ignore=NOT_LABELLED, nodata=np.nan, greys=said.greys or self.amplitudes)

    def places(self, ids: Sequence[str], sections: dict[str, str]) -> np.ndarray:
        """The positions of windows, int32 (N, 4): direction (of ``DIRECTIONS``), line, first trace, first sample, all
        counted from 0 on the grid of the volume.

        Args:
            ids: of the tiles, LINE-tTRACE-sSAMPLE.
            sections: the folder of each.

        Raises:
            SurveyError: a name says no place, or a folder is not in ``windows.json``.
        """
        places = np.empty((len(ids), 4), np.int32)
        for row, i in enumerate(ids):
            name = sections.get(i, "")
            found = _WINDOW.fullmatch(i.removeprefix(f"{name}-"))
            if found is None or name not in self.lines:
                what = f"the tile {shown(i)} is not a window tTRACE-sSAMPLE of a line in this file"
                raise SurveyError(
                    [Problem(WINDOWS_JSON, what, "remove the tile, or cut the windows again with volume tiles")]
                )
            line = self.lines[name]
            places[row] = DIRECTIONS.index(line.direction), line.index, int(found[1]), int(found[2])
        return places

    def experiment(self, wanted: Experiment) -> tuple[Experiment, list[str]]:
        """What an experiment does with windows, which neither need padding nor can be put together to mosaics.

        Returns:
            The experiment, and a line for each thing that is done otherwise than it says.

        Raises:
            RunError: it contradicts the windows.
        """
        labels, geometry = wanted.labels, wanted.geometry
        own: dict[str, tuple[Any, Any]] = {
            "labels.salt": (labels.salt, SALT),
            "labels.ignore": (labels.ignore, NOT_LABELLED),
            # A window inside salt is salt all over, and labelled as that.
            "labels.full_tiles": (labels.full_tiles, "salt"),
            "geometry.crop_px": (geometry.crop_px, self.window.window_px),
            "geometry.padded_px": (geometry.padded_px, self.window.tile_px),
            "amplitudes.nodata": (wanted.amplitudes.nodata, None),
        }
        for name, (given, right) in own.items():
            if given is not None and given != right:
                raise RunError(
                    f"{name} is {given}, but the windows of this survey ({WINDOWS_JSON}) need {right}: "
                    f"unset it (--set {name}=null)"
                )
        if isinstance(wanted.holdout, HoldoutShare) and wanted.holdout.kind == "mosaic":
            raise RunError(
                f"windows overlap, so there are no mosaics to hold out: use --set "
                f"holdout=section:{wanted.holdout.share}, which takes neighbouring lines"
            )
        said = []
        kinds = sorted({training.folds.kind for training in wanted.trainings} - {"lines"})
        if kinds:
            said.append(
                f"folds are blocks of lines (folds.kind=lines), not {' and '.join(kinds)}: windows overlap and "
                "neighbouring lines are nearly identical, so other folds would leak training data"
            )
        if wanted.postprocessing.rules != "none":
            said.append("mosaic rules are off (postprocessing.rules=none): windows overlap and make no mosaics")
        trainings = [
            training.replace(folds=training.folds.replace(kind="lines", seed=None, checkpoint=None))
            for training in wanted.trainings
        ]
        return wanted.replace(
            labels=labels.replace(salt=SALT, ignore=NOT_LABELLED, full_tiles="salt"),
            geometry=geometry.replace(crop_px=self.window.window_px, padded_px=self.window.tile_px),
            trainings=tuple(trainings),
            postprocessing=wanted.postprocessing.replace(rules="none"),
        ), said


def lines_of(ids: np.ndarray) -> np.ndarray:
    """The lines (n,) str that windows with these ids (n,) str come from."""
    return np.array([i.rsplit("-", 2)[0] for i in ids.tolist()], str)
