"""What made a run and what it took from its survey: ``run.json``, written when the run is prepared.

A run made before there was such a file loads as a record of unknowns.
"""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict

from salt_ray import __version__
from salt_ray.config import FullTiles
from salt_ray.storage import StoragePath, fields_if_there, readable, write_atomically
from salt_ray.survey.amplitudes import GreyRange
from salt_ray.survey.tiles import Survey


class RunRecord(BaseModel):
    """What a run has to know of its making when its models are used elsewhere; None: unknown.

    Attributes:
        version: of salt-ray, which made the run.
        tile_px: edge of the tiles that its models were trained on.
        samples: type of the images' values, as in ``tiles.Survey``.
        amplitudes: the range that became greys from 0 to 255; None too where ``samples`` is 'uint8'.
        full_tiles: what a prediction that fills its tile becomes.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    version: str | None = None
    tile_px: int | None = None
    samples: str | None = None
    amplitudes: GreyRange | None = None
    full_tiles: FullTiles | None = None

    @classmethod
    def of(cls, survey: Survey, full_tiles: FullTiles | None, version: str | None = __version__) -> Self:
        """What a run takes from its survey."""
        amplitudes = None if survey.scaling is None else survey.scaling.used
        return cls(
            version=version,
            tile_px=survey.tile_px,
            samples=survey.samples,
            amplitudes=amplitudes,
            full_tiles=full_tiles,
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

    def save(self, path: StoragePath) -> None:
        """Write ``run.json``, whole or not at all."""
        write_atomically(path, self.model_dump_json(indent=1))
