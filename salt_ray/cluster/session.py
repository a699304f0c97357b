"""A connection to Ray: a cluster that is named, the one that this process runs on, or a local one of its own."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from salt_ray.cluster.environment import ENVIRONMENT, PATIENCE  # isort: skip (before Ray)
import ray

from salt_ray.cluster import private
from salt_ray.config import Resources
from salt_ray.errors import SaltRayError, refusal

#: What the cluster's autoscaler may start: the resources of each kind of machine, as JSON. Ray tells no one.
NODE_TYPES = "SALT_RAY_NODE_TYPES"
LOG_BYTES = 1 << 20  # a Ray's first logs take less


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
    wanted = address or own_cluster() or "local"
    if ":" in wanted and not somebody_answers(wanted):  # Ray would try for many minutes
        raise ClusterError(f"cannot connect to Ray at {wanted}: check {origin(address)}")
    environment = {name: os.environ[name] for name in ENVIRONMENT}
    # It only says that a local Ray asks for a token, which is as it should be.
    logging.getLogger(private.AUTH_LOGGER).setLevel(logging.ERROR)
    if wanted == "local":
        check_folder()
        _guard_token()
    try:
        with _own_signals():
            context = ray.init(
                address=wanted,
                namespace="salt-ray",
                runtime_env=None if wanted == "local" else {"env_vars": environment},
                logging_config=ray.LoggingConfig(log_level="WARNING"),
                log_to_driver=False,
            )
    except Exception as error:
        # Ray raises Exception itself where its processes do not come up in time.
        expected = (OSError, RuntimeError, ValueError, ray.exceptions.RayError)
        if type(error) is not Exception and not isinstance(error, expected):
            raise
        raise (_not_started(error) if wanted == "local" else _not_let_in(error, wanted, address)) from error
    try:
        yield context.dashboard_url or None
    finally:
        with _own_signals():
            ray.shutdown()


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep Ray from what this process does at a signal, while it starts or stops.

    It installs handlers of its own for SIGTERM: until its processes are up one that raises SystemExit, then one that
    prints a stack trace and aborts, for which SIGTERM has to wait. Not earlier, because Ray's processes would inherit
    that: a thread of Ray's that is older may still print the trace in that half second, and then passes the signal on.
    They do inherit that SIGHUP waits: they end with their driver, not with its terminal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler, mask = signal.getsignal(signal.SIGTERM), signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})

    def restore() -> None:
        signal.signal(signal.SIGTERM, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    try:
        with private.before_driver_connects(lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})):
            yield
    except SystemExit:  # by Ray's first handler
        restore()
        signal.raise_signal(signal.SIGTERM)
        raise
    finally:
        restore()


def check_folder() -> Path:
    """The folder where a local Ray keeps its files, which it can use: it would fail late, or without a reason.

    Raises:
        ClusterError: naming what is wrong with it.
    """
    variable = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), None)
    folder = Path(private.local_folder())
    remedy = f"set {'RAY_TMPDIR' if variable is None else variable} to a short path of ASCII characters on a local disk"
    if not str(folder).isascii():
        raise ClusterError(f"cannot start a local Ray in {folder} ({variable}): its path is not ASCII; {remedy}")
    # As Ray names its longest socket, of which this process is the driver.
    socket_path = folder / f"ray/session_2000-01-01_00-00-00_000000_{os.getpid()}/sockets/plasma_store"
    limit = 103 if sys.platform == "darwin" else 107  # bytes
    if (length := len(os.fsencode(socket_path))) > limit:
        raise ClusterError(
            f"cannot start a local Ray: the path {folder} is too long for its sockets "
            f"({length} bytes, {limit} are possible); set RAY_TMPDIR to a short one"
        )
    try:
        (folder / "ray").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder / "ray") as file:
            file.write(bytes(LOG_BYTES))
    except OSError as error:
        raise ClusterError(f"cannot start a local Ray in {folder}: {refusal(error)}; {remedy}") from error
    return folder


def _not_started(error: Exception) -> ClusterError:
    """Why a local Ray is not there."""
    log = f"{private.local_folder()}/ray/session_latest/logs"
    if type(error) is Exception:
        return ClusterError(
            f"a local Ray did not start within {os.environ[PATIENCE]} s: try again when the machine is less busy, or "
            f"allow it more time with {PATIENCE}=600; see also {log}/raylet.err"
        )
    return ClusterError(f"cannot start a local Ray ({first_line(error)}): see {log}")


def _not_let_in(error: Exception, cluster: str, given: str | None) -> ClusterError:
    return ClusterError(
        f"the Ray cluster at {cluster} refused the connection ({first_line(error)}): check RAY_AUTH_TOKEN and "
        f"{origin(given)}"
    )


def origin(given: str | None) -> str:
    """What names the cluster, and how to do without it; ``given``: what ``--address`` says."""
    if given not in (None, "auto"):
        return "--address, or use --address local"
    if _named_in_environment():
        return "the variable RAY_ADDRESS, which names it, or `unset RAY_ADDRESS`"
    return "the Ray that runs on this machine, or use --address local"


def _guard_token() -> None:
    """Close the folder where Ray keeps its token to other users: it writes one that everybody may read."""
    folder = Path.home() / ".ray"
    with contextlib.suppress(OSError):  # where none can be made Ray says so; another user's is theirs to close
        folder.mkdir(exist_ok=True)
        folder.chmod(0o700)


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def own_cluster() -> str | None:
    """The cluster that this process runs on: Ray tells its jobs, and ``ray start`` leaves the address on its node.

    That file outlives the cluster, so somebody must answer there.
    """
    if named := _named_in_environment():
        return named
    address = private.own_address()
    return address if address and somebody_answers(address) else None


def _named_in_environment() -> str | None:
    address = os.environ.get("RAY_ADDRESS")
    return address if address and address != "auto" else None  # Ray's word for what is looked for here


def somebody_answers(address: str) -> bool:
    """Whether a connection to ``host:port`` (or ``ray://host:port``) opens within two seconds."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2):
            return True
    except (OSError, ValueError):
        return False


def fold_resources(resources: Resources, folds: int | None = None) -> dict[str, float]:
    """What Ray reserves for one fold or one prediction worker.

    Args:
        folds: how many share the cores of one machine; None: workers that want no more than a core each.

    Raises:
        ClusterError: no node has that much, and no autoscaler would start one that has; Ray would wait for ever.
    """
    wanted = asked_for(resources, folds)
    if not slots(wanted) and not may_grow(wanted):
        nodes = [{kind: node["Resources"].get(kind, 0) for kind in wanted} for node in ray.nodes() if node["Alive"]]
        raise ClusterError(
            f"no node has the {wanted} that a fold needs (nodes have {nodes}): "
            "lower resources.cpus_per_fold or resources.gpus_per_fold with --set"
        )
    return wanted


def asked_for(resources: Resources, folds: int | None = None) -> dict[str, float]:
    """What one fold or one prediction worker takes, whether or not a node has it; ``folds`` as above."""
    gpus = resources.gpus_per_fold is None and has_gpus()
    return resources.of_each(gpus, 0 if folds is None else _own_cores(), folds)


def node_types() -> list[dict[str, float]]:
    """Resources of every kind of nodes that the cluster's autoscaler may start; none where its owner names none.

    Raises:
        ClusterError: what the variable holds cannot be understood.
    """
    text = os.environ.get(NODE_TYPES, "[]")
    try:
        found = json.loads(text)
        return [{str(name): float(amount) for name, amount in kind.items()} for kind in found]
    except (ValueError, TypeError, AttributeError) as error:
        raise ClusterError(
            f"{NODE_TYPES} is {text[:60]!r}: name the resources of each kind of machine that the autoscaler may start, "
            """such as '[{"CPU": 48, "GPU": 4}]'"""
        ) from error


def _own_cores() -> int:
    """Cores of a cluster that is one machine; 0 of others: threads change rounding, and there they come and go."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return int(nodes[0].get("CPU", 0)) if len(nodes) == 1 and not node_types() else 0


def has_gpus() -> bool:
    """Whether a node of the cluster has a GPU, or one that its autoscaler may start."""
    return bool(ray.cluster_resources().get("GPU")) or any(kind.get("GPU") for kind in node_types())


def may_grow(wanted: dict[str, float]) -> bool:
    """Whether the cluster's autoscaler may start nodes on which these resources fit."""
    return any(_places(kind, wanted) for kind in node_types())


def slots(wanted: dict[str, float]) -> int:
    """How many folds or prediction workers with these resources fit on the live nodes at once."""
    return sum(_places(node["Resources"], wanted) for node in ray.nodes() if node["Alive"])


def _places(node: Mapping[str, float], wanted: dict[str, float]) -> int:
    return min(_fit(node.get(kind, 0), amount) for kind, amount in wanted.items())


def _fit(available: float, amount: float) -> int:
    """Parts of ``amount`` in what a node has; a fraction must lie within one device."""
    return int(available) * int(1 / amount) if amount < 1 else int(available / amount)
