"""Sections of an experiment about tiles: what labels and amplitudes mean, geometry, augmentation, hold-out, mosaics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    PlainSerializer,
    PlainValidator,
    StrictFloat,
    StrictInt,
    model_validator,
)

from salt_ray.section import Fraction, Section, Stored, stored

#: A prediction that fills its tile: wrong where the inside of salt is labelled empty, as in TGS; right elsewhere.
FullTiles = Literal["empty", "salt"]


@dataclass(frozen=True)
class HoldoutShare:
    """A hold-out of whole mosaics or sections, as text ``mosaic:0.1``: lone tiles are mosaics of one."""

    kind: str
    #: Of the labelled tiles, those of one colour aside.
    share: float

    def __str__(self) -> str:
        return f"{self.kind}:{self.share}"


def _holdout(value: Any) -> Stored | HoldoutShare:
    kind, colon, share = str(value).partition(":")
    if kind not in ("mosaic", "section") or not colon:
        return stored(value)
    try:
        number = float(share)
    except ValueError:
        number = 0.0
    if not 0 < number < 1:
        raise ValueError(f"{kind}: needs a share above 0 and below 1, as in {kind}:0.1")
    return HoldoutShare(kind, number)


Holdout = Annotated[Stored | HoldoutShare, PlainValidator(_holdout), PlainSerializer(str)]


class Labels(Section):
    """What the survey's masks mean. Without ``salt`` they hold 0 and one other value, which is salt."""

    #: The value that means salt; every other one but ``ignore`` is background.
    salt: StrictInt | None = None
    #: The value of unlabelled pixels: they are ignored, in training and in every score. Tiles that have no
    #: other pixels are left out.
    ignore: StrictInt | None = None
    #: What a prediction that is salt all over becomes; None: derived from the trainable labels, or asked for.
    full_tiles: FullTiles | None = None

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if self.salt is not None and self.salt == self.ignore:
            raise ValueError(f"salt and ignore are both {self.salt}: one value cannot mean both")
        return self


class Amplitudes(Section):
    """What the survey's amplitudes mean."""

    #: The value of pixels that hold no data (-9999, -999.25): they are left out of the range of greys, and become the
    #: middle grey. None: what a GeoTIFF says.
    nodata: StrictFloat | None = None


class Geometry(Section):
    """Sizes in pixels. ``None``: derived from the tile (101 -> padded 148, crop 128; see ``survey.padding``)."""

    padded_px: Annotated[StrictInt, Field(gt=0)] | None = None
    crop_px: Annotated[StrictInt, Field(gt=0, multiple_of=32)] | None = None


class Augmentation(Section):
    """Training samples: random scaling and rotation, crop, left-right flip, linear brightness and contrast (method
    section 2).
    """

    #: Along each axis, the tile is scaled by up to this share more or less, about its centre.
    scale_limit: Annotated[StrictFloat, Field(ge=0, lt=1)] = 0.0
    #: The tile is rotated about its centre by up to so many degrees either way.
    rotate_limit: Annotated[StrictFloat, Field(ge=0, le=180)] = 0.0
    #: Of scaling and rotation together.
    affine_probability: Fraction = 0.5

    flip_probability: Fraction = 0.5
    brightness_limit: Annotated[StrictFloat, Field(ge=0, le=1)] = 0.2
    contrast_limit: Annotated[StrictFloat, Field(ge=0, le=1)] = 0.2
    brightness_contrast_probability: Fraction = 0.5

    @property
    def scales_or_rotates(self) -> bool:
        return self.affine_probability > 0 and (self.scale_limit > 0 or self.rotate_limit > 0)


class Mosaics(Section):
    """Which edges of tiles are taken for neighbours (method section 6)."""

    #: Smallest correlation of two touching edges; 0.505 is the Argus baseline's distance of 10 at 101 px.
    min_correlation: Fraction = 0.505
    #: Smallest compatibility 1 - d1 / d2, both ways, of a pair that nothing else supports. Such pairs only make mosaics
    #: of two, which no rule touches. At 0.10 the TGS tiles give 1,230 more than at the baseline's 0.15; by their
    #: confidence 160 of these are true.
    compatibility: Fraction = 0.10
    #: The same for a pair in a closed 2 x 2 loop.
    loop_compatibility: Fraction = 0.05
