"""What a run divides its tiles into: folds, and a hold-out of whole mosaics or sections."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment, Folds
from salt_ray.errors import RunError
from salt_ray.experiment_file import experiment_path, load_experiment, override
from salt_ray.mosaic.table import load_mosaics
from salt_ray.pipeline import steps
from salt_ray.pipeline.run import Run
from salt_ray.report.terminal import Terminal
from salt_ray.survey.synthetic import write_survey


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Larger than elsewhere: with more than a few mosaics."""
    directory = tmp_path_factory.mktemp("survey") / "tiles"
    write_survey(directory, 240, seed=4, tile_px=33)
    return directory


@pytest.fixture(scope="module")
def assembled(survey: Path, tiny: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with mosaics, and nothing else."""
    path = tmp_path_factory.mktemp("assembled")
    _ = Run(tiny, survey, RunDirectory(path), Terminal(quiet=True)).mosaics
    return path


@pytest.fixture
def directory(assembled: Path, tmp_path: Path) -> Path:
    shutil.copytree(assembled / "mosaics", tmp_path / "run" / "mosaics")
    return tmp_path / "run"


def opened(experiment: Experiment, survey: Path, directory: Path, *changes: str) -> Run:
    return Run(override(experiment, changes), survey, RunDirectory(directory), Terminal(quiet=True))


def held(run: Run) -> set[str]:
    return set(run.survey.ids[np.flatnonzero(run.prepared.held_out)].tolist())


def test_no_mosaic_has_tiles_both_in_the_hold_out_and_in_training(
    tiny: Experiment, survey: Path, directory: Path
) -> None:
    found = []
    for seed in range(6):
        shutil.rmtree(directory / "holdout", ignore_errors=True)
        run = opened(tiny, survey, directory, "holdout=mosaic:0.3", f"holdout_seed={seed}")
        chosen, trained = held(run), set(run.survey.ids[run.prepared.trainable].tolist())
        table = load_mosaics(directory / "mosaics" / "mosaics.csv")
        mosaic_of = dict(zip(table.ids.tolist(), table.mosaics.tolist(), strict=True))
        assert not {mosaic_of[i] for i in chosen & mosaic_of.keys()} & {
            mosaic_of[i] for i in trained & mosaic_of.keys()
        }
        varied = run.survey.ids[: run.survey.labelled][~run.survey.constant[: run.survey.labelled]]
        assert chosen | trained == set(varied.tolist()) and not chosen & trained
        assert len(chosen) == pytest.approx(0.3 * len(varied), abs=2)
        assert (directory / "holdout" / "holdout.csv").read_text().split() == ["id", *sorted(chosen)]
        found.append(chosen)
    assert any(len(chosen & mosaic_of.keys()) >= 2 for chosen in found)  # not lone tiles alone
    assert len(set(map(frozenset, found))) > 1


def test_seeds_change_random_folds_and_never_the_hold_out(tiny: Experiment, survey: Path, directory: Path) -> None:
    changes = ("holdout=mosaic:0.2", "trainings.all.folds.kind=random")
    first = opened(tiny, survey, directory, *changes)
    shutil.copytree(directory / "mosaics", directory / "seed-8" / "mosaics")
    other = first.with_seed(8)
    assert held(first) == held(other)
    assert first.tables["random"].digest != other.tables["random"].digest
    recorded = [json.loads((run.directory.folds("random") / "inputs.json").read_text()) for run in (first, other)]
    assert [inputs["seed"] for inputs in recorded] == [7, 8]
    again = opened(tiny, survey, directory, *changes)
    assert again.tables["random"].digest == first.tables["random"].digest
    with pytest.raises(RunError, match=r"different settings \(seed: 7 before, 9 now\)"):
        _ = opened(tiny, survey, directory, *changes, "trainings.all.folds.seed=9").tables


def test_folds_by_depth_do_not_know_the_seed(tiny: Experiment, survey: Path, tmp_path: Path) -> None:
    first = opened(tiny, survey, tmp_path)
    assert first.tables["random"].digest == first.with_seed(8).tables["random"].digest
    assert opened(tiny, survey, tmp_path, "seed=8").tables["random"].digest == first.tables["random"].digest
    assert json.loads((first.directory.folds("random") / "inputs.json").read_text())["seed"] is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("holdout=mosaic:0.3", "holdout: mosaic:0.2 before, mosaic:0.3 now"),
        ("holdout_seed=1", "seed: 0 before, 1 now"),
    ],
)
def test_a_hold_out_that_was_drawn_stays(
    tiny: Experiment, survey: Path, directory: Path, change: str, words: str
) -> None:
    _ = opened(tiny, survey, directory, "holdout=mosaic:0.2").prepared
    with pytest.raises(RunError, match=rf"holdout was made with different settings \({words}\): use another --run-dir"):
        _ = opened(tiny, survey, directory, "holdout=mosaic:0.2", change).prepared


def test_a_hold_out_that_was_edited_is_refused(tiny: Experiment, survey: Path, directory: Path) -> None:
    _ = opened(tiny, survey, directory, "holdout=mosaic:0.2").prepared
    path = directory / "holdout" / "holdout.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(RunError, match=r"holdout\.csv is damaged \(its tiles have changed\).*delete "):
        _ = opened(tiny, survey, directory, "holdout=mosaic:0.2").prepared
    path.unlink()
    with pytest.raises(RunError, match=r"holdout\.csv is missing"):
        _ = opened(tiny, survey, directory, "holdout=mosaic:0.2").prepared


def test_whole_sections_are_held_out(tiny: Experiment, survey: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="needs one folder of tiles per section"):
        _ = opened(tiny, survey, tmp_path / "run", "holdout=section:0.2").prepared
    with pytest.raises(RunError, match="folds of kind lines need windows that volume tiles has cut"):
        _ = opened(tiny, survey, tmp_path / "run", "trainings.all.folds.kind=lines").tables
    for kind in ("train/images", "train/masks"):
        for number, path in enumerate(sorted((survey / kind).iterdir())):
            folder = tmp_path / "own" / kind / f"line{number % 7}"
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder)
    run = opened(tiny, tmp_path / "own", tmp_path / "run", "holdout=section:0.3")
    sections = run.survey.sections[: run.survey.labelled]
    varied = ~run.survey.constant[: run.survey.labelled]
    inside = set(sections[run.prepared.held_out].tolist())
    assert len(inside) == 2 and not inside & set(sections[varied & ~run.prepared.held_out].tolist())
    with pytest.raises(RunError, match=r"no section is as small as holdout=section:0\.01 asks for: increase the share"):
        _ = opened(tiny, tmp_path / "own", tmp_path / "other", "holdout=section:0.01").prepared


def test_commands_that_read_a_run_draw_no_hold_out(tiny: Experiment, survey: Path, tmp_path: Path) -> None:
    run = opened(tiny, survey, tmp_path, "holdout=mosaic:0.2")
    for step in (steps.submit, steps.score, steps.report):
        with pytest.raises(RunError, match=r"run train first|create it with|there is no run"):
            step(run)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_began_with_random_goes_on_with_the_experiment_that_says_depth(
    survey: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    """As it is with one that ``two_cores`` has begun."""
    experiment = load_experiment(experiment_path("two_cores"), ["labels.full_tiles=empty"])  # 91 labels with salt
    run = Run(experiment, survey, RunDirectory(tmp_path), Terminal())
    run.tasks[0].stage_folder(run.directory, 0, run.survey.key).open()
    table = run.directory.folds("random")
    before = {"kind": "random", "count": 5, "checkpoint": None, "survey": run.survey.key}  # as version 0.2.0 wrote it
    (table / "inputs.json").write_text(json.dumps(before, indent=1))
    fields = json.loads(experiment.model_dump_json())
    fields["trainings"][0]["folds"] = {"kind": "random", "count": 5, "checkpoint": None}
    run.directory.experiment.write_text(json.dumps(fields))
    kept = {path: path.read_bytes() for name in ("folds", "trainings") for path in (tmp_path / name).rglob("*.*")}
    for again in (experiment, load_experiment(run.directory.experiment)):
        assert again == experiment and again.trainings[0].folds == Folds(kind="depth", count=5)
        steps.prepare(Run(again, survey, RunDirectory(tmp_path), Terminal()))
    assert {path: path.read_bytes() for path in kept} == kept
    assert "folds random: 5 by depth, " in capfd.readouterr().out
    changed = override(experiment, ["trainings.all.folds.kind=random"])
    with pytest.raises(
        RunError, match=r"folds/random was made with different settings \(kind: depth before, random now; seed"
    ):
        steps.prepare(Run(changed, survey, RunDirectory(tmp_path), Terminal()))
