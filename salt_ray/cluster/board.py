"""Where workers say how far they are, for the driver to show."""

from __future__ import annotations

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from salt_ray.training.progress import Progress, StepProgress


class Board:
    """Keeps the epochs and the newest step of every fold, and lines for people, until the driver takes them."""

    def __init__(self) -> None:
        self._progress: list[Progress | StepProgress] = []
        self._lines: list[str] = []

    def post(self, progress: Progress | StepProgress) -> None:
        if isinstance(progress, StepProgress):
            self._progress = [
                one for one in self._progress if not (isinstance(one, StepProgress) and one.name == progress.name)
            ]
        self._progress.append(progress)

    def say(self, line: str) -> None:
        self._lines.append(line)

    def take(self) -> tuple[list[Progress | StepProgress], list[str]]:
        """What came since the last call."""
        progress, self._progress = self._progress, []
        lines, self._lines = self._lines, []
        return progress, lines


def new_board() -> ray.actor.ActorHandle:
    """A board on the driver's own node: it lives as long as the driver, whatever happens to the others."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    # Its calls, one a second, would bury all others in the dashboard's lists of tasks.
    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "enable_task_events": False}
    return ray.remote(Board).options(scheduling_strategy=here, **options).remote()
