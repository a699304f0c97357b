"""Where a job's code is unpacked."""

from __future__ import annotations

from pathlib import Path

import pytest

from salt_ray.cli.places import in_unpacked_code


@pytest.mark.parametrize(
    ("folder", "inside"),
    [
        ("ray/session_1/runtime_resources/working_dir_files/_ray_pkg_0a", True),
        ("ray/session_1/runtime_resources/working_dir_files/_ray_pkg_0a/experiments", True),
        ("ray/session_1/runtime_resources/py_modules_files/_ray_pkg_0a", False),
        ("working_dir_files/runtime_resources", False),
        ("home", False),
    ],
)
def test_where_ray_unpacks(folder: str, inside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / folder)
    assert in_unpacked_code() == inside
