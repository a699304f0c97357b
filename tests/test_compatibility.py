"""Inputs of older versions, in today's fields: each kind of entry that a folder has."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from salt_ray.artifacts import Folder
from salt_ray.compatibility import in_todays_fields
from salt_ray.config import Experiment, Postprocessing, RemovedField, validated
from salt_ray.decision import ARGUS, Decision
from salt_ray.errors import RunError
from salt_ray.storage import write_atomically
from salt_ray.survey.folds import FoldTable
from salt_ray.training.task import FoldTask


@pytest.fixture
def inputs(tiny: Experiment, tiny_folds: FoldTable) -> dict[str, Any]:
    """Of a stage, inside those of a prediction, inside those of post-processing."""
    stage = FoldTask(tiny, tiny.trainings[0], 0, tiny_folds).inputs(2, "survey")
    return {
        "predictions": [{"model": stage, "flip": True}],
        "prediction": Decision.of(tiny.prediction).model_dump(mode="json"),
        "postprocessing": tiny.postprocessing.model_dump(mode="json"),
        "settings": tiny.mosaics.model_dump(mode="json"),
        "models": "last",
    }


#: Where each entry is, and a field that it might not have had.
FIELDS = [
    ("predictions.0.model.experiment.network", "decoder"),
    ("predictions.0.model.experiment", "augmentation"),
    ("predictions.0.model.stages.0", "pixel_bce_weight"),
    ("predictions.0.model.stages.0.schedule", "factor"),
    ("predictions.0.model", "decision"),
    ("prediction", "full_tiles"),
    ("postprocessing", "rules"),
    ("settings", "compatibility"),
    ("", "models"),
]


def entry(inputs: Any, path: str) -> Any:
    for step in path.split(".") if path else ():
        inputs = inputs[int(step) if step.isdigit() else step]
    return inputs


@pytest.mark.parametrize(("path", "field"), FIELDS)
def test_a_field_that_did_not_exist_has_the_value_that_was_meant(path: str, field: str, inputs: dict) -> None:
    now = json.loads(json.dumps(inputs))
    before = copy.deepcopy(now)
    del entry(before, path)[field]
    assert in_todays_fields(before, now) == now


@pytest.mark.parametrize(("path", "field"), FIELDS)
def test_a_value_that_differs_is_a_difference(path: str, field: str, inputs: dict, tmp_path: Path) -> None:
    before = json.loads(json.dumps(inputs))
    entry(before, path)[field] = "another"
    write_atomically(tmp_path / "inputs.json", json.dumps(before))
    where = f"{path}.{field}".strip(".").replace(".", r"\.")
    with pytest.raises(RunError, match=rf"{where}: another there, .* now"):
        _ = Folder(tmp_path, inputs).done


def test_a_field_that_has_a_value_now_and_did_not_exist_is_a_difference(inputs: dict, tmp_path: Path) -> None:
    before = json.loads(json.dumps(inputs))
    del entry(before, "predictions.0.model.stages.0")["pixel_bce_weight"]
    changed = json.loads(json.dumps(inputs))
    entry(changed, "predictions.0.model.stages.0")["pixel_bce_weight"] = 0.5
    write_atomically(tmp_path / "inputs.json", json.dumps(before))
    with pytest.raises(RunError, match=r"pixel_bce_weight: 0\.0 there, 0\.5 now"):
        _ = Folder(tmp_path, changed).done


def test_fields_that_have_gone_are_left_out_and_said(monkeypatch: pytest.MonkeyPatch, inputs: dict) -> None:
    monkeypatch.setattr(Postprocessing, "removed", {"luck": "rules are judged without it"})
    now = json.loads(json.dumps(inputs))
    before = copy.deepcopy(now)
    before["postprocessing"]["luck"] = 3
    assert in_todays_fields(before, now) == now
    with pytest.warns(RemovedField, match="luck has no effect any more: rules are judged without it"):
        assert validated(Postprocessing, before["postprocessing"]) == Postprocessing()


def test_what_may_change_is_made_again_and_the_rest_is_refused(tmp_path: Path) -> None:
    folder = Folder(tmp_path, {"tiles": 3, "flip": True}, again=frozenset({"flip"}))
    folder.open()
    folder.finish(tiles=3)
    (tmp_path / "result").write_text("with flip")
    changed = Folder(tmp_path, {"tiles": 3, "flip": False}, again=frozenset({"flip"}))
    assert changed.done is None
    assert changed.outdated == ["flip: True there, False now"]
    assert folder.done == {"tiles": 3}  # asking changes nothing
    changed.open()
    assert [path.name for path in tmp_path.iterdir()] == ["inputs.json"]
    assert changed.outdated == []
    with pytest.raises(RunError, match=r"other settings \(tiles: 3 there, 4 now\)"):
        _ = Folder(tmp_path, {"tiles": 4, "flip": True}, again=frozenset({"flip"})).done


def test_stages_of_before_were_validated_as_the_baseline_does(inputs: dict) -> None:
    now = json.loads(json.dumps(inputs))
    before = copy.deepcopy(now)
    del before["predictions"][0]["model"]["decision"]
    assert in_todays_fields(before, now)["predictions"][0]["model"]["decision"] == ARGUS.model_dump(mode="json")
