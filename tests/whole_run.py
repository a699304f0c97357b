"""A whole run made by the library without Ray: trained, predicted, post-processed, submitted and scored.

Beside it a search of one complete trial. Every file is what the commands leave; only the driver is another one.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from salt_ray.artifacts import RunDirectory
from salt_ray.cluster.pipeline import Pipeline
from salt_ray.config import Experiment, FloatRange, Tune
from salt_ray.inference.ensemble import ModelPrediction
from salt_ray.inference.predict import Model
from salt_ray.inference.stored import StoredPrediction, write_chunk
from salt_ray.mosaic.corrections import correct, gather, save_changes
from salt_ray.mosaic.draw import draw_mosaic, write_png
from salt_ray.mosaic.evidence import report
from salt_ray.mosaic.predicted import MosaicTiles, PredictedMosaic
from salt_ray.mosaic.rules import RULES
from salt_ray.report.sheets import picture_path, write_sheets
from salt_ray.report.terminal import Terminal
from salt_ray.storage import write_atomically
from salt_ray.training.loop import train_fold
from salt_ray.tuning.study import Study
from salt_ray.tuning.trial import Step, fold_ends

CPU = torch.device("cpu")


def shortened(tiny: Experiment) -> Experiment:
    """The tiny experiment with an epoch a stage, all rules applied, and a learning rate to search."""
    (training,) = tiny.trainings
    stages = tuple(stage.replace(epochs=1, early_stopping=None) for stage in training.stages)
    rate = FloatRange(name="lr", fields=("trainings.all.stages.plateau.lr",), low=0.001, high=0.1, log=True)
    return tiny.replace(
        trainings=(training.replace(stages=stages),),
        postprocessing=tiny.postprocessing.replace(rules="seed"),
        tune=Tune(parameters=(rate,), trials=1, pruner="none"),
    )


def make_run(experiment: Experiment, data: Path, path: Path) -> None:
    """``pipeline``, stage by stage, up to the report."""
    run = RunDirectory(path)
    with Pipeline(experiment, data, run, Terminal()) as road:
        road.prepare()
        for task in road.tasks:
            train_fold(task, road.prepared.training_tiles(), run, CPU)
        _predict(road)
        _postprocess(road)
        road.submit()
        road.score()


def make_search(experiment: Experiment, data: Path, path: Path) -> None:
    """``tune``: one trial, which is given a score instead of training."""
    run = RunDirectory(path)
    with Pipeline(experiment, data, run, Terminal()) as road:
        road.prepare()
        study = Study(experiment, run, road.study_folder)
        trial = study.ask()
        study.begin(trial)
        study.record(trial.number, Step(fold_ends(experiment)[-1], 0.7, True, None))
        study.complete(trial.number)


def _predict(road: Pipeline) -> None:
    padded = road.prepared.images
    for task in road._prediction_tasks:
        stored = StoredPrediction.open(task.folder, task.tiles)
        model = Model(road.experiment, task.checkpoint, road.prepared.frame, CPU)
        for tiles, chunk, _ in stored.chunks():
            write_chunk(chunk, model.predict(padded[tiles]))
        stored.finish_if_whole()


def _postprocess(road: Pipeline) -> None:
    folder, prepared = road._postprocessing_folder, road.prepared
    folder.open()
    models = [ModelPrediction.load(task.folder.path) for task in road._prediction_tasks]
    corrected = []
    for number, members in enumerate(road.mosaics.members()):
        tiles = MosaicTiles.gather(number, members, road.mosaics, prepared)
        mosaic = correct(PredictedMosaic.gather(tiles, models), tuple(RULES), road.decision)
        picture = draw_mosaic(tiles.rows, tiles.cols, tiles.images, tiles.labelled, mosaic.before, mosaic.after)
        write_png(picture_path(folder.path, number), picture)
        corrected.append(mosaic)
    gather(corrected, prepared.frame.tile_px).save(folder.path)
    save_changes(folder.path / "changes.csv", corrected, prepared.survey.ids)
    rules = report({}, None, tuple(RULES), road.experiment.postprocessing)
    write_atomically(folder.path / "rules.json", json.dumps(rules, indent=1))
    write_sheets(folder.path, corrected, prepared.survey.ids)
    folder.finish(failed={})
