"""Runs that learn from pseudo-labels, from the files of a survey on: what is labelled, and what has no part in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import cv2
import pandas as pd
import pytest

from salt_ray.artifacts import RunDirectory
from salt_ray.config import AdamW, Choice, Cosine, Experiment, Labels, PseudoLabels, Resources, Tune
from salt_ray.pipeline import steps
from salt_ray.pipeline.local import LocalEngine
from salt_ray.pipeline.run import Run
from salt_ray.pipeline.search import search
from salt_ray.report.terminal import Terminal
from salt_ray.storage import load_array

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def holdout(survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV that names four labelled tiles."""
    path = tmp_path_factory.mktemp("holdout") / "holdout.csv"
    tiles = sorted(each.stem for each in (survey / "train" / "images").iterdir())[5:9]
    pd.DataFrame({"id": tiles}).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def learning(tiny: Experiment, holdout: Path) -> Experiment:
    (training,) = tiny.trainings
    first = training.stages[1].replace(
        name="first", epochs=4, lr=0.02, pixel_bce_weight=1.0, optimizer=AdamW(), schedule=Cosine()
    )
    own = first.replace(name="self", epochs=1, begins="last", pseudo_labels=PseudoLabels(confidence=0.5))
    return tiny.replace(
        trainings=(training.replace(stages=(first, own)),),
        holdout=holdout,
        labels=Labels(full_tiles="salt"),
        resources=Resources(cpus_per_fold=1),
    )


def train_fold_0(experiment: Experiment, survey: Path, path: Path) -> RunDirectory:
    with Run(experiment, survey, RunDirectory(path), Terminal(quiet=True)).held() as run:
        steps.prepare(run)
        steps.train(run, LocalEngine(), folds=[0])
    return run.directory


def labels_of(run: RunDirectory) -> Path:
    return run.stage("random", 0, "self") / "pseudo_labels.npy"


@pytest.fixture(scope="module")
def trained(learning: Experiment, survey: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return train_fold_0(learning, survey, tmp_path_factory.mktemp("run"))


def invert(paths: Iterable[Path]) -> int:
    """Make salt of what is none, and none of salt, in masks; how many there were."""
    return sum(cv2.imwrite(str(path), 255 - cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)) for path in paths)


def test_only_unlabelled_tiles_are_labelled(trained: RunDirectory, survey: Path) -> None:
    labels = load_array(labels_of(trained))
    unlabelled = {path.stem for path in (survey / "test" / "images").iterdir()}
    assert len(labels) > 5 and set(labels["id"]) <= unlabelled


def test_labels_of_the_fold_of_the_hold_out_and_of_test_tiles_do_not_matter(
    trained: RunDirectory, learning: Experiment, survey: Path, tmp_path: Path
) -> None:
    """Inverted, all three; ``training/test_pseudo_labels.py`` shows that the labels of another fold do matter."""
    changed = shutil.copytree(survey, tmp_path / "survey")
    table = pd.read_csv(trained.folds("random") / "folds.csv", dtype={"id": str})
    (changed / "train.csv").unlink()  # masks are read from their files then
    masks = changed / "train" / "masks"
    assert invert(masks / f"{tile}.png" for tile in table["id"][table["fold"] == 0]) > 5
    assert invert(masks / f"{tile}.png" for tile in pd.read_csv(learning.holdout, dtype=str)["id"]) == 4
    assert invert((changed / "truth" / "masks").iterdir()) > 5
    run = train_fold_0(learning, changed, tmp_path / "run")
    assert labels_of(run).read_bytes() == labels_of(trained).read_bytes()
    scores = [pd.read_csv(each.stage("random", 0, "first") / "history.csv")["score"] for each in (run, trained)]
    assert not scores[0].equals(scores[1])


def test_a_trial_of_a_search_labels_as_a_run_does(
    trained: RunDirectory, learning: Experiment, survey: Path, tmp_path: Path
) -> None:
    share = Choice(name="share", fields=("trainings.all.stages.self.pseudo_labels.share",), values=(0.5, 0.25))
    searching = learning.replace(tune=Tune(parameters=(share,), trials=1, pruner="none"))
    with Run(searching, survey, RunDirectory(tmp_path), Terminal(quiet=True)).held() as run:
        search(run, LocalEngine())
    assert labels_of(run.directory.trial(0)).read_bytes() == labels_of(trained).read_bytes()
