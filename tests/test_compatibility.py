"""Inputs of older versions, in today's fields: each kind of entry that a folder has."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from salt_ray.artifacts import Folder, RunDirectory
from salt_ray.compatibility import in_todays_fields, in_todays_names
from salt_ray.config import Choice, Experiment, FloatRange, Folds, Fpn, Postprocessing, Scse, Tune, UNetDecoder
from salt_ray.decision import ARGUS, Decision
from salt_ray.errors import RunError
from salt_ray.experiment_file import load_experiment, override
from salt_ray.section import ExperimentError, RemovedField, validated
from salt_ray.storage import write_atomically
from salt_ray.survey.folds import FoldTable
from salt_ray.training.task import FoldTask
from salt_ray.tuning.space import study_folder


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
    ("predictions.0.model.experiment.network.decoder", "dropout"),
    ("predictions.0.model.experiment.network.decoder", "kind"),
    ("predictions.0.model.experiment.network", "auxiliary_heads"),
    ("predictions.0.model.experiment.network", "input_scale"),
    ("predictions.0.model.experiment", "augmentation"),
    ("predictions.0.model.stages.0", "pixel_bce_weight"),
    ("predictions.0.model.stages.0", "auxiliary_weight"),
    ("predictions.0.model.stages.1.schedule", "snapshots"),
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
    with pytest.raises(RunError, match=rf"{where}: another before, .* now"):
        _ = Folder(tmp_path, inputs).done


def test_a_field_that_has_a_value_now_and_did_not_exist_is_a_difference(inputs: dict, tmp_path: Path) -> None:
    before = json.loads(json.dumps(inputs))
    del entry(before, "predictions.0.model.stages.0")["pixel_bce_weight"]
    changed = json.loads(json.dumps(inputs))
    entry(changed, "predictions.0.model.stages.0")["pixel_bce_weight"] = 0.5
    write_atomically(tmp_path / "inputs.json", json.dumps(before))
    with pytest.raises(RunError, match=r"pixel_bce_weight: 0\.0 before, 0\.5 now"):
        _ = Folder(tmp_path, changed).done


def test_fields_that_have_gone_are_left_out_and_said(monkeypatch: pytest.MonkeyPatch, inputs: dict) -> None:
    monkeypatch.setattr(Postprocessing, "removed", {"luck": "rules are judged without it"})
    now = json.loads(json.dumps(inputs))
    before = copy.deepcopy(now)
    before["postprocessing"]["luck"] = 3
    assert in_todays_fields(before, now) == now
    with pytest.warns(RemovedField, match="luck no longer has any effect: rules are judged without it"):
        assert validated(Postprocessing, before["postprocessing"]) == Postprocessing()


def test_what_may_change_is_made_again_and_the_rest_is_refused(tmp_path: Path) -> None:
    folder = Folder(tmp_path, {"tiles": 3, "flip": True}, again=frozenset({"flip"}))
    folder.open()
    folder.finish(tiles=3)
    (tmp_path / "result").write_text("with flip")
    changed = Folder(tmp_path, {"tiles": 3, "flip": False}, again=frozenset({"flip"}))
    assert changed.done is None
    assert changed.outdated == ["flip: True before, False now"]
    assert folder.done == {"tiles": 3}  # asking changes nothing
    changed.open()
    assert [path.name for path in tmp_path.iterdir()] == ["inputs.json"]
    assert changed.outdated == []
    with pytest.raises(RunError, match=r"different settings \(tiles: 3 before, 4 now\)"):
        _ = Folder(tmp_path, {"tiles": 4, "flip": True}, again=frozenset({"flip"})).done


def test_stages_of_before_were_validated_as_the_baseline_does(inputs: dict) -> None:
    now = json.loads(json.dumps(inputs))
    before = copy.deepcopy(now)
    del before["predictions"][0]["model"]["decision"]
    assert in_todays_fields(before, now)["predictions"][0]["model"]["decision"] == ARGUS.model_dump(mode="json")


def flat(network: dict[str, Any]) -> dict[str, Any]:
    """A network's fields as they were when the decoder's stood among them."""
    decoder = network["decoder"]
    return {name: value for name, value in network.items() if name != "decoder"} | {
        "decoder": decoder["kind"],
        "decoder_widths": decoder["widths"],
        "fpn_widths": decoder["pyramid_widths"],
        "dropout": decoder["dropout"],
    }


DECODERS = [Fpn(), Fpn(widths=(5, 4, 3, 2, 1), dropout=0.4), Scse(pyramid_widths=(4, 4, 4, 4, 4), dropout=0.0)]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("decoder", DECODERS, ids=str)
def test_an_experiment_whose_network_held_the_decoders_fields_is_loaded_as_it_was_meant(
    decoder: UNetDecoder, tiny: Experiment, tmp_path: Path
) -> None:
    meant = tiny.replace(network=tiny.network.replace(decoder=decoder))
    fields = meant.model_dump(mode="json")
    before = fields | {"network": flat(fields["network"])}
    given = copy.deepcopy(before)
    assert in_todays_names(before, Experiment) == fields == in_todays_names(fields, Experiment)
    assert before == given
    (tmp_path / "experiment.json").write_text(json.dumps(before))
    assert load_experiment(tmp_path / "experiment.json") == meant


@pytest.mark.parametrize(
    ("network", "decoder"),
    [
        ({}, Fpn()),
        ({"dropout": 0.1}, Fpn(dropout=0.1)),
        ({"fpn_widths": [4, 4, 4, 4, 4]}, Fpn(pyramid_widths=(4, 4, 4, 4, 4))),
        ({"decoder": "scse"}, Scse()),
        ({"decoder": {"kind": "scse", "dropout": 0.1}}, Scse(dropout=0.1)),
    ],
)
def test_what_a_file_leaves_out_has_its_default(network: dict, decoder: UNetDecoder, tiny: Experiment) -> None:
    fields = in_todays_names(tiny.model_dump(mode="json") | {"network": network}, Experiment)
    assert validated(Experiment, fields).network.decoder == decoder


def test_a_field_of_today_and_its_old_name_together_are_refused(tiny: Experiment) -> None:
    fields = tiny.model_dump(mode="json")
    fields["network"]["dropout"] = 0.1
    with pytest.raises(ExperimentError, match=r"network\.dropout: unknown field; it was renamed to decoder\.dropout"):
        validated(Experiment, in_todays_names(fields, Experiment))


def test_folders_of_a_network_that_held_the_decoders_fields_are_made_from_the_same(inputs: dict) -> None:
    now = json.loads(json.dumps(inputs))
    before = copy.deepcopy(now)
    experiment = entry(before, "predictions.0.model.experiment")
    experiment["network"] = flat(experiment["network"])
    assert in_todays_fields(before, now) == now


def test_a_value_that_differs_under_its_old_name_is_a_difference(inputs: dict, tmp_path: Path) -> None:
    before = json.loads(json.dumps(inputs))
    experiment = entry(before, "predictions.0.model.experiment")
    experiment["network"] = flat(experiment["network"]) | {"decoder": "scse", "dropout": 0.5}
    write_atomically(tmp_path / "inputs.json", json.dumps(before))
    with pytest.raises(RunError) as caught:
        _ = Folder(tmp_path, inputs).done
    assert "network.decoder.kind: scse before, fpn now" in str(caught.value)
    assert "network.decoder.dropout: 0.5 before, 0.2 now" in str(caught.value)


def test_a_search_of_a_field_that_has_moved_goes_on(tiny: Experiment, tmp_path: Path) -> None:
    lr = FloatRange(name="lr", fields=("trainings.all.stages.plateau.lr",), low=0.01, high=0.1)
    dropout = FloatRange(name="dropout", fields=("network.decoder.dropout",), low=0.0, high=0.5)
    decoder = Choice(name="decoder", fields=("network.decoder.kind",), values=("fpn", "scse"))
    now = tiny.replace(tune=Tune(parameters=(lr, dropout, decoder)))
    before = json.loads(now.model_dump_json())
    before["network"] = flat(before["network"])
    before["tune"]["parameters"][1]["fields"] = ["network.dropout"]
    before["tune"]["parameters"][2]["fields"] = ["network.decoder"]
    (tmp_path / "experiment.json").write_text(json.dumps(before))
    assert load_experiment(tmp_path / "experiment.json") == now
    folder = study_folder(now, RunDirectory(tmp_path), {})
    inputs = copy.deepcopy(folder.inputs)
    inputs["experiment"]["network"] = flat(inputs["experiment"]["network"])
    inputs["tune"]["parameters"][1]["fields"] = ["network.dropout"]
    inputs["tune"]["parameters"][2]["fields"] = ["network.decoder"]
    assert folder.differences(inputs) == []


def random_of_before(experiment: dict[str, Any]) -> None:
    """Make of folds by depth what they were: called random, and without a seed."""
    for training in experiment["trainings"]:
        folds = training["folds"]
        assert folds.pop("seed") is None and folds["kind"] == "depth"
        folds["kind"] = "random"


def test_random_folds_of_before_there_was_a_seed_are_folds_by_depth(tiny: Experiment, tmp_path: Path) -> None:
    """In an experiment.json, in the inputs of a table of folds, and in those of a search."""
    lr = FloatRange(name="lr", fields=("trainings.all.stages.plateau.lr",), low=0.01, high=0.1)
    now = tiny.replace(tune=Tune(parameters=(lr,)))
    before = json.loads(now.model_dump_json())
    random_of_before(before)
    (tmp_path / "experiment.json").write_text(json.dumps(before))
    assert load_experiment(tmp_path / "experiment.json") == now
    search = study_folder(now, RunDirectory(tmp_path), {})
    inputs = copy.deepcopy(search.inputs)
    random_of_before(inputs["experiment"])
    assert search.differences(inputs) == []
    table = Folder(tmp_path / "folds", now.trainings[0].folds.model_dump(mode="json") | {"survey": "key"})
    assert table.differences({"kind": "random", "count": 2, "checkpoint": None, "survey": "key"}) == []


def test_random_folds_of_today_stay_random(tiny: Experiment, tmp_path: Path) -> None:
    folds = Folds(kind="random", count=2)
    now = tiny.replace(trainings=(tiny.trainings[0].replace(folds=folds),))
    (tmp_path / "experiment.json").write_text(now.model_dump_json())
    assert load_experiment(tmp_path / "experiment.json") == now
    table = Folder(tmp_path / "folds", folds.with_seed(3).model_dump(mode="json"))
    assert table.differences(table.inputs) == []
    assert table.differences(folds.with_seed(4).model_dump(mode="json")) == ["seed: 4 before, 3 now"]
    assert table.differences({"kind": "random", "count": 2}) == [
        "kind: depth before, random now",
        "seed: None before, 3 now",
    ]


def test_a_field_may_have_another_name_in_its_section(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Postprocessing, "renamed", {"chosen": "rules"})
    assert in_todays_names({"chosen": "argus"}, Postprocessing) == {"rules": "argus"}
    both = {"chosen": "argus", "rules": "none"}
    assert in_todays_names(both, Postprocessing) == both
    with pytest.raises(ExperimentError, match="chosen: unknown field; it was renamed to rules"):
        validated(Postprocessing, both)


@pytest.mark.filterwarnings("error")
def test_all_rules_were_called_seed_before_they_were_called_argus(tiny: Experiment, inputs: dict) -> None:
    """In Python, with --set, in an experiment.json, and in recorded inputs."""
    argus = tiny.replace(postprocessing=Postprocessing(rules="argus"))
    assert Postprocessing(rules="seed") == argus.postprocessing
    assert override(tiny, ["postprocessing.rules=seed"]) == argus
    fields = json.loads(argus.model_dump_json())
    before = copy.deepcopy(fields)
    before["postprocessing"]["rules"] = "seed"
    assert in_todays_names(before, Experiment) == fields
    assert validated(Experiment, before) == argus
    now = json.loads(json.dumps(inputs)) | {"postprocessing": fields["postprocessing"]}
    assert in_todays_fields(now | {"postprocessing": before["postprocessing"]}, now) == now
    assert in_todays_names({"rules": ["seed"]}, Postprocessing) == {"rules": ["seed"]}  # no such word in a list


@pytest.mark.parametrize(
    "fields", [[], 3, None, {"network": "x"}, {"network": [1]}, {"tune": {"parameters": [{"fields": 3}]}}]
)
def test_what_is_malformed_stays_for_others_to_refuse(fields: Any) -> None:
    assert in_todays_names(fields, Experiment) == fields
