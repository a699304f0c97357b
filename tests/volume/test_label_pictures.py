"""Pictures of lines as labels: named colours, any size, and one sentence where something does not fit."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from made_labels import CROSSLINES, INLINES, SAMPLES, made_cube, write_volume
from made_segy import write_segy

from salt_ray.metric import UNLABELLED
from salt_ray.volume.label_pictures import check_colours, nearest, picture_labels
from salt_ray.volume.problem import VolumeError
from salt_ray.volume.scan import open_volume
from salt_ray.volume.tiles import cut_labelled
from salt_ray.volume.volume import Volume

RED, BLUE, GREY = (255, 0, 0), (0, 0, 255), (130, 130, 130)
COLOURS = ["salt=#ff0000", "none=#0000ff"]


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    return open_volume(write_volume(tmp_path_factory.mktemp("volume"), made_cube()[0]))


def painted(labels: np.ndarray) -> np.ndarray:
    """Red for 1, blue for 0, grey for others: uint8 (H, W, 3)."""
    return np.array([BLUE, RED, GREY], np.uint8)[labels]


def write_picture(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(exist_ok=True)
    assert cv2.imwrite(str(path), pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]])
    return path


def random_labels(shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(-1, 2, shape).astype(np.int8)


@pytest.mark.parametrize("scale", [1, 3])
def test_colours_become_labels_whatever_the_size_of_a_picture(volume: Volume, tmp_path: Path, scale: int) -> None:
    inline, crossline = random_labels((SAMPLES, CROSSLINES)), random_labels((SAMPLES, INLINES))
    for name, labels in (("inline_107.png", inline), ("XL-0330.tif", crossline)):
        write_picture(tmp_path / "lines" / name, painted(labels).repeat(scale, 0).repeat(scale, 1))
    (tmp_path / "lines" / "notes.txt").touch()
    found = picture_labels(volume, tmp_path / "lines", COLOURS)
    lines = {(line.direction, line.number): line for line in found.lines()}
    assert set(lines) == {("inline", 107), ("crossline", 330)}
    assert (found.on(lines["inline", 107]) == inline).all() and (found.on(lines["crossline", 330]) == crossline).all()
    other = lines["inline", 107].model_copy(update={"index": 8})
    assert (found.on(other) == UNLABELLED).all() and found.on(other).shape == inline.shape
    assert len(found.said) == (1 if scale == 1 else 2)


def test_a_smaller_picture_gives_its_nearest_pixels() -> None:
    labels = random_labels((7, 5))
    assert (nearest(labels, (7, 5)) == labels).all()
    assert nearest(np.arange(9)[:, None], (3, 1)).ravel().tolist() == [1, 4, 7]
    assert (nearest(labels, (21, 15)) == labels.repeat(3, 0).repeat(3, 1)).all()
    assert (nearest(labels.repeat(3, 0).repeat(3, 1), (7, 5)) == labels).all()


def test_what_smoothing_has_mixed_and_what_is_transparent_is_not_labelled(volume: Volume, tmp_path: Path) -> None:
    labels = np.zeros((SAMPLES, CROSSLINES), np.int8)
    labels[:, 20:] = 1
    smooth = cv2.resize(painted(labels).repeat(4, 0).repeat(4, 1), (CROSSLINES, SAMPLES), interpolation=cv2.INTER_AREA)
    smooth[:, 20] = (128, 0, 127)
    smooth[:, 5] = (40, 10, 230)  # as a JPEG has left it
    opacity = np.full((*labels.shape, 1), 255, np.uint8)
    opacity[3] = 0
    write_picture(tmp_path / "lines" / "il_100.png", np.concatenate([smooth, opacity], axis=2))
    found = picture_labels(volume, tmp_path / "lines", COLOURS)
    expected = labels.copy()
    expected[:, 20], expected[3] = UNLABELLED, UNLABELLED
    assert (found.on(found.lines()[0]) == expected).all()


def test_pictures_are_cut_to_windows_and_a_2d_line_needs_no_name(volume: Volume, tmp_path: Path) -> None:
    picture = write_picture(tmp_path / "lines" / "inline_120.png", painted(made_cube()[1][20].T.astype(int)))
    count = cut_labelled(volume.path, tmp_path / "survey", labels=picture.parent, colours=COLOURS, window_px=32)
    assert count == len(list((tmp_path / "survey" / "train" / "masks" / "il0120").iterdir())) == 4
    line = open_volume(write_segy(tmp_path / "line.sgy", made_cube()[0][20], {193: np.arange(CROSSLINES)}))
    found = picture_labels(line, picture, COLOURS)
    assert (found.on(found.lines()[0]) == made_cube()[1][20].T).all()


def test_each_mistake_is_one_sentence(volume: Volume, tmp_path: Path) -> None:
    pixels = painted(random_labels((SAMPLES, CROSSLINES)))
    good = write_picture(tmp_path / "good" / "inline_107.png", pixels).parent
    write_picture(tmp_path / "twice" / "inline_107.png", pixels)
    write_picture(tmp_path / "twice" / "il107.png", pixels)
    (tmp_path / "none").mkdir()
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    for path, colours, told in (
        (good, [], "define one: --colour salt=#ff0000"),
        (good, ["none=#ff0000"], "no colour is defined as salt"),
        (good, ["salt=red"], "--colour salt=red is not a colour"),
        (good, ["rock=#ff0000"], "--colour rock=#ff0000 is not a colour"),
        (good, [*COLOURS, "none=#00ff00"], "no picture has the colour none=#00ff00; the most frequent are #"),
        (tmp_path / "twice", COLOURS, "shows the same line as another picture"),
        (tmp_path / "none", COLOURS, "holds no picture"),
        (
            write_picture(tmp_path / "far" / "inline_900.png", pixels),
            COLOURS,
            "is for inline 900, .* inlines 100 to 163",
        ),
        (write_picture(tmp_path / "named" / "mine.png", pixels), COLOURS, "has no line number in its name"),
    ):
        with pytest.raises(VolumeError, match=told):
            check_colours(path, [picture_labels(volume, path, colours)])
    (tmp_path / "broken.png").rename(tmp_path / "inline_100.png")
    with pytest.raises(VolumeError, match="cannot be read as a picture"):
        picture_labels(volume, tmp_path / "inline_100.png", COLOURS)
