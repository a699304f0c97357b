"""What a run takes from its survey: written down by prepare, and what its models are applied by. Nothing is trained."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from kaggle_layout import LABELLED, PX, truth, write_survey
from rich.console import Console

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment, Labels
from salt_ray.errors import RunError
from salt_ray.inference.stored import chunk_path, record_type
from salt_ray.pipeline import steps
from salt_ray.pipeline.application import prepare_for
from salt_ray.pipeline.run import Run
from salt_ray.pipeline.trained import TrainedRun
from salt_ray.record import RunRecord
from salt_ray.report.terminal import Terminal
from salt_ray.storage import save_array
from salt_ray.survey.amplitudes import GreyRange
from salt_ray.training.task import decisive


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_survey(tmp_path / "data")


@pytest.fixture
def asking(tiny: Experiment) -> Experiment:
    """An experiment that leaves it to the labels what becomes of full tiles."""
    return tiny.replace(labels=Labels())


def prepared(experiment: Experiment, data: Path, run: Path) -> RunRecord:
    with Run(experiment, data, RunDirectory(run), Terminal(quiet=True)).held() as held:
        steps.prepare(held)
    return RunRecord.load(run / "run.json")


def without_full(tmp_path: Path) -> Path:
    path = tmp_path / "holdout.csv"
    path.write_text("id\na3\n")
    return path


def test_labels_that_may_be_trained_on_decide_about_full_tiles(data: Path, asking: Experiment, tmp_path: Path) -> None:
    record = prepared(asking, data, tmp_path / "run")
    assert record == RunRecord(version=record.version, tile_px=PX, samples="uint8", full_tiles="salt")
    held = asking.replace(holdout=without_full(tmp_path))
    with pytest.raises(RunError, match=r"none of the 4 labelled tiles with salt .*full_tiles=salt .*full_tiles=empty"):
        prepared(held, data, tmp_path / "held")
    assert [path.name for path in (tmp_path / "held").iterdir()] == [".lock"]  # it is asked before anything is written


def test_what_is_set_is_kept_until_it_is_set_otherwise(
    data: Path, tiny: Experiment, asking: Experiment, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert prepared(tiny, data, run).full_tiles == "empty"
    assert prepared(asking, data, run).full_tiles == "empty"
    assert prepared(tiny.replace(labels=Labels(full_tiles="salt")), data, run).full_tiles == "salt"


def test_a_run_without_a_record_goes_on_as_it_began(data: Path, asking: Experiment, tmp_path: Path) -> None:
    fields = json.loads(asking.model_dump_json())
    del fields["labels"], fields["amplitudes"]
    (tmp_path / "run").mkdir()
    (tmp_path / "run/experiment.json").write_text(json.dumps(fields))
    expected = RunRecord(version=None, tile_px=PX, samples="uint8", full_tiles="empty")
    for _ in range(2):
        assert prepared(asking, data, tmp_path / "run") == expected


def test_mosaics_that_were_made_first_decide_nothing(data: Path, asking: Experiment, tmp_path: Path) -> None:
    with Run(asking, data, RunDirectory(tmp_path / "run"), Terminal(quiet=True)).held() as held:
        steps.assemble(held)
    record = prepared(asking, data, tmp_path / "run")
    assert record.full_tiles == "salt" and record.version is not None


def test_settings_of_masks_and_amplitudes_reach_the_tiles(tiny: Experiment, tmp_path: Path) -> None:
    images, masks, _ = truth()
    for i in LABELLED:
        amplitudes = images[i].astype(np.float32) / 255
        amplitudes[0] = -9999
        for folder, pixels in (("images", amplitudes), ("masks", np.where(masks[i], 2, 1).astype(np.uint8))):
            path = tmp_path / "data/train" / folder / f"{i}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, pixels)
    labels, amplitudes = tiny.labels.replace(salt=2), tiny.amplitudes.replace(nodata=-9999.0)
    run, experiment = tmp_path / "run", tiny.replace(labels=labels, amplitudes=amplitudes)
    assert prepared(experiment, tmp_path / "data", run).amplitudes.low > -0.1
    survey = Run(experiment, tmp_path / "data", RunDirectory(run), Terminal(quiet=True)).prepared.survey
    np.testing.assert_array_equal(survey.masks, np.stack([masks[i] for i in LABELLED]))


# Applied to another survey


def trained(path: Path, experiment: Experiment, record: RunRecord | None) -> RunDirectory:
    """A run of which only that is there what is looked at before anything is predicted."""
    run = RunDirectory(path)
    for training in experiment.trainings:
        for fold in range(training.folds.count):
            for stage in training.stages:
                folder = run.stage(training.name, fold, stage.name)
                folder.mkdir(parents=True)
                inputs = {"experiment": decisive(experiment), "survey": "another"}
                (folder / "inputs.json").write_text(json.dumps(inputs))
                (folder / "done.json").write_text('{"epochs": 1, "best_epoch": 1, "best_score": 0.5}')
        run.folds(training.name).mkdir(parents=True)
        (run.folds(training.name) / "folds.csv").write_text("id,fold\nx,0\ny,1\n")
    if record is not None:
        record.save(run.record)
    return run


def applied(run: RunDirectory, experiment: Experiment, data: Path, **options: bool) -> str:
    """What is said until prediction would begin."""
    output = StringIO()
    terminal = Terminal(Console(file=output, width=500))
    prepare_for(TrainedRun(run, experiment), data, terminal, **options)
    return output.getvalue()


def floats(directory: Path, factor: float) -> Path:
    random = np.random.default_rng(3)
    (directory / "test/images").mkdir(parents=True)
    for number in range(30):
        tile = random.normal(0, factor, (PX, PX)).astype(np.float32)
        np.save(directory / "test/images" / f"t{number:02d}.npy", tile)
    return directory


AMPLITUDES = RunRecord(version="0.2.0", tile_px=PX, samples="float32", amplitudes=GreyRange(-2.33, 2.33))


def test_the_range_of_the_run_is_used(tiny: Experiment, tmp_path: Path) -> None:
    run = trained(tmp_path / "run", tiny, AMPLITUDES)
    alike, strong = floats(tmp_path / "alike", 1.1), floats(tmp_path / "strong", 4)
    assert "amplitudes from -2.33 to 2.33 become greys from 0 to 255; that is the run's" in applied(run, tiny, alike)
    with pytest.raises(RunError, match=r"5\d% of the amplitudes .*strong are outside the run's range, -2.33 to 2.33"):
        applied(run, tiny, strong)
    assert "amplitudes from -9." in applied(run, tiny, strong, own_range=True)


def test_tiles_of_another_size_are_refused_also_by_older_runs(tiny: Experiment, data: Path, tmp_path: Path) -> None:
    said = "trained on tiles of 33 px, but those in .*data are 12 px"
    with pytest.raises(RunError, match=said):
        applied(trained(tmp_path / "new", tiny, RunRecord(tile_px=33, samples="uint8")), tiny, data)
    old = trained(tmp_path / "old", tiny, None)
    assert "the size of the run's own tiles is not known; those here are 12 px" in applied(old, tiny, data)
    best = tiny.trainings[0].stages[0].name
    save_array(chunk_path(old.prediction("random", 1, best), 0), np.zeros(4, record_type(33)))
    with pytest.raises(RunError, match=said):
        applied(old, tiny, data)


def test_older_runs_measure_amplitudes_and_say_so(tiny: Experiment, tmp_path: Path) -> None:
    said = applied(trained(tmp_path / "old", tiny, None), tiny, floats(tmp_path / "data", 9))
    assert "the run has no range of amplitudes (it was made by an older version): this survey's own is used" in said
    assert "amplitudes from -2" in said


def test_greys_are_no_amplitudes(tiny: Experiment, data: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"trained on images of type float32, but those in .* are uint8. .*--own-range"):
        applied(trained(tmp_path / "run", tiny, AMPLITUDES), tiny, data)
    assert applied(trained(tmp_path / "again", tiny, AMPLITUDES), tiny, data, own_range=True)
