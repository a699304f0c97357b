"""What is known of the values in a survey's files before they are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from salt_ray.config import Experiment
from salt_ray.survey.amplitudes import GreyRange


@dataclass(frozen=True)
class Meaning:
    """Settings of ``config.Labels`` and ``config.Amplitudes``; None: the files say it, or the survey is refused.

    Attributes:
        salt, ignore: values of masks.
        nodata: a value of images.
        greys: the range of amplitudes that becomes 0 … 255, of images that are not uint8; None: the survey's own.
    """

    salt: int | None = None
    ignore: int | None = None
    nodata: float | None = None
    greys: GreyRange | None = None

    @classmethod
    def of(cls, experiment: Experiment, greys: GreyRange | None = None) -> Self:
        """What an experiment says."""
        labels = experiment.labels
        return cls(labels.salt, labels.ignore, experiment.amplitudes.nodata, greys)

    @property
    def settings(self) -> str:
        """The settings that decide what is read, for keys; empty where none is given."""
        # Not as labels.ignore, under which whole tiles were left out before single pixels were ignored.
        values = {"labels.salt": self.salt, "ignored pixels": self.ignore, "amplitudes.nodata": self.nodata}
        return " ".join(f"{name}={value}" for name, value in values.items() if value is not None)


#: Nothing is known.
AS_FOUND = Meaning()
