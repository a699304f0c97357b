"""A survey made ready: tiles padded once, cached, and divided into what may be trained on and what may not.

Letters: N tiles, L of them labelled (the first ones), U of the others, S tile and P padded edge in px.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from salt_ray.config import Experiment
from salt_ray.errors import RunError
from salt_ray.metric import wholly_labelled
from salt_ray.storage import atomic_file, atomic_folder, cache_folder, only_one
from salt_ray.survey.cache import CacheDamage, discard, map_array
from salt_ray.survey.folds import FoldTable, depth_folds, line_folds, load_folds, near, random_folds, section_folds
from salt_ray.survey.holdout import held_out
from salt_ray.survey.memory import room
from salt_ray.survey.padding import Frame, frame_for, operator, operator_name
from salt_ray.survey.tiles import Survey

#: Bytes of padded tiles held at a time, on their way to the disk: all of them may take more than the memory.
_BLOCK_BYTES = 32 << 20


@dataclass(frozen=True)
class UnlabelledTiles:
    """Tiles without a label that pseudo-labels may be made for: none is of one colour.

    Attributes:
        ids: (U,) str.
        images: (U, P, P) uint8, padded.
    """

    ids: np.ndarray
    images: np.ndarray


@dataclass(frozen=True)
class TrainingTiles:
    """What training reads.

    Attributes:
        key: SHA-256 of the survey's content.
        ids: (L,) str.
        images: (L, P, P) uint8, padded.
        masks: (L, P, P), padded; bool, or int8 where not all pixels are labelled, as in ``Survey``.
        frame: tile, padded and crop edges.
        unlabelled: where a stage learns from pseudo-labels.
    """

    key: str
    ids: np.ndarray
    images: np.ndarray
    masks: np.ndarray
    frame: Frame
    unlabelled: UnlabelledTiles | None = None


@dataclass(frozen=True)
class PreparedSurvey:
    """A survey with its padded tiles.

    Attributes:
        survey: the tiles as they were found.
        frame: tile, padded and crop edges.
        images: (N, P, P) uint8, memory-mapped.
        masks: (L, P, P) bool or int8, as the survey's; memory-mapped.
        held_out: (L,) bool: labelled tiles that are never trained on nor chosen by.
        near_held_out: (L,) bool: windows that are near copies of those, and not used either; None: of tiles.
    """

    survey: Survey
    frame: Frame
    images: np.ndarray
    masks: np.ndarray
    held_out: np.ndarray
    near_held_out: np.ndarray | None = None

    @property
    def trainable(self) -> np.ndarray:
        """Positions of the labelled tiles that are neither of one colour nor held out, nor near to one that is: (n,)
        int64.
        """
        labelled = self.survey.labelled
        usable = ~self.survey.constant[:labelled] & ~self.held_out
        return np.flatnonzero(usable if self.near_held_out is None else usable & ~self.near_held_out)

    @cached_property
    def partly_labelled(self) -> np.ndarray:
        """(L,) bool: labelled tiles with unlabelled pixels."""
        return ~wholly_labelled(self.survey.masks)

    @cached_property
    def seen_by_rules(self) -> np.ndarray:
        """(N,) bool: the tiles that the rules of mosaics see, by their label or by what all models predict.

        Of a tile that is labelled in part and trained on there is neither: rules copy whole labels, and the models that
        learnt from it must not judge it. Its place counts as missing.
        """
        unseen = np.zeros(len(self.survey.ids), bool)
        unseen[: self.survey.labelled] = self.partly_labelled & ~self.held_out
        return ~unseen

    @property
    def unlabelled(self) -> np.ndarray:
        """Positions of the unlabelled tiles, those of one colour included, (U,) int64."""
        return np.arange(self.survey.labelled, len(self.survey.ids))

    def training_tiles(self, experiment: Experiment) -> TrainingTiles:
        """The labelled part, for the object store; and unlabelled tiles where the experiment learns from them.

        Raises:
            RunError: it does, and there are none.
        """
        survey, labelled, unlabelled = self.survey, self.survey.labelled, None
        if experiment.has_pseudo_labels:
            positions = self.unlabelled[~survey.constant[self.unlabelled]]
            if not len(positions):
                raise RunError(
                    "pseudo_labels need unlabelled tiles, and this survey has none (or only constant ones): "
                    "add test/images, or set pseudo_labels=null in the stages of the experiment"
                )
            unlabelled = UnlabelledTiles(survey.ids[positions], np.asarray(self.images[positions]))
        images, masks = np.asarray(self.images[:labelled]), np.asarray(self.masks)
        return TrainingTiles(survey.key, survey.ids[:labelled], images, masks, self.frame, unlabelled)

    def depth_folds(self, count: int) -> FoldTable:
        """Folds of the trainable tiles by their rank in depth."""
        return depth_folds(self.survey.ids[self.trainable], self.survey.depths[self.trainable], count)

    def random_folds(self, count: int, seed: int) -> FoldTable:
        """Random folds of the trainable tiles."""
        return random_folds(self.survey.ids[self.trainable], count, seed)

    def section_folds(self, count: int) -> FoldTable:
        """Folds of whole sections, of the trainable tiles.

        Raises:
            RunError: the survey has no folders of sections.
            FoldError: there are too few of them.
        """
        if self.survey.sections is None:
            raise RunError(
                "folds of kind section need one folder of tiles per section, train/images/SECTION/ID.png: "
                "use folds.kind=depth, random or mosaic"
            )
        return section_folds(self.survey.ids[self.trainable], self.survey.sections[self.trainable], count)

    def line_folds(self, count: int, gap: int | None) -> FoldTable:
        """Folds of blocks of neighbouring lines, of the trainable windows, with a gap: by default a window's width.

        Raises:
            RunError: the survey's tiles are no windows.
            FoldError: there are too few of them.
        """
        survey, tiles = self.survey, self.trainable
        if survey.window is None:
            raise RunError(
                "folds of kind lines need windows that volume tiles has cut from lines: use folds.kind=section, depth, "
                "random or mosaic"
            )
        window, places = survey.window, survey.places[tiles]
        apart = window.gap(places) if gap is None else gap
        return line_folds(survey.ids[tiles], places, count, window.window_px, apart)

    def load_folds(self, path: Path, count: int) -> FoldTable:
        """The folds in a file, which must hold exactly the trainable tiles.

        Raises:
            RunError: the file's tiles are others.
            FoldError: the file is no table of that many folds.
        """
        table = load_folds(path, count)
        if not np.array_equal(table.ids, np.sort(self.survey.ids[self.trainable])):
            raise RunError(
                f"{path} lists other tiles than this survey's training tiles: "
                f"use another --run-dir, or delete {path.parent}"
            )
        return table


def prepare_survey(
    survey: Survey, experiment: Experiment, report: Callable[[str], None] = lambda line: None, cache: Path | None = None
) -> PreparedSurvey:
    """Pad every tile (cached on the disk per content and geometry) and mark the hold-out. Windows need no padding.

    Args:
        experiment: whose hold-out, if any, is a list; one to be drawn is drawn first (``pipeline.run``).

    Raises:
        RunError: the hold-out list cannot be read or names tiles that are not labelled; or the padded tiles cannot be
            read back.
        GeometryError: the geometry does not fit the tile.
        NotEnoughMemory: to pad tiles of this size.
    """
    held = held_out(survey, experiment.holdout)
    if survey.window is not None:  # what is around them is in their files
        frame = Frame(survey.window.window_px, survey.window.tile_px, survey.window.window_px)
        close = np.zeros_like(held)
        if held.any():
            places, window = survey.places[: survey.labelled], survey.window
            wanted = [training.folds.gap for training in experiment.trainings]
            gaps = [window.gap(places) if gap is None else (gap, gap) for gap in wanted]
            close = near(places, places[held], window.window_px, tuple(np.max(gaps, axis=0))) & ~held
        return PreparedSurvey(survey, frame, survey.padded_images, survey.padded_masks, held, close)
    frame = frame_for(survey.tile_px, experiment.geometry)
    folder = (cache or cache_folder("padded")) / f"{survey.key[:32]}-{operator_name(frame)}"
    images, masks = _padded(survey, frame, folder, report)
    return PreparedSurvey(survey, frame, images, masks, held)


def _padded(survey: Survey, frame: Frame, folder: Path, report: Callable[[str], None]) -> tuple[np.ndarray, np.ndarray]:
    """The padded images and masks in a folder, mapped; built if absent, and rebuilt once if damaged."""
    unreadable = (OSError, ValueError, CacheDamage)
    with contextlib.suppress(*unreadable):
        return _mapped(survey, frame, folder)
    with only_one(folder):
        with contextlib.suppress(*unreadable):
            return _mapped(survey, frame, folder)  # another process was first
        if folder.exists():
            report(f"{folder} is damaged: padding the tiles again")
            discard(folder)
        _pad(survey, frame, folder, report)
        try:
            return _mapped(survey, frame, folder)
        except unreadable as error:
            raise RunError(
                f"the padded tiles in {folder} cannot be read back ({error}): "
                "set SALT_RAY_CACHE to a folder on another disk"
            ) from error


def _mapped(survey: Survey, frame: Frame, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    edges = [frame.padded_px, frame.padded_px]
    images = map_array(folder / "images.npy", [len(survey.ids), *edges], "|u1")
    return images, map_array(folder / "masks.npy", [survey.labelled, *edges], survey.masks.dtype.str)


def _pad(survey: Survey, frame: Frame, folder: Path, report: Callable[[str], None]) -> None:
    report(f"padding {len(survey.ids):,} tiles from {frame.tile_px} to {frame.padded_px} px")
    padding = operator(frame)
    with room("padding the tiles"), atomic_folder(folder) as temporary:
        _save(temporary / "images.npy", survey.images, padding.images, frame.padded_px)
        _save(temporary / "masks.npy", survey.masks, padding.masks, frame.padded_px)


def _save(path: Path, tiles: np.ndarray, pad: Callable[[np.ndarray], np.ndarray], padded_px: int) -> None:
    """``np.save`` of ``pad(tiles)``, of which a block at a time is in memory."""
    header = {"descr": tiles.dtype.str, "fortran_order": False, "shape": (len(tiles), padded_px, padded_px)}
    block = max(1, _BLOCK_BYTES // padded_px**2)
    with atomic_file(path) as file:  # names the file where the disk is full
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(tiles), block):
            file.write(pad(tiles[start : start + block]))
