"""The private parts of Ray that are used, each with its reason. There are no others.

``tests/cluster/test_private.py`` names each of them, and says so where a version of Ray does not have it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import ray
from ray._common.utils import get_default_system_temp_dir
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
from ray._private.state import state
from ray._private.utils import read_ray_address
from ray.core.generated.common_pb2 import ActorDiedErrorContext

#: The logger that tells of tokens, which are as they should be.
AUTH_LOGGER = "ray._private.authentication.authentication_token_setup"
#: The logger that tells of every folder that is sent to a cluster.
PACKAGING_LOGGER = "ray._private.runtime_env.packaging"
#: Why an actor died, as Ray's head node has it.
DeathReason = ActorDiedErrorContext


def local_folder() -> str:
    """Where a local Ray keeps its files: what is wrong with that folder has to be said before Ray starts there."""
    return get_default_system_temp_dir()


def own_address() -> str | None:
    """The address that ``ray start`` left on this node; ``ray.init`` would join it, and tell it to nobody."""
    return read_ray_address()


def is_driver_of_a_job() -> bool:
    """Whether this process is the driver of a job of a cluster, to which Ray describes the job, and to no other one."""
    return RAY_JOB_CONFIG_JSON_ENV_VAR in os.environ


def use_token_of_this_node() -> None:
    """Use the token stored on a cluster's node, as ``ray job`` itself does there."""
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


@contextlib.contextmanager
def before_driver_connects(call: Callable[[], Any]) -> Iterator[None]:
    """While the block lasts ``ray.init`` calls this between the start of its processes and the driver's own threads.

    Ray has no hook there, and what these inherit of this process's signals has to differ.
    """
    connect = ray._private.worker.connect

    def connect_after_call(*args: Any, **options: Any) -> Any:
        call()
        return connect(*args, **options)

    ray._private.worker.connect = connect_after_call
    try:
        yield
    finally:
        ray._private.worker.connect = connect


def actor(actor_id: str) -> dict[str, Any]:
    """What the head node knows of an actor, dead ones too: why a worker was lost decides whether that counts.

    Ray's public state API asks the dashboard, which answers late where workers are being lost, and names no reason.
    """
    return state.actor_table(actor_id)


def node_is_alive(node: str) -> bool:
    """Whether a node, by its id, is alive; also in the controllers of Ray Train, where ``ray.nodes`` may be asked for
    nodes that have gone.
    """
    return any(row["NodeID"] == node and row["Alive"] for row in state.node_table())


def autoscaling_coordinator() -> Any:
    """The actor with which Ray Train tells the autoscaler of its workers.

    ``ray.autoscaler.sdk.request_resources`` replaces what was asked for before, by whomever: Ray Train's requests and
    ours would undo each other, and those of a driver that was killed would keep machines running.
    """
    from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import (
        get_or_create_autoscaling_coordinator,
    )

    return get_or_create_autoscaling_coordinator()


def put_by(controller: Any, trial: Any) -> None:
    """Let a trial of Ray Tune wait: its public ``pause_trial`` asks for a checkpoint of a worker that is gone."""
    controller._set_trial_status(trial, "PAUSED")


def let_begin(controller: Any, trial: Any) -> None:
    """Let a trial that was put by begin when its turn comes."""
    controller._set_trial_status(trial, "PENDING")


def with_mixin(function: Callable[..., Any], mixin: type) -> Callable[..., Any]:
    """A function for Ray Tune whose actors are of this class too: only so have they names on the dashboard."""
    function.__mixins__ = (mixin,)
    return function
