"""Prediction with flip averaging: batched, against one tile and one view at a time, as the Argus baseline did.

On a CPU a small network (experiments/from_scratch.py), and the Argus network on fewer tiles; on CUDA the Argus
network. Both sides have the same threads, the same padded tiles and averaging; only the order of the work differs.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import alternate, per_tile, row, survey
from experiments.argus import experiment as argus_experiment
from experiments.from_scratch import experiment as small_experiment
from salt_ray.config import Experiment, Geometry
from salt_ray.inference.predict import Model
from salt_ray.model.network import build_network
from salt_ray.survey.padding import centre, centre_crop, frame_for, operator
from salt_ray.training.checkpoint import CheckpointFolder


def measure_on(device: torch.device) -> list[dict]:
    """One row per network."""
    if device.type == "cuda":
        return [_row("predict, Argus network", argus_experiment(), 2048, 5, device, peer_tiles=64)]
    return [
        _row("predict, small network", small_experiment(), 512, 5, device),
        _row("predict, Argus network", argus_experiment(), 16, 3, device),
    ]


def _row(
    name: str, experiment: Experiment, tiles: int, runs: int, device: torch.device, peer_tiles: int | None = None
) -> dict:
    frame = frame_for(101, Geometry())
    padded = operator(frame).images(survey(tiles)[0])
    experiment = experiment.replace(network=experiment.network.replace(pretrained=False))
    torch.manual_seed(0)
    network = build_network(experiment.network)
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = CheckpointFolder(Path(folder))
        checkpoints.save(1, {"network": network.state_dict()}, best=True)
        model = Model(experiment, [checkpoints.best_path], frame, device)
    network.to(device).eval()

    @torch.inference_mode()
    def one_at_a_time() -> np.ndarray:
        masks = []
        for tile in padded[:peer_tiles]:
            crop = torch.from_numpy(centre_crop(tile, frame) / np.float32(255)).to(device)[None, None]
            plain = network(crop).mask_logits.sigmoid()
            flipped = network(crop.flip(-1)).mask_logits.sigmoid().flip(-1)
            masks.append(centre((plain + flipped) / 2, frame).cpu().numpy())
        return np.concatenate(masks)

    tolerance = 5e-3 if experiment.precision == "fp32" else 5e-2  # float16 on the way out; bf16 inside
    peer_tiles = peer_tiles or tiles
    equal = np.allclose(model.predict(padded).masks[:peer_tiles], one_at_a_time(), atol=tolerance)
    ours, peer = alternate(lambda: model.predict(padded), one_at_a_time, runs)
    return row(name, per_tile(ours, tiles), per_tile(peer, peer_tiles), "ms/tile", equal)
