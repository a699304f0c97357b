"""What made a run and what it took from its survey: ``run.json``, written when the run is prepared.

A run made before there was such a file loads as a record of unknowns.
"""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict

from salt_ray import __version__
from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment, FullTiles, Training
from salt_ray.errors import RunError
from salt_ray.storage import StoragePath, fields_if_there, readable, write_atomically
from salt_ray.survey.amplitudes import MOST_OUTSIDE, GreyRange, Scaling
from salt_ray.survey.tiles import Survey
from salt_ray.survey.window import Window

#: Between the widths of two ranges of amplitudes: with it the contrast of all tiles differs as much.
LARGEST_FACTOR = 2


class RunRecord(BaseModel):
    """What a run has to know of its making when its models are used elsewhere; None: unknown.

    Attributes:
        version: of salt-ray, which made the run.
        tile_px: edge of the tiles that its models were trained on.
        samples: type of the images' values, as in ``tiles.Survey``.
        amplitudes: the range that became greys from 0 to 255; None too where ``samples`` is 'uint8'.
        full_tiles: what a prediction that fills its tile becomes.
        folds: of every training, those that are trained and predict; None: all.
        ignored: share of unlabelled pixels in labelled tiles; None without ``labels.ignore``, and in runs
            from before such pixels were ignored one by one.
        window: of the windows that its models were trained on; None: on tiles.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    version: str | None = None
    tile_px: int | None = None
    samples: str | None = None
    amplitudes: GreyRange | None = None
    full_tiles: FullTiles | None = None
    folds: tuple[int, ...] | None = None
    ignored: float | None = None
    window: Window | None = None

    @classmethod
    def of(
        cls,
        survey: Survey,
        full_tiles: FullTiles | None,
        version: str | None = __version__,
        folds: tuple[int, ...] | None = None,
        ignored: float | None = None,
    ) -> Self:
        """What a run takes from its survey."""
        amplitudes = None if survey.scaling is None else survey.scaling.used
        return cls(
            version=version,
            tile_px=survey.tile_px,
            samples=survey.samples,
            amplitudes=amplitudes,
            full_tiles=full_tiles,
            folds=folds,
            ignored=ignored,
            window=survey.window,
        )

    @classmethod
    def load(cls, path: StoragePath) -> Self:
        """The record in a file; unknowns where there is no such file.

        Raises:
            RunError: the file is damaged.
        """
        fields = fields_if_there(path, path)
        with readable(path, path):
            return cls() if fields is None else cls.model_validate(fields)

    def check_applies(self, survey: Survey, place: str, *, own_range: bool = False) -> list[str]:
        """Make sure that the run's models see the tiles of another survey as they saw their own.

        Args:
            survey: read with the run's range of amplitudes, or with its own if ``own_range``.
            place: its location, for messages.

        Returns:
            What cannot be checked, a line each.

        Raises:
            RunError: its tiles have another size, or its amplitudes another type or range.
        """
        if self.tile_px is not None and (self.window is None) != (survey.window is None):
            own, other = ("windows", "tiles") if self.window is not None else ("tiles", "windows")
            raise RunError(
                f"the run was trained on {own}, but {place} holds {other}. Predict whole sections and volumes, or "
                f"apply a run trained on {other}"
            )
        if self.tile_px is not None and survey.tile_px != self.tile_px:
            raise RunError(
                f"the run was trained on tiles of {self.tile_px} px, but those in {place} are {survey.tile_px} px: cut "
                "tiles of that size from a section of the same scale"
            )
        lines = []
        if self.window is not None:
            lines += self.window.other_scale(survey.window)
        if self.tile_px is None:
            lines.append(f"the size of the run's own tiles is not known; those here are {survey.tile_px} px")
        if self.samples is None:
            if survey.scaling is not None:
                lines.append(
                    "the run has no range of amplitudes (it was made by an older version): this survey's own is used"
                )
        elif not own_range:
            self._check_amplitudes(survey, place)
        return lines

    def _check_amplitudes(self, survey: Survey, place: str) -> None:
        remedy = "rescale the amplitudes to the run's range, or use this survey's own with --own-range"
        if (survey.samples == "uint8") != (self.samples == "uint8"):
            raise RunError(
                f"the run was trained on images of type {self.samples}, but those in {place} are {survey.samples}. "
                "Convert them, or use them as they are with --own-range"
            )
        if survey.scaling is not None:
            self.check_scaling(survey.scaling, place, remedy)

    def check_scaling(self, scaling: Scaling, place: str, remedy: str) -> None:
        """Make sure that amplitudes fill the run's range as its own do.

        Args:
            scaling: by the run's range.
            place, remedy: for the message.

        Raises:
            RunError: they do not.
        """
        if scaling.outside > MOST_OUTSIDE:
            raise RunError(
                f"{scaling.outside:.0%} of the amplitudes in {place} are outside the run's range, {scaling.used} "
                f"(their own is {scaling.own}): {remedy}"
            )
        if max(scaling.used.width / scaling.own.width, scaling.own.width / scaling.used.width) >= LARGEST_FACTOR:
            raise RunError(
                f"the amplitudes in {place} range from {scaling.own}, those of the run from {scaling.used}: {remedy}"
            )

    def save(self, path: StoragePath) -> None:
        """Write ``run.json``, whole or not at all."""
        write_atomically(path, self.model_dump_json(indent=1))


def chosen_folds(run: RunDirectory, experiment: Experiment) -> list[tuple[Training, int]]:
    """The folds that a run trains and predicts with: those of ``train --folds``, or all.

    Raises:
        RunError: the record is damaged.
    """
    folds = RunRecord.load(run.record).folds
    return [(training, fold) for training, fold in experiment.all_folds if folds is None or fold in folds]


def check_ignored(run: RunDirectory) -> None:
    """Make sure that a run's labels mean what they meant when it was made.

    Raises:
        RunError: it is from before, when ``labels.ignore`` left out whole tiles; or its experiment is damaged.
    """
    labels = (fields_if_there(run.experiment, run.experiment) or {}).get("labels")
    ignores = isinstance(labels, dict) and labels.get("ignore") is not None
    record = RunRecord.load(run.record)
    if ignores and record.tile_px is not None and record.ignored is None:
        raise RunError(
            f"{run.path} was made by a version that skipped tiles with pixels of labels.ignore = {labels['ignore']}; "
            "only these pixels are ignored today. Train in another --run-dir (apply still takes this run)"
        )


def is_older(run: RunDirectory) -> bool:
    """Whether a run was made before runs had a record: its experiment says nothing of labels.

    Raises:
        RunError: the experiment is damaged.
    """
    fields = fields_if_there(run.experiment, run.experiment)
    return fields is not None and "labels" not in fields
