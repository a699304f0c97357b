"""Trials that are being trained, as Ray's dashboard shows them: named actors, metrics by trial."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import page_text
from curves import curves
from dashboard import METRICS_SECONDS, Dashboard, followed
from road import SECONDS, Road, wait_for

from salt_ray.config import Experiment, FloatRange, Tune

EPOCHS = 1_000_000  # more than there is time for
STAGE = "trainings.all.stages.plateau"


@pytest.fixture(scope="module")
def dashboard(
    tiny: Experiment, survey: Path, ray_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Dashboard]:
    """One trial that has no end."""
    (training,) = tiny.trainings
    stage = training.stages[0].replace(epochs=EPOCHS, early_stopping=None)
    lr = FloatRange(name="lr", fields=(f"{STAGE}.lr",), low=1e-3, high=0.1, log=True)
    tune = Tune(parameters=(lr,), pruner="none", max_concurrent=1)
    experiment = tiny.replace(name="endless", trainings=(training.replace(stages=(stage,)),), tune=tune)
    path = tmp_path_factory.mktemp("experiment") / "endless.json"
    path.write_text(experiment.model_dump_json())
    road = Road(survey, path, ray_directory)
    with followed(road, "tune", tmp_path_factory.mktemp("dashboard")) as shown:
        yield shown


def test_a_trials_actor_says_its_number_and_its_values(dashboard: Dashboard) -> None:
    actors = dashboard.get("/logical/actors")["data"]["actors"].values()
    assert "trial-0000 lr=0.02" in {actor["reprName"] for actor in actors}


def test_metrics_are_told_by_trial(dashboard: Dashboard) -> None:
    expected = {("endless", "trial-0000", "random", "0", "plateau")}
    wait_for(lambda: set(dashboard.metrics().get("score", ())) == expected, dashboard.process, METRICS_SECONDS)
    assert set(dashboard.metrics()) == {"score", "best_score", "loss", "lr", "tiles_per_second"}


def test_tensorboard_follows_every_epoch_of_a_trial(dashboard: Dashboard) -> None:
    folder = dashboard.run / "tensorboard" / "trial-0000" / "random-fold-0" / "plateau"
    wait_for(lambda: len(curves(folder).get("plateau/score", ())) >= 3, dashboard.process)
    steps = [step for step, _ in curves(folder)["plateau/score"]]
    assert steps == list(range(1, len(steps) + 1))


@pytest.mark.browser
def test_a_person_finds_the_trial(dashboard: Dashboard, tmp_path: Path) -> None:
    """On the page of actors, by its values."""
    picture = tmp_path / "actors.png"
    text = page_text(f"{dashboard.address}/#/actors", dashboard.token, "trial-0000 lr=0.02", SECONDS, picture)
    assert "ALIVE" in text
    assert picture.read_bytes().startswith(b"\x89PNG")
