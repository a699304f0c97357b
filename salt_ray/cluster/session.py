"""A connection to Ray: a cluster that is named, the one that this process runs on, or a local one of its own."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator

# Read by Ray when it is imported, in this process and in every worker (they inherit the environment of a local Ray
# and get it through the runtime environment on a cluster).
ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # a report waits for the next poll: 2 s by default
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # workers' prints would appear twice
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",  # the dashboard's API lists the runs by name
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths stay true in workers
    "RAY_USAGE_STATS_ENABLED": "0",
    # Every fold has half a dozen small processes; from four times this number on, Ray warns about them. Default: cores.
    "RAY_worker_maximum_startup_concurrency": str(max(8, os.cpu_count() or 1)),
    "NO_ALBUMENTATIONS_UPDATE": "1",
}
for _name, _value in ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402
from ray._private.utils import read_ray_address  # noqa: E402

from salt_ray.config import Resources  # noqa: E402
from salt_ray.errors import SaltRayError  # noqa: E402


class ClusterError(SaltRayError):
    """Ray cannot be reached, or has not what the experiment asks for."""


@contextlib.contextmanager
def connect(address: str | None = None) -> Iterator[str | None]:
    """Join ``address``; without one the cluster that this process runs on, or else start a local Ray and stop it again.

    Yields:
        The dashboard's address, ``host:port``; None where Ray runs without one.

    Raises:
        ClusterError: the cluster cannot be reached, or the local Ray does not start.
    """
    wanted = address or ("auto" if _inside_cluster() else "local")
    environment = {name: os.environ[name] for name in ENVIRONMENT}
    # It only says that a local Ray asks for a token, which is as it should be.
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    try:
        context = ray.init(
            address=wanted,
            namespace="salt-ray",
            runtime_env=None if wanted == "local" else {"env_vars": environment},
            logging_config=ray.LoggingConfig(log_level="WARNING"),
            log_to_driver=False,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        if wanted == "local":
            raise ClusterError(
                f"a local Ray does not start ({error}): is RAY_TMPDIR a short, writable path?"
            ) from error
        raise ClusterError(f"no Ray cluster answers at {wanted} ({error}): check --address, or leave it out") from error
    try:
        yield context.dashboard_url or None
    finally:
        ray.shutdown()


def _inside_cluster() -> bool:
    """Whether this process runs on a cluster: Ray tells its jobs, and ``ray start`` leaves the address on its node.

    That file outlives the cluster, so somebody must answer there.
    """
    if os.environ.get("RAY_ADDRESS"):
        return True
    host, _, port = (read_ray_address() or "").rpartition(":")
    if not host:
        return False
    try:
        with socket.create_connection((host, int(port)), timeout=2):
            return True
    except OSError:
        return False


def resources_per_fold(resources: Resources) -> dict[str, float]:
    """What Ray reserves for one fold or one prediction worker: a GPU (or a part) where the cluster has any.

    Raises:
        ClusterError: no node has that much; Ray would wait for ever.
    """
    wanted = {"CPU": float(resources.cpus_per_fold)}
    if ray.cluster_resources().get("GPU"):
        wanted["GPU"] = resources.gpus_per_fold
    if not _slots(wanted):
        largest = max((node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]), default=0)
        raise ClusterError(
            f"no node has the {wanted} that a fold asks for (the largest has {largest:g} CPUs): "
            "lower resources.cpus_per_fold with --set"
        )
    return wanted


def slots(resources: Resources) -> int:
    """How many folds or prediction workers fit on the cluster at once, at least 1."""
    return _slots(resources_per_fold(resources))


def _slots(wanted: dict[str, float]) -> int:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sum(min(int(node.get(kind, 0) / amount) for kind, amount in wanted.items()) for node in nodes)
