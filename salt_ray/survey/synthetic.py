"""A synthetic seismic survey in exactly Kaggle's layout, for tests, demonstrations and machines without the TGS tiles.

Legend: T tile side in px; R, C rows and columns of tiles in a section; H = R * T and W = C * T px, depth is axis 0.
A section is made as a seismic trace is: an impedance model (folded, faulted layers and salt), its vertical contrast
(reflectivity), a Ricker wavelet that gets longer with depth, noise that grows with depth. Lengths are fractions of a
tile where they belong to structures (the share of tiles with salt then does not depend on T), and px scaled by the
square root of T / 101 where they belong to layers and wavelets (small tiles still resolve them).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from salt_ray.errors import SaltRayError
from salt_ray.storage import new_folder
from salt_ray.survey import rle

MIN_TILES = 40  # the first section (at most 36 tiles) is always whole, and with it the constant tiles of both splits
TILE_PX_RANGE = (32, 256)
TEST_FRACTION_RANGE = (0.05, 0.95)
MISSING_SHARE = 0.03  # of the grid: tiles that the mosaic assembler must do without
CONSTANT_SHARE = 0.02  # TGS: 510 of 22,000 tiles hold no data
DEPTH_RANGE_FT = (50, 959)  # TGS depths.csv
BED_STEP_PX = 0.5


class SyntheticError(SaltRayError, ValueError):
    """A synthetic survey cannot be made as asked."""


@dataclass(frozen=True)
class SectionPlan:
    """One section's grid: its size in tiles, the (row, col) cells that become tiles, and a corner without data."""

    rows: int
    cols: int
    cells: tuple[tuple[int, int], ...]
    dead_rows: int  # size in tiles of the corner without data, 0 for none
    dead_cols: int
    dead_at_bottom: bool

    def is_dead(self, row: int, col: int) -> bool:
        """Whether a cell is entirely in the corner without data (always at the left: the survey's edge)."""
        row_from_corner = self.rows - 1 - row if self.dead_at_bottom else row
        return row_from_corner < self.dead_rows and col < self.dead_cols


def write_survey(
    directory: Path,
    tiles: int = 2000,
    seed: int = 0,
    *,
    tile_px: int = 101,
    test_fraction: float = 1 / 3,
    report: Callable[[str], None] = lambda line: None,
) -> None:
    """Write ``tiles`` tiles of ``tile_px`` x ``tile_px`` px under ``directory``, whole or not at all.

    The layout is Kaggle's (train/images, train/masks, test/images, train.csv, depths.csv, sample_submission.csv);
    ``truth`` beside it holds what Kaggle kept: masks of the test tiles and each tile's place (places.csv). The same
    arguments give the same bytes.

    Raises:
        SyntheticError: an argument out of range, or a directory that already holds something.
    """
    _check_arguments(tiles, seed, tile_px, test_fraction)
    with new_directory(directory) as temporary:
        _write_files(temporary, tiles, seed, tile_px, test_fraction, report)


@contextlib.contextmanager
def new_directory(directory: Path) -> Iterator[Path]:
    """A folder to fill, which takes the name ``directory`` when the block ends and is deleted when it raises.

    Raises:
        SyntheticError: ``directory`` already holds something, or is a file.
    """
    directory = Path(directory).resolve()
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise SyntheticError(f"directory {directory} exists and is not empty: give another folder or delete it first")
    with new_folder(directory) as temporary:
        yield temporary


def _check_arguments(tiles: int, seed: int, tile_px: int, test_fraction: float) -> None:
    """Raise SyntheticError for the first argument out of range."""
    if tiles < MIN_TILES:
        raise SyntheticError(f"tiles is {tiles}: a survey has at least {MIN_TILES} tiles")
    if seed < 0:
        raise SyntheticError(f"seed is {seed}: it must be 0 or larger")
    if not TILE_PX_RANGE[0] <= tile_px <= TILE_PX_RANGE[1]:
        raise SyntheticError(f"tile_px is {tile_px}: allowed are {TILE_PX_RANGE[0]} to {TILE_PX_RANGE[1]} px")
    if not TEST_FRACTION_RANGE[0] <= test_fraction <= TEST_FRACTION_RANGE[1]:
        low, high = TEST_FRACTION_RANGE
        raise SyntheticError(
            f"test_fraction is {test_fraction}: allowed are {low} to {high}, so that no split is empty"
        )


def _write_files(
    root: Path, tiles: int, seed: int, tile_px: int, test_fraction: float, report: Callable[[str], None]
) -> None:
    """Write every file of the survey under ``root``."""
    plans = plan_sections(np.random.default_rng([seed, 0]), tiles)
    table = tile_table(np.random.default_rng([seed, 1]), plans, test_fraction)
    for folder in ("train/images", "train/masks", "test/images", "truth/masks"):
        (root / folder).mkdir(parents=True)
    run_lengths: dict[str, str] = {}
    for number, (plan, (_, rows)) in enumerate(zip(plans, table.groupby("section", sort=True), strict=True)):
        amplitude, label = draw_section(np.random.default_rng([seed, 2, number]), plan, tile_px)
        for place in rows.itertuples():
            top, left = place.row * tile_px, place.col * tile_px
            window = np.s_[top : top + tile_px, left : left + tile_px]
            image, mask = stretch(amplitude[window]), label_tile(label[window])
            images, masks = ("test/images", "truth/masks") if place.test else ("train/images", "train/masks")
            _write_png(root / images / f"{place.id}.png", cv2.merge([image] * 3))
            _write_png(root / masks / f"{place.id}.png", mask * np.uint8(255))
            if not place.test:
                (run_lengths[place.id],) = rle.encode(mask[None])
        report(f"section {number + 1} of {len(plans)}: {plan.rows} x {plan.cols} tiles, {len(plan.cells)} written")
    files = {
        "train.csv": pd.DataFrame(run_lengths.items(), columns=["id", "rle_mask"]),
        "sample_submission.csv": table.loc[table["test"], ["id"]].assign(rle_mask="1 1"),
        "depths.csv": table[["id", "z"]],
        "truth/places.csv": table[["id", "section", "row", "col"]],
    }
    for name, rows in files.items():
        # Sorted by id: the order of rows must not tell the place of a tile.
        rows.sort_values("id").to_csv(root / name, index=False, lineterminator="\n")


def _write_png(path: Path, image: np.ndarray) -> None:
    """Write uint8 (H, W) or (H, W, 3) as PNG."""
    written, encoded = cv2.imencode(".png", image)
    assert written, path
    path.write_bytes(encoded.tobytes())


def plan_sections(rng: np.random.Generator, tiles: int) -> list[SectionPlan]:
    """Sections whose cells number exactly ``tiles``; the last one may be used in part (whole columns from the left)."""
    plans: list[SectionPlan] = []
    cells_so_far = dead_so_far = 0
    while cells_so_far < tiles:
        rows, cols = int(rng.integers(3, 5)), int(rng.integers(6, 10))
        # At least two dead cells at a time: the first section then gives one to each split.
        dead_rows, dead_cols = [(1, 2), (2, 1), (1, 3), (2, 2)][int(rng.integers(4))]
        if dead_so_far >= CONSTANT_SHARE * (cells_so_far + 1):
            dead_rows = dead_cols = 0
        plan = SectionPlan(rows, cols, (), dead_rows, dead_cols, bool(rng.random() < 0.6))
        kept = rng.random((cols, rows)) >= MISSING_SHARE
        cells = [(r, c) for c in range(cols) for r in range(rows) if kept[c, r] or plan.is_dead(r, c)]
        cells = cells[: tiles - cells_so_far]
        plans.append(replace(plan, cells=tuple(cells)))
        cells_so_far += len(cells)
        dead_so_far += sum(plan.is_dead(r, c) for r, c in cells)
    return plans


def tile_table(rng: np.random.Generator, plans: list[SectionPlan], test_fraction: float) -> pd.DataFrame:
    """One row per tile: id (10 hex digits), section, row, col, z (ft), test (bool), constant (bool)."""
    records = [
        (section, row, col, (row + 0.5) / plan.rows, plan.is_dead(row, col))
        for section, plan in enumerate(plans)
        for row, col in plan.cells
    ]
    table = pd.DataFrame(records, columns=["section", "row", "col", "depth", "constant"])
    numbers: list[int] = []
    while len(numbers) < len(table):  # a repeat among 16**10 is rare, and would overwrite a tile
        numbers = list(dict.fromkeys([*numbers, *rng.integers(16**10, size=len(table)).tolist()]))[: len(table)]
    low, high = DEPTH_RANGE_FT
    # Depth as on Kaggle: neighbours differ, and the place in the section explains only part of it.
    z = low + (high - low) * (0.2 + 0.6 * table["depth"]) + rng.normal(0, 150, len(table))
    table["id"] = [f"{number:010x}" for number in numbers]
    table["z"] = z.clip(low, high).round().astype(int)
    table["test"] = False
    test_count = round(len(table) * test_fraction)
    constant = rng.permutation(np.flatnonzero(table["constant"]))
    varied = rng.permutation(np.flatnonzero(~table["constant"]))
    constant_count = int(np.clip(round(len(constant) * test_fraction), 1, min(len(constant), test_count) - 1))
    chosen = np.concatenate([constant[:constant_count], varied[: test_count - constant_count]])
    table.loc[chosen, "test"] = True
    return table


def stretch(amplitude: np.ndarray) -> np.ndarray:
    """Map float (T, T) to uint8 so that the tile's own minimum is 0 and its maximum 255; a constant tile is 0."""
    low, high = float(amplitude.min()), float(amplitude.max())
    if low == high:
        return np.zeros(amplitude.shape, np.uint8)
    return np.rint((amplitude.astype(np.float64) - low) * (255 / (high - low))).astype(np.uint8)


def label_tile(label: np.ndarray) -> np.ndarray:
    """TGS's quirk: bool (T, T) as drawn on the section, but empty where the tile is entirely inside salt."""
    return np.zeros_like(label) if label.all() else label


def draw_section(rng: np.random.Generator, plan: SectionPlan, tile_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Seismic amplitude float32 (H, W), 0 where there is no data, and the interpreter's salt label bool (H, W)."""
    height, width = plan.rows * tile_px, plan.cols * tile_px
    resolution = float(np.sqrt(tile_px / 101))  # px per px of a 101 px tile, for layers and wavelets
    salt, label = salt_bodies(rng, height, width, tile_px)
    age = layer_age(rng, label, tile_px)
    impedance = layer_impedance(rng, age, resolution)
    # Seismic energy hardly reaches what overhangs hide: why interpreters drop the flanks straight down from there.
    shadow = _blur((label & ~salt).astype(np.float32), 2 * resolution)
    softened = _blur(salt.astype(np.float32), 0.7)
    impedance = impedance * (1 - softened) * (1 - 0.75 * shadow) + softened * np.float32(rng.uniform(5, 7))
    reflectivity = np.diff(impedance, axis=0, prepend=impedance[:1])
    depth = np.linspace(rng.uniform(0, 0.4), 1, height, dtype=np.float32)[:, None]  # 0 shallow to 1 deep
    chaos = _blur(rng.standard_normal((height, width), np.float32), 1.6 * resolution)
    reflectivity += (0.05 + 0.10 * softened) * chaos / chaos.std()
    noise = cv2.GaussianBlur(rng.standard_normal((height, width), np.float32), (0, 0), 2.2 * resolution, sigmaY=0.5)
    reflectivity += (np.float32(rng.uniform(0.03, 0.10)) + 0.10 * depth) * noise / noise.std()
    trace = convolve(reflectivity, depth, 8 * resolution, 17 * resolution)
    # Migration does not focus steep flanks: sideways smoothing (the Fresnel zone) cancels them and keeps flat layers.
    trace = cv2.GaussianBlur(trace, (0, 0), 1.4 * resolution, sigmaY=0.3)
    trace /= trace.std()
    trace += 0.04 * _blur(rng.standard_normal((height, width), np.float32), 0.6)
    trace = 1.8 * np.tanh(trace / 1.8)  # display gain: one bright top does not turn the rest of a tile grey
    dead = dead_zone(rng, plan, tile_px)
    return np.where(dead, np.float32(0), trace), label & ~dead


def salt_bodies(rng: np.random.Generator, height: int, width: int, tile_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Salt bool (H, W) and its label bool (H, W), which runs from each column's top straight down.

    Domes and diapirs are rooted below the section, and their labels end at its lower edge; sheets end at their base.
    """
    salt = np.zeros((height, width), bool)
    label = np.zeros((height, width), bool)
    z, x = np.mgrid[:height, :width].astype(np.float32) / tile_px  # in tiles
    # Bent coordinates make every outline irregular: by a sixth of a tile at large, by a fiftieth in detail.
    x_bent, z_bent = (
        field
        + 0.16 * smooth_field(rng, height, width, 0.7 * tile_px)
        + 0.018 * smooth_field(rng, height, width, 0.15 * tile_px)
        for field in (x, z)
    )
    depth = height / tile_px
    centre = rng.uniform(-0.3, 1.0)
    while centre < width / tile_px + 0.3:
        kind = rng.choice(["dome", "diapir", "sheet"], p=[0.4, 0.4, 0.2])
        if kind == "sheet":
            body = _sheet(rng, x_bent, z_bent, centre, depth)
            below = np.flip(np.logical_or.accumulate(np.flip(body, 0), 0), 0)
        else:
            body = (_dome if kind == "dome" else _diapir)(rng, x_bent, z_bent, centre, depth)
            below = True
        salt |= body
        label |= np.logical_or.accumulate(body, 0) & below
        centre += rng.uniform(1.6, 3.3)
    return salt, label


def _dome(rng: np.random.Generator, x: np.ndarray, z: np.ndarray, centre: float, depth: float) -> np.ndarray:
    """A pillow that widens downwards; coordinates in tiles."""
    top = rng.uniform(0.15, 0.65) * depth
    left, right = rng.uniform(0.6, 1.5, 2)
    rounding = rng.uniform(0.45, 0.9)  # 0.5 is a parabola, 1 a cone
    base = np.where(x < centre, np.float32(left), np.float32(right))
    return np.abs(x - centre) < dome_half_width(z, top, depth, rounding, base)


def dome_half_width(z: np.ndarray, top: float, depth: float, rounding: float, base: float | np.ndarray) -> np.ndarray:
    """A dome's half width at depths ``z``: 0 above ``top``, ``base`` at ``depth``; all in tiles but ``rounding``."""
    return base * (np.maximum(z - top, 0) / (depth - top)) ** rounding


def _diapir(rng: np.random.Generator, x: np.ndarray, z: np.ndarray, centre: float, depth: float) -> np.ndarray:
    """A bulb on a stem that flares to its pedestal; coordinates in tiles."""
    top = rng.uniform(0.12, 0.6) * depth
    bulb_height = rng.uniform(0.3, 0.7)
    axis = centre + rng.uniform(-0.15, 0.15) * (z - top)
    shoulder = rng.uniform(0.5, 1.0)
    bulb, stem, pedestal = (
        np.where(x < axis, np.float32(rng.uniform(*size)), np.float32(rng.uniform(*size)))
        for size in ((0.5, 0.9), (0.25, 0.5), (0.3, 1.2))
    )
    return np.abs(x - axis) < diapir_half_width(z, top, depth, bulb_height, shoulder, bulb, stem, pedestal)


def diapir_half_width(
    z: np.ndarray,
    top: float,
    depth: float,
    bulb_height: float,
    shoulder: float,
    bulb: float | np.ndarray,
    stem: float | np.ndarray,
    pedestal: float | np.ndarray,
) -> np.ndarray:
    """A diapir's half width at depths ``z``, all in tiles: 0 above ``top``, that of its bulb for ``bulb_height``.

    Within a further ``shoulder`` it narrows to its stem, which ``pedestal`` widens towards ``depth``.
    """
    fall = np.clip((z - top - bulb_height) / shoulder, 0, 1)
    fall = fall * fall * (3 - 2 * fall)  # smooth step from bulb to stem
    cap = np.sqrt(np.clip(1 - (1 - np.clip((z - top) / bulb_height, 0, 1)) ** 2, 0, 1))
    flare = pedestal * np.clip((z - top - bulb_height) / (depth - top), 0, 1) ** 1.5
    return cap * (bulb + (np.minimum(stem, bulb) - bulb) * fall) + flare


def _sheet(rng: np.random.Generator, x: np.ndarray, z: np.ndarray, centre: float, depth: float) -> np.ndarray:
    """A tongue of squeezed-out salt with a top and a base; coordinates in tiles."""
    half_length, thickness = rng.uniform(0.8, 1.6), rng.uniform(0.3, 0.7)
    along = (x - centre) / half_length
    middle = rng.uniform(0.25, 0.75) * depth + rng.uniform(-0.35, 0.35) * (x - centre)
    return np.abs(z - middle) < thickness * np.sqrt(np.clip(1 - along**2, 0, 1)) * (1 + 0.4 * along)


def layer_age(rng: np.random.Generator, label: np.ndarray, tile_px: int) -> np.ndarray:
    """Stratigraphic depth float32 (H, W) in px: equal values are one layer, before folds, faults and salt moved it."""
    height, width = label.shape
    z, x = np.mgrid[:height, :width].astype(np.float32)
    age = z + np.float32(rng.uniform(-0.12, 0.12)) * x
    fold = smooth_field(rng, 1, width, 1.5 * tile_px)
    age += 0.15 * tile_px * fold * (0.4 + z / height)  # older layers had more time to fold
    if rng.random() < 0.5:  # an erosion surface: the layers below were tilted before
        surface = rng.uniform(0.3, 0.7) * height + 0.1 * tile_px * smooth_field(rng, 1, width, tile_px)
        age += np.where(z > surface, 3 * tile_px + np.float32(rng.choice([-1, 1]) * rng.uniform(0.08, 0.25)) * x, 0)
    for _ in range(int(rng.integers(2, 6))):
        slope = rng.choice([-1, 1]) / np.tan(np.deg2rad(rng.uniform(50, 75)))
        behind = (x - rng.uniform(0, width) - slope * (z - height / 2)) * np.sign(slope)
        # The hanging wall drops most at the fault; the throw dies out within two tiles (rollover).
        throw = rng.uniform(0.06, 0.30) * tile_px
        age -= np.where(behind > 0, throw * np.exp(-np.maximum(behind, 0) / (2 * tile_px)), 0)
    # Rising salt drags its neighbours up and arches its roof: an uplift that fades with the distance to the salt.
    small = cv2.resize(label.astype(np.float32), None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    uplift = cv2.resize(_blur(small, 0.3 * tile_px / 4), (width, height), interpolation=cv2.INTER_CUBIC)
    return age + np.float32(rng.uniform(0.25, 0.6) * tile_px) * uplift


def layer_impedance(rng: np.random.Generator, age: np.ndarray, resolution: float) -> np.ndarray:
    """Relative acoustic impedance float32 (H, W), near unit variance: beds in packages of like contrast."""
    low = float(age.min())
    column = bed_column(rng, float(age.max()) - low, resolution)
    values = np.interp(age, low + BED_STEP_PX * np.arange(len(column)), column).astype(np.float32)
    return values * (1 + 0.25 * smooth_field(rng, *age.shape, 60 * resolution))


def bed_column(rng: np.random.Generator, length_px: float, resolution: float) -> np.ndarray:
    """Impedance of beds, one below the other, float32 (n,): a value each ``BED_STEP_PX``, over ``length_px``."""
    samples = int(length_px / BED_STEP_PX) + 2
    thickness = (2 + rng.exponential(4.5, samples)) * resolution / BED_STEP_PX
    beds = rng.standard_normal(samples) * np.exp(0.4 * smooth_field(rng, 1, samples, 12)[0])
    column = beds[np.searchsorted(np.cumsum(thickness), np.arange(samples))].astype(np.float32)
    return cv2.GaussianBlur(column[:, None], (0, 0), sigmaX=0.1, sigmaY=1.0)[:, 0]  # against jagged dipping beds


def convolve(reflectivity: np.ndarray, depth: np.ndarray, shallow_px: float, deep_px: float) -> np.ndarray:
    """Convolve float32 (H, W) along depth with Ricker wavelets whose period grows with ``depth`` (H, 1) in [0, 1]."""
    trace = np.zeros_like(reflectivity)
    for knot in (0.0, 0.5, 1.0):
        period = shallow_px + (deep_px - shallow_px) * knot
        reach = int(np.ceil(1.5 * period))
        phase = (np.pi * np.arange(-reach, reach + 1) / period) ** 2
        wavelet = ((1 - 2 * phase) * np.exp(-phase)).astype(np.float32)
        weight = np.clip(1 - 2 * np.abs(depth - knot), 0, 1)
        filtered = cv2.sepFilter2D(reflectivity, cv2.CV_32F, np.ones(1, np.float32), wavelet)
        trace += weight * filtered
    return trace


def dead_zone(rng: np.random.Generator, plan: SectionPlan, tile_px: int) -> np.ndarray:
    """Where the section holds no data, bool (H, W): the dead cells and a slanting margin inside their neighbours."""
    height, width = plan.rows * tile_px, plan.cols * tile_px
    if plan.dead_rows == 0:
        return np.zeros((height, width), bool)
    z, x = np.mgrid[:height, :width]
    z_from_corner = height - 1 - z if plan.dead_at_bottom else z
    end = (plan.dead_cols + rng.uniform(0.1, 0.4)) * tile_px
    margin = rng.uniform(0.1, 0.4) * tile_px * (1 - x / end)
    return (x < end) & (z_from_corner < plan.dead_rows * tile_px + margin)


def smooth_field(rng: np.random.Generator, height: int, width: int, length_px: float) -> np.ndarray:
    """Random float32 (H, W) of mean 0 and deviation about 1 that varies over ``length_px``."""
    coarse = rng.standard_normal((int(height / length_px) + 4, int(width / length_px) + 4), np.float32)
    full = cv2.resize(coarse, None, fx=length_px, fy=length_px, interpolation=cv2.INTER_CUBIC)
    top, left = (int(length_px * rng.uniform(0.5, 1.5)) for _ in range(2))
    # 1.4: interpolation between the coarse points averages variance away.
    return 1.4 * full[top : top + height, left : left + width]


def _blur(field: np.ndarray, sigma_px: float) -> np.ndarray:
    """Gaussian blur of float32 (H, W)."""
    return cv2.GaussianBlur(field, (0, 0), sigma_px)
