"""Experiments from files and overrides: every file builds, JSON round trips, and every mistake is one clear error."""

from pathlib import Path

import pytest

from salt_ray.config import Cosine, Experiment, Network, Scse
from salt_ray.experiment_file import load_experiment, override
from salt_ray.object_store import ObjectPath
from salt_ray.section import ExperimentError

FILES = sorted(p for p in (Path(__file__).parents[1] / "experiments").glob("*.py") if p.stem != "__init__")


@pytest.fixture
def small() -> Experiment:
    return load_experiment(Path(__file__).parents[1] / "experiments" / "from_scratch.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_experiment_builds_and_survives_json(path: Path, tmp_path: Path) -> None:
    experiment = load_experiment(path)
    assert experiment.name == path.stem
    copy = tmp_path / "copy.json"
    copy.write_text(experiment.model_dump_json())
    assert load_experiment(copy) == experiment
    assert load_experiment(copy).digest() == experiment.digest()


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("network.encodr=resnet18", ["network.encodr", "did you mean 'encoder'"]),
        ("trainings.0.stages.0.lr=-1", ["trainings.0.stages.0.lr", "-1", "greater than 0"]),
        ("trainings.0.stages.0.epochs=many", ["epochs", "'many'", "integer"]),
        ("trainings.0.stages.0.lr=NaN", ["lr", "finite"]),
        ("trainings.0.folds.kind=mosaics", ["folds.kind", "'mosaics'", "'depth', 'random'"]),
        ("trainings.0.stages.plato.epochs=3", ["'plato'", "plateau"]),
        ("trainings.0.stages=[]", ["trainings.0.stages", "at least one"]),
        ("geometry.crop_px=100", ["geometry.crop_px", "100", "multiple of 32"]),
        ("network.decoder.pyramid_widths=[8,8,0,8,8]", ["network.decoder.pyramid_widths", "at least 1"]),
        ("network.fpn_widths=[8,8,8,8,8]", ["network.fpn_widths", "it was renamed to decoder.pyramid_widths"]),
        ("network.decoder.kind=unet", ["network.decoder.kind = 'unet'", "'fpn', 'scse'"]),
        ('network.decoder={"dropout": 0.1}', ["network.decoder.kind is missing"]),
        ("network.decoder=scse", ["network.decoder = 'scse'", "it was renamed to decoder.kind"]),
        ("network.pretrained.x=3", ["pretrained", "plain value"]),
        ("seed", ["seed", "field.sub=value"]),
        ("prediction.mask_threshold=1.5", ["prediction.mask_threshold", "1.5", "less than or equal to 1"]),
    ],
)
def test_a_mistake_is_one_sentence_with_field_value_and_remedy(
    small: Experiment, assignment: str, words: list[str]
) -> None:
    with pytest.raises(ExperimentError) as caught:
        override(small, [assignment])
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_files_that_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"did you mean .*demo\.py"):
        load_experiment(FILES[0].parent / "demos.py")
    cases = {
        "empty.py": ("", "must define experiment"),
        "broken.py": ("1/0", "ZeroDivisionError"),
        "broken.json": ("{", "not valid JSON"),
        "other.json": ('{"name": "x", "trainigs": []}', "did you mean 'trainings'"),
        "notes.txt": ("", "neither .py nor .json"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(ExperimentError, match=message):
            load_experiment(tmp_path / name)


def test_python_is_not_read_from_an_object_store() -> None:
    with pytest.raises(ExperimentError, match=r"only JSON experiments can be loaded from an object store: copy it to"):
        load_experiment(ObjectPath("s3://bucket/experiments/demo.py"))


def test_overrides_reach_members_by_name_number_and_all(small: Experiment) -> None:
    changed = override(
        small,
        ["trainings.all.stages.plateau.epochs=3", "trainings.0.stages.1.lr=0.004", "network.encoder=resnet18"],
    )
    plateau, cosine = changed.trainings[0].stages
    assert (plateau.epochs, cosine.lr, changed.network.encoder) == (3, 0.004, "resnet18")
    assert small.network.encoder != "resnet18"
    assert changed.digest() != small.digest()


def test_a_section_of_another_kind_keeps_what_was_set_and_both_have(small: Experiment) -> None:
    decoder = small.network.decoder
    changed = override(small, ["network.decoder.dropout=0.1", "network.decoder.kind=scse"]).network.decoder
    assert changed == Scse(widths=decoder.widths, pyramid_widths=decoder.pyramid_widths, dropout=0.1)
    assert override(small, ["network.decoder.kind=scse", "network.decoder.kind=fpn"]) == small


def test_a_section_of_another_kind_has_its_own_defaults(small: Experiment) -> None:
    schedule = "trainings.all.stages.plateau.schedule"
    changed = override(small, [f"{schedule}.kind=cosine", f"{schedule}.epochs_per_cycle=7"])
    assert changed.trainings[0].stages[0].schedule == Cosine(epochs_per_cycle=7)
    with pytest.raises(ExperimentError, match="unknown field 'patience'"):
        override(changed, [f"{schedule}.patience=3"])


def test_fields_can_be_set_in_a_section_that_was_given(small: Experiment) -> None:
    given = ['network={"encoder": "resnet18", "decoder": {"kind": "scse"}}', "network.decoder.dropout=0.1"]
    assert override(small, given).network == Network(encoder="resnet18", decoder=Scse(dropout=0.1))
    with pytest.raises(ExperimentError, match=r"seed\.a: unknown field 'a'"):
        override(small, ['seed={"a": 1}', "seed.a=2"])
    with pytest.raises(
        ExperimentError, match=r"network\.decoder\.dropout: 'dropout' cannot be set, because its parent is"
    ):
        override(small, ["network={}", "network.decoder.dropout=0.1"])


def test_python_that_uses_an_old_name_is_told_the_new_one(tmp_path: Path) -> None:
    for argument, message in (
        ("decoder='scse'", r"decoder = 'scse': it was renamed to decoder\.kind"),
        ("dropout=0.1", r"dropout: unknown field; it was renamed to decoder\.dropout"),
    ):
        path = tmp_path / "old.py"
        path.write_text(f"from salt_ray.config import Network\ndef experiment():\n    return Network({argument})\n")
        with pytest.raises(ExperimentError, match=message):
            load_experiment(path)
