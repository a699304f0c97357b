"""Places of traces are found within little memory: a volume may have a hundred million of them."""

from __future__ import annotations

import tracemalloc

import numpy as np

from salt_ray.volume.geometry import find_geometry
from salt_ray.volume.reading import Reading


def test_a_grid_takes_few_bytes_for_each_trace() -> None:
    rows, columns = (axis.ravel().astype(np.int32) for axis in np.indices((400, 500)))
    nothing = np.broadcast_to(np.int32(0), rows.shape)
    headers = {"29": nothing, "189": rows, "193": columns}
    tracemalloc.start()
    geometry = find_geometry(headers, Reading(), lambda numbers: numbers < 0)
    assert geometry.order == "inline" and geometry.reversed == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(geometry.traces, np.arange(len(rows)).reshape(400, 500))
    assert peak < 50 * len(rows)
