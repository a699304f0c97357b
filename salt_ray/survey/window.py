"""Windows: square tiles cut with context from sections and volumes, and the description of a survey of windows.

    windows.json                          properties shared by all windows, and the lines they come from
    train/images/LINE/tTRACE-sSAMPLE.npy  float32 (P, P): the window and its context; NaN where there is no data
    train/masks/LINE/tTRACE-sSAMPLE.png   uint8 (P, P): 1 salt, 0 none, 255 not labelled

TRACE and SAMPLE are the position of the window's first pixel on its line, counted from 0, without context.
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

#: Mask values of a window.
SALT, NO_SALT, NOT_LABELLED = 1, 0, 255
#: Distance between positions of 2D lines from separate files, so that no gap between folds makes them neighbours.
APART = 1 << 16
#: Largest relative difference in pixel size that counts as the same scale.
SAME_SCALE = 0.1
#: Line directions, indexed by their code in ``Windows.places``.
DIRECTIONS = ("inline", "crossline")
_ROUNDING = 0.01  # of coordinates, in lines
_WINDOW = re.compile(r"t(\d{1,9})-s(\d{1,9})")


class Window(BaseModel):
    """Properties shared by all windows of a survey, which its models expect of new data.

    Attributes:
        window_px: edge of the square that is predicted and scored.
        context_px: margin in px on each side, stored in the tile's file.
        trace_spacing: distance between traces along the lines, in the unit of the coordinates; None if unknown.
        sample_interval: in ms, or in the unit of depth.
        line_spacing: distance between lines, in the same unit; None if unknown, and for 2D lines.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    window_px: Annotated[int, Field(gt=0, multiple_of=32)]
    context_px: Annotated[int, Field(ge=0)]
    trace_spacing: Annotated[float, Field(gt=0)] | None
    sample_interval: Annotated[float, Field(gt=0)]
    line_spacing: Annotated[float, Field(gt=0)] | None = None

    def gap(self, places: np.ndarray) -> tuple[int, int]:
        """The number of inlines, and of crosslines, that cover a window's width.

        With unknown spacings, the number of traces of a window.

        Args:
            places: (n, 4) of ``Windows.places``; the windows' direction determines which spacing applies to which axis.
        """
        lines = self.window_px
        if self.trace_spacing is not None and self.line_spacing is not None:
            lines = max(1, math.ceil(self.window_px * self.trace_spacing / self.line_spacing - _ROUNDING))
        return (lines, self.window_px) if (places[:, 0] == 0).any() else (self.window_px, lines)

    def other_scale(self, other: Window) -> list[str]:
        """A message for each side of a pixel that is unknown or differs by more than ``SAME_SCALE``."""
        lines = []
        for name in ("trace_spacing", "sample_interval"):
            own, its = getattr(self, name), getattr(other, name)
            if own is None or its is None:
                lines.append(f"cannot check whether {name} is the same as in training, as it is unknown")
            elif abs(its / own - 1) > SAME_SCALE:
                lines.append(f"{name} differs from training: {its:g} instead of {own:g}")
        return lines

    @property
    def tile_px(self) -> int:
        """Edge of a tile, P: the window with its context."""
        return self.window_px + 2 * self.context_px


class Line(BaseModel):
    """The position of a line: its direction, its number, and its index on the grid.

    A 2D line is the only inline of its grid; in a survey of several, they are ``APART`` lines from each other.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    direction: Literal["inline", "crossline"]
    number: int
    index: Annotated[int, Field(ge=0, lt=2**31)]


class Windows(BaseModel):
    """The content of ``windows.json``.

    Attributes:
        window: properties shared by all windows.
        amplitudes: the volume's range of amplitudes, mapped to greys from 0 to 255 in every window.
        lines: by folder name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    window: Window
    amplitudes: GreyRange
    lines: dict[str, Line]

    @classmethod
    def of(cls, directory: Path) -> Self | None:
        """Read the description of a survey; None if its tiles are not windows.

        Raises:
            SurveyError: the file is damaged.
        """
        path = directory / WINDOWS_JSON
        return cls.parse(path.read_bytes(), str(path)) if path.is_file() else None

    @classmethod
    def parse(cls, content: bytes, place: str) -> Self:
        """Parse the content of ``windows.json``.

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
        """How to read the survey's files; a given range of greys overrides the survey's."""
        return replace(said, salt=SALT, ignore=NOT_LABELLED, nodata=np.nan, greys=said.greys or self.amplitudes)

    def places(self, ids: Sequence[str], sections: dict[str, str]) -> np.ndarray:
        """The positions of windows, int32 (N, 4): direction (index in ``DIRECTIONS``), line, first trace, first sample,
        all counted from 0 on the grid of the volume.

        Args:
            ids: tile ids, LINE-tTRACE-sSAMPLE.
            sections: the folder of each tile.

        Raises:
            SurveyError: an id has no position, or a folder is not in ``windows.json``.
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
        """Adapt an experiment to windows, which need no padding and cannot be assembled into mosaics.

        Returns:
            The experiment, and a message for each setting that was changed.

        Raises:
            RunError: it contradicts the windows.
        """
        labels, geometry = wanted.labels, wanted.geometry
        own: dict[str, tuple[Any, Any]] = {
            "labels.salt": (labels.salt, SALT),
            "labels.ignore": (labels.ignore, NOT_LABELLED),
            # A window inside salt is labelled as salt everywhere.
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
