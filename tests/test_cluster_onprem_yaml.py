"""cluster-onprem.yaml without machines: what Ray takes of it, and what its commands do in a home of their own."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from salt_ray.cluster.environment import ENVIRONMENT

ROOT = Path(__file__).parents[1]
FILE = ROOT / "cluster-onprem.yaml"


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text())


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home as the installation leaves it."""
    (tmp_path / "salt-ray-env" / "bin").mkdir(parents=True)
    (tmp_path / "salt-ray-env" / "bin" / "python").symlink_to(sys.executable)
    return tmp_path


def shell(command: str, home: Path, **environment: str) -> str:
    """What a command prints in an empty environment."""
    bare = {"HOME": str(home), "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", **environment}
    done = subprocess.run(["bash", "-c", command], env=bare, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_ray_takes_it(config: dict[str, Any]) -> None:
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    (kind,) = prepared["available_node_types"].values()
    assert kind["min_workers"] == kind["max_workers"] == len(config["provider"]["worker_ips"])
    with pytest.raises(Exception, match="head_nod"):
        validate_config(prepared | {"head_nod": {}})


def test_it_exports_what_the_code_wants(config: dict[str, Any], home: Path) -> None:
    exports = config["setup_commands"][-1]
    for _ in range(2):  # every `ray up` runs it again
        shell(exports, home)
    assert (home / ".bashrc").read_text().count("salt-ray-env") == 1
    lines = shell(". ~/.bashrc && env -0", home).split("\0")
    exported = dict(line.split("=", 1) for line in lines if "=" in line)
    assert {name: exported.get(name) for name in ENVIRONMENT} == ENVIRONMENT
    assert exported["RAY_AUTH_MODE"] == "token"
    assert exported["PATH"].startswith(f"{home}/salt-ray-env/bin:")
    shared = [Path(exported[name]) for name in ("SALT_RAY_RUNS", "SALT_RAY_DATA")]
    assert all(path.is_relative_to("/shared") for path in shared) and shared[0] != shared[1]


def test_the_token_is_for_its_owner_alone(config: dict[str, Any], home: Path) -> None:
    token = home / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("secret")
    token.chmod(0o644)
    shell(config["setup_commands"][0], home)
    assert token.stat().st_mode & 0o777 == 0o600


def start(config: dict[str, Any], kind: str) -> str:
    first, command = config[f"{kind}_start_ray_commands"]
    assert first == "ray stop" and "ray start" in command
    return command


def node_address(command: str) -> str:
    """The part of a start command that finds the machine's own address."""
    return re.search(r'--node-ip-address="(\$\(.*?\)")( --|$)', command)[1].removesuffix('"')


def test_the_head_knows_its_address(config: dict[str, Any], home: Path) -> None:
    (home / "ray_bootstrap_config.yaml").write_text(yaml.safe_dump(config))
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    found = shell(f"echo {node_address(start(config, 'head'))}", home, PATH=path)
    assert found.strip() == config["provider"]["head_ip"]


@pytest.mark.skipif(shutil.which("ip", path="/usr/bin:/bin:/usr/sbin:/sbin") is None, reason="iproute2 is missing")
def test_a_worker_finds_the_address_that_leads_to_the_head(config: dict[str, Any], home: Path) -> None:
    found = shell(f"echo {node_address(start(config, 'worker'))}", home, RAY_HEAD_IP="127.0.0.1")
    assert found.strip() == "127.0.0.1"


def test_the_dashboard_stays_on_the_head(config: dict[str, Any]) -> None:
    assert "--dashboard-host=127.0.0.1" in start(config, "head")


def test_the_head_starts_the_workers(config: dict[str, Any]) -> None:
    """The newer autoscaler, which ``ray up`` switches on before our command, does not."""
    command = start(config, "head")
    assert command.index("RAY_enable_autoscaler_v2=0") < command.index("ray start")
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in command


def test_what_it_copies_is_there_and_no_secret_stands_in_it(config: dict[str, Any]) -> None:
    sources = dict(config["file_mounts"])
    assert sources.pop("~/.ray/auth_token") == "~/.ray/auth_token"
    assert all((ROOT / source).is_file() for source in sources.values())
    assert not re.search(r"[0-9a-f]{32}|BEGIN .*KEY|AKIA|passw", FILE.read_text())


def test_it_lives_on_the_same_commands_as_the_cloud(config: dict[str, Any]) -> None:
    ours, theirs = (
        re.findall(r"^#   (ray \w[^#\n]*?) *(?:#|$)", text, re.MULTILINE)
        for text in (FILE.read_text().replace("-onprem", ""), (ROOT / "cluster.yaml").read_text())
    )
    assert len(ours) >= 4 and ours == theirs
