"""Predictions from Python, one tile at a time: a loaded run, against the bare forward passes of all its models.

The peer pads the tile and lets every model see it and its mirror image; checks, spread and the decision are ours alone.
Both compute with the same models and threads.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import alternate, row, survey
from experiments.from_scratch import experiment as small_experiment
from salt_ray.decision import Decision
from salt_ray.inference.predict import Model
from salt_ray.inference.predictor import Predictor
from salt_ray.model.network import build_network
from salt_ray.survey.padding import frame_for, operator
from salt_ray.training.checkpoint import CheckpointFolder

MODELS, TILES, RUNS = 5, 10, 5


def measure_on(device: torch.device) -> list[dict]:
    """One row: ten predictions of one tile each."""
    experiment, images = small_experiment(), survey(TILES)[0]
    frame = frame_for(images.shape[-1], experiment.geometry)
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = []
        for seed in range(MODELS):
            torch.manual_seed(seed)
            network = build_network(experiment.network.replace(pretrained=False))
            saved = CheckpointFolder(Path(folder) / str(seed))
            saved.save(1, {"network": network.state_dict()}, best=True)
            checkpoints.append((saved.best_path,))
        decision = Decision.of(experiment.prediction)
        predictor = Predictor(experiment, checkpoints, decision, frame.tile_px, None, device)
        models = [Model(experiment, each, frame, device) for each in checkpoints]
        padding = operator(frame)

        def ours() -> np.ndarray:
            return np.stack([predictor.predict(tile).probabilities for tile in images])

        def forward_passes() -> np.ndarray:
            masks = []
            for tile in images:
                padded = padding.images(tile[None])
                masks.append(np.mean([model.predict(padded).masks.astype(np.float32) for model in models], axis=0)[0])
            return np.stack(masks)

        equal = np.allclose(ours(), forward_passes(), atol=1e-6)
        seconds, peer = alternate(ours, forward_passes, RUNS)
    name = f"predictor: {TILES} times one tile, {MODELS} models"
    return [row(name, seconds, peer, "s", equal)]
