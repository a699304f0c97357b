"""Which losses count, and when a worker is not begun again; without a Ray."""

from __future__ import annotations

import pytest

from salt_ray.cluster.restarts import GivenUp, Loss, Restarts

NODE, CRASH = Loss("node", "its node died"), Loss("worker", "it crashed")
MEMORY, SUPERSEDED = Loss("memory", "no memory"), Loss("superseded", "another one writes")


class Told:
    """An inquiry whose answers are known: one at every look, the last one for ever."""

    def __init__(self, *losses: Loss | None, settled: bool = True) -> None:
        self._losses, self.settled = list(losses), settled

    def look(self) -> Loss | None:
        return self._losses.pop(0) if len(self._losses) > 1 else self._losses[0]


def never(reason: str) -> None:
    """Batches are as small as they can be."""


def test_failures_of_its_own_count_and_nothing_else() -> None:
    restarts = Restarts(2, never)
    for loss in (NODE, CRASH, SUPERSEDED, NODE, MEMORY, NODE, SUPERSEDED):
        assert restarts.after(Told(loss)) == f"its worker was lost and resumes from its checkpoint: {loss.reason}"
    with pytest.raises(GivenUp, match="it crashed"):
        restarts.after(Told(CRASH))


@pytest.mark.parametrize("loss", [NODE, SUPERSEDED])
def test_without_restarts_a_lost_node_is_still_free(loss: Loss) -> None:
    restarts = Restarts(0, never)
    for _ in range(100):
        assert restarts.after(Told(loss))
    with pytest.raises(GivenUp):
        restarts.after(Told(CRASH))


def test_a_lack_of_memory_is_free_while_batches_get_smaller() -> None:
    lines = ["in 2 parts", "in 4 parts", None]
    restarts = Restarts(0, lambda reason: lines.pop(0))
    assert [restarts.after(Told(MEMORY)) for _ in range(2)] == ["in 2 parts", "in 4 parts"]
    with pytest.raises(GivenUp, match="no memory"):
        restarts.after(Told(MEMORY))


def test_the_last_word_waits_until_it_is_sure() -> None:
    restarts = Restarts(0, never)
    unknown, doubtful = Told(None, settled=False), Told(CRASH, CRASH, NODE, settled=False)
    assert restarts.after(unknown) is None
    assert restarts.after(doubtful) is None and restarts.after(doubtful) is None
    assert "its node died" in restarts.after(doubtful)


def test_a_crash_that_was_its_nodes_end_is_forgiven_before_the_last_word() -> None:
    """What is doubtful counts, and nobody waits for it, until it decides."""
    restarts = Restarts(1, never)
    assert restarts.after(Told(CRASH, NODE, settled=False))
    assert restarts.after(Told(CRASH))
    with pytest.raises(GivenUp):
        restarts.after(Told(CRASH))
