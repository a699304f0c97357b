"""A home directory where there is none that can be written: in containers with a random uid, on read-only systems.

Ray keeps its token there, timm its weights and salt-ray its caches.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import tempfile
from pathlib import Path

from salt_ray.errors import SaltRayError


class HomeError(SaltRayError):
    """There is no home directory, and nothing can take its place."""


def provide_home() -> str | None:
    """Let a private folder take the place of a home directory that this process cannot write, by its environment.

    What can be read in the home directory is still read there.

    Returns:
        A line for people; None where the home directory can be used.

    Raises:
        HomeError: no private folder can be made.
    """
    home = _home()
    if home is not None and os.access(home, os.W_OK | os.X_OK):
        return None
    folder = _private_folder()
    if home is None or home == Path(home.anchor) or not home.is_dir():
        os.environ["HOME"] = str(folder)
    elif "XDG_CACHE_HOME" not in os.environ:
        os.environ.setdefault("SALT_RAY_CACHE", str(folder / "cache"))
    given = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    if not given and not (home is not None and _is_file(home / ".ray/auth_token")):
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(_token(folder / "auth_token"))
    found = "there is no home directory" if home is None else f"the home directory {home} cannot be written"
    return f"{found}: using {folder} instead; set HOME to choose another"


def _token(path: Path) -> Path:
    """A token, which stays: a Ray that runs may have read it."""
    own = path.with_name(f"{path.name}.{os.getpid()}")
    own.write_text(secrets.token_hex(32))
    with contextlib.suppress(FileExistsError):
        os.link(own, path)
    own.unlink()
    return path


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:  # no HOME, and a uid that has no entry in /etc/passwd
        return None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # another user's
        return False


def _private_folder() -> Path:
    """``salt-ray-UID`` among the temporary files, which no other user can have made."""
    folder = Path(tempfile.gettempdir()) / f"salt-ray-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise HomeError(f"there is no home directory, and {folder} cannot be created: set HOME to a folder") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise HomeError(f"there is no home directory, and {folder} is open to other users: set HOME to a folder")
    return folder
