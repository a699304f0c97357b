"""A run on a volume: what comes out is each line's own prediction, however it came about."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_run import PIXELS, RECORD, WINDOW, write_run
from made_segy import grid_numbers, waves, write_segy
from PIL import Image
from road import Road

import salt_ray
from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment, Resources
from salt_ray.errors import RunError
from salt_ray.inference.predict import Model
from salt_ray.pipeline import slabs, volumes
from salt_ray.pipeline.local import LocalEngine
from salt_ray.pipeline.slabs import SlabWork
from salt_ray.pipeline.trained import load_run
from salt_ray.pipeline.volume_scores import score_volume
from salt_ray.pipeline.volumes import Asked, predict_volume
from salt_ray.report.terminal import Terminal
from salt_ray.survey.amplitudes import MIDDLE_GREY
from salt_ray.survey.padding import Frame
from salt_ray.volume.blending import Blending
from salt_ray.volume.problem import VolumeError
from salt_ray.volume.reading import Reading
from salt_ray.volume.scan import open_volume
from salt_ray.volume.slabs import Part, Slab

pytestmark = pytest.mark.usefixtures("one_thread")
INLINES, CROSSLINES, SAMPLES = 5, 40, 50
MISSING, DEAD = 11, 87
RESULTS = ("probability.sgy", "mask.sgy", "spread.sgy", "top.csv", "base.csv", "top.xyz", "bodies.csv")


def salt(tiny: Experiment) -> Experiment:
    return tiny.replace(labels=tiny.labels.replace(full_tiles="salt"), resources=Resources(cpus_per_fold=1))


@pytest.fixture(scope="module")
def run(tiny: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"), salt(tiny))


@pytest.fixture(scope="module")
def amplitudes() -> np.ndarray:
    values = waves(INLINES * CROSSLINES, SAMPLES)
    values[DEAD] = 0
    return values


@pytest.fixture(scope="module")
def data(amplitudes: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grid with a dead trace, and a place without one."""
    there = np.arange(len(amplitudes)) != MISSING
    numbers = {place: np.broadcast_to(v, len(there))[there] for place, v in grid_numbers(INLINES, CROSSLINES).items()}
    return write_segy(tmp_path_factory.mktemp("data") / "a.sgy", amplitudes[there], numbers)


def predicted(
    run: Path, data: Path, to: Path, *, engine: Any = None, interval: float | None = None, **asked: Any
) -> dict[str, Any]:
    volume = open_volume(data, Reading(interval=interval))
    return predict_volume(
        load_run(run), volume, RunDirectory(to), engine or LocalEngine(), Terminal(quiet=True), Asked(**asked)
    )


def grid(path: Path) -> np.ndarray:
    """(I, K, S) of a volume; 0 where there is no trace."""
    volume = open_volume(path)
    places = volume.geometry.traces
    values = volume.traces.read(0, volume.traces.count)[places]
    values[places < 0] = 0
    return values


@pytest.fixture(scope="module")
def whole(run: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("whole") / "to"
    predicted(run, data, to)
    return to


def each_models(run: Path, seen: np.ndarray, live: np.ndarray) -> list[np.ndarray]:
    """What every model says of sections (I, K, S) uint8, by ``Model`` alone."""
    trained, found = load_run(run), []
    for model in trained.models:
        alone = Model(trained.experiment, model.checkpoints, Frame(WINDOW, WINDOW, WINDOW), torch.device("cpu"))
        blending = Blending((seen.shape[2], seen.shape[1]), WINDOW, WINDOW // 2)
        found.append(np.stack([blending.join(s.T, alive, alone.pixels).T for s, alive in zip(seen, live, strict=True)]))
    return found


def test_it_is_the_mean_over_the_folds_of_what_windows_say(run: Path, amplitudes: np.ndarray, whole: Path) -> None:
    seen = RECORD.amplitudes.greys(amplitudes)
    seen[[MISSING, DEAD]] = MIDDLE_GREY
    live = ~np.isin(np.arange(len(seen)), (MISSING, DEAD)).reshape(INLINES, CROSSLINES)
    each = np.stack(each_models(run, seen.reshape(INLINES, CROSSLINES, SAMPLES), live))
    probability, spread, mask = (grid(whole / f"{name}.sgy") for name in ("probability", "spread", "mask"))
    np.testing.assert_allclose(probability, each.mean(0), atol=1e-6)
    np.testing.assert_allclose(spread, each.std(0), atol=1e-5)
    threshold = load_run(run).decision.mask_threshold
    np.testing.assert_array_equal(mask, probability > threshold)
    assert 0.1 < mask.mean() < 0.9 and spread.max() > 0.01
    assert not probability[~live].any() and not mask[~live].any() and probability[live].all()


def test_both_directions_are_averaged_and_their_difference_is_told(
    run: Path, data: Path, whole: Path, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=r"along crosslines of .*a\.sgy is 25, but 12\.5 in the run: .*--as-is"):
        predicted(run, data, tmp_path, direction="both")
    predicted(run, data, tmp_path, direction="both", as_is=True)
    inline = grid(whole / "probability.sgy")
    mean, difference = grid(tmp_path / "probability.sgy"), grid(tmp_path / "difference.sgy")
    np.testing.assert_allclose(mean + difference / 2, inline, atol=1e-6)
    values = grid(data)
    seen = RECORD.amplitudes.greys(values)
    seen[~values.any(2)] = MIDDLE_GREY
    across = np.stack(each_models(run, seen.swapaxes(0, 1), values.any(2).T)).mean(0).swapaxes(0, 1)
    np.testing.assert_allclose(mean - difference / 2, across, atol=1e-6)


def test_a_prediction_that_is_its_own_label_has_no_fault(run: Path, data: Path, whole: Path, tmp_path: Path) -> None:
    line = write_segy(tmp_path / "line.sgy", waves(40, 50), {21: np.arange(40), 73: 12.5 * np.arange(40), 77: 5})
    np.save(tmp_path / "cube.npy", waves(40, 50)[None])
    for path, to in ((line, tmp_path / "line"), (tmp_path / "cube.npy", tmp_path / "cube"), (data, whole)):
        if to != whole:
            salt_ray.predict_volume(load_run(run), path, to, reading=Reading(interval=4.0), quiet=True)
        (mask,) = to.glob("mask.[sn]*y")
        found = score_volume(to, open_volume(mask))
        assert (found["iou"], found["accuracy"], found["score"]) == (1, 1, 1)
        assert found["labelled"] == (198 if to == whole else 40) * SAMPLES


class Dying(LocalEngine):
    """Ends after some slabs."""

    def __init__(self, after: int) -> None:
        self.after = after

    def predict(self, pieces: Sequence[Slab], work: SlabWork, say: Any) -> Iterator[Slab]:
        for number, slab in enumerate(super().predict(pieces, work, say)):
            if number == self.after:
                raise KeyboardInterrupt
            yield slab


def test_a_killed_prediction_goes_on_and_ends_with_the_same_bytes(
    run: Path, data: Path, whole: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        predicted(run, data, tmp_path, engine=Dying(1))
    stored = {path: path.stat().st_mtime_ns for path in (tmp_path / "slabs").rglob("*.npy")}
    assert len(stored) == 2 and not any((tmp_path / name).exists() for name in RESULTS)
    with pytest.raises(KeyboardInterrupt):
        predicted(run, data, tmp_path, engine=Dying(1))
    assert all(path.stat().st_mtime_ns == when for path, when in stored.items())
    summary = predicted(run, data, tmp_path)
    for name in RESULTS:
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()
    assert not (tmp_path / "slabs").exists() and summary == json.loads((tmp_path / "summary.json").read_text())
    assert predicted(run, data, tmp_path, engine=Dying(0)) == summary  # nothing is left to be done


def test_a_slab_that_is_damaged_is_named_and_made_again(run: Path, data: Path, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        predicted(run, data, tmp_path, engine=Dying(2))
    slab = tmp_path / "slabs" / "inline" / "00001.npy"
    slab.write_bytes(slab.read_bytes()[:-8])
    with pytest.raises(
        RunError, match=r"00001\.npy is damaged .*delete .*00001\.npy and run the same command to regenerate it"
    ):
        predicted(run, data, tmp_path)
    assert not any((tmp_path / name).exists() for name in RESULTS)
    slab.unlink()
    predicted(run, data, tmp_path)
    for name in RESULTS:
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()
    (tmp_path / "mask.sgy").unlink()
    with pytest.raises(RunError, match=r"mask\.sgy is missing: restore it, or delete"):
        predicted(run, data, tmp_path)


def test_how_many_lines_a_slab_has_changes_nothing(
    run: Path, data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slabs, "_SLABS", 2)
    summary = predicted(run, data, tmp_path)
    assert summary["lines_at_once"] == {"inline": 3}
    for name in RESULTS:
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()


def test_another_volume_run_or_setting_is_refused(tiny: Experiment, run: Path, data: Path, tmp_path: Path) -> None:
    to, other = tmp_path / "to", tmp_path / "other.sgy"
    with pytest.raises(KeyboardInterrupt):
        predicted(run, data, to, engine=Dying(0))
    shutil.copy2(data, other)
    with open(other, "r+b") as file:
        file.seek(-10, 2)
        file.write(b"x")
    for changed, words in (
        ({"data": other}, "fingerprint: "),
        ({"run": write_run(tmp_path / "run", salt(tiny).replace(seed=8))}, r"models\.0"),
        ({"step": 8}, "step: 16 before, 8 now"),
        ({"folds": (1,)}, "models"),
        ({"inlines": (101, 103)}, "rows"),
        ({"own_range": True}, "amplitudes"),
    ):
        with pytest.raises(RunError, match=f"was made with different settings .*{words}.*use another --to, or delete"):
            predicted(**({"run": run, "data": data, "to": to} | changed))
    predicted(run, data, to)
    with pytest.raises(RunError, match="was made with different settings"):
        predicted(run, other, to)
    (tmp_path / "applied").mkdir()
    (tmp_path / "applied" / "summary.json").write_text("{}")
    with pytest.raises(RunError, match="contains other results"):
        predicted(run, data, tmp_path / "applied")
    with pytest.raises(RunError, match="contains a run"):
        predicted(run, data, run)


class Replacing(LocalEngine):
    """Another volume takes the file's place while the work goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def predict(self, pieces: Sequence[Slab], work: SlabWork, say: Any) -> Iterator[Slab]:
        yield from super().predict(pieces, work, say)
        content = self.path.read_bytes()
        self.path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_a_volume_that_is_replaced_meanwhile_is_noticed_and_nothing_lost(
    run: Path, data: Path, whole: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a.sgy"
    shutil.copy(data, path)
    with pytest.raises(RunError, match="has changed since this prediction began: restore it"):
        predicted(run, path, tmp_path / "to", engine=Replacing(path))
    assert not (tmp_path / "to" / "mask.sgy").exists()
    shutil.copy(data, path)
    predicted(run, path, tmp_path / "to", engine=Dying(0))
    assert (tmp_path / "to" / "mask.sgy").read_bytes() == (whole / "mask.sgy").read_bytes()


def test_lines_that_are_asked_for_are_the_whole_volumes(run: Path, data: Path, whole: Path, tmp_path: Path) -> None:
    summary = predicted(run, data, tmp_path, inlines=(102, 103))
    np.testing.assert_array_equal(grid(tmp_path / "probability.sgy"), grid(whole / "probability.sgy")[2:4])
    assert summary["traces"] == 2 * CROSSLINES
    few = predicted(run, data, tmp_path / "few", crosslines=(300, 320), inlines=(100, 100))
    assert few["traces"] == 20  # one has no trace
    with pytest.raises(RunError, match=r"has inlines 100 to 104, none from 200 to 300: choose others with --inlines"):
        predicted(run, data, tmp_path / "none", inlines=(200, 300))


def test_only_some_folds_models(run: Path, data: Path, tmp_path: Path) -> None:
    predicted(run, data, tmp_path, folds=(1,), inlines=(100, 100))
    assert not grid(tmp_path / "spread.sgy").any() and grid(tmp_path / "probability.sgy").any()
    with pytest.raises(RunError, match="has no models for these folds: choose other --folds"):
        predicted(run, data, tmp_path / "none", folds=(7,))


@pytest.mark.parametrize("step", [5, 16, 32])
@pytest.mark.parametrize("shape", [(2, 40, 37), (1, 9, 70), (2, 33, 20)])
def test_a_constant_network_says_the_same_everywhere(
    step: int, shape: tuple[int, ...], tiny: Experiment, tmp_path: Path
) -> None:
    run = write_run(tmp_path / "run", salt(tiny), constant=0.73)
    path = tmp_path / "a.npy"
    np.save(path, waves(shape[0] * shape[1], shape[2]).reshape(shape))
    predicted(run, path, tmp_path / "to", interval=4.0, step=step, own_range=True)
    probability, spread = (np.load(tmp_path / "to" / f"{name}.npy") for name in ("probability", "spread"))
    np.testing.assert_allclose(probability, 0.73, atol=1e-6)
    np.testing.assert_allclose(spread, 0, atol=1e-6)
    assert np.load(tmp_path / "to" / "mask.npy").all()  # all of it salt: no rule for full tiles here


def test_amplitudes_are_those_of_the_run_or_the_volumes_own(
    tiny: Experiment, run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    loud = write_segy(tmp_path / "loud.sgy", 10 * waves(40, 50), grid_numbers(1, 40) | {189: 1})
    with pytest.raises(RunError, match=r"% of the amplitudes in .*loud\.sgy are outside the run's range.*--own-range"):
        predicted(run, loud, tmp_path / "to")
    low, high = predicted(run, loud, tmp_path / "to", own_range=True)["amplitudes"]
    assert low == pytest.approx(-2326, rel=0.1) and high == pytest.approx(2326, rel=0.1)
    greys = RECORD.model_copy(update={"amplitudes": None, "samples": "uint8"})
    of_greys = write_run(tmp_path / "greys", salt(tiny), greys)
    assert predicted(of_greys, loud, tmp_path / "own")["amplitudes"] == [low, high]
    np.save(tmp_path / "grey.npy", np.random.default_rng(0).integers(0, 256, (2, 40, 50), np.uint8))
    found = predicted(of_greys, tmp_path / "grey.npy", tmp_path / "as greys", interval=4.0)
    assert found["amplitudes"] == [0, 255]
    np.save(tmp_path / "flat.npy", np.zeros((2, 40, 50), np.float32))
    with pytest.raises(VolumeError, match="holds only zeros"):
        predicted(run, tmp_path / "flat.npy", tmp_path / "flat", interval=4.0)


def test_zeros_of_no_data_do_not_move_the_range(tiny: Experiment, tmp_path: Path) -> None:
    values = waves(200, 50)
    np.save(tmp_path / "a.npy", values.reshape(5, 40, 50))
    values[::2, :40] = 0
    np.save(tmp_path / "b.npy", values.reshape(5, 40, 50))
    run = write_run(tmp_path / "run", salt(tiny))
    ranges = [
        predicted(run, tmp_path / f"{n}.npy", tmp_path / n, interval=4.0, own_range=True, inlines=(1, 1))["amplitudes"]
        for n in "ab"
    ]
    np.testing.assert_allclose(ranges[0], ranges[1], rtol=0.1)


def test_a_run_of_tiles_sees_windows_as_large_as_its_crops(tiny: Experiment, data: Path, tmp_path: Path) -> None:
    record = RECORD.model_copy(update={"window": None, "tile_px": 33})
    run = write_run(tmp_path / "run", tiny, record)
    said: list[str] = []

    class Heard(Terminal):
        def say(self, line: str) -> None:
            said.append(line)

    summary = predict_volume(
        load_run(run),
        open_volume(data),
        RunDirectory(tmp_path / "to"),
        LocalEngine(),
        Heard(),
        Asked(inlines=(100, 100)),
    )
    assert summary["window"] == 64 and summary["step"] == 32
    text = "\n".join(said)
    assert "does not record trace spacing and sample interval" in text and "inside salt empty" in text
    assert "predicted as no salt, and middle grey in the input: 1 position without a trace and dead traces" in text


def test_pixels_of_another_size_are_refused(tiny: Experiment, data: Path, tmp_path: Path) -> None:
    record = RECORD.model_copy(update={"window": PIXELS.model_copy(update={"sample_interval": 2.0})})
    run = write_run(tmp_path / "run", salt(tiny), record)
    with pytest.raises(RunError, match=r"the sample interval of .*a\.sgy is 4, but 2 in the run: .*--as-is"):
        predicted(run, data, tmp_path / "to")
    assert not (tmp_path / "to").exists()
    near = PIXELS.model_copy(update={"sample_interval": 3.8, "trace_spacing": 11.5})
    run = write_run(tmp_path / "near", salt(tiny), RECORD.model_copy(update={"window": near}))
    assert predicted(run, data, tmp_path / "to", inlines=(100, 100))["traces"] == 39


def test_a_line_has_one_direction(run: Path, tmp_path: Path) -> None:
    path = write_segy(tmp_path / "line.sgy", waves(40, 50), {21: np.arange(40), 73: 12.5 * np.arange(40), 77: 5})
    with pytest.raises(RunError, match="is a 2D line, which has one direction: leave --direction out"):
        predicted(run, path, tmp_path / "to", direction="both")
    assert predicted(run, path, tmp_path / "to", as_is=True)["traces"] == 40


def test_a_step_or_a_memory_that_cannot_be(run: Path, data: Path, tmp_path: Path) -> None:
    for step in (0, 33):
        with pytest.raises(RunError, match=rf"cannot be {step} px apart: choose a --step from 1 to 32"):
            predicted(run, data, tmp_path, step=step)
    with pytest.raises(RunError, match=r"a line of .*a\.sgy needs 0\.0\d GB: increase --memory"):
        predicted(run, data, tmp_path, memory=1 << 20)
    assert not list(tmp_path.iterdir())


def test_memory_of_a_slab_is_bounded_however_large_the_volume(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volume of 51 MB, predicted in slabs that take a few."""
    monkeypatch.setattr(slabs, "_SLABS", 1)
    shape, memory = (100, 500, 256), 80 << 20
    path = tmp_path / "a.npy"
    random = np.random.default_rng(0)
    cube = np.lib.format.open_memmap(path, "w+", np.float32, shape)
    for inline in cube:
        inline[:] = random.normal(0, 100, shape[1:])
    del cube
    volume = open_volume(path, Reading(interval=4))
    trained = load_run(run)
    work = volumes._work(trained, volume, RunDirectory(tmp_path), lambda line: None, Asked())
    part = Part(0, shape[0], 0, shape[1])
    for direction in ("inline", "crossline"):
        count = work.lines_at_once(part, direction, memory)
        slab = Slab(direction, part.lines(direction, count)[1], tmp_path / "slab.npy")
        assert 1 < count < (100 if direction == "inline" else 500) / 2
        tracemalloc.start()
        slab.save(work.predicted(slab, lambda weights, windows: windows / np.float32(255)))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < memory
    with pytest.raises(RunError, match="--memory"):
        work.lines_at_once(part, "inline", 1 << 20)


def test_the_command_says_what_it_wrote(road: Road, run: Path, data: Path, whole: Path, tmp_path: Path) -> None:
    words = ["volume", "predict", str(run), "--data", str(data), "--to"]
    local = ["--engine", "local"]
    output = road.here_alone(*words, str(tmp_path / "to"), *local, "--memory", "0.5")
    assert "199 traces" in output and "probability.sgy" in output and "left" in output
    assert (tmp_path / "to" / "mask.sgy").read_bytes() == (whole / "mask.sgy").read_bytes()
    again = road.here_alone(*words, str(tmp_path / "to"), *local, "--memory", "0.5", "--json")
    assert json.loads(again[again.index("{") :])["traces"] == 199 and "is already complete" in again
    for bad, told in (("a", "is not a range"), ("1:2:3", "FIRST:LAST"), ("1:2:0", "is not a range")):
        assert told in road.here_alone(*words, str(tmp_path / "bad"), *local, "--inlines", bad, code=2)
    refused = road.here_alone(*words, str(tmp_path / "to"), *local, "--step", "7", code=1)
    assert "use another --to" in refused
    few = road.here_alone(*words, str(tmp_path / "few"), *local, "--inlines", "100:101", "--folds", "0", "--quiet")
    assert few == "" and (tmp_path / "few" / "mask.sgy").exists()
    road.here_alone(*words, str(tmp_path / "one"), *local, "--inlines", "101", "--folds", "0", "--quiet")
    np.testing.assert_array_equal(grid(tmp_path / "one" / "mask.sgy")[0], grid(tmp_path / "few" / "mask.sgy")[1])


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_sections_picture_takes_the_same_path(suffix: str, road: Road, tiny: Experiment, tmp_path: Path) -> None:
    greys = write_run(tmp_path / "run", salt(tiny), RECORD.model_copy(update={"amplitudes": None, "samples": "uint8"}))
    picture = np.random.default_rng(0).integers(0, 256, (40, 60), np.uint8)  # 40 samples of 60 traces
    Image.fromarray(picture).save(tmp_path / f"line.{suffix}")
    words = ["volume", "predict", str(greys), "--data", str(tmp_path / f"line.{suffix}"), "--engine", "local", "--to"]
    assert "--interval" in road.here_alone(
        *words, str(tmp_path / "to"), code=1
    )  # a picture says none, and the run does
    words[5:5] = ["--interval", "4"]
    road.here_alone(*words, str(tmp_path / "to"))
    probability, mask = (np.asarray(Image.open(tmp_path / "to" / f"{name}.png")) for name in ("probability", "mask"))
    each = each_models(greys, picture.T[None], np.ones((1, 60), bool))
    np.testing.assert_allclose(probability / 65535, np.mean(each, 0)[0].T, atol=1e-4)
    assert f"<h1>line.{suffix}</h1>" in (tmp_path / "to" / "report.html").read_text()
    assert mask.shape == picture.shape and set(np.unique(mask)) == {0, 255}
    assert "is already complete" in road.here_alone(*words, str(tmp_path / "to"))
    (tmp_path / "bad.png").write_bytes(b"no picture")
    words[4] = str(tmp_path / "bad.png")
    assert "give a greyscale picture" in road.here_alone(*words, str(tmp_path / "bad"), code=1)
