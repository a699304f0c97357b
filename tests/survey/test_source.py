"""Folders and zips hold the same survey; what leads out of them is refused."""

import os
import shutil
import warnings
import zipfile
from pathlib import Path

import pytest
from kaggle_layout import IMAGE, assert_same, change_bytes, flip, write_survey

from salt_ray.survey import memory
from salt_ray.survey.source import Source
from salt_ray.survey.tiles import SurveyError, load_survey
from salt_ray.survey.zips import OUTER_ZIP, _Member


@pytest.fixture
def survey(tmp_path: Path) -> Path:
    return write_survey(tmp_path / "survey")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def zip_folder(path: Path, folder: Path, prefix: str = "", method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, prefix + str(file.relative_to(folder)))


def write_zips(survey: Path, directory: Path, prefix: str = "", method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Kaggle's download: two zips, a zipped table, plain tables."""
    directory.mkdir()
    for part in ("train", "test"):
        zip_folder(directory / f"{part}.zip", survey / part, prefix and f"{part}/", method)
    with zipfile.ZipFile(directory / "depths.csv.zip", "w", method) as archive:
        archive.write(survey / "depths.csv", "depths.csv")
    for table in ("train.csv", "sample_submission.csv"):
        shutil.copy(survey / table, directory / table)
    return directory


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
@pytest.mark.parametrize("prefix", ["", "part"], ids=["images/", "train/images/"])
def test_zips_are_the_folder(survey: Path, cache: Path, tmp_path: Path, prefix: str, method: int):
    zips = write_zips(survey, tmp_path / "zips", prefix, method)
    before = sorted(tmp_path.rglob("*.zip"))
    assert_same(load_survey(zips, cache=tmp_path / "cache2"), load_survey(survey, cache=cache))
    assert sorted(tmp_path.rglob("*.zip")) == before
    assert not list(zips.rglob("*.png"))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_the_zip_of_everything_is_the_folder(survey: Path, cache: Path, tmp_path: Path, method: int):
    zips = write_zips(survey, tmp_path / "zips")
    outer = tmp_path / "outer" / OUTER_ZIP
    outer.parent.mkdir()
    with zipfile.ZipFile(outer, "w", method) as archive:
        for path in zips.iterdir():
            archive.write(path, path.name)
    first = load_survey(survey, cache=cache)
    assert_same(load_survey(outer.parent, cache=tmp_path / "cache2"), first)
    assert_same(load_survey(outer, cache=tmp_path / "cache3"), first)


def test_a_bad_tile_in_a_zip_is_named_with_its_zip(survey: Path, cache: Path, tmp_path: Path):
    zips = write_zips(survey, tmp_path / "zips", method=zipfile.ZIP_STORED)
    content = (survey / IMAGE).read_bytes()
    change_bytes(zips / "train.zip", lambda b: b.replace(content, flip(content)))
    with pytest.raises(SurveyError, match=r"train.zip: images/a4.png: is damaged in its zip"):
        load_survey(zips, cache=cache)
    assert "a4" not in load_survey(zips, cache=cache, skip_bad=True).ids


@pytest.mark.parametrize(
    "name", ["../evil.png", "/etc/evil.png", "images/../../evil.png", "C:/evil.png", "..\\evil.png"]
)
def test_a_name_that_leads_out_of_a_zip_is_refused(survey: Path, cache: Path, tmp_path: Path, name: str):
    zips = write_zips(survey, tmp_path / "zips")
    with zipfile.ZipFile(zips / "train.zip", "a") as archive:
        archive.writestr(name, b"x")
    for skip_bad in (False, True):
        with pytest.raises(SurveyError) as raised:
            load_survey(zips, cache=cache, skip_bad=skip_bad)
        [problem] = raised.value.problems
        assert "leads out of the zip" in problem.what and problem.file.startswith("train.zip: ")


def test_a_tile_that_is_in_a_zip_twice_is_bad(survey: Path, cache: Path, tmp_path: Path):
    zips = write_zips(survey, tmp_path / "zips")
    with zipfile.ZipFile(zips / "train.zip", "a") as archive, warnings.catch_warnings(action="ignore"):
        archive.write(survey / IMAGE, "images/a4.png")
    with pytest.raises(SurveyError, match=r"images/a4.png: is in the zip twice"):
        load_survey(zips, cache=cache)
    assert "a4" not in load_survey(zips, cache=cache, skip_bad=True).ids


def test_a_zip_that_was_cut_off_is_named(survey: Path, cache: Path, tmp_path: Path):
    zips = write_zips(survey, tmp_path / "zips")
    change_bytes(zips / "test.zip", lambda b: b[: len(b) // 2])
    with pytest.raises(SurveyError, match=r"test.zip: cannot be read as a zip"):
        load_survey(zips, cache=cache, skip_bad=True)


def test_a_member_that_inflates_beyond_its_stated_size_is_bad(survey: Path, cache: Path, tmp_path: Path):
    zips = write_zips(survey, tmp_path / "zips")
    with zipfile.ZipFile(zips / "train.zip") as archive:
        size = archive.getinfo("images/a4.png").file_size
    marker = b"images/a4.png"
    content = bytearray((zips / "train.zip").read_bytes())
    record = content.rindex(marker) - 46  # of the central directory
    content[record + 24 : record + 28] = (size // 2).to_bytes(4, "little")
    (zips / "train.zip").write_bytes(content)
    with pytest.raises(SurveyError, match=r"a4.png: is damaged in its zip"):
        load_survey(zips, cache=cache)


def test_an_unknown_packing_is_named(survey: Path, cache: Path, tmp_path: Path):
    zips = write_zips(survey, tmp_path / "zips", method=zipfile.ZIP_BZIP2)
    with pytest.raises(SurveyError, match=r"is packed by method 12"):
        load_survey(zips, cache=cache)


def of_a_later_version(content: bytes) -> bytes:
    """A zip whose last member needs a zip reader of version 9."""
    at = content.rindex(b"PK\1\2") + 6
    return content[:at] + b"\x5a\0" + content[at + 2 :]


def test_a_zip_of_an_unknown_version_is_named(survey: Path, cache: Path, tmp_path: Path):
    zips = write_zips(survey, tmp_path / "zips")
    change_bytes(zips / "test.zip", of_a_later_version)
    with pytest.raises(SurveyError, match=r"^test\.zip: cannot be read as a zip .*version 9\.0"):
        load_survey(zips, cache=cache)
    (tmp_path / "outer").mkdir()
    with zipfile.ZipFile(tmp_path / "outer" / OUTER_ZIP, "w") as archive:
        archive.write(zips / "test.zip", "test.zip")
    with pytest.raises(
        SurveyError, match=r"identification-challenge\.zip: test\.zip: cannot be read as a zip .*version"
    ):
        load_survey(tmp_path / "outer", cache=cache)


def test_zips_in_the_zip_do_not_fill_the_memory(
    survey: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    zips = write_zips(survey, tmp_path / "zips")
    (tmp_path / "outer").mkdir()
    with zipfile.ZipFile(tmp_path / "outer" / OUTER_ZIP, "w") as archive:
        for path in sorted(zips.iterdir()):
            archive.write(path, path.name)
    room = (zips / "test.zip").stat().st_size  # members are in the order of their names: train.zip comes last
    room += (zips / "depths.csv.zip").stat().st_size + (zips / "train.zip").stat().st_size - 1
    monkeypatch.setattr(memory, "usable_bytes", lambda: 4 * room)
    with pytest.raises(SurveyError) as raised:
        load_survey(tmp_path / "outer", cache=cache)
    [problem] = [problem for problem in raised.value.problems if "may take" in problem.what]
    assert problem.file.endswith(".zip: train.zip") and "unpack the outer zip" in problem.remedy
    monkeypatch.setattr(memory, "usable_bytes", lambda: 4 << 30)
    read = _Member.__call__

    def short_of_memory(reader: _Member) -> bytes:
        if reader.info.filename == "train.zip":
            raise MemoryError
        return read(reader)

    monkeypatch.setattr(_Member, "__call__", short_of_memory)
    with pytest.raises(SurveyError, match=r"train\.zip: does not fit into the memory"):
        load_survey(tmp_path / "outer", cache=cache)


def test_an_unpacked_folder_comes_before_its_zip(survey: Path, cache: Path):
    before = load_survey(survey, cache=cache)
    (survey / "train.zip").write_text("no zip")
    (survey / OUTER_ZIP).write_text("no zip")
    assert_same(load_survey(survey, cache=cache), before)


@pytest.mark.parametrize("is_there", [False, True])
def test_no_survey_is_one_sentence_with_the_remedy(tmp_path: Path, is_there: bool):
    directory = tmp_path / "data"
    if is_there:
        (directory / "train/images").mkdir(parents=True)
        (directory / "train.csv").write_text("id,rle_mask\n")
    with pytest.raises(SurveyError) as raised:
        load_survey(directory, cache=tmp_path / "cache", skip_bad=True)
    [line] = str(raised.value).splitlines()
    assert str(directory) in line
    assert "--data DIR" in line and "python launch.py synth DIR" in line
    assert ("train/images/ID.png" in line) == is_there


def test_a_zip_without_tiles_holds_no_survey(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as archive:
        archive.writestr("readme.txt", "x")
    with pytest.raises(SurveyError, match="no survey here"):
        load_survey(tmp_path, cache=tmp_path / "cache")


def test_the_fingerprint_follows_names_sizes_and_times(survey: Path):
    seen = {Source(survey).fingerprint}
    assert Source(survey).fingerprint in seen
    os.utime(survey / IMAGE, ns=(5, 5))
    seen.add(Source(survey).fingerprint)
    os.rename(survey / IMAGE, survey / "train/images/a9.png")
    seen.add(Source(survey).fingerprint)
    change_bytes(survey / "train/images/a9.png", lambda b: b + b"x")
    os.utime(survey / "train/images/a9.png", ns=(5, 5))
    seen.add(Source(survey).fingerprint)
    assert len(seen) == 4
