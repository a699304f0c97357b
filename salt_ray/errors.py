"""What a person can put right."""

import errno
import traceback
from pathlib import Path

#: How the command line is called: in a checkout, or where it is installed.
PROGRAM = "python launch.py" if (Path(__file__).resolve().parents[1] / "launch.py").exists() else "salt-ray"

# What another try does not cure, and what does.
REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room there"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "make it writable"),
    **dict.fromkeys((errno.ENOTDIR, errno.EISDIR, errno.EEXIST), "remove what is in its place"),
}

# Errors that a call on the same inputs raises again, in whatever process: mistakes in code and data.
REPEATED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    RuntimeError,
    TypeError,
    ValueError,
)
# What a RuntimeError says that comes from the machine, and may pass on another one or with other neighbours.
OF_THE_MACHINE = ("CUDA error", "HIP error", "cuDNN", "CUDNN", "NCCL", "memory", "bad_alloc", "primitive", "thread")


class SaltRayError(Exception):
    """Base of all errors with one clear message that names the fix; shown without a traceback."""


class RunError(SaltRayError):
    """A run directory cannot be used; the message says what to do."""


class TrainingFailed(SaltRayError):
    """A fold cannot be trained as asked; trying again would end the same way."""


class Interrupted(SaltRayError):
    """A signal ended a command; the message says what is left of it."""


def refusal(error: OSError) -> str:
    """What the system refused, and where."""
    return f"{error.strerror or error}" + (f" ({error.filename})" if error.filename else "")


def incurable(error: OSError) -> str | None:
    """What a person has to put right before another try can end otherwise; None: it may pass by itself."""
    remedy = REMEDIES.get(error.errno)
    return f"{refusal(error)}: {remedy}" if remedy else None


def repeats(error: BaseException) -> bool:
    """Whether the same call would end with this error again, so that retrying does not help."""
    of_the_machine = isinstance(error, RuntimeError) and any(sign in str(error) for sign in OF_THE_MACHINE)
    return isinstance(error, REPEATED) and not of_the_machine


def fault(error: BaseException) -> str:
    """One line about an error that is no ``SaltRayError``: its kind, what it says, and where it was raised."""
    text = (str(error).strip().splitlines() or ["no message"])[0]
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{where}"
