"""What salt-ray doctor says: of this machine, of broken ones, and what it deletes."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from salt_ray import installation
from salt_ray.cli.main import app
from salt_ray.installation import (
    CACHES,
    Finding,
    cached,
    caches,
    clear_caches,
    device,
    disks,
    gpus,
    ray,
    versions,
)
from salt_ray.report.status import size_text
from salt_ray.storage import cache_folder

KEY = "0123456789abcdef" * 4
OURS = {
    "surveys": (KEY, f".{KEY}.lock", f".{KEY}.77-0123abcd.tmp"),
    "surveys/index": (f"{KEY}-strict", f"{KEY}-lenient-{KEY[:32]}"),
    "padded": (f"{KEY[:32]}-biharmonic-101-148-v1", f".{KEY[:32]}-biharmonic-101-148-v1.lock"),
    "padding": ("biharmonic-33-84-v1-skimage-0.26.0.npz",),
    "speeds": (f"{KEY[:32]}.json",),
}
THEIRS = ("surveys/north-sea", "surveys/index/notes.txt", "padded/mine.npy", "speeds/best.json", "another/file")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for caches that somebody keeps other things in."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SALT_RAY_CACHE", str(folder))
    for kind, names in OURS.items():
        for name in names:
            path = folder / kind / name
            if ("biharmonic-101" in name and not name.startswith(".")) or name == KEY:
                path = path / "images.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(1000))
    for name in THEIRS:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(5000))
    return folder


def named(findings: Iterable[Finding], name: str) -> Finding:
    (found,) = [finding for finding in findings if finding.name == name]
    return found


def test_caches_have_their_sizes_and_only_ours_go(cache: Path) -> None:
    assert OURS.keys() == CACHES.keys()
    for kind, names in OURS.items():
        assert [path.name for path in cached(kind)] == sorted(names)
        assert named(caches(), kind).value == size_text(1000 * len(names))
    assert clear_caches() == 1000 * sum(map(len, OURS.values()))
    left = {str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file()}
    assert left == set(THEIRS)
    assert [finding.name for finding in caches()] == ["folder"] and clear_caches() == 0


def test_a_real_cache_is_ours(survey: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Names as this version gives them, and not as a test thinks."""
    from salt_ray.experiment_file import experiment_path, load_experiment
    from salt_ray.survey.prepared import prepare_survey
    from salt_ray.survey.tiles import load_survey

    monkeypatch.setenv("SALT_RAY_CACHE", str(tmp_path / "fresh"))
    prepare_survey(load_survey(survey), load_experiment(experiment_path("demo"), ()), lambda line: None)
    assert clear_caches() > 0
    assert [path for path in (tmp_path / "fresh").rglob("*") if path.is_file()] == []


def test_a_cache_that_cannot_be_written_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SALT_RAY_CACHE", str(tmp_path / "file" / "cache"))
    found = named(caches(), "folder")
    assert str(tmp_path / "file" / "cache") in found.value and "SALT_RAY_CACHE" in found.fix


def with_gpu(root: Path) -> Path:
    (root / "dev").mkdir(parents=True)
    for name in ("nvidia0", "nvidiactl", "nvidia-uvm"):
        (root / "dev" / name).touch()
    folder = root / "proc/driver/nvidia/gpus/0000:01:00.0"
    folder.mkdir(parents=True)
    (folder / "information").write_text("Model: \t\t NVIDIA H200\nIRQ:   \t 1\n")
    return root


@pytest.mark.parametrize(
    ("built_for", "hidden", "value", "fix"),
    [
        (None, None, "NVIDIA H200, but this PyTorch is built for CPUs", "CUDA build"),
        ("13.0", None, "NVIDIA H200, but PyTorch (CUDA 13.0) cannot use it", "nvidia-smi"),
        (None, "", "NVIDIA H200, hidden by CUDA_VISIBLE_DEVICES=", None),
    ],
)
def test_a_gpu_that_pytorch_does_not_use(built_for, hidden, value, fix, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built_for)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    found = named(device(with_gpu(tmp_path)), "GPU")
    assert found.value == value and (found.fix is None if fix is None else fix in found.fix)


def test_a_machine_without_a_gpu_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpus(tmp_path) == [] and [finding.fix for finding in device(tmp_path)] == [None, None]


def test_a_library_that_is_missing_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "LIBRARIES", ("numpy", "no-such-library"))
    found = list(versions())
    assert named(found, "numpy").fix is None and named(found, "no-such-library").fix


def test_little_space_is_wrong(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "LITTLE_SPACE", 0)
    assert all(finding.fix is None for finding in disks())
    monkeypatch.setattr(installation, "LITTLE_SPACE", 1 << 80)
    assert all("free some space" in finding.fix for finding in disks())
    monkeypatch.setenv("SALT_RAY_RUNS", "s3://bucket/runs")
    assert named(disks(), "runs") == Finding("disk", "runs", "s3://bucket/runs")


@pytest.fixture
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    from salt_ray.cluster import private

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(private, "own_address", lambda: None)


@pytest.mark.usefixtures("no_cluster")
def test_ray_s_path_is_measured_before_ray_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rest = len(f"/ray/session_2000-01-01_00-00-00_000000_{os.getpid()}/sockets/plasma_store")
    short = Path("/tmp") / ("x" * (103 - rest - len("/tmp/")))
    for extra, works in (("", True), ("x" * 5, False)):
        folder = Path(f"{short}{extra}")
        monkeypatch.setenv("RAY_TMPDIR", str(folder))
        found = list(ray())[1]
        assert (found.fix is None) == works
        if works:
            (folder / "ray").rmdir()
            folder.rmdir()
        else:
            assert "too long" in found.value and "RAY_TMPDIR" in found.fix


@pytest.mark.parametrize("scheme", ["", "ray://", "http://"])
def test_a_cluster_has_to_answer(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"{scheme}127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert list(ray()) == [Finding("Ray", "cluster", address)]
    (found,) = ray()  # nobody listens there any more
    assert found.value == f"{address} does not answer" and "RAY_ADDRESS" in found.fix


def told(monkeypatch: pytest.MonkeyPatch, *findings: Finding) -> None:
    monkeypatch.setattr(installation, "examine", lambda: list(findings))


WELL, ILL = Finding("device", "GPU", "none"), Finding("disk", "runs", "1 B free [/]", "free some space")


def test_what_is_wrong_ends_with_its_fix_and_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch, WELL)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0 and "all checks passed" in result.output
    told(monkeypatch, WELL, ILL)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "wrong: disk, runs: 1 B free [/]. Fix: free some space" in result.output
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert result.exit_code == 1 and json.loads(result.stdout) == [WELL._asdict(), ILL._asdict()]


def test_clearing_asks_first(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch, WELL)
    ours = cache_folder("surveys") / KEY
    result = CliRunner().invoke(app, ["doctor", "--clear"], input="n\n")
    assert result.exit_code == 0 and str(cache) in result.output and ours.is_dir()
    result = CliRunner().invoke(app, ["doctor", "--clear"], input="")  # nobody there who could answer
    assert result.exit_code == 1 and ours.is_dir()
    result = CliRunner().invoke(app, ["doctor", "--clear"], input="y\n")
    assert result.exit_code == 0 and "deleted" in result.output and not ours.exists()
    assert CliRunner().invoke(app, ["doctor", "--clear", "--yes"]).exit_code == 0
