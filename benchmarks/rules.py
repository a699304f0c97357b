"""Post-processing of all mosaics as Ray tasks, against the same work in one process and in plain processes.

Both sides gather predictions, decide, apply all seven rules and draw every mosaic. The peer's time is divided by the
number of cores: a ratio of 1 is perfect scaling. What cores share (caches, memory) keeps plain processes below it too,
so that they are the second row.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from benchmarks.harness import row
from experiments.from_scratch import experiment as small_experiment
from salt_ray.artifacts import Folder, RunDirectory
from salt_ray.cluster.engine import RayEngine
from salt_ray.config import Experiment
from salt_ray.config import Postprocessing as Settings
from salt_ray.decision import Decision, FoldDecisions
from salt_ray.inference.ensemble import ModelPrediction
from salt_ray.inference.probabilities import Probabilities
from salt_ray.inference.scores import read_test_truth
from salt_ray.inference.stored import StoredPrediction, write_chunk
from salt_ray.mosaic.table import MosaicTable, load_mosaics
from salt_ray.pipeline.postprocessing import Postprocessing
from salt_ray.postprocessing.corrections import CorrectedMosaic, Corrections, correct
from salt_ray.postprocessing.draw import draw_mosaic, encode_png
from salt_ray.postprocessing.predicted import MosaicTiles, PredictedMosaic
from salt_ray.postprocessing.rules import RULES
from salt_ray.report.sheets import write_sheets
from salt_ray.storage import write_atomically
from salt_ray.survey.prepared import PreparedSurvey, prepare_survey
from salt_ray.survey.synthetic import write_survey
from salt_ray.survey.tiles import load_survey

TILES, MODELS, RUNS = 3000, 11, 3


def measure() -> Iterator[dict]:
    """One row against one process, one against as many plain processes as there are cores."""
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _write(root)
        work = _load(root)
        ray_seconds, one_seconds, plain_seconds, equal = [], [], [], True
        with RayEngine("local", lambda dashboard: None) as engine:
            _under_ray(engine, work, root / "warm-up")
            for run in range(RUNS):
                seconds, under_ray = _under_ray(engine, work, root / f"ray-{run}")
                ray_seconds.append(seconds)
                seconds, alone = _in_processes(1, work, root, root / f"one-{run}")
                one_seconds.append(seconds / cores)
                seconds, plain = _in_processes(cores, work, root, root / f"plain-{run}")
                plain_seconds.append(seconds)
                equal &= all(_same(under_ray, other) for other in (alone, plain))
        yield row(f"rules: Ray on {cores} cores against one process / {cores}", ray_seconds, one_seconds, "s", equal)
        yield row(f"rules: Ray against {cores} plain processes", ray_seconds, plain_seconds, "s", equal)


Work = tuple[Experiment, PreparedSurvey, MosaicTable, list[ModelPrediction]]


def _under_ray(engine: RayEngine, work: Work, folder: Path) -> tuple[float, Corrections]:
    experiment, prepared, table, models = work
    missing = np.zeros(len(prepared.survey.ids), np.int64)
    started = time.perf_counter()
    to, decisions = Folder(folder, {}), FoldDecisions(_decision(experiment))
    Postprocessing(
        experiment, prepared, table, models, missing, decisions, to, RunDirectory(folder.parent), engine
    ).finish()
    return time.perf_counter() - started, Corrections.load(folder)


def _in_processes(count: int, work: Work, root: Path, folder: Path) -> tuple[float, Corrections]:
    """Seconds from the moment at which every process is ready."""
    folder.mkdir()
    tile_px = work[1].frame.tile_px
    with multiprocessing.get_context("spawn").Pool(count) as pool:
        pool.map(_ready, range(count), chunksize=1)
        started = time.perf_counter()
        parts = pool.starmap(_correct_and_draw, [(root, folder, first, count) for first in range(count)], chunksize=1)
        mosaics = sorted((mosaic for part in parts for mosaic in part), key=lambda mosaic: mosaic.tiles.number)
        write_sheets(folder, mosaics, work[1].survey.ids)
        corrections = Corrections.join((mosaic.corrections for mosaic in mosaics), tile_px)
        corrections.save(folder)
        seconds = time.perf_counter() - started
    return seconds, corrections


def _ready(number: int) -> int:
    return number


def _load(root: Path) -> Work:
    """Everything mapped from the disk."""
    experiment = small_experiment().replace(postprocessing=Settings(rules="argus"))
    survey = load_survey(root / "survey", cache=root / "cache")
    prepared = prepare_survey(survey, experiment, cache=root / "cache")
    models = [ModelPrediction.load(root / f"model-{k}") for k in range(MODELS)]
    return experiment, prepared, load_mosaics(root / "mosaics.csv"), models


def _correct_and_draw(root: Path, folder: Path, first: int, step: int) -> list[CorrectedMosaic]:
    """Every ``step``-th mosaic."""
    experiment, prepared, table, models = _load(root)
    found = []
    for number in range(first, table.count, step):
        tiles = MosaicTiles.gather(number, table, prepared)
        corrected = correct(PredictedMosaic.gather(tiles, models), tuple(RULES), _decision(experiment))
        picture = draw_mosaic(tiles, corrected.before, corrected.after)
        write_atomically(folder / "pictures" / f"mosaic-{number:04d}.png", encode_png(picture))
        found.append(corrected)
    return found


def _decision(experiment: Experiment) -> Decision:
    return Decision.of(experiment.prediction, "empty")


def _same(first: Corrections, second: Corrections) -> bool:
    return np.array_equal(first.tiles, second.tiles) and np.array_equal(first.masks, second.masks)


def _true_places(directory: Path, ids: np.ndarray) -> MosaicTable:
    """The sections as mosaics, the largest first."""
    places = pd.read_csv(directory / "truth" / "places.csv", dtype={"id": str})
    places = places[places["id"].isin(ids)]
    size = places.groupby("section")["id"].transform("size")
    places = places.assign(size=-size).sort_values(["size", "section", "row", "col"])
    mosaics = pd.factorize(places["section"])[0].astype(np.int64)
    columns = (places[name].to_numpy() for name in ("row", "col"))
    return MosaicTable(places["id"].to_numpy(str), mosaics, *columns, np.ones(len(places)))


def _write(root: Path) -> None:
    """A survey, its true places, and models that see the truth through a blur; each labelled tile has one judge."""
    write_survey(root / "survey", TILES)
    survey = load_survey(root / "survey", cache=root / "cache")
    _true_places(root / "survey", survey.ids[~survey.constant]).save(root / "mosaics.csv")
    test_truth = read_test_truth(root / "survey", survey.ids[survey.labelled :])
    truth = np.concatenate([survey.masks, test_truth]).astype(np.float32)
    for k in range(MODELS):
        tiles = np.array([t for t in range(len(truth)) if t >= survey.labelled or t % MODELS == k])
        masks = ndimage.gaussian_filter(truth[tiles], (0, 4 + k, 4 + k))
        _store(root / f"model-{k}", tiles, Probabilities(masks.astype(np.float16), masks.max(axis=(1, 2))))


def _store(directory: Path, tiles: np.ndarray, probabilities: Probabilities) -> None:
    """Write all that a model predicts, for (n,) positions in the order of prediction."""
    written = 0
    for part, path, _ in StoredPrediction.open(Folder(directory, {}), tiles).chunks():
        rows = slice(written, written + len(part))
        write_chunk(path, Probabilities(probabilities.masks[rows], probabilities.salt[rows]))
        written += len(part)
