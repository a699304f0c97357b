"""A search is its storage: killed anywhere and opened again, it goes on as if nothing had happened."""

from __future__ import annotations

import random
import re
import sqlite3
from collections import Counter
from pathlib import Path

import pytest
from optuna.trial import TrialState

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment, FloatRange, Tune
from salt_ray.errors import RunError
from salt_ray.experiment_file import load_experiment, override
from salt_ray.storage import StoragePath, storage_path, write_atomically
from salt_ray.tuning.space import study_folder
from salt_ray.tuning.study import Study, load_study
from salt_ray.tuning.trial import Step

STAGE = "trainings.all.stages.plateau"
LAST = 5  # the tiny experiment's epochs


@pytest.fixture
def searched(tiny: Experiment) -> Experiment:
    parameters = (
        FloatRange(name="lr", fields=(f"{STAGE}.lr",), low=1e-3, high=0.1, log=True),
        FloatRange(name="lovasz", fields=(f"{STAGE}.lovasz_weight",), low=0.1, high=1.0),
    )
    tune = Tune(parameters=parameters, trials=9, startup_trials=3, pruner="median", grace_epochs=2, kept_checkpoints=2)
    return tiny.replace(tune=tune)


def opened(experiment: Experiment, folder: StoragePath, **inputs: str) -> Study:
    run = RunDirectory(folder)
    return Study(experiment, run, study_folder(experiment, run, {"survey": "tiles", "weights": None} | inputs))


class Killed(Exception):
    """Stands for the end of the driver."""


def search(study: Study, survive: int = 10**9) -> None:
    """Run what is left, one trial at a time; a trial's score rises to what its learning rate is worth.

    Args:
        survive: how many calls of the study come back before the driver dies.
    """
    calls = 0

    def alive() -> None:
        nonlocal calls
        calls += 1
        if calls > survive:
            raise Killed

    while (trial := study.ask()) is not None:
        alive()
        study.begin(trial)
        checkpoint = study.run.trial(trial.number).stage("random", 0, "plateau") / "best.pt"
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.write_text("weights")
        worth = 1 - abs(trial.params["lr"] - 0.03)
        for step in range(1, LAST + 1):
            alive()
            if study.record(trial.number, Step(step, worth * step / LAST, True, None)):
                alive()
                study.prune(trial.number)
                break
        else:
            alive()
            study.complete(trial.number)


def told(study: Study) -> list[tuple]:
    return [(t.number, t.state, t.value, t.params, t.intermediate_values) for t in study.optuna.get_trials()]


def test_the_first_trial_is_the_experiments_own(searched: Experiment, tmp_path: Path) -> None:
    study = opened(searched, tmp_path)
    search(study)
    first = study.optuna.get_trials()[0]
    assert first.params == {"lr": 0.02, "lovasz": 0.75}
    assert load_experiment(study.run.trial(0).experiment) == searched
    assert len(study.ended) == 9 and study.left == 0 and study.ask() is None


def test_same_seed_same_search_and_another_seed_another(searched: Experiment, tmp_path: Path) -> None:
    searches = []
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        study = opened(searched.replace(seed=seed), tmp_path / name)
        search(study)
        searches.append(told(study))
    a, b, c = searches
    assert a == b
    assert [t[3] for t in a[1:]] != [t[3] for t in c[1:]]
    assert {t[1] for t in a} == {TrialState.COMPLETE, TrialState.PRUNED}


@pytest.mark.parametrize("sampler", ["tpe", "gp", "qmc", "random"])
def test_every_sampler_searches_and_repeats_itself(searched: Experiment, tmp_path: Path, sampler: str) -> None:
    experiment = searched.replace(tune=searched.tune.replace(sampler=sampler, trials=6))
    searches = []
    for name in "ab":
        study = opened(experiment, tmp_path / name)
        search(study)
        searches.append(told(study))
    a, b = searches
    assert a == b
    assert len({t[3]["lr"] for t in a}) == 6  # no two alike


@pytest.mark.parametrize("pruner", ["median", "asha"])
def test_killed_anywhere_the_search_ends_the_same(searched: Experiment, tmp_path: Path, pruner: str) -> None:
    searched = searched.replace(tune=searched.tune.replace(pruner=pruner, reduction_factor=2))
    search(opened(searched, tmp_path / "whole"))
    assert any(trial.state is TrialState.PRUNED for trial in opened(searched, tmp_path / "whole").ended)
    moments, kills = random.Random(2), 0
    while True:
        try:
            search(opened(searched, tmp_path / "killed"), survive=moments.randrange(4, 24))
            break
        except Killed:
            kills += 1
    assert kills >= 3
    assert told(opened(searched, tmp_path / "killed")) == told(opened(searched, tmp_path / "whole"))


def test_killed_between_two_suggestions(searched: Experiment, tmp_path: Path) -> None:
    """The trial keeps the value that it has and gets the one that it lacks."""
    trial = opened(searched, tmp_path).optuna.ask()
    trial.suggest_float("lr", 1e-3, 0.1, log=True)
    again = opened(searched, tmp_path).ask()
    assert (again.number, again.params["lr"]) == (trial.number, trial.params["lr"])
    assert set(again.params) == {"lr", "lovasz"}


def test_only_the_best_trials_keep_their_checkpoints(searched: Experiment, tmp_path: Path) -> None:
    study = opened(searched, tmp_path)
    search(study)
    complete = [t for t in study.ended if t.state is TrialState.COMPLETE]
    best = sorted(complete, key=lambda t: -t.value)[:2]
    kept = {int(path.relative_to(tmp_path / "study" / "trials").parts[0]) for path in tmp_path.rglob("*.pt")}
    assert kept == {t.number for t in best}
    assert len(list((tmp_path / "study" / "trials").iterdir())) == 9  # what else a trial left stays


def test_no_folder_of_a_trial_is_listed_again_and_again(
    searched: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[str] = []
    rglob = Path.rglob
    monkeypatch.setattr(Path, "rglob", lambda path, pattern: listed.append(path.name) or rglob(path, pattern))
    search(opened(searched, tmp_path))
    assert len(listed) > 5 and max(Counter(listed).values()) == 2
    listed.clear()
    study = opened(searched, tmp_path)
    assert len(listed) == 7 == len(set(listed))  # all but the two that keep their checkpoints
    study.sweep()
    assert len(listed) == 7


def test_what_the_worker_of_an_ended_trial_still_writes_goes_with_the_next(
    searched: Experiment, tmp_path: Path
) -> None:
    study = opened(searched, tmp_path)
    first, second = study.ask(), study.ask()
    late = study.run.trial(first.number).path / "late.pt"
    late.parent.mkdir(parents=True)
    study.fail(first.number, "a reason")
    late.write_text("weights")
    study.fail(second.number, "a reason")
    assert not late.exists()


def test_a_failed_trial_says_why_and_the_search_goes_on(searched: Experiment, tmp_path: Path) -> None:
    study = opened(searched, tmp_path)
    trial = study.ask()
    study.fail(trial.number, "the loss is nan in epoch 2")
    search(study)
    first = study.optuna.get_trials()[0]
    assert first.state is TrialState.FAIL and first.user_attrs["reason"] == "the loss is nan in epoch 2"
    assert len(study.ended) == 9 and first.value is None


def test_a_search_can_be_made_longer_but_not_be_mixed(searched: Experiment, tmp_path: Path) -> None:
    search(opened(searched, tmp_path))
    before = told(opened(searched, tmp_path))
    longer = searched.replace(tune=searched.tune.replace(trials=11, max_concurrent=1))
    search(opened(longer, tmp_path))
    after = told(opened(longer, tmp_path))
    assert after[:9] == before and len(after) == 11
    for other in (
        searched.replace(seed=8),
        searched.replace(tune=searched.tune.replace(sampler="random")),
        searched.replace(tune=searched.tune.replace(folds="all")),
        override(searched, ["network.decoder.dropout=0.3"]),
        searched.replace(tune=None),
    ):
        with pytest.raises(RunError, match="made with different settings"):
            _ = study_folder(other, RunDirectory(tmp_path), {"survey": "tiles", "weights": None}).done
    with pytest.raises(RunError, match="survey: tiles before, others now"):
        opened(searched, tmp_path, survey="others")


def test_fewer_trials_than_begun_is_no_trial_less(searched: Experiment, tmp_path: Path) -> None:
    search(opened(searched, tmp_path))
    study = opened(searched.replace(tune=searched.tune.replace(trials=2)), tmp_path)
    assert (study.asked, study.left, study.ask()) == (9, 0, None)


def test_what_sqlite_cannot_do_is_one_sentence(searched: Experiment, tmp_path: Path) -> None:
    study = opened(searched, tmp_path)
    trial = study.ask()
    with sqlite3.connect(tmp_path / "study" / "study.db") as other:
        other.execute("DROP TABLE trial_values")
        other.execute("DROP TABLE trial_user_attributes")
    with pytest.raises(RunError, match=r"study\.db cannot be read or written \(.*no such table"):
        study.fail(trial.number, "a reason")


@pytest.mark.parametrize("content", [b"", b"no database at all " * 100])
def test_a_study_that_cannot_be_read_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.db").write_bytes(content)
    with pytest.raises(RunError, match=r"interrupted before its first trial|cannot be read or written"):
        load_study(RunDirectory(tmp_path))


def test_an_empty_study_does_not_begin_the_search_anew(searched: Experiment, tmp_path: Path) -> None:
    study = opened(searched, tmp_path)
    study.begin(study.ask())
    (tmp_path / "study" / "study.db").write_bytes(b"")
    for look in (lambda: opened(searched, tmp_path), lambda: load_study(study.run)):
        with pytest.raises(RunError, match=r"study\.db is empty, .* restore it, or delete .*study$"):
            look()


def test_a_driver_killed_as_it_made_the_study_has_lost_nothing(searched: Experiment, tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.db").write_bytes(b"")
    assert opened(searched, tmp_path).ask().params == {"lr": 0.02, "lovasz": 0.75}


def test_a_study_in_an_object_store_names_its_copy_here(
    searched: Experiment, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = storage_path(f"{bucket}/{tmp_path.name}")
    study = opened(searched, place)
    study.begin(study.ask())
    assert opened(searched, place).ask().number == 0  # the interrupted one

    def connect(path: Path) -> sqlite3.Connection:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch, pytest.raises(RunError) as raised:
        patch.setattr("salt_ray.tuning.study.sqlite3.connect", connect)
        study.ask()
    words = rf"^/.*study\.db, this machine's copy of {place}/study/study\.db, cannot .*is full\): make room in /"
    assert re.search(words, str(raised.value))
    write_atomically(place / "study" / "study.db", b"")
    with pytest.raises(RunError, match=r"study\.db is empty"):
        opened(searched, place)


def test_a_path_may_hold_what_means_something_in_an_address(searched: Experiment, tmp_path: Path) -> None:
    folder = tmp_path / "a?b=1 #ä%20"
    search(opened(searched.replace(tune=searched.tune.replace(trials=1)), folder))
    assert (folder / "study" / "study.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_a_study_to_look_at(searched: Experiment, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds no study.*launch\.py tune --run-dir '.*/a run' first"):
        load_study(RunDirectory(tmp_path / "a run"))
    study = opened(searched, tmp_path)
    search(study)
    assert load_study(study.run).best_trial.params == study.optuna.best_trial.params
