"""cluster.yaml: what Ray accepts, what nodes get, what is open to whom; and what becomes of it on a made AWS."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.commands import _bootstrap_config
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.node_launch_exception import NodeLaunchException
from ray.autoscaler.tags import TAG_RAY_USER_NODE_TYPE

from salt_ray.cluster.environment import ENVIRONMENT
from salt_ray.cluster.session import NODE_TYPES
from salt_ray.experiment_file import load_experiment

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "cluster.yaml").read_text()
PER_MACHINE = "RAY_worker_maximum_startup_concurrency"  # session takes the machine's cores, at least 8
BUCKET = "YOUR-BUCKET"


@pytest.fixture
def cluster() -> dict[str, Any]:
    return yaml.safe_load(TEXT)


def environment(cluster: dict[str, Any]) -> dict[str, str]:
    """What every process in the nodes' containers has."""
    options = [option.removeprefix("--env=") for option in cluster["docker"]["run_options"]]
    return {name: value for name, _, value in (option.partition("=") for option in options)}


def pinned(name: str) -> str:
    return re.search(rf"^{name}==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]


def test_ray_accepts_it_and_would_not_accept_a_slip(cluster: dict[str, Any]) -> None:
    validate_config(prepare_config(cluster))
    for slip in ({"max_worker": 3}, {"docker": {**cluster["docker"], "images": "none"}}, {"max_workers": "3"}):
        with pytest.raises(jsonschema.ValidationError):
            validate_config(prepare_config({**cluster, **slip}))


def test_every_process_has_the_variables_that_ray_reads_at_its_start(cluster: dict[str, Any]) -> None:
    given = environment(cluster)
    assert int(given.pop(PER_MACHINE)) >= 8
    own = {name: given.pop(name) for name in ("SALT_RAY_RUNS", "SALT_RAY_DATA", "RAY_AUTH_MODE", NODE_TYPES)}
    assert given == {name: value for name, value in ENVIRONMENT.items() if name != PER_MACHINE}
    assert own["SALT_RAY_RUNS"] == f"s3://{BUCKET}/runs" and os.path.isabs(own["SALT_RAY_DATA"])


def test_every_place_in_the_store_is_in_one_bucket_that_has_to_be_named() -> None:
    assert set(re.findall(r"s3://([^/\s']+)", TEXT)) == {BUCKET}
    assert not re.fullmatch(r"[a-z0-9.-]{3,63}", BUCKET)  # no bucket of anybody's: S3 allows no capitals


def test_versions_are_those_that_the_tests_run_with(cluster: dict[str, Any]) -> None:
    assert cluster["docker"]["image"] == f"rayproject/ray:{pinned('ray')}-py311-gpu"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (ray,) = (Requirement(text) for text in project["dependencies"] if text.startswith("ray["))
    assert pinned("ray") in ray.specifier
    assert any(extra.startswith("boto3>=") for extra in project["optional-dependencies"]["aws"])
    assert pinned("boto3")


def test_the_token_travels_as_a_file_and_no_secret_stands_here(cluster: dict[str, Any]) -> None:
    assert environment(cluster)["RAY_AUTH_MODE"] == "token"
    assert cluster["file_mounts"].pop("~/.ray/auth_token") == "~/.ray/auth_token"
    assert all((ROOT / source).is_file() for source in cluster["file_mounts"].values())
    assert not re.search(r"AKIA|ASIA|BEGIN |[0-9a-fA-F]{32}|[A-Za-z0-9+]{40}|RAY_AUTH_TOKEN\b|SECRET|PASSWORD", TEXT)
    assert not re.search(r"\b\d{12}\b|subnet-|sg-|ami-0", TEXT)  # nobody's account


def test_nothing_but_ssh_is_opened_and_the_dashboard_is_on_loopback(cluster: dict[str, Any]) -> None:
    assert "security_group" not in cluster["provider"] and "0.0.0.0" not in TEXT
    (head,) = (command for command in cluster["head_start_ray_commands"] if "--head" in command)
    assert {"--dashboard-host=127.0.0.1", "--disable-usage-stats"} <= set(shlex.split(head))


def test_workers_are_on_spot_and_write_to_the_bucket_and_the_head_is_neither(cluster: dict[str, Any]) -> None:
    head, *workers = (kind["node_config"] for kind in cluster["available_node_types"].values())
    assert "InstanceMarketOptions" not in head
    assert workers and all(kind["InstanceMarketOptions"] == {"MarketType": "spot"} for kind in workers)
    # A role that may start machines belongs on the head alone.
    assert {kind["IamInstanceProfile"]["Name"] for kind in workers} == {"salt-ray-worker"}
    assert head["IamInstanceProfile"]["Name"] == "salt-ray-head"


def shell(command: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command as on a node, with ``home/bin`` before everything else."""
    path = f"{home / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, "HOME": str(home), "PATH": path, **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )


def program(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_a_machine_without_the_survey_says_what_to_do(cluster: dict[str, Any], tmp_path: Path) -> None:
    check, _ = cluster["initialization_commands"]
    program(tmp_path / "bin" / "aws", 'echo "$@"')
    assert shell(check, tmp_path).returncode == 0
    program(tmp_path / "bin" / "aws", "exit 1")
    refused = shell(check, tmp_path)
    assert refused.returncode == 1 and "docs/cluster.md" in refused.stderr and refused.stderr.count("\n") == 1
    assert (ROOT / "docs" / "cluster.md").is_file()


@pytest.mark.parametrize(
    ("commands", "arguments"),
    [
        ("head_start_ray_commands", ["--head", "--autoscaling-config={home}/ray_bootstrap_config.yaml"]),
        ("worker_start_ray_commands", ["--address=10.0.0.7:6379"]),
    ],
)
def test_ray_starts_from_our_environment(
    commands: str, arguments: list[str], cluster: dict[str, Any], tmp_path: Path
) -> None:
    stop, start = cluster[commands]
    assert stop == "ray stop" and "ulimit -n 65536;" in start
    start = start.replace("~/", f"{tmp_path}/").replace("ulimit -n 65536;", "")  # Ray writes the home directory out
    program(tmp_path / "salt-ray-env" / "bin" / "ray", 'which ray; env | grep OMP_NUM; printf "%s\\n" "$@"')
    started = shell(start, tmp_path, OMP_NUM_THREADS="1", RAY_HEAD_IP="10.0.0.7")
    place, command, *given = started.stdout.splitlines()  # nothing of OMP_NUM_THREADS in between
    assert (place, command) == (f"{tmp_path}/salt-ray-env/bin/ray", "start")
    assert {argument.format(home=tmp_path) for argument in arguments} <= set(given)


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A made AWS on loopback, and the home directory of somebody who uses it."""
    from moto.server import ThreadedMotoServer  # seconds, for the slow tests alone

    home = tmp_path_factory.mktemp("home")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "made-up")
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("HOME", str(home))
        yield home
    server.stop()


@pytest.fixture(scope="module")
def resolved(aws: Path) -> dict[str, Any]:
    """The file as `ray up` works with it, once AWS has been asked for everything that it leaves open."""
    return _bootstrap_config(yaml.safe_load(TEXT), no_config_cache=True)


@pytest.mark.soak
def test_instance_types_have_what_the_comments_say(resolved: dict[str, Any]) -> None:
    kinds = resolved["available_node_types"]
    assert kinds["head"]["resources"]["CPU"] == 8 and "GPU" not in kinds["head"]["resources"]
    for kind, cores, gpus, model in (("gpu", 48, 4, "L4"), ("gpu_fast", 96, 8, "A100")):
        resources = kinds[kind]["resources"]
        assert (resources["CPU"], resources["GPU"], resources[f"accelerator_type:{model}"]) == (cores, gpus, 1)
    (said,) = re.findall(rf"--env={NODE_TYPES}='(.*)'", TEXT)
    assert json.loads(said) == [{name: kinds["gpu"]["resources"][name] for name in ("CPU", "GPU")}]
    trainings = load_experiment(ROOT / "experiments" / "argus.py").trainings
    folds = sum(training.folds.count for training in trainings)
    assert resolved["max_workers"] * kinds["gpu"]["resources"]["GPU"] >= folds == 11


@pytest.mark.soak
def test_the_security_group_lets_in_ssh_and_its_own_members(resolved: dict[str, Any]) -> None:
    (group,) = boto3.client("ec2").describe_security_groups(
        Filters=[{"Name": "group-name", "Values": ["ray-autoscaler-salt-ray"]}]
    )["SecurityGroups"]
    from_outside = [rule for rule in group["IpPermissions"] if rule["IpRanges"] or rule["Ipv6Ranges"]]
    assert [(rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) for rule in from_outside] == [("tcp", 22, 22)]
    members = [pair["GroupId"] for rule in group["IpPermissions"] for pair in rule["UserIdGroupPairs"]]
    assert members == [group["GroupId"]]
    configs = [kind["node_config"] for kind in resolved["available_node_types"].values()]
    assert all(config["SecurityGroupIds"] == [group["GroupId"]] for config in configs)
    assert all(len(config["SubnetIds"]) > 1 for config in configs)  # every zone is tried


@pytest.mark.soak
def test_the_ssh_key_is_its_owners_alone(resolved: dict[str, Any], aws: Path) -> None:
    key = Path(resolved["auth"]["ssh_private_key"])
    assert key.is_relative_to(aws) and key.stat().st_mode & 0o077 == 0


@pytest.mark.soak
def test_ec2_starts_what_the_file_describes(resolved: dict[str, Any]) -> None:
    provider = AWSNodeProvider(resolved["provider"], resolved["cluster_name"])
    kinds = resolved["available_node_types"]

    def start(name: str) -> dict[str, Any]:
        (node,) = provider.create_node(dict(kinds[name]["node_config"]), {TAG_RAY_USER_NODE_TYPE: name}, 1)
        return boto3.client("ec2").describe_instances(InstanceIds=[node])["Reservations"][0]["Instances"][0]

    with pytest.raises(NodeLaunchException, match="salt-ray-head"):  # without the profiles nothing starts to cost
        start("head")
    for profile in ("salt-ray-head", "salt-ray-worker"):
        boto3.client("iam").create_instance_profile(InstanceProfileName=profile)
    for name, market in (("head", None), ("gpu", "spot"), ("gpu_fast", "spot")):
        node = start(name)
        assert node["InstanceType"] == kinds[name]["node_config"]["InstanceType"]
        assert node.get("InstanceLifecycle") == market
        assert node["MetadataOptions"]["HttpTokens"] == "required"
        assert node["IamInstanceProfile"]["Arn"].endswith("/salt-ray-head" if name == "head" else "/salt-ray-worker")


@pytest.mark.soak
def test_the_head_fetches_the_survey(cluster: dict[str, Any], aws: Path, tmp_path: Path) -> None:
    store = boto3.client("s3")
    store.create_bucket(Bucket="made")
    store.put_object(Bucket="made", Key="data/train/images/a.png", Body=b"tile")
    store.put_object(Bucket="made", Key="data/depths.csv", Body=b"id,z")
    (fetch,) = cluster["head_setup_commands"]
    (tmp_path / "salt-ray-env").symlink_to(sys.prefix)
    target = tmp_path / "data"
    fetched = shell(fetch.replace(BUCKET, "made"), tmp_path, SALT_RAY_DATA=str(target))
    assert fetched.returncode == 0, fetched.stderr
    files = {path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    assert files == {"train/images/a.png": b"tile", "depths.csv": b"id,z"}
    assert shell(fetch.replace(BUCKET, "another"), tmp_path, SALT_RAY_DATA=str(target)).returncode != 0
