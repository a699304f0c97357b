"""Which Ray a command joins."""

import socket
from pathlib import Path

import pytest

from salt_ray.cluster import session
from salt_ray.cluster.session import ClusterError
from salt_ray.config import Resources


@pytest.fixture(autouse=True)
def own_ray_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "ray").mkdir()
    return tmp_path / "ray" / "ray_current_cluster"


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
    with pytest.raises(ClusterError, match=r"AF_UNIX.*RAY_TMPDIR"), session.connect("local"):
        pytest.fail("it started")


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
