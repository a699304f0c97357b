"""The submission: the asked order, every tile once, masks that decode back."""

import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from salt_ray.survey import rle
from salt_ray.survey.submission import SubmissionError, write_masks, write_submission

IDS = np.array(["a", "b", "c"])
MASKS = np.random.default_rng(0).random((3, 33, 33)) > 0.5


def test_rows_follow_the_wanted_order_and_decode_back(tmp_path: Path) -> None:
    masks = MASKS.copy()
    masks[1] = False
    write_submission(tmp_path / "submission.csv", IDS, masks, np.array(["c", "a", "b"]))
    rows = pd.read_csv(tmp_path / "submission.csv", keep_default_na=False)
    assert rows["id"].tolist() == ["c", "a", "b"]
    assert rows["rle_mask"][2] == ""
    assert (rle.decode(rows["rle_mask"].tolist(), 33, 33) == masks[[2, 0, 1]]).all()


@pytest.mark.parametrize(
    ("wanted", "words"), [(["a", "b", "c", "d"], "not predicted .first: d"), (["a", "b"], "not listed .first: c")]
)
def test_a_submission_that_does_not_fit_is_not_written(tmp_path: Path, wanted: list[str], words: str) -> None:
    with pytest.raises(SubmissionError, match=words):
        write_submission(tmp_path / "submission.csv", IDS, MASKS, np.array(wanted))
    assert not list(tmp_path.iterdir())


def test_masks_are_pictures_that_read_back_and_the_same_bytes_again(tmp_path: Path) -> None:
    write_masks(tmp_path / "masks.zip", IDS, MASKS)
    with zipfile.ZipFile(tmp_path / "masks.zip") as archive:
        assert archive.namelist() == ["a.png", "b.png", "c.png"] and archive.testzip() is None
        pictures = [cv2.imdecode(np.frombuffer(archive.read(name), np.uint8), -1) for name in archive.namelist()]
    assert (np.stack(pictures) == MASKS * np.uint8(255)).all()
    before = (tmp_path / "masks.zip").read_bytes()
    write_masks(tmp_path / "masks.zip", IDS, MASKS)
    assert (tmp_path / "masks.zip").read_bytes() == before
