"""Arrays in, probabilities and masks out: a trained run's models in this process, loaded once.

Letters: n tiles, K models, S tile edge in px.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from salt_ray.config import Experiment
from salt_ray.decision import Decision
from salt_ray.errors import RunError
from salt_ray.inference.ensemble import ModelPrediction, spread_blocks
from salt_ray.inference.stored import as_records
from salt_ray.storage import StoragePath
from salt_ray.survey.amplitudes import MOST_OUTSIDE, GreyRange
from salt_ray.survey.folder import read_tiles
from salt_ray.survey.nodata import is_constant, masked, valid
from salt_ray.survey.padding import PaddingOperator, frame_for, operator

if TYPE_CHECKING:
    import torch

    from salt_ray.inference.predict import Models

#: What a person may have of tiles: one array (S, S), several (n, S, S) or in a list, or a folder of files.
TilesToPredict = np.ndarray | Sequence[np.ndarray] | str | Path
BLOCK = 128  # tiles that all models predict before the next ones: K x 2.6 MB at 101 px


@dataclass(frozen=True)
class Prediction:
    """What a run's models say of n tiles; of one array (S, S) without the first axis.

    Attributes:
        ids: (n,) str: names of a folder's files without their ends; of arrays their numbers.
        probabilities: (n, S, S) float32, probability of salt for each pixel: the mean over the models.
        masks: (n, S, S) bool, decided as the run decides.
        salt: (n,) float32, P(salt): probability that the tile has any, the mean over the models.
        spread: (n, S, S) float32, standard deviation of the probabilities over the models.
        salt_spread: (n,) float32, that of P(salt).
        images: (n, S, S) uint8, the tiles as the models saw them.
    """

    ids: np.ndarray
    probabilities: np.ndarray
    masks: np.ndarray
    salt: np.ndarray
    spread: np.ndarray
    salt_spread: np.ndarray
    images: np.ndarray

    def table(self) -> pd.DataFrame:
        """A row a tile: ``id``, ``salt`` and ``salt_spread`` (of P(salt)), ``area`` (share of salt pixels in the mask),
        ``spread`` (mean of its pixels).
        """
        ids, masks, spread = np.atleast_1d(self.ids), self.masks, self.spread
        pixels = (-2, -1)
        return pd.DataFrame(
            {
                "id": ids,
                "salt": np.atleast_1d(self.salt),
                "salt_spread": np.atleast_1d(self.salt_spread),
                "area": np.atleast_1d(masks.mean(axis=pixels)),
                "spread": np.atleast_1d(spread.mean(axis=pixels)),
            }
        )

    def one(self) -> Prediction:
        """That of the only tile, without the first axis."""
        return type(self)(*(getattr(self, name)[0] for name in self.__dataclass_fields__))


class Predictor:
    """Predicts arrays; loads each model when it is first needed, and keeps it.

    Args:
        experiment: of the models.
        checkpoints: (K,) the weights of each model, a file for each of its networks.
        decision: how probabilities become masks.
        tile_px: S of the tiles that the models were trained on; None: not known, any are taken.
        greys: the range of amplitudes that the models were trained on; None: they were trained on greys (uint8).
        device: where to compute.
    """

    def __init__(
        self,
        experiment: Experiment,
        checkpoints: Sequence[tuple[StoragePath, ...]],
        decision: Decision,
        tile_px: int | None,
        greys: GreyRange | None,
        device: torch.device,
    ) -> None:
        self._experiment, self._checkpoints, self._decision = experiment, list(checkpoints), decision
        self._tile_px, self._greys, self._device = tile_px, greys, device
        self._ready: dict[int, tuple[PaddingOperator, Models]] = {}  # by S: a matrix and networks, slow to make

    def predict(self, tiles: TilesToPredict) -> Prediction:
        """Predict tiles of any number: as float numbers or integers of the run's amplitudes, or as its greys (uint8).

        Tiles of one value hold no data: they are predicted empty, as a run does.

        Args:
            tiles: one array (S, S), several as (n, S, S) or in a list, or a folder of PNG, TIFF or NPY files.

        Raises:
            RunError: the tiles are of another size or type than the run's, or hold numbers that are not finite.
            SurveyError: a file in the folder cannot be read.
        """
        if isinstance(tiles, str | Path):
            found = read_tiles(Path(tiles), self._experiment.amplitudes.nodata)
            return self._predict(np.array(list(found)), list(found.values()))
        is_one = isinstance(tiles, np.ndarray) and tiles.ndim == 2
        arrays = [tiles] if is_one else [np.asanyarray(tile) for tile in tiles]
        nodata = self._experiment.amplitudes.nodata
        if nodata is not None:
            arrays = [masked(array, nodata) for array in arrays]
        prediction = self._predict(np.arange(len(arrays)).astype(str), arrays)
        return prediction.one() if is_one else prediction

    def _predict(self, ids: np.ndarray, arrays: list[np.ndarray]) -> Prediction:
        edge = self._check(ids, arrays)
        images = np.stack([self._as_greys(array) for array in arrays])
        varied = np.flatnonzero([not is_constant(array) for array in arrays])
        masks = np.zeros(images.shape, bool)
        probabilities, spread = np.zeros((2, *images.shape), np.float32)
        salt, salt_spread = np.zeros((2, len(images)), np.float32)
        for start in range(0, len(varied), BLOCK):
            tiles = varied[start : start + BLOCK]
            models = self._each_model(images[tiles], edge)
            for places, mean, deviation, _ in spread_blocks(models, np.arange(len(tiles))):
                at = tiles[places]
                probabilities[at], salt[at], masks[at] = *mean, self._decision.masks(*mean)
                spread[at], salt_spread[at] = deviation
        return Prediction(ids, probabilities, masks, salt, spread, salt_spread, images)

    def _each_model(self, images: np.ndarray, edge: int) -> list[ModelPrediction]:
        """What every model says of (m, S, S) uint8 images."""
        from salt_ray.inference.predict import Models  # PyTorch: not before it is needed

        if edge not in self._ready:
            frame = frame_for(edge, self._experiment.geometry)
            models = Models(self._experiment, frame, self._device)
            self._ready[edge] = operator(frame), models
        padding, models = self._ready[edge]
        padded, everything = padding.images(images), np.arange(len(images))
        return [
            ModelPrediction.of(everything, as_records(models.predict(checkpoints, padded)))
            for checkpoints in self._checkpoints
        ]

    def _check(self, ids: np.ndarray, arrays: list[np.ndarray]) -> int:
        """Make sure that the run's models can judge the tiles; returns S.

        Raises:
            RunError: they cannot.
        """
        if not arrays:
            raise RunError("no tiles to predict: pass an array (S, S), several of them, or a folder")
        for tile, array in zip(ids, arrays, strict=True):
            edge = self._tile_px or arrays[0].shape[-1]
            if array.shape != (edge, edge):
                size = " x ".join(map(str, array.shape[::-1]))
                raise RunError(
                    f"tile {tile} is {size} px, but the run's models expect tiles of {edge} x {edge} px: cut tiles of "
                    "that size from a section of the same scale"
                )
            if array.dtype.kind not in "iuf":
                raise RunError(f"tile {tile} is an array of type {array.dtype}: pass numbers")
            if (array.dtype == np.uint8) != (self._greys is None):
                wanted = "greys (uint8)" if self._greys is None else f"amplitudes from {self._greys} (no uint8)"
                raise RunError(f"tile {tile} is of type {array.dtype}, and the run was trained on {wanted}: give those")
            if not np.isfinite(valid(array)).all():
                raise RunError(
                    f"tile {tile} holds non-finite values: mask them (numpy.ma) if they mean no data, or train with "
                    "amplitudes.nodata"
                )
        return edge

    def _as_greys(self, array: np.ndarray) -> np.ndarray:
        if self._greys is None:
            return array
        outside = 0 if is_constant(array) else self._greys.outside(valid(array).astype(np.float64))
        if outside > MOST_OUTSIDE:
            warnings.warn(
                f"{outside:.0%} of a tile's amplitudes are outside the run's range, {self._greys}: they are clipped",
                stacklevel=4,
            )
        return self._greys.greys(array)
