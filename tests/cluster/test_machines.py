"""cluster-onprem.yaml on pretended machines: the road on several of them, and what becomes of it when they are lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from machines import SHARED, NoMachines, Site, running_machines
from onprem import for_site, wait_until
from rehearsal import DISTURBED_EPOCH, FOLDS, Disturbance, Findings, Moment, Timeline, rehearse

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.alone, pytest.mark.soak, pytest.mark.machines, pytest.mark.timeout(3600)]

OWNER = """
from machines import running_machines
with running_machines(["alone"], {}) as site:
    site["alone"].shell("sleep 4242 > /dev/null 2>&1 & echo $!")
    print("on", flush=True)
    input()
"""


# The machines --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    try:
        with running_machines(["one", "two"], {"TASTE": "sweet & sour"}) as site:
            yield site
    except NoMachines as reason:
        pytest.skip(f"no machines can be pretended here: {reason}")


def reaches(site: Site, there: str, here: str = "one") -> bool:
    """Whether a connection to a machine's ssh server opens from another one."""
    knock = f"timeout 2 bash -c '< /dev/tcp/{site[there].address}/22' 2> /dev/null && echo open || true"
    return site[here].shell(knock).strip() == "open"


def test_each_has_its_own_processes_name_and_disk_and_all_share_a_folder(site: Site) -> None:
    assert site["one"].shell("hostname; cat /proc/1/comm; echo $TASTE").split("\n")[:3] == [
        "one",
        "bash",
        "sweet & sour",
    ]
    site["one"].shell(
        f"echo mine > /tmp/file; echo mine > /dev/shm/file; echo mine > ~/file; echo ours > {SHARED}/file"
    )
    assert site["two"].shell(f"cat /tmp/file /dev/shm/file ~/file {SHARED}/file 2> /dev/null || true") == "ours\n"
    sleeper = site["one"].shell("sleep 4243 > /dev/null 2>&1 & echo $!").strip()
    assert "4243" in site["one"].shell(f"tr '\\0' ' ' < /proc/{sleeper}/cmdline")
    assert "4243" not in site["two"].shell("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")


def test_a_machine_that_died_is_silent_and_comes_back_with_its_disk(site: Site) -> None:
    two = site["two"]
    two.shell("echo kept > ~/kept; sleep 4244 > /dev/null 2>&1 &")
    assert reaches(site, "two")
    two.kill()
    assert not two.on and not reaches(site, "two") and reaches(site, "one", "one")
    two.start()
    assert two.on and reaches(site, "two")
    assert two.shell("cat ~/kept") == "kept\n"
    assert "4244" not in two.shell("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")


def test_a_cut_cable_ends_nothing(site: Site) -> None:
    two = site["two"]
    sleeper = two.shell("sleep 4245 > /dev/null 2>&1 & echo $!").strip()
    two.cut()
    assert two.on and not reaches(site, "two")
    two.join()
    wait_until(lambda: reaches(site, "two"), "the network is back")
    assert "4245" in two.shell(f"tr '\\0' ' ' < /proc/{sleeper}/cmdline")


def test_machines_end_with_their_owner_however_it_ends(site: Site, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "TMPDIR": str(tmp_path)}
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout.readline() == "on\n"

    def found() -> bool:
        return subprocess.run(["pgrep", "-f", "^sleep 4242$"], stdout=subprocess.DEVNULL).returncode == 0

    wait_until(found, "the machine's process is there", 10)
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    wait_until(lambda: not found(), "the machine ends", 10)
    links = ["ip", "-o", "link", "show"]
    wait_until(lambda: f"salt{owner.pid}x" not in subprocess.check_output(links, text=True), "its network ends", 10)


def test_the_rehearsed_file_differs_in_places_only(site: Site) -> None:
    text = (ROOT / "cluster-onprem.yaml").read_text()
    changed = [
        (old, new) for old, new in zip(text.splitlines(), for_site(text, site).splitlines(), strict=True) if old != new
    ]
    assert {old.split(":")[0].split("=")[0].strip() for old, _ in changed} == {
        "head_ip",
        "worker_ips",
        "ssh_user",
        "ssh_private_key",
        "export SALT_RAY_RUNS",
        "export SALT_RAY_DATA",
    }


# The rehearsal -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found() -> Findings:
    try:
        return rehearse(Timeline(print))
    except NoMachines as reason:
        pytest.skip(f"no machines can be pretended here: {reason}")


def test_the_cluster_wants_its_token(found: Findings) -> None:
    assert found.refused in (401, 403)


def test_every_part_of_the_road_runs_on_several_machines(found: Findings) -> None:
    for machines in (found.searched, found.trained, found.predicted, found.postprocessed):
        assert len(machines) > 1


def fold_of(disturbance: Disturbance) -> int:
    """The fold that the machine trained; the other one noticed nothing."""
    (fold,) = [fold for fold in FOLDS if disturbance.starts[fold][0][0] == disturbance.machine]
    assert 1 - fold in disturbance.undisturbed
    assert disturbance.newest[fold] >= (0, DISTURBED_EPOCH)
    return fold


def restarts(disturbance: Disturbance, fold: int) -> list[Moment]:
    """Where a fold went on in the middle of a stage."""
    return [moment for _, moment in disturbance.starts[fold] if moment[1] > 1]


def test_a_machine_that_dies(found: Findings) -> None:
    killed, fold = found.killed, fold_of(found.killed)
    assert restarts(killed, fold) == [killed.newest[fold]]  # not an epoch was lost
    assert killed.starts[fold][-1][0] != killed.machine
    assert killed.different == []


def test_a_network_that_goes_and_comes_back(found: Findings) -> None:
    cut, fold = found.cut, fold_of(found.cut)
    # The machine trained on for a while, in the folder that it still had; with luck to the end.
    assert all(moment >= cut.newest[fold] for moment in restarts(cut, fold))
    assert cut.different == []


def test_a_head_that_dies(found: Findings) -> None:
    headless = found.headless
    assert headless.machine == "head" and headless.undisturbed != list(FOLDS)
    for fold in FOLDS:
        assert all(moment >= headless.newest[fold] for moment in restarts(headless, fold))
    assert headless.different == []


def test_the_weights_were_compared(found: Findings) -> None:
    assert found.files > 20


def test_nothing_is_left_on_the_machines(found: Findings) -> None:
    assert found.left == []
