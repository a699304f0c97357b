"""The hold-out: labelled tiles that are never trained on nor chosen by, as a list, or drawn in whole groups."""

from __future__ import annotations

import numpy as np

from salt_ray.errors import RunError
from salt_ray.storage import StoragePath
from salt_ray.survey.problems import shown
from salt_ray.survey.tables import read_table
from salt_ray.survey.tiles import Survey


def held_out(survey: Survey, path: StoragePath | None) -> np.ndarray:
    """(L,) bool: which labelled tiles are listed in the hold-out CSV (column ``id``).

    Raises:
        RunError: it cannot be read, or names tiles that are not labelled here.
    """
    ids = survey.ids[: survey.labelled]
    if path is None:
        return np.zeros(len(ids), bool)
    try:
        rows, problems = read_table(path.read_bytes(), str(path))
    except (OSError, ValueError) as error:
        raise RunError(
            f"the hold-out {path} cannot be read as a CSV with a column id ({error}): correct holdout"
        ) from error
    for problem in problems:
        if not problem.drops:  # an id that is listed twice is still held out
            raise RunError(f"the hold-out {problem}")
    wanted = np.array(list(rows), str)
    if not len(wanted):
        raise RunError(f"the hold-out {path} lists no tiles: correct holdout, or unset it")
    unknown = np.setdiff1d(wanted, ids)
    if len(unknown):
        first = shown(str(unknown[0]))
        raise RunError(
            f"{len(unknown)} tiles of the hold-out {path} are not labelled here (first: {first}): correct holdout"
        )
    return np.isin(ids, wanted)


def drawn(groups: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Draw whole groups at random that together hold a share of the tiles, as nearly as whole groups can.

    Groups come in a random order until some of those that have come hold the share exactly, or all have come. The last
    to come are then left out as far as the number allows.

    Args:
        groups: (n,) which group each tile belongs to.
        share: above 0 and below 1.
        seed: another one draws other groups.

    Returns:
        (n,) bool. None is True where the smallest group is twice the share or more, and never all are.
    """
    _, members, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(sizes))
    wanted = round(share * len(groups))
    nearer = (1 << max(1, min(2 * wanted, len(groups)))) - 1  # than none at all, and something is left
    sums = [1]  # bit s of the i-th: some of the first i groups have s tiles together
    for group in order:
        if sums[-1] >> wanted & 1:
            break
        sums.append((sums[-1] | sums[-1] << int(sizes[group])) & nearer)
    held = next(s for off in range(wanted + 1) for s in (wanted - off, wanted + off) if sums[-1] >> s & 1)
    chosen = np.zeros(len(sizes), bool)
    for group, before in reversed(list(zip(order, sums[:-1], strict=False))):
        if not before >> held & 1:
            chosen[group] = True
            held -= int(sizes[group])
    return chosen[members]
