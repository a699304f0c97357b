"""What a survey may take of the memory: never more than its container has."""

from pathlib import Path

import pytest

from salt_ray.survey import memory
from salt_ray.survey.memory import Memory, usable_bytes

GIB = 1 << 30


def made(root: Path, groups: str, limits: dict[str, str]) -> Path:
    """Files of the kernel: the groups of this process, and what each may take."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for place, limit in limits.items():
        path = root / "sys/fs/cgroup" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(limit + "\n")
    return root


@pytest.fixture(autouse=True)
def a_large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 512 * GIB // 4096}
    monkeypatch.setattr(memory.os, "sysconf", machine.__getitem__)


@pytest.mark.parametrize(
    ("groups", "limits", "gib"),
    [
        ("0::/\n", {"memory.max": str(4 * GIB)}, 4),
        ("0::/\n", {"memory.max": "max"}, 512),
        ("0::/\n", {}, 512),
        ("0::/job/step\n", {"job/memory.max": str(8 * GIB), "job/step/memory.max": "max"}, 8),
        ("0::/job/step\n", {"job/memory.max": str(8 * GIB), "job/step/memory.max": str(2 * GIB)}, 2),
        ("4:memory:/docker/abc\n0::/\n", {"memory/memory.limit_in_bytes": str(4 * GIB)}, 4),
        ("4:cpu,memory:/job\n", {"memory/job/memory.limit_in_bytes": str(3 * GIB)}, 3),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": str(2**63 - 4096)}, 512),
        ("4:cpu:/job\n", {"memory/job/memory.limit_in_bytes": str(3 * GIB)}, 512),
    ],
)
def test_the_smallest_limit_counts(tmp_path: Path, groups: str, limits: dict[str, str], gib: int) -> None:
    assert usable_bytes(made(tmp_path, groups, limits)) == gib * GIB


def test_without_control_groups_the_machine_counts(tmp_path: Path) -> None:
    assert usable_bytes(tmp_path) == 512 * GIB


def test_what_was_taken_stays_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "usable_bytes", lambda: 400)
    room = Memory()
    assert [room.take(size) for size in (60, 41, 40, 1)] == [True, False, True, False]
