"""The network of an experiment (method section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import (
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    field_validator,
)

from salt_ray.section import Section

Widths = tuple[StrictInt, StrictInt, StrictInt, StrictInt, StrictInt]


class UNetDecoder(Section):
    """Five U-Net blocks, of whose maps each gives the mask head a part (method section 3)."""

    #: Channels of the five maps, deepest first; None: those of the skips, then 128 and 128.
    widths: Widths | None = None
    #: Channels that each map contributes to the mask head, deepest first.
    pyramid_widths: Widths = (128, 64, 32, 16, 8)
    dropout: Annotated[StrictFloat, Field(ge=0, lt=1)] = 0.2

    @field_validator("widths", "pyramid_widths")
    @classmethod
    def _positive(cls, widths: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if widths is not None and min(widths) < 1:
            raise ValueError("every width must be at least 1")
        return widths


class Fpn(UNetDecoder):
    """An FPN block reads each map, as in the Argus baseline: two thirds of the network's FLOPs."""

    kind: Literal["fpn"] = "fpn"


class Scse(UNetDecoder):
    """scSE gates and a hypercolumn in place of the FPN blocks, at a fraction of their FLOPs."""

    kind: Literal["scse"] = "scse"


class Network(Section):
    """U-Net with empty head on any timm encoder (method section 3)."""

    encoder: str = "seresnext50_32x4d"
    #: True: ImageNet weights, from an installed package that has them (``model.packaged``) or else from timm; False:
    #: random ones; a path: a local file of the encoder's weights.
    pretrained: StrictBool | Path = True
    #: Give the encoder greys with the mean and the spread that its ImageNet weights were trained with.
    normalise: StrictBool = False
    #: Enlarge tiles by this factor (bilinear) for the network and bring its masks back to their size; time and memory
    #: grow with its square.
    input_scale: Annotated[StrictFloat, Field(ge=1, le=4)] = 1.0
    #: Probability with which training skips a residual block of the encoder, rising to it from the first to the last
    #: (stochastic depth: Huang et al., 2016); 0: none.
    drop_path: Annotated[StrictFloat, Field(ge=0, lt=1)] = 0.0
    decoder: Annotated[Fpn | Scse, Field(discriminator="kind")] = Fpn()
    mask_head_width: Annotated[StrictInt, Field(gt=0)] = 32
    #: Mask heads on the parts of the four deeper decoder maps, for ``Stage.auxiliary_weight``; prediction skips them.
    auxiliary_heads: StrictBool = False

    renamed: ClassVar[Mapping[str, str]] = {
        "decoder": "decoder.kind",
        "decoder_widths": "decoder.widths",
        "fpn_widths": "decoder.pyramid_widths",
        "dropout": "decoder.dropout",
    }
