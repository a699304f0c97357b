"""A survey of twelve small tiles in exactly TGS's layout, and ways to change its files."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from salt_ray.survey import rle
from salt_ray.survey.tiles import Survey

PX = 12
LABELLED = [f"a{i}" for i in range(7)]
UNLABELLED = [f"b-{i}" for i in range(5)]
CONSTANT = ["a2", "b-4"]
#: Files that the tests of faults spoil, and pixels to spoil them with.
IMAGE, MASK, TEST = "train/images/a4.png", "train/masks/a4.png", "test/images/b-1.png"
NOISE = np.random.default_rng(1).integers(0, 256, (PX + 1, PX + 1, 4), np.uint8)


def truth() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, int]]:
    """Images uint8 (PX, PX), masks bool (PX, PX) and depths in feet, by id."""
    rng = np.random.default_rng(0)
    images = {i: rng.integers(0, 256, (PX, PX), np.uint8) for i in LABELLED + UNLABELLED}
    for i in CONSTANT:
        images[i] = np.full((PX, PX), 77, np.uint8)
    masks = {i: rng.random((PX, PX)) < 0.3 for i in LABELLED}
    for i in ("a1", "a2"):
        masks[i] = np.zeros((PX, PX), bool)
    masks["a3"] = np.ones((PX, PX), bool)
    return images, masks, {i: 50 + 7 * at for at, i in enumerate(LABELLED + UNLABELLED)}


def write_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


def write_survey(directory: Path) -> Path:
    """TGS in small: RGB images, masks of 16 bits (8 where empty), rows in another order than the ids'."""
    images, masks, depths = truth()
    for i, image in images.items():
        write_png(directory / ("train" if i in masks else "test") / "images" / f"{i}.png", rgb(image))
    for i, mask in masks.items():
        pixels = mask.astype(np.uint16) * 65535 if mask.any() else np.zeros((PX, PX), np.uint8)
        write_png(directory / "train/masks" / f"{i}.png", pixels)
    texts = dict(zip(masks, rle.encode(np.stack(list(masks.values()))), strict=True))
    write_table(directory / "train.csv", "rle_mask", {i: texts[i] for i in reversed(LABELLED)})
    write_table(directory / "depths.csv", "z", depths)
    write_table(directory / "sample_submission.csv", "rle_mask", dict.fromkeys(reversed(UNLABELLED), "1 1"))
    return directory


def write_table(path: Path, column: str, rows: dict) -> None:
    path.write_text("\n".join([f"id,{column}", *(f"{i},{value}" for i, value in rows.items())]) + "\n")


def set_row(path: Path, row: str) -> None:
    """Replace the row of an id, or add it."""
    identity = row.partition(",")[0]
    lines = [line for line in path.read_text().splitlines() if not line.startswith(f"{identity},")]
    path.write_text("\n".join([*lines, row]) + "\n")


def remove_row(path: Path, identity: str) -> None:
    lines = [line for line in path.read_text().splitlines() if not line.startswith(f"{identity},")]
    path.write_text("\n".join(lines) + "\n")


def change_bytes(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def flip(content: bytes) -> bytes:
    at = content.index(b"IDAT") + 12
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def assert_same(one: Survey, other: Survey) -> None:
    assert one.key == other.key
    for name in ("ids", "images", "masks", "depths", "constant", "submission_ids"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), strict=True)
