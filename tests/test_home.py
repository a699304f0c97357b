"""A home directory that cannot be written, or that there is not."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from salt_ray import home
from salt_ray.home import HomeError, provide_home


@pytest.fixture(autouse=True)
def own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The private folder lies in a folder of the test's; what is set is set back."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(os, "environ", dict(os.environ))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "SALT_RAY_CACHE", "XDG_CACHE_HOME"):
        os.environ.pop(name, None)
    return tmp_path / "tmp" / f"salt-ray-{os.getuid()}"


def at(path: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home directory that this process may not write, whoever it is."""
    monkeypatch.setattr(home, "_home", lambda: path)
    monkeypatch.setattr(os, "access", lambda path, mode: False)


def test_a_home_that_can_be_written_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "_home", lambda: tmp_path)
    before = dict(os.environ)
    assert provide_home() is None and os.environ == before


@pytest.mark.parametrize("place", [None, "/", "/nonexistent"])
def test_where_there_is_none_a_private_folder_takes_its_place(
    place: str | None, own_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(place and Path(place), monkeypatch)
    assert f"using {own_environment} instead" in provide_home()
    assert os.environ["HOME"] == str(own_environment) and "SALT_RAY_CACHE" not in os.environ
    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    assert own_environment.stat().st_mode & 0o777 == 0o700 and len(token.read_text()) == 64
    os.environ.pop("RAY_AUTH_TOKEN_PATH")
    before = token.read_text()
    provide_home()
    assert token.read_text() == before  # the next command's dashboard asks for the same


def test_one_that_can_only_be_read_is_still_read(
    tmp_path: Path, own_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("of the cluster")
    at(tmp_path, monkeypatch)
    before = os.environ.get("HOME")
    assert provide_home()
    assert os.environ.get("HOME") == before and "RAY_AUTH_TOKEN_PATH" not in os.environ
    assert os.environ["SALT_RAY_CACHE"] == str(own_environment / "cache")


def test_a_folder_that_others_may_write_is_refused(own_environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at(None, monkeypatch)
    own_environment.mkdir()
    own_environment.chmod(0o777)
    with pytest.raises(HomeError, match="set HOME"):
        provide_home()
