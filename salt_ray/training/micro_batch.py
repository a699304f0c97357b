"""How many tiles are in memory at once, where a whole batch is too many.

The batch then goes through the network in parts, each loss weighted by its share of the tiles: the losses are means
over tiles, so that the parts' gradients add up to the batch's. What is not the same as with the whole batch: batch
norm sees the statistics of the parts (and updates its running ones once a part), dropout draws in another order, and
sums are rounded in another order.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Literal

from salt_ray.errors import SaltRayError
from salt_ray.storage import StoragePath, write_atomically

Phase = Literal["training", "validation"]
#: Tiles in the smallest part: batch norm has no variance of a single tile's 1 x 1 maps; validation does not need it.
SMALLEST: dict[Phase, int] = {"training": 2, "validation": 1}
#: What torch says besides its own OutOfMemoryError. The primitives are oneDNN's: under a limit on the address space a
#: quarter of the failures of a CPU's training step were that, the others the allocator's.
SIGNS = (
    "can't allocate memory",
    "out of memory",
    "bad_alloc",
    "could not create a primitive",
    "could not create a memory object",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


class MicroBatchError(SaltRayError):
    """What a fold remembers of its memory cannot be read."""


class OutOfMemory(Exception):
    """A part of a batch did not fit into memory, on the device or on the host; the message says where.

    Whoever catches it should let go of it before trying again: its frames hold what was in memory.
    """

    def __init__(self, message: str, phase: Phase, batch: int) -> None:
        super().__init__(message)
        self.phase, self.batch = phase, batch


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of torch or numpy means that memory was short."""
    import torch  # here: a fold's controller, which only halves batches, does not wait for it

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)


@contextlib.contextmanager
def memory_watched(phase: Phase, batch: int, at_once: int, where: str) -> Iterator[None]:
    """Make ``OutOfMemory`` of an exception that means it, in a block that takes batches ``at_once`` tiles at a time."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        where = where if phase == "training" else f"the {phase} of {where}"
        raise OutOfMemory(f"out of memory with {at_once} tiles at once in {where}", phase, batch) from error


class MicroBatch:
    """In how many parts a fold's batches are processed, remembered for later starts in its ``micro_batch.json``.

    The file is there only where memory was short: ``{"training": parts, "validation": parts, "why": [reasons]}``.
    It holds parts and not tiles, because who writes it may not know the batch size: when a worker was killed for
    memory, its controller halves.
    """

    def __init__(self, fold_folder: StoragePath) -> None:
        """``fold_folder``: the parent of the folders of the fold's stages."""
        self.path = fold_folder / "micro_batch.json"

    def parts(self, phase: Phase, batch: int) -> int:
        """In how many parts a batch of so many tiles is processed; no part is smaller than ``SMALLEST``."""
        return min(self._read()[phase], max(1, batch // SMALLEST[phase]))

    def at_once(self, phase: Phase, batch: int) -> int:
        """Tiles in the largest part of a batch."""
        return -(-batch // self.parts(phase, batch))

    def can_shrink(self, phase: Phase, batch: int) -> bool:
        """Whether batches of so many tiles can go in smaller parts."""
        return self.parts(phase, batch) < batch // SMALLEST[phase]

    def shrink(self, error: OutOfMemory) -> str:
        """``halve`` after a batch did not fit; the line says in tiles what comes of it."""
        self.halve(str(error), [error.phase])
        same = f", same batch of {error.batch}" if error.phase == "training" else ""
        return f"{error}; continuing with {self.at_once(error.phase, error.batch)} at once{same}"

    def halve(self, reason: str, phases: Sequence[Phase] = ("training", "validation")) -> str:
        """Remember twice as many parts; returns the line that says so."""
        memory = self._read()
        memory |= {phase: 2 * memory[phase] for phase in phases} | {"why": [*memory["why"], reason]}
        write_atomically(self.path, json.dumps(memory, indent=1))
        return f"{reason}; continuing with batches in {max(memory[phase] for phase in phases)} parts"

    def remembered(self) -> str | None:
        """A line for a start that finds memory to have been short before; None where it was not."""
        memory = self._read()
        if not memory["why"]:
            return None
        return (
            f"batches in {memory['training']} parts, as before ({memory['why'][-1]}); "
            f"delete {self.path} to try whole ones again"
        )

    def _read(self) -> dict:
        """The file's content, or what holds without it.

        Raises:
            MicroBatchError: it is damaged.
        """
        try:
            memory = json.loads(self.path.read_text())
            if min(memory["training"], memory["validation"]) < 1 or not isinstance(memory["why"], list):
                raise ValueError
        except FileNotFoundError:
            return {"training": 1, "validation": 1, "why": []}
        except (ValueError, KeyError, TypeError) as error:
            raise MicroBatchError(f"{self.path} is damaged: delete it to use whole batches again") from error
        return memory
