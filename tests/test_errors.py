"""What a person is told when the system refuses a file."""

import errno
import os

import pytest

from salt_ray.errors import fault, incurable, refusal, repeats


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


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (RuntimeError("Sizes of tensors must match except in dimension 1."), True),
        (RuntimeError("Expected all tensors to be on the same device, but found cuda:0 and cpu!"), True),
        (NotImplementedError("no kernel"), True),
        (KeyError("stage"), True),
        (ValueError("Expected more than 1 value per channel when training"), True),
        (TypeError("unhashable"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), False),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), False),
        (RuntimeError("could not create a primitive"), False),
        (RuntimeError("can't start new thread"), False),
        (MemoryError(), False),
        (OSError(errno.EIO, "bad sector"), False),
        (ConnectionResetError("by peer"), False),
        (ImportError("timm"), False),
    ],
)
def test_mistakes_in_code_and_data_repeat_and_what_a_machine_does_may_pass(error: Exception, again: bool) -> None:
    assert repeats(error) == again


def test_a_fault_says_what_and_where() -> None:
    with pytest.raises(KeyError) as caught:
        {}["stage"]
    assert fault(caught.value).startswith("KeyError: 'stage' (test_errors.py, line ")
    assert fault(ValueError()) == "ValueError: no message"
