"""What a person is told when the system refuses a file."""

import errno
import os

import pytest

from salt_ray.errors import incurable, refusal


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        (errno.ENOSPC, "make room there"),
        (errno.EDQUOT, "make room there"),
        (errno.EROFS, "make it writable"),
        (errno.EACCES, "make it writable"),
        (errno.EPERM, "make it writable"),
        (errno.ENOTDIR, "remove what is in its place"),
    ],
)
def test_what_a_person_has_to_put_right_is_named_with_its_place(kind: int, remedy: str) -> None:
    assert incurable(OSError(kind, os.strerror(kind), "/disk/x")) == f"{os.strerror(kind)} (/disk/x): {remedy}"


@pytest.mark.parametrize("error", [OSError(errno.EIO, "torn", "/disk/x"), OSError("torn")])
def test_what_may_pass_by_itself_has_no_remedy(error: OSError) -> None:
    assert incurable(error) is None and refusal(error).startswith("torn")
