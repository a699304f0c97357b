"""Encoders: any timm network that gives five feature maps, with its first max-pool removed (method section 3).

Sources: SE-ResNeXt (Hu et al., 2018, Squeeze-and-Excitation Networks; Xie et al., 2017, Aggregated Residual
Transformations); the pool's removal keeps detail that a 101 px tile cannot spare.
N images, H, W pixels; feature maps go from the shallowest (fine) to the deepest (coarse).
"""

from __future__ import annotations

import difflib
import pickle  # nosec B403: only the name of its error is used
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from salt_ray import torchvision_schemas
from salt_ray.errors import REPEATED
from salt_ray.model.weights import packaged_weights
from salt_ray.section import ExperimentError

torchvision_schemas.declare()

import timm  # noqa: E402 (it imports torchvision, which needs the schemas)

MAPS = 5
#: What torch and safetensors raise for a file that is not theirs.
UNREADABLE = (*REPEATED, OSError, EOFError, pickle.UnpicklingError, SafetensorError)
#: It only matters for a BatchNorm without momentum, and files from before torch 0.4.1 lack it.
NOT_NEEDED = "num_batches_tracked"
#: Side of the image of the dry run, px: two pixels at the deepest reduction in use (32), so that the ratios are exact.
DRY_RUN_PX = 64


class Encoder(nn.Module):
    """A feature extractor that knows what it gives.

    Attributes:
        channels: of the five maps, shallowest first.
        reductions: how many pixels of the image one pixel of each map stands for, shallowest first: powers of two.
    """

    def __init__(self, body: nn.Module, name: str, normalise: bool = False) -> None:
        """Measure ``body``, which returns a list of maps, by a dry run that changes neither it nor any RNG.

        Args:
            normalise: shift and scale images as timm's weights of ``name`` expect them.

        Raises:
            ExperimentError: ``body`` does not give five maps at reductions that are powers of two and do not fall.
        """
        super().__init__()
        self.body = body
        shapes = _shapes(body)
        reductions = [DRY_RUN_PX / shape[-1] for shape in shapes]
        usable = (
            len(shapes) == MAPS
            and all(len(shape) == 4 and shape[-2] == shape[-1] for shape in shapes)
            and all(reduction in (1, 2, 4, 8, 16, 32, 64) for reduction in reductions)
            and reductions == sorted(reductions)
        )
        if not usable:
            raise ExperimentError(
                f"network.encoder = {name!r} turns {DRY_RUN_PX} x {DRY_RUN_PX} px into maps of shape {shapes}; "
                f"expected are {MAPS} maps (1, channels, h, w), each as fine as the next or finer by a power of two"
            )
        self.channels = tuple(shape[1] for shape in shapes)
        self.reductions = tuple(int(reduction) for reduction in reductions)
        self.normalise = normalise
        if normalise:
            for part, values in zip(("mean", "std"), _statistics(name), strict=True):
                self.register_buffer(part, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Float images (N, 3, H, W) in 0..1 to five maps (N, channels[i], H / reductions[i], W / reductions[i])."""
        return self.body((images - self.mean) / self.std if self.normalise else images)


def build_encoder(name: str, pretrained: bool | Path, normalise: bool = False, drop_path: float = 0.0) -> Encoder:
    """The timm encoder ``name`` ("seresnext50_32x4d", or with the tag of its weights, "resnet18.a1_in1k").

    Args:
        pretrained: False: random weights from torch's global RNG; True: those of an installed package
            (``weights.packaged_weights``), or else timm's, downloaded at first use; a path: the state dict of
            ``timm.create_model(name)``, as safetensors or as a torch file that loads weights-only.
        normalise: shift and scale images as timm's weights expect them.
        drop_path: the largest probability with which training skips a residual block.

    Raises:
        ExperimentError: unknown encoder, encoder without five usable maps or without residual blocks to skip, or
            weights that are not to be had.
    """
    _check_name(name)
    packaged = packaged_weights(name) if pretrained is True else None
    try:
        from_timm = pretrained is True and packaged is None
        body = timm.create_model(name, pretrained=from_timm, features_only=True, drop_path_rate=drop_path or None)
    except (OSError, *REPEATED) as error:
        if pretrained is True and isinstance(error, OSError | RuntimeError):
            raise ExperimentError(
                f"network.pretrained = true: the weights of {name!r} are not available from timm ({error}); set "
                "network.pretrained to false, or to a local file of the encoder's weights"
            ) from error
        if drop_path and "drop_path_rate" in str(error):
            raise _without_blocks(name, drop_path) from error
        raise _unsuited(name, error) from error
    if packaged is not None:
        _fill(body, name, _in_timms_names(name, torch.load(packaged, weights_only=True)), packaged)
    elif not isinstance(pretrained, bool):
        _fill(body, name, _read(name, Path(pretrained)), Path(pretrained))
    if drop_path and not any(isinstance(part, timm.layers.DropPath) for part in body.modules()):
        raise _without_blocks(name, drop_path)
    _remove_max_pool(body)
    try:
        return Encoder(body, name, normalise)
    except REPEATED as error:
        raise _unsuited(name, error) from error


def _check_name(name: str) -> None:
    architecture, dot, _tag = name.partition(".")
    if timm.is_model(architecture) and (not dot or name in timm.list_pretrained()):
        return
    known = timm.list_pretrained(f"{architecture}.*") if timm.is_model(architecture) else timm.list_models()
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else "; timm.list_models() names the encoders"
    raise ExperimentError(f"network.encoder = {name!r}: timm {timm.__version__} has no such network{hint}")


def _unsuited(name: str, error: Exception) -> ExperimentError:
    return ExperimentError(
        f"network.encoder = {name!r} gives no feature maps ({error}); choose a convolutional network with {MAPS} stages"
    )


def _without_blocks(name: str, drop_path: float) -> ExperimentError:
    return ExperimentError(
        f"network.drop_path = {drop_path}: {name!r} has no residual blocks to skip; set it to 0 or choose another "
        "encoder"
    )


def _remove_max_pool(body: nn.Module) -> None:
    """Replace the max-pool of stride 2 if there is exactly one; networks built of max-pools (VGG) keep theirs."""
    pools = [
        where for where, part in body.named_modules() if isinstance(part, nn.MaxPool2d) and part.stride in (2, (2, 2))
    ]
    if len(pools) == 1:
        body.set_submodule(pools[0], nn.Identity())


@torch.no_grad()
def _shapes(body: nn.Module) -> list[tuple[int, ...]]:
    """The shapes of the maps of one blank image, on the device of the weights (the meta device included)."""
    image = torch.zeros(1, 3, DRY_RUN_PX, DRY_RUN_PX, device=next(body.parameters()).device)
    training = body.training
    shapes = [tuple(feature.shape) for feature in body.eval()(image)]
    body.train(training)
    return shapes


def _statistics(name: str) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation, of each channel, of the images that timm's weights were trained with."""
    known = timm.get_pretrained_cfg(name)
    if known is None:
        raise ExperimentError(f"network.normalise = true: timm has no input statistics for {name!r}")
    return known.mean, known.std


def _in_timms_names(name: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a package, which are in the order of timm's network, by timm's names."""
    with torch.device("meta"):
        own = timm.create_model(name).state_dict()
    names = [key for key in own if not key.endswith(NOT_NEEDED)]
    return dict(zip(names, (value for key, value in weights.items() if not key.endswith(NOT_NEEDED)), strict=True))


def _read(name: str, path: Path) -> dict[str, Tensor]:
    """A file of weights.

    timm's own way (``pretrained_cfg_overlay``) is not taken: with features_only it loads non-strictly, so the file of
    another network would leave random weights without a word, and older versions unpickle whatever the file holds.
    """
    if not path.is_file():
        raise ExperimentError(f"network.pretrained = {path}: there is no such file; name the weights of {name!r}")
    try:
        return timm.models.load_state_dict(str(path), weights_only=True)
    except UNREADABLE as error:
        raise ExperimentError(
            f"network.pretrained = {path} is neither safetensors nor a weights-only torch file "
            f"({' '.join(str(error).split())[:200]})"
        ) from error


def _fill(body: nn.Module, name: str, weights: dict[str, Tensor], path: Path) -> None:
    """Copy every tensor of ``body`` from ``weights``, which come from ``path``."""
    held = {_plain(key): value for key, value in weights.items() if isinstance(value, Tensor)}
    own = body.state_dict()
    candidates = {key: held[_plain(key)] for key in own if _plain(key) in held}
    fitting = {key: value for key, value in candidates.items() if value.shape == own[key].shape}
    absent = [key for key in own if key not in fitting and not key.endswith(NOT_NEEDED)]
    if absent:
        raise ExperimentError(
            f"network.pretrained = {path} does not hold the weights of {name!r}: {len(absent)} of {len(own)} tensors "
            f"are missing or of another shape, first {absent[0]}; save timm.create_model({name!r}).state_dict()"
        )
    body.load_state_dict(own | fitting)


def _plain(key: str) -> str:
    """A key without what features_only changes: a wrapper's prefix, flattened containers (stem.conv, stem_conv)."""
    return key.removeprefix("body.").removeprefix("model.").replace(".", "_")
