"""What a survey may take of the memory: never more than its container has."""

import re
from pathlib import Path

import pytest

from salt_ray.survey import memory
from salt_ray.survey.memory import Memory, NotEnoughMemory, free_bytes, room, usable_bytes

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


@pytest.mark.parametrize(
    ("groups", "files", "gib"),
    [
        ("", {}, 100),
        ("0::/\n", {"memory.max": "9", "memory.current": "4"}, 5),
        ("0::/\n", {"memory.max": "9", "memory.current": "4", "memory.stat": "active_file 1\ninactive_file 2"}, 8),
        ("0::/job/step\n", {"job/memory.max": "9", "job/memory.current": "8", "job/step/memory.max": "2"}, 1),
        ("0::/\n", {"memory.max": "9", "memory.current": "10"}, 0),
        (
            "4:memory:/\n",
            {
                "memory/memory.limit_in_bytes": "9",
                "memory/memory.usage_in_bytes": "4",
                "memory/memory.stat": "inactive_file 0\ntotal_inactive_file 3",
            },
            8,
        ),
        ("0::/\n", {"memory.max": "700", "memory.current": "4"}, 100),
    ],
)
def test_what_is_free_is_what_the_fullest_leaves(tmp_path: Path, groups: str, files: dict[str, str], gib: int) -> None:
    in_bytes = {name: re.sub(r"\d+", lambda found: str(int(found[0]) * GIB), text) for name, text in files.items()}
    root = made(tmp_path, groups, in_bytes)
    (root / "proc/meminfo").write_text(f"MemTotal: {512 << 20} kB\nMemFree: 1 kB\nMemAvailable: {100 << 20} kB\n")
    assert free_bytes(root) == gib * GIB


def test_a_limit_on_the_address_space_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``ulimit -v``: of what may be mapped, what is mapped already is taken."""
    monkeypatch.setattr(memory.resource, "getrlimit", lambda kind: (5 * GIB, memory.resource.RLIM_INFINITY))
    root = made(tmp_path, "", {})
    (root / "proc/meminfo").write_text(f"MemAvailable: {100 << 20} kB\n")
    (root / "proc/self/statm").write_text(f"{2 * GIB // 4096} 100 50 1 0 100 0\n")
    assert (usable_bytes(root), free_bytes(root)) == (5 * GIB, 3 * GIB)


def test_a_step_asks_before_it_begins_and_says_where_memory_ran_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda: 3 << 20)
    with room("a step", 3 << 20):
        pass
    with pytest.raises(NotEnoughMemory, match="a step needs about 4 MiB of memory, and only 3 MiB are free: free"):
        room("a step", 4 << 20).__enter__()
    with pytest.raises(NotEnoughMemory, match="a step: out of memory, 3 MiB are free: free memory"), room("a step"):
        raise MemoryError


@pytest.mark.parametrize(
    ("free", "limit", "share"), [(400, 100, "a quarter of the mem"), (90, 30, "a third of the mem")]
)
def test_pictures_leave_room_for_their_copies(
    free: int, limit: int, share: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "usable_bytes", lambda: 400)
    monkeypatch.setattr(memory, "free_bytes", lambda: free)
    room = Memory()
    assert room.limit == limit and share in str(room)


def test_what_was_taken_stays_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "usable_bytes", lambda: 400)
    room = Memory()
    assert [room.take(size) for size in (60, 41, 40, 1)] == [True, False, True, False]
