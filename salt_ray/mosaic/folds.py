"""Mosaic folds: a mosaic's tiles validate together, lone tiles go where they look at home (method section 4, b).

Neighbours in a section look alike. Divided between training and validation they flatter the score, so whole mosaics are
packed into folds, and what resembles a fold's mosaics follows them as far as equal sizes allow.

Legend: L labelled tiles that may be trained on, G mosaics with at least two of them, m lone tiles (all the others),
K folds, D length of an embedding.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from salt_ray.mosaic.table import MosaicTable
from salt_ray.survey.folds import FoldError, FoldTable


def mosaic_folds(
    ids: np.ndarray, coverage: np.ndarray, table: MosaicTable, embeddings: np.ndarray, count: int
) -> FoldTable:
    """Divide labelled tiles into folds of equal size without splitting a mosaic (method section 4).

    Every mosaic is packed together with the lone tiles that are nearest to one of its tiles: folds that balance these
    groups have room for nearly every lone tile where it belongs. Balanced are tiles, salt and empty masks, because a
    score depends on both of the latter. A lone tile whose fold is full goes to the next nearest.

    A mosaic counts by its tiles among ``ids``; one with a single such tile has nothing to split, and that tile is a
    lone one. Sizes differ by at most one tile, unless a fold's mosaics alone hold more than its share; the other folds
    then share the rest evenly. The order of the tiles and the numbers of the mosaics do not matter.

    Args:
        ids: (L,) str, the labelled tiles that may be trained on.
        coverage: (L,) float in 0 … 1, the share of each tile that is salt.
        table: the places of all tiles, labelled or not.
        embeddings: (L, D) float32; alike tiles point the same way (see ``mosaic.embedding``).
        count: K.

    Raises:
        FoldError: fewer mosaics than folds, a mosaic too large to be validated at once, or an embedding that is not
            finite.
    """
    by_id = np.argsort(ids)
    ids, coverage, embeddings = np.asarray(ids)[by_id], np.asarray(coverage)[by_id], np.asarray(embeddings)[by_id]
    if not np.isfinite(embeddings).all():
        raise FoldError("embeddings of tiles are not finite: set another folds.checkpoint, or unset it")
    groups = labelled_mosaics(ids, table)
    grouped = groups >= 0
    sizes = np.bincount(groups[grouped])
    if len(sizes) < count:
        raise FoldError(
            f"only {len(sizes)} mosaics have two labelled tiles or more, too few for {count} mosaic folds; lower "
            "the training's folds.count, loosen mosaics.compatibility, or use folds of kind 'depth' or 'random'"
        )
    # The fold of such a mosaic would train on fewer than half the tiles that equal folds leave to training.
    if 2 * (len(ids) - sizes.max()) * count < len(ids) * (count - 1):
        raise FoldError(
            f"one mosaic holds {sizes.max()} of the {len(ids)} labelled tiles, too many for one of {count} folds; "
            "raise mosaics.compatibility if it is a false one, or use folds of kind 'depth' or 'random'"
        )
    distances = cosine_distances(embeddings[~grouped], embeddings[grouped])
    owners = groups.copy()
    owners[~grouped] = groups[grouped][distances.argmin(axis=1)]
    weights = np.stack([np.bincount(owners, part) for part in (np.ones(len(ids)), coverage, coverage == 0)], axis=1)
    folds = np.empty(len(ids), np.int64)
    folds[grouped] = pack(weights, count)[groups[grouped]]
    to_folds = [distances[:, folds[grouped] == fold].min(axis=1) for fold in range(count)]
    sizes = np.bincount(folds[grouped], minlength=count)
    folds[~grouped] = nearest_with_room(np.stack(to_folds, axis=1), sizes)
    return FoldTable(ids.astype(str), folds, count)


def labelled_mosaics(ids: np.ndarray, table: MosaicTable) -> np.ndarray:
    """(L,) int64: which mosaic each tile shares with another of ``ids``, numbered as they appear there; -1: none."""
    mosaics = pd.Series(table.mosaics, index=table.ids).reindex(ids)
    return pd.factorize(mosaics.where(mosaics.duplicated(keep=False)))[0]


def whole_mosaics(ids: np.ndarray, table: MosaicTable) -> np.ndarray:
    """(L,) int64: the mosaic of each tile; one that shares it with no other of ``ids`` is a mosaic of its own."""
    mosaics = labelled_mosaics(ids, table)
    return np.where(mosaics >= 0, mosaics, len(ids) + np.arange(len(ids)))


def pack(weights: np.ndarray, count: int) -> np.ndarray:
    """Put groups into folds whose sums are alike in every weight at once.

    Weights count as shares of their totals, so each matters equally; what is made small is the sum of all squared
    loads. First the largest group is placed, then the next, each where it costs least; then single groups move or
    change places as long as that helps. No two folds differ in size by more than the largest group.

    Args:
        weights: (G, w) float, not negative. The first is the size: at least 1, a whole number.
        count: K, at most G.

    Returns:
        (G,) int64. Every fold gets a group, because an empty one costs nothing.
    """
    totals = weights.sum(axis=0)
    shares = weights / np.where(totals > 0, totals, 1)
    return _improved(shares, weights[:, 0], _largest_first(shares, weights[:, 0], count), count)


def _largest_first(shares: np.ndarray, sizes: np.ndarray, count: int) -> np.ndarray:
    """(G,) int64: each group in the fold where it raises the sum of squared loads least."""
    folds = np.empty(len(shares), np.int64)
    loads, held = np.zeros((count, shares.shape[1])), np.zeros(count)
    for group in np.lexsort((*-shares.T[:0:-1], -sizes)):
        costs = loads @ shares[group]  # (load + share)^2 - load^2, halved, less what is equal for all folds
        costs[held + sizes[group] > held.min() + sizes.max()] = np.inf
        folds[group] = np.argmin(costs)
        loads[folds[group]] += shares[group]
        held[folds[group]] += sizes[group]
    return folds


def _improved(shares: np.ndarray, sizes: np.ndarray, folds: np.ndarray, count: int) -> np.ndarray:
    """(G,) int64: the best exchange of two groups, again and again until none lowers the sum of squared loads."""
    # A group of nothing in every fold: to change places with it is to move.
    shares = np.concatenate([shares, np.zeros((count, shares.shape[1]))])
    sizes = np.concatenate([sizes, np.zeros(count)])
    folds = np.concatenate([folds, np.arange(count)])
    inner = shares @ shares.T
    squares = np.diag(inner)
    while True:
        loads = np.stack([shares[folds == fold].sum(axis=0) for fold in range(count)])
        towards = (shares @ loads.T)[:, folds]  # [a, b]: group a with the load of b's fold
        stays = np.diag(towards)
        # Folds A and B exchange a for b, d = b - a: half of |A + d|^2 - |A|^2 + |B - d|^2 - |B|^2.
        change = towards + towards.T - stays - stays[:, None] + squares + squares[:, None] - 2 * inner
        held = np.bincount(folds, weights=sizes)
        after = held[folds][:, None] + sizes - sizes[:, None]  # [a, b]: size of a's fold with b instead
        apart = (after > held.min() + sizes.max()) | (after < held.max() - sizes.max())
        change[apart | apart.T | (np.abs(after - after.T) > sizes.max())] = np.inf
        pair = np.unravel_index(change.argmin(), change.shape)
        if change[pair] > -1e-9:  # far below one tile's share: rounding must not keep this going
            return folds[:-count]
        folds[list(pair)] = folds[list(pair[::-1])]
        folds[-count:] = np.arange(count)


def cosine_distances(lone: np.ndarray, settled: np.ndarray) -> np.ndarray:
    """(m, s) float32 in 0 … 2, from embeddings (m, D) and (s, D) float32; one that is all 0 is at 1 from all."""
    return 1 - _directions(lone) @ _directions(settled).T


def nearest_with_room(distances: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Fill folds up to equal sizes, the smallest distances first; a tile whose fold is full goes to the next nearest.

    Args:
        distances: (m, K) float; among equal ones the earlier tile, then the earlier fold, comes first.
        sizes: (K,) int, tiles that the folds hold already.

    Returns:
        (m,) int64. No fold that takes a tile ends more than one tile above another.
    """
    level, above = _water_level(sizes, len(distances))
    held = sizes.copy()
    folds = np.full(len(distances), -1, np.int64)
    for pair in np.argsort(distances, axis=None, kind="stable"):
        tile, fold = divmod(int(pair), len(sizes))
        if folds[tile] >= 0 or held[fold] > level or (held[fold] == level and above == 0):
            continue
        above -= int(held[fold] == level)
        held[fold] += 1
        folds[tile] = fold
    return folds


def _water_level(sizes: np.ndarray, added: int) -> tuple[int, int]:
    """The size to which ``added`` tiles can raise every smaller fold, and how many are left to go one above it."""
    ordered = np.sort(sizes)
    lowest = np.arange(1, len(sizes) + 1)
    levels = (added + np.cumsum(ordered)) // lowest  # with only the lowest 1, 2 … K folds raised
    level = int(levels.min())
    return level, added - int(np.maximum(level - sizes, 0).sum())


def _directions(embeddings: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings / np.where(lengths > 0, lengths, 1)
