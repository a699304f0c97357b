"""Windows: square tiles cut from sections and volumes with the data around them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Window(BaseModel):
    """What all windows of a survey have in common, and what its models have to see again.

    Attributes:
        window_px: edge of the square that a network sees and that is judged.
        context_px: samples and traces around it, on each of its four sides, that a tile's file holds too.
        trace_spacing: between neighbouring traces along the windows' lines, in the unit of the coordinates; None where
            headers do not say.
        sample_interval: between samples, in ms, or in the unit of depth.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    window_px: Annotated[int, Field(gt=0, multiple_of=32)]
    context_px: Annotated[int, Field(ge=0)]
    trace_spacing: Annotated[float, Field(gt=0)] | None
    sample_interval: Annotated[float, Field(gt=0)]
