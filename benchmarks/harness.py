"""How every speed claim is measured: alternately with its peer, in one process, on the same input.

A row is a dict of exactly name, ours, peer (medians, in ``unit``), unit, ratio (median of the pairwise peer / ours),
spread ([smallest, largest] of them), n (runs of each) and equal (whether both gave the same result).

Data are generated from a fixed seed, or are the labelled tiles of the challenge where the environment variable
SALT_TGS_DATA names its folder.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import torch
from scipy import ndimage

from salt_ray.errors import SaltRayError

_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6}
#: Generated tiles that differ; a larger survey repeats them.
_DISTINCT = 2000


def alternate(
    ours: Callable[[], object], peer: Callable[[], object], runs: int = 5, warmup: int = 1
) -> tuple[list[float], list[float]]:
    """Seconds of ``runs`` calls of each, in the order ours, peer, ours, peer …; ``warmup`` pairs before do not count.

    Raises:
        ValueError: ``runs`` is below 1.
    """
    if runs < 1:
        raise ValueError(f"runs = {runs}: measure at least once")
    pairs = [(_seconds(ours), _seconds(peer)) for _ in range(warmup + runs)][warmup:]
    return [first for first, _ in pairs], [second for _, second in pairs]


def row(name: str, ours_seconds: Sequence[float], peer_seconds: Sequence[float], unit: str, equal: bool) -> dict:
    """A row of the results.

    Args:
        name: what was done, and the two ways where that says more.
        ours_seconds: of each run; divided by the tiles of a run where ``unit`` is per tile.
        peer_seconds: as many, in the same unit.
        unit: s, ms or us, with what it is per: "ms/tile", "ms/batch".
        equal: both gave the same result.

    Raises:
        ValueError: the runs are not pairs, or the unit does not begin with s, ms or us.
    """
    if len(ours_seconds) != len(peer_seconds) or not len(ours_seconds):
        raise ValueError(f"expected pairs of runs, not {len(ours_seconds)} and {len(peer_seconds)}")
    scale = _PER_SECOND.get(unit.split("/")[0])
    if scale is None:
        raise ValueError(f"unit {unit!r} must begin with one of {', '.join(_PER_SECOND)}")
    ratios = [theirs / ours for ours, theirs in zip(ours_seconds, peer_seconds, strict=True)]
    return {
        "name": name,
        "ours": median(ours_seconds) * scale,
        "peer": median(peer_seconds) * scale,
        "unit": unit,
        "ratio": median(ratios),
        "spread": [min(ratios), max(ratios)],
        "n": len(ratios),
        "equal": bool(equal),
    }


def figure(name: str, values: Sequence[float], unit: str, share: float | None = None, of: str = "") -> dict:
    """A row without a peer: name, ours (the median), unit, n, and where it is a part of something share and of."""
    known = {} if share is None else {"share": float(share), "of": of}
    return {"name": name, "ours": float(median(values)), "unit": unit, "n": len(values), **known}


def part(name: str, seconds: Sequence[float], tiles: int, whole: float, of: str) -> dict:
    """A row of a breakdown: ``seconds`` for so many tiles, as ms a tile and as a share of ``whole`` seconds."""
    return figure(name, [value / tiles * 1e3 for value in seconds], "ms/tile", median(seconds) / whole, of)


def per_tile(seconds: Sequence[float], tiles: int) -> list[float]:
    """Seconds of each run divided by the tiles it worked on."""
    return [value / tiles for value in seconds]


def survey(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 (count, 101, 101), and masks, bool (count, 101, 101); repeated where there are fewer."""
    root = os.environ.get("SALT_TGS_DATA")
    images, masks = _real(Path(root), count) if root else _generated(min(count, _DISTINCT))
    repeats = -(-count // len(images))
    return np.tile(images, (repeats, 1, 1))[:count], np.tile(masks, (repeats, 1, 1))[:count]


def run_benchmarks(names: Sequence[str], say: Callable[[str], None], device: str | None = None) -> list[dict]:
    """Run benchmarks by name and say each row as it comes.

    A benchmark has a function ``measure``, or ``measure_on`` for one that can run on either kind of device.

    Args:
        device: "cpu" or "cuda"; None: a GPU where there is one.

    Raises:
        SaltRayError: there is no such benchmark, or no such device.
    """
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind not in ("cpu", "cuda") or (kind == "cuda" and not torch.cuda.is_available()):
        raise SaltRayError(f"PyTorch {torch.__version__} finds no device {kind!r} here: leave --device out")
    known = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in ("__init__", "harness"))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SaltRayError(f"there is no benchmark {unknown[0]!r}: choose from {', '.join(known)}")
    rows = []
    for name in names:
        module = importlib.import_module(f"benchmarks.{name}")
        for result in module.measure_on(torch.device(kind)) if hasattr(module, "measure_on") else module.measure():
            say(_line(result))
            rows.append(result)
    return rows


def _line(result: dict) -> str:
    if "ratio" not in result:
        share = f", {result['share']:.1%} {result['of']}" if "share" in result else ""
        return f"{result['name']}: {result['ours']:.4g} {result['unit']}{share} (n = {result['n']})"
    low, high = result["spread"]
    return (
        f"{result['name']}: ours {result['ours']:.4g}, peer {result['peer']:.4g} {result['unit']}, "
        f"ratio {result['ratio']:.3g} ({low:.3g} to {high:.3g}, n = {result['n']}), equal: {result['equal']}"
    )


def _real(root: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    names = sorted(path.name for path in (root / "train" / "images").glob("*.png"))[:count]
    if not names:
        raise SaltRayError(f"{root}/train/images holds no PNG: let SALT_TGS_DATA name the challenge's folder")
    read = [
        [cv2.imread(str(root / "train" / kind / name), cv2.IMREAD_GRAYSCALE) for name in names]
        for kind in ("images", "masks")
    ]
    return np.stack(read[0]), np.stack(read[1]) > 127


def _generated(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth fields stretched to 0 … 255; masks are smoother fields above a level, 39 % of them empty as in TGS."""
    rng = np.random.default_rng(0)
    images = ndimage.gaussian_filter(rng.standard_normal((count, 101, 101), dtype=np.float32), (0, 2, 4))
    images -= images.min(axis=(1, 2), keepdims=True)
    images *= 255 / images.max(axis=(1, 2), keepdims=True)
    bodies = ndimage.gaussian_filter(rng.standard_normal((count, 101, 101), dtype=np.float32), (0, 12, 12))
    levels = np.quantile(bodies, rng.uniform(0.2, 0.9, count))[:, None, None]
    has_salt = rng.random(count)[:, None, None] > 0.39
    return np.rint(images).astype(np.uint8), (bodies > levels) & has_salt


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
