"""What the values of mask files mean. One file cannot tell: that is true of all masks of a survey together.

Letters: H, W edges of a mask in px.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from salt_ray.metric import UNLABELLED
from salt_ray.survey.layout import MASKS, Entry
from salt_ray.survey.meaning import Meaning
from salt_ray.survey.problems import Problem, Unsuited

#: Different values in one file, at most: more are a JPEG's traces or probabilities, and no classes.
MOST_VALUES = 64
_MOST_SHOWN = 6
_SETTINGS = (
    "set the value of salt with --set labels.salt=VALUE (all others become background), and that of unlabelled "
    "pixels, if any, with --set labels.ignore=VALUE"
)


@dataclass(frozen=True, eq=False)
class CodedMask:
    """A mask as its file codes it: ``values[codes]``.

    Attributes:
        values: those that occur, ascending.
        codes: uint8 (H, W).
    """

    values: tuple[float, ...]
    codes: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.codes.shape

    @property
    def nbytes(self) -> int:
        return self.codes.nbytes

    def where(self, value: float | None) -> np.ndarray:
        """Bool (H, W): the pixels that have the value; none have None."""
        if value not in self.values:
            return np.zeros(self.shape, bool)
        return self.codes == self.values.index(value)


def coded(pixels: np.ndarray) -> CodedMask:
    """A mask's pixels (H, W) of any type.

    Raises:
        Unsuited: they have more than ``MOST_VALUES`` different values.
    """
    low, high = pixels.min(), pixels.max()
    if low == high:
        return CodedMask((low.item(),), np.zeros(pixels.shape, np.uint8))
    is_high = pixels == high
    if np.count_nonzero(is_high) + np.count_nonzero(pixels == low) == pixels.size:  # most are, and need no sorting
        return CodedMask((low.item(), high.item()), is_high.view(np.uint8))
    values, codes = np.unique(pixels, return_inverse=True)
    if len(values) > MOST_VALUES:
        raise Unsuited(f"is not two-valued (it holds {len(values):,} values, from {_text(low)} to {_text(high)})")
    return CodedMask(tuple(values.tolist()), codes.reshape(pixels.shape).astype(np.uint8))


def salt_masks(
    files: Mapping[str, Entry],
    masks: Mapping[str, CodedMask],
    meaning: Meaning,
    problems: list[Problem],
    folder: str = MASKS,
) -> tuple[dict[str, np.ndarray], list[str]]:
    """What the masks of a survey mean, by id.

    Without ``meaning.salt`` all of them together hold 0 and one other value, which is salt, or true and false; a few
    that hold more are each a problem. With it every other value is background.

    Args:
        files: where each mask comes from.
        folder: that contains them all, for messages.

    Returns:
        Masks (H, W), bool or, of those with pixels of ``meaning.ignore``, int8, as in ``survey.Survey``; and the ids of
        those that have no others, which are left out of the first. No masks where a problem concerns all of them.
    """
    empty = [i for i, mask in masks.items() if mask.values == (meaning.ignore,)]
    values = {i: [value for value in mask.values if value != meaning.ignore] for i, mask in sorted(masks.items())}
    several = {i for i, own in values.items() if len(own) > 2}
    if meaning.salt is not None or 2 * len(several) >= len(masks):
        several = set()  # that is how this survey is coded
    usual = _holders(values, several)
    salt, others = meaning.salt, [value for value in usual if value != 0]
    if salt is None:
        has_zero = 0 in usual or all(isinstance(value, bool) for value in usual)
        if len(others) > 1 or (others and not has_zero):
            problems.append(Problem(folder, _found(files, _holders(values)), _SETTINGS))
            return {}, []
        salt = others[0] if others else None
    elif salt not in usual and len(usual) > 1:
        what = f"no mask holds labels.salt = {salt}: {_listed(files, usual)}"
        problems.append(Problem(folder, what, "correct labels.salt, or unset it (--set labels.salt=null)"))
        return {}, []
    for i in several:
        own, most = (" and ".join(map(_text, held)) for held in (values[i], usual))
        what = f"is not two-valued (it holds {own}; most masks hold {most})"
        problems.append(Problem(files[i].place, what, f"{_SETTINGS}; or remove its tile", drops=(i,)))
    labelled = {i: mask for i, mask in masks.items() if i not in several.union(empty)}
    return {i: _labels(mask, salt, meaning.ignore) for i, mask in labelled.items()}, empty


def _labels(mask: CodedMask, salt: float | None, ignore: int | None) -> np.ndarray:
    if ignore not in mask.values:
        return mask.where(salt)
    return np.where(mask.where(ignore), np.int8(UNLABELLED), mask.where(salt).view(np.int8))


def _holders(values: Mapping[str, list[float]], without: Collection[str] = ()) -> dict[float, list[str]]:
    """The ids of the masks that hold each value, values ascending."""
    found: dict[float, list[str]] = {}
    for i, own in values.items():
        for value in own if i not in without else ():
            found.setdefault(value, []).append(i)
    return dict(sorted(found.items()))


def _found(files: Mapping[str, Entry], holders: Mapping[float, list[str]]) -> str:
    rule = "all masks of a survey must hold 0 and one other value" if len(holders) > 1 else "no mask holds 0"
    return f"{rule}, but these hold {_listed(files, holders)}"


def _listed(files: Mapping[str, Entry], holders: Mapping[float, list[str]]) -> str:
    """The values, how many files hold each, and one of these."""
    parts = [
        f"{_text(value)} in {len(ids):,} (as {files[ids[0]].name.removeprefix(f'{MASKS}/')})"
        for value, ids in list(holders.items())[:_MOST_SHOWN]
    ]
    return ", ".join(parts + [f"{len(holders) - len(parts)} other values"] * (len(holders) > len(parts)))


def _text(value: float) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
