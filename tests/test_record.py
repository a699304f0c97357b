"""A run's record: whole or refused, and unknowns where a run was made before there was one."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from kaggle_layout import PX, write_survey

import salt_ray
from salt_ray.artifacts import RunDirectory
from salt_ray.errors import RunError
from salt_ray.record import RunRecord, check_ignored
from salt_ray.storage import StoragePath, storage_path
from salt_ray.survey.amplitudes import GreyRange, Scaling
from salt_ray.survey.meaning import Meaning
from salt_ray.survey.tiles import Survey, load_survey

ROOT = Path(__file__).parents[1]
FLOATS = RunRecord(version="0.2.0", tile_px=64, samples="float32", amplitudes=GreyRange(-1.5, 3e30), full_tiles="salt")


@pytest.fixture(params=["disk", "store"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> StoragePath:
    if request.param == "disk":
        return tmp_path / "run.json"
    return storage_path(request.getfixturevalue("bucket")) / "record" / "run.json"


def test_a_record_is_read_as_it_was_written(place: StoragePath) -> None:
    for record in (FLOATS, RunRecord(version="0.2.0", tile_px=101, samples="uint8", full_tiles="empty"), RunRecord()):
        record.save(place)
        assert RunRecord.load(place) == record


def test_a_run_without_a_record_is_one_of_unknowns(tmp_path: Path) -> None:
    assert set(RunRecord.load(tmp_path / "run.json").model_dump().values()) == {None}


def test_fields_of_later_versions_are_passed_over(tmp_path: Path) -> None:
    FLOATS.save(tmp_path / "run.json")
    fields = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(fields | {"volume": {"crs": 1}}))
    assert RunRecord.load(tmp_path / "run.json") == FLOATS


@pytest.mark.parametrize(
    "content", ["", "[]", '{"tile_px": "many"}', '{"full_tiles": "half"}', '{"amplitudes": {"low": 1}}']
)
def test_a_damaged_record_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError, match=r"run\.json is damaged \(.*\): restore it, or delete"):
        RunRecord.load(tmp_path / "run.json")


def test_a_record_says_what_the_run_took_from_its_survey(tmp_path: Path) -> None:
    survey = load_survey(write_survey(tmp_path / "survey"), cache=tmp_path / "cache")
    record = RunRecord.of(survey, "empty")
    assert record == RunRecord(version=salt_ray.__version__, tile_px=PX, samples="uint8", full_tiles="empty")


def test_a_run_that_left_out_whole_tiles_is_refused_and_no_other(tmp_path: Path) -> None:
    """Once tiles with pixels of labels.ignore were left out. Runs without that setting are what they were."""
    run = RunDirectory(tmp_path)
    check_ignored(run)  # nothing is there yet
    old = RunRecord(version="0.2.0", tile_px=101, samples="uint8", full_tiles="empty")
    for labels in (None, {"salt": 1}, {"salt": 1, "ignore": None}, {"salt": None, "ignore": 255}):
        run.experiment.write_text(json.dumps({"name": "one"} | ({} if labels is None else {"labels": labels})))
        run.record.unlink(missing_ok=True)
        check_ignored(run)  # only mosaics are assembled
        old.model_copy(update={"ignored": 0.0}).save(run.record)
        check_ignored(run)
        old.save(run.record)
        if labels and labels.get("ignore"):
            with pytest.raises(RunError, match=r"a version that skipped .* labels\.ignore = 255; .* another --run-dir"):
                check_ignored(run)
        else:
            check_ignored(run)


def test_the_version_has_one_place() -> None:
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in content["project"]["dynamic"] and "version" not in content["project"]
    place = (ROOT / content["tool"]["hatch"]["version"]["path"]).read_text()
    assert re.findall(r'^__version__ = "(.*)"$', place, re.MULTILINE) == [salt_ray.__version__]


# Another survey


def survey_like(px: int = 64, samples: str = "float32", scaling: Scaling | None = None) -> Survey:
    images, names = np.zeros((3, px, px), np.uint8), np.array(["a", "b", "c"])
    depths, constant = np.zeros(3, np.float32), np.zeros(3, bool)
    return Survey(names, images, images[:0] > 0, depths, constant, names, "key", samples=samples, scaling=scaling)


def scaled(own: GreyRange, outside: float, used: GreyRange = GreyRange(-1, 1)) -> Scaling:  # noqa: B008 (frozen)
    return Scaling(used, own, outside)


BYTES = RunRecord(version="0.2.0", tile_px=64, samples="uint8")
FLOAT = BYTES.model_copy(update={"samples": "float32", "amplitudes": GreyRange(-1, 1)})
REFUSED = {
    "size": (BYTES, survey_like(48, "uint8"), r"trained on tiles of 64 px, but those in data are 48 px: cut"),
    "greys and amplitudes": (
        BYTES,
        survey_like(scaling=scaled(GreyRange(-1, 1), 0)),
        r"of type uint8, but those in data are float32. .* --own-range",
    ),
    "amplitudes and greys": (FLOAT, survey_like(samples="uint8"), "of type float32, but those in data are uint8"),
    "beyond the range": (
        FLOAT,
        survey_like(scaling=scaled(GreyRange(-1.1, 1.1), 0.06)),
        r"6% of the amplitudes in data are outside the run's range, -1 to 1 \(their own is -1.1 to 1.1\): .*own-range",
    ),
    "weaker": (FLOAT, survey_like(scaling=scaled(GreyRange(-0.5, 0.5), 0)), r"range from -0.5 to 0.5, .* -1 to 1"),
    "stronger": (FLOAT, survey_like(scaling=scaled(GreyRange(-2, 2), 0.04)), r"range from -2 to 2"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_survey_of_another_kind_is_refused(kind: str) -> None:
    record, survey, says = REFUSED[kind]
    with pytest.raises(RunError, match=says):
        record.check_applies(survey, "data")
    if kind == "size":
        with pytest.raises(RunError, match=says):
            record.check_applies(survey, "data", own_range=True)
    else:
        assert record.check_applies(survey, "data", own_range=True) == []


@pytest.mark.parametrize(
    ("record", "survey"),
    [
        (BYTES, survey_like(samples="uint8")),
        (FLOAT, survey_like(scaling=scaled(GreyRange(-1, 1), 0.02))),
        (FLOAT, survey_like(samples="int16", scaling=scaled(GreyRange(-1.2, 1.1), 0.05))),
    ],
)
def test_a_survey_of_the_same_kind_is_none_to_speak_of(record: RunRecord, survey: Survey) -> None:
    assert record.check_applies(survey, "data") == []


def test_what_an_older_run_does_not_know_is_said() -> None:
    lines = RunRecord().check_applies(survey_like(scaling=scaled(GreyRange(-9, 9), 0.5)), "data")
    assert len(lines) == 2 and "those here are 64 px" in lines[0] and "this survey's own is used" in lines[1]
    assert len(RunRecord().check_applies(survey_like(samples="uint8"), "data")) == 1


def test_a_tile_is_read_as_the_run_would_have_read_it(tmp_path: Path) -> None:
    """A single weak tile, which would be stretched to all greys on its own."""
    random = np.random.default_rng(0)
    tiles = (random.normal(0, 1, (30, PX, PX)) * random.uniform(0.2, 2, (30, 1, 1))).astype(np.float32)
    for folder, chosen in (("own", range(30)), ("weak", [int(tiles.std(axis=(1, 2)).argmin())])):
        (tmp_path / folder / "test/images").mkdir(parents=True)
        for number in chosen:
            np.save(tmp_path / folder / "test/images" / f"t{number:02d}.npy", tiles[number])
    own = load_survey(tmp_path / "own", cache=tmp_path / "cache")
    record = RunRecord.of(own, "empty")
    again = load_survey(tmp_path / "own", Meaning(greys=record.amplitudes), cache=tmp_path / "cache")
    assert again.key == own.key and record.check_applies(again, "own") == []
    assert 0 < again.scaling.outside <= 0.02

    weak = load_survey(tmp_path / "weak", Meaning(greys=record.amplitudes), cache=tmp_path / "cache")
    (place,) = np.flatnonzero(own.ids == weak.ids[0])
    np.testing.assert_array_equal(weak.images[0], own.images[place])
    measured = load_survey(tmp_path / "weak", cache=tmp_path / "cache")
    assert measured.key != weak.key and np.abs(measured.images.astype(int) - weak.images).mean() > 18
    with pytest.raises(RunError, match="the amplitudes in weak range from"):
        record.check_applies(weak, "weak")
    assert record.check_applies(measured, "weak", own_range=True) == []
