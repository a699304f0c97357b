"""A finished run made without training: its predictions are the truth with faults, all else is as a run leaves it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment
from salt_ray.decision import ARGUS, Decision, FoldDecisions
from salt_ray.inference.ensemble import ModelPrediction
from salt_ray.inference.probabilities import Probabilities
from salt_ray.inference.scores import read_test_truth, run_scores
from salt_ray.inference.stored import as_records
from salt_ray.mosaic.table import MosaicTable
from salt_ray.postprocessing.corrections import Corrections
from salt_ray.postprocessing.evidence import Evidence, choose, report
from salt_ray.postprocessing.rules import RULES
from salt_ray.postprocessing.selection import HiddenScores
from salt_ray.report.finished import FinishedRun
from salt_ray.survey.prepared import PreparedSurvey, prepare_survey
from salt_ray.survey.tiles import load_survey

TILES_OF_A_MOSAIC, COLUMNS = 8, 4


@pytest.fixture(scope="session")
def prepared(survey: Path, tiny: Experiment, own_cache: Path) -> PreparedSurvey:
    return prepare_survey(load_survey(survey), tiny)


@pytest.fixture(scope="session")
def made_run(
    survey: Path, prepared: PreparedSurvey, tiny: Experiment, tmp_path_factory: pytest.TempPathFactory
) -> FinishedRun:
    """Two folds, mosaics of eight tiles, two corrected tiles, a known test truth."""
    random = np.random.default_rng(5)
    run = RunDirectory(tmp_path_factory.mktemp("runs") / "made")
    truth = np.concatenate([prepared.survey.masks, read_test_truth(survey, prepared.survey.ids[prepared.unlabelled])])
    table = prepared.depth_folds(2)
    models = {}
    for fold in range(2):
        _, own = table.split(fold, prepared.survey.ids[: prepared.survey.labelled])
        candidates = np.concatenate([own, prepared.unlabelled])
        tiles = np.sort(candidates[~prepared.survey.constant[candidates]])
        # A third of the tiles is predicted badly, so that there are scores of every kind.
        strength = random.choice([0.1, 0.35, 0.45], len(tiles))[:, None, None]
        noise = random.uniform(-0.3, 0.3, (len(tiles), *truth.shape[1:]))
        masks = np.clip(0.5 + strength * (2.0 * truth[tiles] - 1) + noise, 0, 1)
        salt = np.clip(
            0.5 + 0.3 * (2.0 * truth[tiles].any(axis=(1, 2)) - 1) + random.uniform(-0.4, 0.4, len(tiles)), 0, 1
        )
        records = as_records(Probabilities(masks.astype(np.float16), salt.astype(np.float32)))
        models["random", fold] = ModelPrediction.of(tiles, records)
        for stage in tiny.trainings[0].stages:
            folder = run.stage("random", fold, stage.name)
            folder.mkdir(parents=True)
            history = {"epoch": range(1, stage.epochs + 1), "lr": stage.lr}
            history |= {name: random.uniform(0.3, 0.9, stage.epochs) for name in ("loss", "validation_loss", "score")}
            pd.DataFrame(history).to_csv(folder / "history.csv", index=False)
            marker = {"epochs": stage.epochs, "best_epoch": 1, "best_score": 0.5}
            (folder / "done.json").write_text(json.dumps(marker))

    varied = random.permutation(np.flatnonzero(~prepared.survey.constant))
    chosen = varied[: len(varied) // TILES_OF_A_MOSAIC * TILES_OF_A_MOSAIC]
    place = np.arange(len(chosen))
    mosaics = MosaicTable(
        prepared.survey.ids[chosen],
        place // TILES_OF_A_MOSAIC,
        place % TILES_OF_A_MOSAIC // COLUMNS,
        place % COLUMNS,
        np.ones(len(chosen)),
    )
    corrected = np.sort(chosen[chosen >= prepared.survey.labelled][:2])
    corners = np.zeros((2, *truth.shape[1:]), bool)
    corners[:, :9, :9] = True  # a square, as no prediction has it
    corrections = Corrections(corrected, corners)
    run.postprocessing.mkdir()
    (run.postprocessing / "done.json").write_text('{"failed": {}}')
    changes = {"id": prepared.survey.ids[corrected], "rule": "copy_down", "added": 7, "removed": 11, "sources": ""}
    pd.DataFrame(changes).to_csv(run.postprocessing / "changes.csv", index=False)

    alone = {
        name: Evidence(0.5, 0.5 + gain, gain, (gain - 0.01, gain + 0.01), chance, 12, 34)
        for name, gain, chance in zip(RULES, (0, 0, 0.02, 0, 0, 0, 0), (1, 1, 0.0004, 1, 1, None, 1), strict=True)
    }
    hidden = HiddenScores(9, 4.5, np.full(len(RULES), 4.5), np.zeros(len(RULES), int))
    evidence = report(alone, alone["copy_down"], choose(alone), tiny.postprocessing, [hidden])
    tables = {"random": table}
    decisions = FoldDecisions(Decision.of(tiny.prediction))
    scores, _ = run_scores(prepared, models, tables, decisions, truth[prepared.unlabelled], corrections.apply)
    scores["rules"] |= evidence | {"changed_tiles": 2, "test_of_each": dict.fromkeys(RULES, 0.5)}
    run.experiment.write_text(tiny.model_dump_json())
    run.scores.write_text(json.dumps(scores))
    scores = json.loads(run.scores.read_text())
    return FinishedRun(run, tiny, prepared, models, tables, mosaics, corrections, scores, run.path, decisions, ARGUS)


@pytest.fixture
def elsewhere(made_run: FinishedRun, tmp_path: Path) -> FinishedRun:
    """The same run in a folder that a test may write to."""
    shutil.copytree(made_run.run.path, tmp_path / "made")
    return dataclasses.replace(made_run, run=RunDirectory(tmp_path / "made"))
