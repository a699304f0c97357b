"""What an autoscaler may add to the cluster.

Imported by ``session``, once that has set Ray's environment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import ray
import yaml
from ray._private.state import state
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

HEAD = "node:__internal_head__"  # a resource that Ray gives to the head node alone


def node_types() -> list[Mapping[str, float]]:
    """Resources of every kind of nodes that the cluster's autoscaler may start; none where there is no autoscaler.

    Platforms report it to Ray. The autoscaler of ``ray up`` does not: its file is read on the head node. KubeRay's lies
    in Kubernetes, where it is not looked for.
    """
    reported = state.get_cluster_config()
    if reported and reported.node_group_configs:
        return [dict(group.resources) for group in reported.node_group_configs if group.max_count]
    port = ray.get_runtime_context().gcs_address.rpartition(":")[2]
    (head,) = (node["NodeID"] for node in ray.nodes() if node["Alive"] and HEAD in node["Resources"])
    if head == ray.get_runtime_context().get_node_id():
        return configured_types(port)
    there = NodeAffinitySchedulingStrategy(head, soft=False)
    return ray.get(ray.remote(num_cpus=0)(configured_types).options(scheduling_strategy=there).remote(port))


def configured_types(port: str, processes: Path = Path("/proc")) -> list[Mapping[str, float]]:
    """Resources of every kind of worker nodes in the file of the autoscaler that runs on this machine.

    Args:
        port: of the cluster that it is for; the host may have several names.
    """
    for words in _command_lines(processes):
        options = dict(word.split("=", 1) for word in words if "=" in word)
        file = options.get("--autoscaling-config")
        if file is not None and options.get("--gcs-address", "").rpartition(":")[2] == port:
            config = yaml.safe_load(Path(file).expanduser().read_text())
            most = config.get("max_workers", 0)
            return [
                kind.get("resources", {})
                for name, kind in config.get("available_node_types", {}).items()
                if name != config.get("head_node_type") and min(most, kind.get("max_workers", most))
            ]
    return []


def _command_lines(processes: Path) -> Iterator[list[str]]:
    for path in processes.glob("[0-9]*/cmdline"):
        try:
            yield path.read_text(errors="replace").split("\0")
        except OSError:  # it has just ended
            continue
