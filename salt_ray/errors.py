"""What a person can put right."""

import errno

# What another try does not cure, and what does.
REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room there"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "make it writable"),
    **dict.fromkeys((errno.ENOTDIR, errno.EISDIR, errno.EEXIST), "remove what is in its place"),
}


class SaltRayError(Exception):
    """The base of every error whose message is one clear sentence with its remedy; shown without a traceback."""


class RunError(SaltRayError):
    """A run directory cannot be used; the message says what to do."""


class TrainingFailed(SaltRayError):
    """A fold cannot be trained as asked; trying again would end the same way."""


def refusal(error: OSError) -> str:
    """What the system refused, and where."""
    return f"{error.strerror or error}" + (f" ({error.filename})" if error.filename else "")


def incurable(error: OSError) -> str | None:
    """What a person has to put right before another try can end otherwise; None: it may pass by itself."""
    remedy = REMEDIES.get(error.errno)
    return f"{refusal(error)}: {remedy}" if remedy else None
