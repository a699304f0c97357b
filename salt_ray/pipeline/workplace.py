"""Where this process computes: on its GPU where it has one, and on how many threads."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from salt_ray.config import Experiment
from salt_ray.errors import RunError

if TYPE_CHECKING:
    import torch


def own_device() -> torch.device:
    """The GPU of this process, else its CPU."""
    import torch  # seconds that who computes no network does not wait for

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextlib.contextmanager
def workplace(experiment: Experiment, folds: int | None = None) -> Iterator[torch.device]:
    """What to compute on, with as many threads as a worker of a Ray on this machine has: others may round otherwise.

    Args:
        folds: how many share the cores, as for ``Resources.of_each``.

    Raises:
        RunError: this machine has not what the experiment asks for.
    """
    import torch

    has_gpu, cores, before = own_device().type == "cuda", os.cpu_count() or 1, torch.get_num_threads()
    wanted = experiment.resources.of_each(has_gpu, cores, folds)
    if wanted["CPU"] > cores or ("GPU" in wanted and not has_gpu):
        raise RunError(
            f"this machine has not the {wanted} that a fold asks for ({cores} cores, {'a' if has_gpu else 'no'} GPU): "
            "lower resources.cpus_per_fold or resources.gpus_per_fold with --set"
        )
    torch.set_num_threads(int(wanted["CPU"]))
    try:
        yield own_device() if "GPU" in wanted else torch.device("cpu")
    finally:
        torch.set_num_threads(before)
