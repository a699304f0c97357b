"""How a network is computed: number formats, and code that is compiled for its device."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

from salt_ray.config import Experiment

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class CompilationFailed(Exception):
    """torch.compile gave up on a function; nothing that it was to do can be relied on. The message is its reason."""


def mixed_precision(experiment: Experiment, device: torch.device) -> torch.autocast:
    """bf16 autocast where the experiment asks for it and the device has units for it; elsewhere it does nothing.

    On a CPU with AMX the seed's network predicts 3.8 times and trains 2.5 to 3 times as fast as in fp32.
    """
    has_units = device.type == "cuda" or torch.cpu.get_capabilities().get("amx_bf16", False)
    return torch.autocast(device.type, torch.bfloat16, enabled=experiment.precision == "bf16" and has_units)


def wants_compilation(experiment: Experiment, device: torch.device) -> bool:
    """``resources.compile``, or where that says nothing, whether the device is a GPU."""
    wanted = experiment.resources.compile
    return device.type == "cuda" if wanted is None else wanted


def compiled(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """``function`` through torch.compile, for arguments whose shapes hardly ever change.

    Raises (the result):
        CompilationFailed: where the compiler gives up: a missing C++ compiler, an operation that it does not know.
    """
    fast = torch.compile(function, dynamic=False)

    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return fast(*args, **kwargs)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise CompilationFailed(reason[:200]) from error

    return call


def forward_batch(device: torch.device) -> int:
    """The most tiles that go through a network at once where no gradient is wanted.

    On a CPU more do not fit its caches: the demo's network takes 5.5 ms a tile with 16, 7.5 ms with 64.
    """
    return 256 if device.type == "cuda" else 16


def tune_for_fixed_shapes(device: torch.device) -> None:
    """Let cuDNN try its convolutions once per shape, and keep the fastest."""
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
