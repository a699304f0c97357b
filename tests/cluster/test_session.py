"""Which Ray a command joins."""

import functools
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from salt_ray.cluster import session
from salt_ray.cluster.session import ClusterError
from salt_ray.config import Resources


@pytest.fixture
def short_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="salt") as folder:  # short, for Ray's sockets
        yield Path(folder)


@pytest.fixture(autouse=True)
def own_ray_files(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAY_TMPDIR", str(short_folder))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (short_folder / "ray").mkdir()
    return short_folder / "ray" / "ray_current_cluster"


def test_alone_it_is_outside_and_in_a_job_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    assert session.own_cluster() is None
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert session.own_cluster() == "10.0.0.1:6379"


def test_a_nodes_address_file_counts_only_while_somebody_answers(own_ray_files: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        own_ray_files.write_text(f"127.0.0.1:{server.getsockname()[1]}")
        assert session.own_cluster() == own_ray_files.read_text()
    assert session.own_cluster() is None


def test_auto_in_the_environment_means_that_it_is_looked_for(
    own_ray_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert session.own_cluster() is None
    with socket.create_server(("127.0.0.1", 0)) as server:
        own_ray_files.write_text(f"127.0.0.1:{server.getsockname()[1]}")
        assert session.own_cluster() == own_ray_files.read_text()


def test_a_folder_too_long_for_sockets_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder := tmp_path / (100 * "x")).mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    with pytest.raises(ClusterError, match=r"too long for its sockets .*RAY_TMPDIR"), session.connect("local"):
        pytest.fail("it started")


@pytest.mark.parametrize(
    ("variable", "folder", "words"),
    [
        ("RAY_TMPDIR", "größe", r"größe \(RAY_TMPDIR\): its path is not ASCII; set RAY_TMPDIR"),
        ("TMPDIR", "größe", r"größe \(TMPDIR\): its path is not ASCII; set TMPDIR"),
        ("RAY_TMPDIR", "file", "Not a directory.*set RAY_TMPDIR"),
        ("RAY_TMPDIR", "full", "No space left on device.*set RAY_TMPDIR"),
    ],
)
def test_a_folder_that_ray_cannot_use_is_refused_before_it_starts(
    variable: str, folder: str, words: str, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (short_folder / "file").touch()
    monkeypatch.delenv("RAY_TMPDIR")
    monkeypatch.setenv(variable, str(short_folder / folder))
    monkeypatch.setattr(session.ray, "init", lambda **options: pytest.fail("it was started"))
    if folder == "full":
        full = functools.partial(open, "/dev/full", "wb")
        monkeypatch.setattr(session.tempfile, "TemporaryFile", lambda dir: full())
    with pytest.raises(ClusterError, match=words), session.connect("local"):
        pytest.fail("it started")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Exception("The current node timed out during startup."), r"within 180 s.*RAY_raylet_start_wait_time_s=600"),
        (RuntimeError("Failed to start GCS"), r"\(Failed to start GCS\).*session_latest/logs"),
    ],
)
def test_a_ray_that_does_not_come_up_says_what_to_do(
    error: Exception, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**options: object) -> None:
        raise error

    monkeypatch.setattr(session.ray, "init", init)
    with pytest.raises(ClusterError, match=words), session.connect("local"):
        pytest.fail("it started")


def test_a_fault_of_the_program_is_not_taken_for_one_of_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: object) -> None:
        raise TypeError("no such option")

    monkeypatch.setattr(session.ray, "init", init)
    with pytest.raises(TypeError), session.connect("local"):
        pytest.fail("it started")


@pytest.mark.parametrize(
    ("named", "given", "remedy"),
    [
        ("127.0.0.1:1", None, "the variable RAY_ADDRESS, which names it, or `unset RAY_ADDRESS`"),
        (None, "127.0.0.1:1", "--address, or use --address local"),
        ("127.0.0.1:2", "127.0.0.1:1", "--address, or use --address local"),
    ],
)
def test_a_cluster_that_does_not_answer_is_called_by_what_names_it(
    named: str | None, given: str | None, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if named:
        monkeypatch.setenv("RAY_ADDRESS", named)
    message = f"cannot connect to Ray at 127.0.0.1:1: check {remedy}"
    with pytest.raises(ClusterError, match=message), session.connect(given):
        pytest.fail("it started")


# Signals -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ended() -> Iterator[list[int]]:
    """The signals that this process's own handlers have seen."""
    seen = []
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda number, frame: seen.append(number)) for number in numbers}
    yield seen
    for number, handler in before.items():
        signal.signal(number, handler)


class RaysSignals:
    """Ray's way with SIGTERM: a handler of its own while it starts, a fatal one from its driver on, none at its end.

    Args:
        starting, connecting: the signals that come while its processes start, and while the driver connects to them.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, starting: Sequence[int] = (), connecting: Sequence[int] = ()
    ) -> None:
        self._starting, self._connecting, self.inherited = starting, connecting, None
        monkeypatch.setattr(session.ray, "init", self._init)
        monkeypatch.setattr(session.ray._private.worker, "connect", self._connect)
        monkeypatch.setattr(session.ray, "shutdown", lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))

    def _init(self, **options: object) -> SimpleNamespace:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
        self.inherited = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        for number in self._starting:
            signal.raise_signal(number)
        session.ray._private.worker.connect()
        return SimpleNamespace(dashboard_url="")

    def _connect(self) -> None:
        signal.signal(signal.SIGTERM, lambda number, frame: pytest.fail("a stack trace of Ray's"))
        for number in self._connecting:
            signal.raise_signal(number)


def test_signals_stay_this_processes_own(ended: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    started = RaysSignals(monkeypatch)
    with session.connect("local"):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)
    signal.raise_signal(signal.SIGTERM)
    assert ended == [signal.SIGTERM, signal.SIGHUP, signal.SIGTERM]
    assert started.inherited == {signal.SIGHUP}  # by Ray's processes


def test_a_signal_while_ray_starts_is_not_lost(ended: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    RaysSignals(monkeypatch, starting=[signal.SIGHUP, signal.SIGTERM])
    with pytest.raises(SystemExit), session.connect("local"):  # these handlers do not end the process
        pytest.fail("it started")
    assert sorted(ended) == [signal.SIGHUP, signal.SIGTERM]


def test_a_signal_while_the_driver_connects_waits(ended: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    RaysSignals(monkeypatch, connecting=[signal.SIGTERM, signal.SIGHUP])
    with session.connect("local"):
        assert sorted(ended) == [signal.SIGHUP, signal.SIGTERM]
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.parametrize(
    ("wanted", "nodes", "count"),
    [
        ({"CPU": 1.0}, [{"CPU": 8.0}], 8),
        ({"CPU": 3.0}, [{"CPU": 8.0}, {"CPU": 2.0}], 2),
        ({"CPU": 1.0, "GPU": 1.0}, [{"CPU": 16.0, "GPU": 4.0}, {"CPU": 16.0}], 4),
        ({"CPU": 1.0, "GPU": 0.5}, [{"CPU": 3.0, "GPU": 4.0}], 3),
        ({"CPU": 1.0, "GPU": 0.6}, [{"CPU": 16.0, "GPU": 2.0}], 2),  # a fraction lies within one GPU
        ({"CPU": 1.0, "GPU": 0.4}, [{"CPU": 16.0, "GPU": 2.0}], 4),
    ],
)
def test_slots_are_what_nodes_can_hold(
    wanted: dict, nodes: list[dict], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = [{"Alive": True, "Resources": node} for node in nodes]
    monkeypatch.setattr(session.ray, "nodes", lambda: [*alive, {"Alive": False, "Resources": {"CPU": 64.0}}])
    assert session.slots(wanted) == count


@pytest.fixture
def cpu_node(monkeypatch: pytest.MonkeyPatch) -> None:
    node = {"CPU": 4.0}
    monkeypatch.setattr(session.ray, "nodes", lambda: [{"Alive": True, "Resources": node}])
    monkeypatch.setattr(session.ray, "cluster_resources", lambda: node)


@pytest.mark.parametrize(
    ("types", "resources", "wanted"),
    [
        ([], Resources(), {"CPU": 1.0}),
        ([{"CPU": 8.0}], Resources(), {"CPU": 1.0}),
        ([{"CPU": 8.0, "GPU": 1.0}], Resources(), {"CPU": 1.0, "GPU": 1.0}),  # its GPU nodes are not up yet
        ([{"CPU": 8.0, "GPU": 1.0}], Resources(gpus_per_fold=0.0), {"CPU": 1.0}),
        ([{"CPU": 8.0}], Resources(cpus_per_fold=8), {"CPU": 8.0}),
    ],
)
def test_folds_wait_for_nodes_that_may_come(
    types: list[dict], resources: Resources, wanted: dict, cpu_node: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "node_types", lambda: types)
    assert session.fold_resources(resources) == wanted


@pytest.mark.parametrize(
    ("nodes", "types", "resources", "folds", "cpus"),
    [
        ([16], [], Resources(), 5, 3),
        ([16], [], Resources(), 2, 8),
        ([2], [], Resources(), 5, 1),
        ([16], [], Resources(), None, 1),
        ([16], [], Resources(cpus_per_fold=2), 5, 2),
        ([16], [], Resources(gpus_per_fold=0.5), 5, 1),
        ([16, 16], [], Resources(), 5, 1),  # one of them may go, and the fold go on elsewhere
        ([16], [{"CPU": 16.0}], Resources(), 5, 1),
    ],
)
def test_folds_share_the_cores_of_one_machine(
    nodes: list, types: list, resources: Resources, folds: int | None, cpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = [{"Alive": True, "Resources": {"CPU": float(cores)}} for cores in nodes]
    monkeypatch.setattr(session.ray, "nodes", lambda: [*alive, {"Alive": False, "Resources": {"CPU": 64.0}}])
    monkeypatch.setattr(session.ray, "cluster_resources", lambda: {"CPU": float(sum(nodes))})
    monkeypatch.setattr(session, "node_types", lambda: types)
    assert session.asked_for(resources, folds)["CPU"] == cpus


@pytest.mark.parametrize(
    ("types", "resources"),
    [
        ([], Resources(cpus_per_fold=5)),
        ([], Resources(gpus_per_fold=1.0)),
        ([{"CPU": 8.0}], Resources(gpus_per_fold=1.0)),
        ([{"CPU": 8.0}, {"GPU": 8.0}], Resources(cpus_per_fold=2, gpus_per_fold=0.5)),
    ],
)
def test_what_no_node_will_ever_have_is_refused(
    types: list[dict], resources: Resources, cpu_node: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "node_types", lambda: types)
    with pytest.raises(ClusterError, match=r"resources\.cpus_per_fold"):
        session.fold_resources(resources)


@pytest.mark.parametrize("text", ["", "48", '["CPU"]', '[{"CPU": "many"}]'])
def test_node_types_that_cannot_be_understood_are_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(session.NODE_TYPES, text)
    with pytest.raises(ClusterError, match=r"SALT_RAY_NODE_TYPES is .*such as '\[\{"):
        session.node_types()


def test_node_types_are_what_the_clusters_owner_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(session.NODE_TYPES, raising=False)
    assert session.node_types() == []
    monkeypatch.setenv(session.NODE_TYPES, '[{"CPU": 48, "GPU": 4}, {"CPU": 16}]')
    assert session.node_types() == [{"CPU": 48.0, "GPU": 4.0}, {"CPU": 16.0}]
    assert session.may_grow({"CPU": 12.0, "GPU": 1.0}) and not session.may_grow({"CPU": 64.0})
