"""A run's record: whole or refused, and unknowns where a run was made before there was one."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from kaggle_layout import PX, write_survey
from setuptools.config.pyprojecttoml import read_configuration

import salt_ray
from salt_ray.errors import RunError
from salt_ray.record import RunRecord
from salt_ray.storage import StoragePath, storage_path
from salt_ray.survey.amplitudes import GreyRange
from salt_ray.survey.tiles import load_survey

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


def test_the_version_has_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" in project["dynamic"] and "version" not in project
    read = read_configuration(ROOT / "pyproject.toml")["project"]["version"]
    assert read == salt_ray.__version__
