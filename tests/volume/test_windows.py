"""Windows of a section: what they cover, what is around them, what is labelled; and what a network is fed of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_labels import CROSSLINES, LABELLED, SAMPLES, made_cube, write_labels, write_volume

from salt_ray.config import Augmentation, Experiment
from salt_ray.metric import UNLABELLED
from salt_ray.survey.amplitudes import MIDDLE_GREY
from salt_ray.survey.prepared import prepare_survey
from salt_ray.survey.tiles import load_survey
from salt_ray.survey.window import Window, Windows
from salt_ray.volume.blending import Blending
from salt_ray.volume.lines import amplitude_range
from salt_ray.volume.scan import open_volume
from salt_ray.volume.slabs import read_greys
from salt_ray.volume.tiles import cut_labelled
from salt_ray.volume.windows import cut, window_starts

WINDOW = Window(window_px=32, context_px=10, trace_spacing=None, sample_interval=4.0)


@given(st.integers(1, 300), st.sampled_from([32, 64]), st.integers(1, 64))
def test_windows_cover_an_axis_and_end_flush_with_it(length: int, window_px: int, step: int) -> None:
    step = min(step, window_px)
    found = window_starts(length, window_px, step)
    covered = np.zeros(max(length, window_px), bool)
    for start in found:
        covered[start : start + window_px] = True
    assert covered.all() and found == sorted(set(found)) and (np.diff(found) <= step).all()
    assert found[0] == 0 and found[-1] + window_px == len(covered)


def test_context_is_the_section_around_a_window_and_mirrored_beyond_it() -> None:
    section = np.random.default_rng(0).normal(size=(90, 70)).astype(np.float32)
    labels = np.random.default_rng(1).integers(-1, 2, section.shape).astype(np.int8)
    whole = np.pad(section, 10, "reflect")
    known = np.pad(labels, 10, constant_values=UNLABELLED)
    windows = list(cut(section, labels, WINDOW, 16))
    assert len(windows) == len(window_starts(90, 32, 16)) * len(window_starts(70, 32, 16))
    for one in windows:
        place = np.s_[one.sample : one.sample + 52, one.trace : one.trace + 52]
        assert (one.amplitudes == whole[place]).all() and (one.labels == known[place]).all()
        inside = np.s_[10:42, 10:42]
        assert (one.amplitudes[inside] == section[one.sample :, one.trace :][:32, :32]).all()


@pytest.mark.parametrize("shape", [(20, 70), (70, 9), (5, 3)])
def test_a_section_that_is_smaller_than_a_window_is_mirrored_and_not_labelled_there(shape: tuple[int, int]) -> None:
    section = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    first, *_ = cut(section, np.ones(shape, np.int8), WINDOW, 16)
    rows, columns = (min(n, 32) for n in shape)
    assert first.amplitudes.shape == first.labels.shape == (52, 52)
    assert (first.amplitudes[10 : 10 + rows, 10 : 10 + columns] == section[:rows, :columns]).all()
    if shape[0] < 32:
        assert (first.labels[10 + shape[0] :] == UNLABELLED).all()
    if shape[1] < 32:
        assert (first.labels[:, 10 + shape[1] :] == UNLABELLED).all()


def test_windows_without_a_labelled_pixel_are_left_out_and_what_has_no_data_has_no_label() -> None:
    section, labels = np.ones((64, 96), np.float32), np.full((64, 96), UNLABELLED, np.int8)
    labels[5, 40] = 1
    found = {(one.trace, one.sample) for one in cut(section, labels, WINDOW, 16)}
    assert found == {(16, 0), (32, 0)}
    section[:, 40] = np.nan
    assert not list(cut(section, labels, WINDOW, 16))
    labels[5, 41] = 0
    for one in cut(section, labels, WINDOW, 16):
        assert (np.isnan(one.amplitudes) <= (one.labels == UNLABELLED)).all() and (one.labels != 1).all()


@pytest.mark.parametrize("window_px", [32, 64, 96])
def test_training_and_prediction_are_fed_the_same(tiny: Experiment, tmp_path: Path, window_px: int) -> None:
    """What validation crops from windows' tiles is, to the bit, what ``volume predict`` feeds of the same file.

    Windows of 64 px are larger than a section (40 samples, 48 traces), those of 96 px than one mirrored once.
    """
    import torch

    from salt_ray.training.samples import samples_for

    amplitudes, salt = made_cube()
    amplitudes[20, 10:13] = amplitudes[40, -1] = 0  # dead traces
    there = np.ones(amplitudes.shape[:2], bool)
    there[0, :5] = there[60, 20:23] = False  # no traces
    file, labels = write_volume(tmp_path, amplitudes, there), write_labels(tmp_path, salt)
    cut_labelled(file, tmp_path / "survey", labels=labels, window_px=window_px)
    survey = load_survey(tmp_path / "survey", cache=tmp_path / "cache")
    prepared = prepare_survey(survey, tiny, cache=tmp_path / "cache")
    volume = open_volume(file)
    greys = amplitude_range(volume)
    assert greys == Windows.of(tmp_path / "survey").amplitudes == survey.scaling.used
    samples = samples_for(prepared.training_tiles(tiny), Augmentation(), torch.device("cpu"), print)
    everything = np.arange(survey.labelled)
    images, masks = samples.centred(everything)
    assert (masks.numpy() == samples.truth(everything)).all() and (samples.truth(everything) == survey.masks).all()
    validated = np.rint(images[:, 0].numpy() * 255)
    seen, live = read_greys(volume, volume.geometry.traces, greys)
    blending = Blending((SAMPLES, CROSSLINES), window_px, window_px // 2)
    for row in LABELLED:
        fed: list[np.ndarray] = []
        blending.join(seen[row].T, live[row], lambda windows, fed=fed: fed.extend(windows) or windows)
        own = np.flatnonzero(survey.places[:, 1] == row)
        own = own[np.lexsort(survey.places[own, 2:].T)]  # as they are cut: by samples, then traces
        np.testing.assert_array_equal(validated[own], np.stack(fed))
        truth = np.pad(np.where(live[row], salt[row].T, UNLABELLED), (0, window_px), constant_values=UNLABELLED)
        for tile, (trace, sample) in zip(own, survey.places[own, 2:], strict=True):
            assert (survey.masks[tile] == truth[sample:, trace:][:window_px, :window_px]).all()
    assert set(survey.places[:, 1]) == set(LABELLED)
    assert np.count_nonzero((validated == MIDDLE_GREY) & (survey.masks == UNLABELLED)) >= 7 * SAMPLES
