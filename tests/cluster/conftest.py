"""One survey, one experiment and one undisturbed run for all tests on a real local Ray."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from road import Road

from salt_ray.config import Experiment
from salt_ray.survey.synthetic import write_survey


@pytest.fixture(scope="session")
def ray_directory() -> Iterator[Path]:
    """A short path of its own: Ray's socket names are limited, and no other Ray's files are in the way."""
    with tempfile.TemporaryDirectory(prefix="salt") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("survey") / "tiles"
    write_survey(directory, 60, seed=1, tile_px=33)
    return directory


@pytest.fixture(scope="session")
def experiment_file(tiny: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("experiment") / "tiny.json"
    path.write_text(tiny.model_dump_json())
    return path


@pytest.fixture(scope="session")
def road(survey: Path, experiment_file: Path, ray_directory: Path) -> Road:
    return Road(survey, experiment_file, ray_directory)


@pytest.fixture(scope="session")
def undisturbed(road: Road, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    run = tmp_path_factory.mktemp("undisturbed")
    return run, road.run("pipeline", run)
