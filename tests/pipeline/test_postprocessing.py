"""Post-processing: mosaics that fail, and work that begins before the end.

``reliability/test_one_run.py`` kills its workers on a Ray.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from road import Road
from scipy import ndimage

from salt_ray.artifacts import Folder, RunDirectory
from salt_ray.config import Experiment, Prediction
from salt_ray.config import Postprocessing as Settings
from salt_ray.decision import Decision, FoldDecisions
from salt_ray.inference.ensemble import ModelPrediction
from salt_ray.inference.probabilities import Probabilities
from salt_ray.inference.stored import StoredPrediction, write_chunk
from salt_ray.metric import UNLABELLED
from salt_ray.mosaic.table import MosaicTable, load_mosaics
from salt_ray.pipeline import postprocessing
from salt_ray.pipeline.local import LocalEngine
from salt_ray.pipeline.postprocessing import Postprocessing
from salt_ray.postprocessing.corrections import Corrections
from salt_ray.postprocessing.predicted import MosaicTiles, positions
from salt_ray.postprocessing.rules import MIN_TILES
from salt_ray.postprocessing.selection import HiddenScores
from salt_ray.survey.prepared import PreparedSurvey, prepare_survey
from salt_ray.survey.tiles import load_survey

DECISION = Decision.of(Prediction(), "empty")
ALL_RULES = ["--set", "postprocessing.rules=argus"]


@pytest.fixture
def predicted(undisturbed: Path, tmp_path: Path) -> Path:
    """A copy of the undisturbed run as it was before post-processing."""
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    shutil.rmtree(run / "postprocessing")
    (run / "submission.csv").unlink()
    return run


def test_a_mosaic_that_fails_keeps_its_masks_and_is_named(road: Road, predicted: Path) -> None:
    """One tile's prediction is lost behind the program's back: its mosaic cannot be decided, the others can."""
    table = load_mosaics(predicted / "mosaics" / "mosaics.csv")
    (model,) = (predicted / "predictions" / "random" / "fold-0").iterdir()
    labelled = sorted(path.stem for path in (Path(road.options[1]) / "train" / "images").iterdir())
    number, lost = next((m, i) for m, i in zip(table.mosaics, table.ids, strict=True) if i not in labelled)
    ids = np.array(labelled + sorted(path.stem for path in (Path(road.options[1]) / "test" / "images").iterdir()))
    (chunk,) = (model / "chunks").iterdir()
    kept, records = chunk.read_bytes(), np.load(chunk)
    records["salt"][np.load(model / "tiles.npy") == np.flatnonzero(ids == lost)[0]] = np.nan
    np.save(chunk, records)
    output = road.here("postprocess", predicted, *ALL_RULES, code=1)
    assert f"error: 1 mosaics could not be post-processed (first: mosaic {number}:" in output
    assert "Traceback" not in output
    done = json.loads((predicted / "postprocessing" / "done.json").read_text())
    assert list(done["failed"]) == [str(number)]
    changed = pd.read_csv(predicted / "postprocessing" / "changes.csv", dtype={"id": str})["id"]
    assert not set(changed) & set(table.ids[table.mosaics == number])
    pictures = {path.stem for path in (predicted / "postprocessing" / "pictures").iterdir()}
    assert pictures == {f"mosaic-{m:04d}" for m in range(table.count)} - {f"mosaic-{number:04d}"}

    chunk.write_bytes(kept)
    road.here("postprocess", predicted, *ALL_RULES)  # the same command tries it again
    assert json.loads((predicted / "postprocessing" / "done.json").read_text())["failed"] == {}


def test_a_known_mosaic_table_is_used_by_every_command(road: Road, predicted: Path) -> None:
    message = road.refused("submit", predicted)
    assert "run postprocess first" in message
    message = road.refused("postprocess", predicted, "--set", "mosaics.compatibility=0.3")
    assert "compatibility: 0.1 before, 0.3 now" in message


@pytest.fixture(scope="module")
def prepared(survey: Path, tiny: Experiment, tmp_path_factory: pytest.TempPathFactory) -> PreparedSurvey:
    cache = tmp_path_factory.mktemp("cache")
    return prepare_survey(load_survey(survey, cache=cache), tiny, cache=cache)


@pytest.fixture(scope="module")
def table(prepared: PreparedSurvey) -> MosaicTable:
    """Rows of four tiles as they come: places need not be true for this."""
    count = len(prepared.survey.ids) // 4
    mosaics, cols = np.repeat(np.arange(count), 4), np.tile(np.arange(4), count)
    ids = prepared.survey.ids[np.random.default_rng(0).permutation(4 * count)]
    return MosaicTable(ids, mosaics, np.zeros_like(cols), cols, np.ones(len(cols)))


def store(directory: Path, tiles: np.ndarray, probabilities: Probabilities) -> None:
    written = 0
    for part, path, _ in StoredPrediction.open(Folder(directory, {}), tiles).chunks():
        rows = slice(written, written + len(part))
        write_chunk(path, Probabilities(probabilities.masks[rows], probabilities.salt[rows]))
        written += len(part)


def model_folder(path: Path, tiles: np.ndarray, edge: int, seed: int) -> ModelPrediction:
    masks = np.random.default_rng(seed).random((len(tiles), edge, edge)).astype(np.float16)
    store(path, tiles, Probabilities(masks, np.ones(len(tiles), np.float32)))
    return ModelPrediction.load(path)


def test_each_mosaic_is_processed_as_soon_as_its_tiles_are_predicted(
    prepared: PreparedSurvey, table: MosaicTable, tiny: Experiment, tmp_path: Path
) -> None:
    """Predictions trickle in; the pictures of complete mosaics appear while others are still missing."""
    everything, labelled = np.arange(len(prepared.survey.ids)), prepared.survey.labelled
    models = [
        model_folder(
            tmp_path / f"model-{fold}", everything[(everything >= labelled) | (everything % 2 == fold)], 33, fold
        )
        for fold in (0, 1)
    ]
    missing = np.zeros(len(everything), np.int64)
    for model in models:
        missing[model.tiles] += 1
    experiment = tiny.replace(postprocessing=Settings(rules="argus"))
    work = Postprocessing(
        experiment,
        prepared,
        table,
        models,
        missing,
        FoldDecisions(DECISION),
        Folder(tmp_path / "out", {}),
        RunDirectory(tmp_path),
        LocalEngine(),
    )
    first, *rest = (np.flatnonzero(np.isin(prepared.survey.ids, table.ids[members])) for members in table.members)
    pictures = tmp_path / "out" / "pictures"
    for model in models:
        work.arrived(np.intersect1d(model.tiles, first))
    work.arrived(everything[:0])  # a chunk of tiles that lie in no mosaic: what has been answered is taken in
    assert [path.name for path in pictures.glob("mosaic-*.png")] == ["mosaic-0000.png"]
    for tiles in rest:
        for model in models:
            work.arrived(np.intersect1d(model.tiles, tiles))
    work.finish()
    assert len(list(pictures.iterdir())) == table.count
    corrections = Corrections.load(tmp_path / "out")
    assert len(corrections.tiles) and not (corrections.tiles < labelled).any()


def test_evidence_is_gathered_from_all_mosaics_before_rules_are_applied(
    prepared: PreparedSurvey, table: MosaicTable, tiny: Experiment, tmp_path: Path
) -> None:
    everything, labelled = np.arange(len(prepared.survey.ids)), prepared.survey.labelled
    models = [
        model_folder(
            tmp_path / f"model-{fold}", everything[(everything >= labelled) | (everything % 2 == fold)], 33, fold
        )
        for fold in (0, 1)
    ]
    missing = np.zeros(len(everything), np.int64)
    work = Postprocessing(
        tiny,
        prepared,
        table,
        models,
        missing,
        FoldDecisions(DECISION),
        Folder(tmp_path / "out", {}),
        RunDirectory(tmp_path),
        LocalEngine(),
    )
    rules = work.finish()
    trainable = prepared.survey.ids[prepared.trainable]
    assert rules["hidden_tiles"] == np.isin(table.ids, trainable).sum()  # each once
    assert rules["hidden_mosaics"] == len(np.unique(table.mosaics[np.isin(table.ids, trainable)]))
    for name, evidence in rules["alone"].items():
        assert evidence["after"] - evidence["before"] == pytest.approx(evidence["gain"]), name
        assert (evidence["p"] is None) == (evidence["mosaics"] < 10)
        assert (name in rules["kept"]) <= (evidence["p"] is not None and evidence["p"] <= 0.05)
    assert json.loads((tmp_path / "out" / "rules.json").read_text()) == rules
    assert json.loads((tmp_path / "out" / "done.json").read_text()) == {"failed": {}}


@pytest.mark.parametrize("rules", ["evidence", "argus"])
def test_tiles_that_are_labelled_in_part_are_neither_evidence_nor_corrected(
    rules: str, prepared: PreparedSurvey, table: MosaicTable, tiny: Experiment, tmp_path: Path
) -> None:
    """Their models may predict what they like: the rules and what they correct stay the same."""
    survey = prepared.survey
    everything, labelled = np.arange(len(survey.ids)), survey.labelled
    only_labelled = np.sort(survey.ids[: labelled // 4 * 4]).reshape(-1, 4)[0]  # as a mosaic of their own
    ids = np.concatenate([table.ids[~np.isin(table.ids, only_labelled)][: len(table.ids) - 8], only_labelled])
    number = np.arange(len(ids)) // 4
    places = MosaicTable(ids, number, np.zeros_like(number), np.arange(len(ids)) % 4, np.ones(len(ids)))
    masks = survey.masks.astype(np.int8)
    partly = np.isin(survey.ids[:labelled], only_labelled) | (np.arange(labelled) % 3 == 0)
    masks[partly, :5] = UNLABELLED
    partial = replace(prepared, survey=replace(survey, masks=masks))
    found = []
    for seed in (0, 9):
        models = []
        for fold in (0, 1):
            tiles = everything[(everything >= labelled) | (everything % 2 == fold)]
            known = np.random.default_rng(fold).random((len(tiles), 33, 33)).astype(np.float16)
            own = np.isin(tiles, np.flatnonzero(partly))
            known[own] = np.random.default_rng(seed).random((own.sum(), 33, 33))
            folder = tmp_path / f"{seed}-{fold}"
            store(folder, tiles, Probabilities(known, np.ones(len(tiles), np.float32)))
            models.append(ModelPrediction.load(folder))
        out = tmp_path / f"out-{seed}"
        work = Postprocessing(
            tiny.replace(postprocessing=Settings(rules=rules)),
            partial,
            places,
            models,
            np.zeros(len(everything), np.int64),
            FoldDecisions(DECISION),
            Folder(out, {}),
            RunDirectory(tmp_path),
            LocalEngine(),
        )
        found.append((work.finish(), (out / "masks.npy").read_bytes(), (out / "changes.csv").read_bytes()))
        assert not np.isin(Corrections.load(out).tiles, np.flatnonzero(partly)).any()
        assert {path.stem for path in (out / "pictures").iterdir()} == {f"mosaic-{n:04d}" for n in range(number[-1])}
    assert found[0] == found[1]
    whole = survey.ids[np.setdiff1d(partial.trainable, np.flatnonzero(partly))]
    sizes = np.bincount(number, partial.seen_by_rules[positions(ids, survey.ids)])
    hidden = (np.isin(ids, whole) & (sizes[number] >= MIN_TILES)).sum()
    assert hidden > 0 and found[0][0]["hidden_tiles"] == (hidden if rules == "evidence" else 0)
    assert rules == "evidence" or len(Corrections.load(out).tiles)


@pytest.mark.parametrize(
    ("together", "kept"), [(0.5, ["fill_holes", "fill_corners"]), (0.0, ["fill_corners"]), (None, [])]
)
def test_rules_that_do_not_convince_together_make_way_for_the_best_that_convinced_alone(
    together: float | None,
    kept: list[str],
    prepared: PreparedSurvey,
    table: MosaicTable,
    tiny: Experiment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The largest gain of all is that of a rule that failed, because it comes from one mosaic. None: all fail then."""
    rounds = []

    def answer(
        tiles: MosaicTiles, models: list, groups: np.ndarray, candidates: list[tuple], decisions: FoldDecisions
    ) -> HiddenScores:
        rounds.append(candidates)
        if len(candidates) == 1:
            if together is None:
                raise ValueError("lost")
            gains = [together]
        else:
            gains = [{"fill_holes": 0.4, "fill_corners": 0.5}.get(name, 0.0) for (name,) in candidates]
            gains[-1] = 20.0 * (tiles.number == 0)
        count = int((groups >= 0).sum())
        return HiddenScores(count, 0.5 * count, 0.5 * count + np.array(gains), np.ones(len(gains), int))

    def not_drawn(*arguments: object) -> None:
        raise ValueError("not drawn")

    monkeypatch.setattr(postprocessing, "try_mosaic", answer)
    monkeypatch.setattr(postprocessing, "correct_mosaic", not_drawn)
    missing = np.zeros(len(prepared.survey.ids), np.int64)
    nothing = np.empty(0)  # no prediction is read
    models = [ModelPrediction.of(prepared.trainable[fold::2], nothing) for fold in range(2)]
    rules = Postprocessing(
        tiny,
        prepared,
        table,
        models,
        missing,
        FoldDecisions(DECISION),
        Folder(tmp_path / "out", {}),
        RunDirectory(tmp_path),
        LocalEngine(),
    ).finish()
    assert rules["kept"] == kept and rules["alone"]["empty_below_closed"]["gain"] > 0.3
    assert rounds[-1] == [("fill_holes", "fill_corners")]
    assert (rules["together"] is None) == (together is None)


def test_a_mosaic_that_cannot_be_tried_is_named_and_keeps_its_masks(
    prepared: PreparedSurvey, table: MosaicTable, tiny: Experiment, tmp_path: Path
) -> None:
    """Every prediction has a hole that only one rule mends; one tile's is lost, so that nothing around it can be tried.

    The other mosaics decide without that one, and only they are corrected.
    """
    everything, labelled = np.arange(len(prepared.survey.ids)), prepared.survey.labelled
    block = np.zeros((33, 33), bool)
    block[8:25, 8:25] = True
    salt = np.concatenate([prepared.survey.masks, np.tile(block, (prepared.survey.unlabelled, 1, 1))])
    rings = salt & ~np.stack([ndimage.binary_erosion(mask, iterations=3) for mask in salt])
    tiles = positions(table.ids, prepared.survey.ids)
    mixed = [
        number
        for number, members in enumerate(table.members)
        if 0 < np.count_nonzero(tiles[members] >= labelled) < len(tiles[members])
    ]
    mosaic = tiles[table.mosaics == mixed[0]]
    lost = mosaic[mosaic >= labelled][0]
    models = []
    for fold in (0, 1):
        predicted = everything[(everything >= labelled) | (everything % 2 == fold)]
        known = np.where(predicted == lost, np.nan, 1).astype(np.float32)
        store(tmp_path / f"model-{fold}", predicted, Probabilities(rings[predicted].astype(np.float16), known))
        models.append(ModelPrediction.load(tmp_path / f"model-{fold}"))
    missing = np.zeros(len(everything), np.int64)
    work = Postprocessing(
        tiny,
        prepared,
        table,
        models,
        missing,
        FoldDecisions(DECISION),
        Folder(tmp_path / "out", {}),
        RunDirectory(tmp_path),
        LocalEngine(),
    )
    assert "fill_holes" in work.finish()["kept"]
    done = json.loads((tmp_path / "out" / "done.json").read_text())
    assert list(done["failed"]) == [str(mixed[0])] and "holds NaN" in done["failed"][str(mixed[0])]
    corrected = Corrections.load(tmp_path / "out").tiles
    assert corrected.tolist() == sorted(set(tiles[tiles >= labelled]) - set(mosaic))
    pictures = {path.stem for path in (tmp_path / "out" / "pictures").iterdir()}
    assert pictures == {f"mosaic-{number:04d}" for number in range(table.count) if number != mixed[0]}


def test_a_survey_without_mosaics_goes_its_way(prepared: PreparedSurvey, tiny: Experiment, tmp_path: Path) -> None:
    count = len(prepared.survey.ids)
    nothing = np.empty(0, np.int64)
    table = MosaicTable(np.empty(0, str), nothing, nothing, nothing, np.empty(0))
    missing = np.ones(count, np.int64)
    work = Postprocessing(
        tiny,
        prepared,
        table,
        [],
        missing,
        FoldDecisions(DECISION),
        Folder(tmp_path / "out", {}),
        RunDirectory(tmp_path),
        LocalEngine(),
    )
    work.arrived(np.arange(count))
    rules = work.finish()
    assert rules["kept"] == [] and rules["alone"] == {}
    assert len(Corrections.load(tmp_path / "out").tiles) == 0
    assert json.loads((tmp_path / "out" / "done.json").read_text()) == {"failed": {}}
