"""What is said of a made file: where it cannot be used, and where it can."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_segy import CROSSLINES, INLINES

from salt_ray.volume.problem import VolumeError
from salt_ray.volume.reading import Reading
from salt_ray.volume.scan import open_volume
from salt_ray.volume.volume import Volume

TRACES = INLINES * CROSSLINES
GRID = np.arange(TRACES).reshape(INLINES, CROSSLINES)


def refused(path: Path, **reading: object) -> str:
    """What is said of a file that cannot be used."""
    with pytest.raises(VolumeError) as error:
        open_volume(path, Reading(**reading))
    return str(error.value)


def said(volume: Volume) -> str:
    return "\n".join(volume.odd)
