"""A run of networks that nobody trained, as it is in its directory: enough to predict with."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from salt_ray.artifacts import Folder, RunDirectory
from salt_ray.config import Experiment
from salt_ray.model.network import SaltNet, build_network
from salt_ray.record import RunRecord
from salt_ray.survey.amplitudes import GreyRange
from salt_ray.survey.window import Window
from salt_ray.training.checkpoint import CheckpointFolder
from salt_ray.training.task import decisive

WINDOW = 32
PIXELS = Window(window_px=WINDOW, context_px=10, trace_spacing=12.5, sample_interval=4.0)
RECORD = RunRecord(
    version="1", tile_px=WINDOW + 20, samples="float32", amplitudes=GreyRange(-232.6, 232.6), full_tiles="salt",
    window=PIXELS,
)  # fmt: skip


def write_run(path: Path, experiment: Experiment, record: RunRecord = RECORD, constant: float | None = None) -> Path:
    """Write a run whose folds have random networks, each its own.

    Args:
        path: where.
        experiment: its trainings' stages are all taken as finished.
        record: what the run took from its survey.
        constant: the probability that every network says everywhere; None: whatever comes out.
    """
    run = RunDirectory(path)
    path.mkdir(parents=True, exist_ok=True)
    run.experiment.write_text(experiment.model_dump_json())
    record.save(run.record)
    for training, fold in experiment.all_folds:
        torch.manual_seed(100 + fold)
        state = _network(experiment, constant).state_dict()
        for stage in training.stages:
            folder = Folder(
                run.stage(training.name, fold, stage.name),
                {"experiment": decisive(experiment), "survey": "made", "fold": fold},
            )
            folder.open()
            CheckpointFolder(folder.path).save(1, {"network": state}, best=True)
            folder.finish(epochs=1, best_epoch=1, best_score=0.5)
    return path


def _network(experiment: Experiment, constant: float | None) -> SaltNet:
    network = build_network(experiment.network)
    last = network.mask_head[-1]
    with torch.no_grad():
        if constant is None:  # probabilities on both sides of one half
            logits = network.eval()(torch.rand(4, 1, WINDOW, WINDOW)).mask_logits
            last.weight.mul_(2 / logits.std())
            last.bias.sub_(logits.mean()).mul_(2 / logits.std())
        else:
            last.weight.zero_()
            last.bias.fill_(torch.logit(torch.tensor(constant)))
    return network


def summary(path: Path) -> dict:
    return json.loads((path / "summary.json").read_text())
