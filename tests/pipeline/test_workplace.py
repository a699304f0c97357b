"""Memory that is kept for the next tensors."""

from __future__ import annotations

import platform
import resource
from pathlib import Path

import pytest
import torch

from salt_ray.pipeline.workplace import keep_memory

TENSORS, BYTES = 20, 48 << 20  # above the 32 MiB from which glibc always maps blocks apart


def pages_filled() -> int:
    """How many pages the kernel has to fill while tensors are made and freed, one after the other."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(TENSORS):
        torch.empty(BYTES, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library is left as it is")
def test_freed_memory_serves_the_next_tensor_until_it_is_given_back() -> None:
    of_one = BYTES // resource.getpagesize()
    assert pages_filled() > TENSORS * of_one / 2
    keep_memory()
    try:
        # Small blocks have to find their places first.
        assert min(pages_filled() for _ in range(3)) < TENSORS * of_one / 2
        kept = resident()
    finally:
        keep_memory(False)
    assert kept - resident() > BYTES / 2
