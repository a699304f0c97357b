"""Paths in an object store: what a run needs of ``pathlib.Path``, over a pyarrow filesystem.

An object appears whole when its upload is complete, or not at all: what temporary names and renames give on a disk.
There are no folders: a path "is a directory" while there is an object below it, and for some time after the last
one was deleted (pyarrow leaves an empty object behind).
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import PurePosixPath
from typing import TypeVar

from salt_ray.errors import RunError

SCHEME = "s3://"
#: Pauses between tries while the store does not answer, beside the 6 s that pyarrow itself tries each time.
RETRY_SECONDS = (1, 2, 4, 8, 15)
PASSING = (
    "NETWORK_CONNECTION",
    "SLOW_DOWN",
    "SERVICE_UNAVAILABLE",
    "INTERNAL_FAILURE",
    "REQUEST_TIMEOUT",
    "THROTTLING",
    # What has no body, as the answer to the look before every read, has no name either.
    *(f"HTTP status {status}" for status in (429, 500, 502, 503, 504)),
)
#: Letters, digits, dots and dashes: anything else cannot be part of a URI as it is.
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")

Answer = TypeVar("Answer")


class StorageError(RunError):
    """An object store cannot be reached, or does not let us in."""


class ObjectPath:
    """A path in an object store, ``s3://BUCKET/KEY``.

    Credentials, region and endpoint are those of the process that uses it (instance profile, ``~/.aws``, ``AWS_…``
    variables): the path itself holds no secret, and may travel.

    Args:
        pauses: seconds between tries while the store does not answer; None: ``RETRY_SECONDS``.

    Raises:
        StorageError: ``uri`` names no bucket.
    """

    def __init__(self, uri: str, pauses: tuple[float, ...] | None = None) -> None:
        bucket, *keys = uri.removeprefix(SCHEME).split("/")
        parts = [key for key in keys if key]
        named = uri.startswith(SCHEME) and BUCKET.fullmatch(bucket)
        if not named or any(part in (".", "..") for part in parts):
            raise StorageError(
                f"{uri} is not an object-store address: write s3://BUCKET/PREFIX (BUCKET: lower-case letters, digits, "
                "dots and dashes)"
            )
        self._key = PurePosixPath(bucket, *parts)
        self._pauses = pauses

    def __str__(self) -> str:
        return f"{SCHEME}{self._key}"

    def __repr__(self) -> str:
        return f"ObjectPath('{self}')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectPath) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __lt__(self, other: ObjectPath) -> bool:
        return self._key < other._key

    def __truediv__(self, part: str) -> ObjectPath:
        return ObjectPath(f"{self}/{part}")

    @property
    def name(self) -> str:
        return self._key.name

    @property
    def stem(self) -> str:
        return self._key.stem

    @property
    def suffix(self) -> str:
        return self._key.suffix

    @property
    def parent(self) -> ObjectPath:
        return ObjectPath(f"{SCHEME}{self._key.parent}")

    def absolute(self) -> ObjectPath:
        return self

    def exists(self) -> bool:
        """Whether there is an object here, or below."""
        return self._found() != "NotFound"

    def is_dir(self) -> bool:
        return self._found() == "Directory"

    def is_file(self) -> bool:
        return self._found() == "File"

    def read_bytes(self) -> bytes:
        """The whole object.

        Raises:
            FileNotFoundError: there is none.
        """

        def read(store, key):
            with store.open_input_file(key) as file:  # a stream would ask for 256 KiB at a time
                return file.read()

        return self._ask(read)

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def read_range(self, start: int, size: int) -> bytes:
        """``size`` bytes from ``start`` (below 0: counted from the end), or what there is of them."""

        def read(store, key):
            with store.open_input_file(key) as file:
                first, _, _ = slice(start, None).indices(file.size())
                return file.read_at(size, first)

        return self._ask(read)

    def write_bytes(self, content: bytes) -> None:
        """Replace the object, in one step.

        It is written in a thread of its own, which no signal reaches: pyarrow has no way to give a stream up, and one
        that is left by an exception puts what it has, mostly nothing, in the place of the old object.
        """

        def write(store, key):
            with store.open_output_stream(key) as stream:
                stream.write(content)

        upload = _uploads(os.getpid()).submit(self._ask, write)
        try:
            upload.result()
        except BaseException:
            wait([upload])
            raise

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            self._ask(lambda store, key: store.delete_file(key))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def iterdir(self) -> Iterator[ObjectPath]:
        """What is directly below."""
        return iter(self._list(recursive=False))

    def glob(self, pattern: str) -> Iterator[ObjectPath]:
        """What is directly below and has such a name."""
        return (path for path in self.iterdir() if fnmatch.fnmatchcase(path.name, pattern))

    def rglob(self, pattern: str) -> Iterator[ObjectPath]:
        """What is anywhere below and has such a name."""
        return (path for path in self._list(recursive=True) if fnmatch.fnmatchcase(path.name, pattern))

    def remove_tree(self) -> None:
        """Delete everything below."""
        with contextlib.suppress(FileNotFoundError):
            self._ask(lambda store, key: store.delete_dir(key))

    def _found(self) -> str:
        """What is here, by its name in ``pyarrow.fs.FileType``."""
        return self._ask(lambda store, key: store.get_file_info(key).type.name)

    def _list(self, recursive: bool) -> list[ObjectPath]:
        from pyarrow.fs import FileSelector

        found = self._ask(
            lambda store, key: store.get_file_info(FileSelector(key, allow_not_found=True, recursive=recursive))
        )
        return [ObjectPath(f"{SCHEME}{info.path}") for info in found]

    def _ask(self, question: Callable[..., Answer]) -> Answer:
        """Ask the store, again where it does not answer for a while.

        Raises:
            FileNotFoundError: there is no such object.
            StorageError: it does not answer, or refuses.
        """
        for pause in (*(RETRY_SECONDS if self._pauses is None else self._pauses), None):
            try:
                return question(_store(self._key.parts[0]), str(self._key))
            except FileNotFoundError:
                raise
            except OSError as error:
                if pause is None or not any(word in str(error) for word in PASSING):
                    raise StorageError(
                        f"{self} cannot be read or written ({_reason(error)}): check the bucket's name and region, and "
                        "the credentials on this machine; then run the same command again to resume"
                    ) from error
                time.sleep(pause)
        raise AssertionError


@functools.cache
def _store(bucket: str):
    """This process's connection to the store of a bucket; what is small is written in one request."""
    from pyarrow.fs import FileSystem

    return FileSystem.from_uri(f"{SCHEME}{bucket}?allow_delayed_open=true")[0]


@functools.cache
def _uploads(process: int) -> ThreadPoolExecutor:
    """The threads of this process that write; one that was forked has none of its parent's."""
    return ThreadPoolExecutor(max_workers=4, thread_name_prefix="upload")


def _reason(error: OSError) -> str:
    """AWS's own words, without the request's number."""
    return str(error).partition(" (Request ID")[0].splitlines()[0][:300]
