"""How a network is computed: number formats, and code that is compiled for its device."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from salt_ray.config import Experiment
from salt_ray.model.network import Logits, SaltNet

#: Tiles to train on from which a CPU compiles: more than a training of minutes has. A small network then takes 13 ms a
#: tile instead of 19 (two threads), and compiling it 67 s.
WORTH_COMPILING = 100_000

#: What an error says that comes of a CUDA graph.
GRAPH_SIGNS = ("CUDAGraph", "cudagraph", "stream is capturing", "graph capture")

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class CompilationFailed(Exception):
    """torch.compile gave up on a function; nothing that it was to do can be relied on. The message is its reason."""


def mixed_precision(experiment: Experiment, device: torch.device) -> torch.autocast:
    """bf16 autocast where the experiment asks for it and the device has units for it; elsewhere it does nothing.

    On a CPU with AMX the Argus baseline's network predicts 3.8 times and trains 2.5 to 3 times as fast as in fp32.
    """
    return torch.autocast(
        device.type, torch.bfloat16, enabled=experiment.precision == "bf16" and has_bf16_units(device)
    )


def has_bf16_units(device: torch.device) -> bool:
    """Whether a device computes bf16 faster than fp32."""
    return device.type == "cuda" or bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def wants_compilation(experiment: Experiment, device: torch.device, trained_tiles: int = 0) -> bool:
    """``resources.compile``, or where that says nothing, whether compiling is worth its time.

    Args:
        trained_tiles: how many will be trained on, every epoch's counted; 0 for prediction.
    """
    wanted = experiment.resources.compile
    return (device.type == "cuda" or trained_tiles > WORTH_COMPILING) if wanted is None else wanted


def forward(network: SaltNet, images: Tensor, amp: torch.autocast) -> Logits:
    """What a network says of (B, 1, C, C) images, in mixed precision."""
    with amp:
        return network(images)


def compiled(function: Callable[Arguments, Result], graphs: bool = False) -> Callable[Arguments, Result]:
    """``function`` through torch.compile, for arguments of always the same shapes; see ``compilation_watched``.

    Args:
        graphs: replay it as CUDA graphs. Eagerly a host needed 67 ms for the 2,079 launches of a training step of the
            Argus baseline's network, for which an H100 worked 34. The next call overwrites a result.
    """
    return torch.compile(function, dynamic=False, mode="reduce-overhead" if graphs else None)


@contextlib.contextmanager
def compilation_watched() -> Iterator[None]:
    """Make ``CompilationFailed`` of what the compiler or a CUDA graph raises, forward and backward."""
    try:
        yield
    except RuntimeError as error:
        from_compiler = isinstance(error, torch._dynamo.exc.TorchDynamoException)
        if not from_compiler and not any(sign in str(error) for sign in GRAPH_SIGNS):
            raise
        lines = (line.strip() for line in str(error).splitlines())
        telling = (line for line in lines if line and not line.endswith("raised:"))  # after "backend='…' raised:"
        reason = next(telling, type(error).__name__)
        raise CompilationFailed(reason[:200]) from error


def forward_batch(device: torch.device) -> int:
    """The most tiles that go through a network at once where no gradient is wanted.

    On a CPU more do not fit its caches: a small network takes 5.5 ms a tile with 16, 7.5 ms with 64.
    """
    return 256 if device.type == "cuda" else 16


def tune_for_fixed_shapes(device: torch.device) -> None:
    """Let cuDNN try its convolutions once per shape, and keep the fastest."""
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
