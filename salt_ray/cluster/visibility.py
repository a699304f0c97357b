"""Whether every node sees the run directory: one on the driver's own disk would be another one elsewhere."""

from __future__ import annotations

from salt_ray.cluster.session import ClusterError, first_line  # isort: skip (sets Ray's environment)
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from salt_ray.artifacts import SHARE, RunDirectory
from salt_ray.errors import RunError, SaltRayError
from salt_ray.object_store import StorageError

SHOWN = 5  # nodes that the message names
SECONDS = 120.0  # for all nodes together: each has to start a process, which may first unpack what the job needs


def check_nodes_see(run: RunDirectory) -> str:
    """Let every live node look for the run directory; workers check it again, because nodes may come later.

    Returns:
        The directory's identity, for ``run.check_visible`` in workers.

    Raises:
        RunError: naming the nodes that do not see it.
        ClusterError: a node cannot look.
    """
    identity, here = run.identity(), ray.get_runtime_context().get_node_id()
    looking = {}
    for node in ray.nodes():
        works = node["Alive"] and (node["Resources"].get("CPU") or node["Resources"].get("GPU"))
        if works and node["NodeID"] != here:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            looking[_look.options(scheduling_strategy=there).remote(run, identity)] = node["NodeManagerAddress"]
    answered, _ = ray.wait(list(looking), num_returns=len(looking), timeout=SECONDS) if looking else ([], [])
    blind = {}
    for answer in answered:
        try:
            ray.get(answer)
        except ray.exceptions.RayTaskError as error:
            if not isinstance(error.cause, SaltRayError):
                raise ClusterError(
                    f"{looking[answer]} cannot run salt-ray ({first_line(error.cause or error)}): "
                    "install the same version there"
                ) from error
            blind[looking[answer]] = error.cause
        except ray.exceptions.RayError:  # it has just died or cannot take tasks: its workers will check
            continue
    if blind:
        names = sorted(blind)
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        raise RunError(
            f"{', '.join(names[:SHOWN])}{more} cannot access {run.path}: {SHARE}"
            if not any(isinstance(cause, StorageError) for cause in blind.values())
            else f"{names[0]} cannot access {run.path}: {blind[names[0]]}"
        )
    return identity


@ray.remote(num_cpus=0, max_retries=0)
def _look(run: RunDirectory, identity: str) -> None:
    run.check_visible(identity)
