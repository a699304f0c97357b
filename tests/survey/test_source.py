"""Folders and zips hold the same survey; what leads out of them is refused."""

import os
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from kaggle_layout import IMAGE, assert_same, change_bytes, flip, write_survey

from salt_ray.survey import memory
from salt_ray.survey import zips as zip_files
from salt_ray.survey.source import Source
from salt_ray.survey.tiles import SurveyError, load_survey
from salt_ray.survey.zips import OUTER_ZIP


@pytest.fixture
def survey(tmp_path: Path) -> Path:
    return write_survey(tmp_path / "survey")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def zip_folder(path: Path, folder: Path, prefix: str = "", method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.writestr(prefix + str(file.relative_to(folder)), file.read_bytes())  # write() would drop './'


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
        assert "points outside the zip" in problem.what and problem.file.startswith("train.zip: ")


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
    with pytest.raises(SurveyError, match=r"uses zip compression method 12"):
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
    read = zip_files._read

    def short_of_memory(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
        if info.filename == "train.zip":
            raise MemoryError
        return read(archive, info)

    monkeypatch.setattr(zip_files, "_read", short_of_memory)
    with pytest.raises(SurveyError, match=r"train\.zip: does not fit in memory"):
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
    with pytest.raises(SurveyError, match="no survey found"):
        load_survey(tmp_path, cache=tmp_path / "cache")


# What changed is read again


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


def as_arrays(survey: Path) -> Path:
    for path in survey.rglob("*.png"):
        np.save(path.with_suffix(".npy"), cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
        path.unlink()
    return survey


def turn(path: Path) -> None:
    """The picture upside down, in a file of the same size."""
    if path.suffix == ".npy":
        np.save(path, np.load(path)[::-1])
    else:
        size = path.stat().st_size
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[::-1]
        content = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 0])[1].tobytes()
        path.write_bytes(content)
        assert path.stat().st_size == size


def overwrite(path: Path) -> None:
    turn(path)


def replace(path: Path) -> None:
    """As a program does that writes a new file and renames it; both stay from the same moment."""
    other = path.with_name(f".new{path.suffix}")
    shutil.copy2(path, other)
    turn(other)
    os.replace(other, path)


def link_elsewhere(path: Path) -> None:
    """As git-annex, DVC and datalad keep files: the link stays, its target is another file."""
    store = path.parents[3] / "store"
    store.mkdir(exist_ok=True)
    shutil.copy2(path, store / path.name)
    turn(store / path.name)
    path.unlink()
    path.symlink_to(store / path.name)


@pytest.mark.parametrize("change", [overwrite, replace, link_elsewhere])
@pytest.mark.parametrize("suffix", [".png", ".npy"])
def test_files_that_keep_size_and_time_are_read_again(
    survey: Path, cache: Path, suffix: str, change: Callable[[Path], None]
):
    """Archives with one time for all files, cp -p, rsync, touch -r: the masks of the old survey were used."""
    if suffix == ".npy":
        as_arrays(survey)
    for path in survey.rglob(f"*{suffix}"):
        if suffix == ".png":
            pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            assert cv2.imwrite(str(path), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 0])
        os.utime(path, ns=(1, 1))
    (survey / "train.csv").unlink()
    before = load_survey(survey, cache=cache)
    lines: list[str] = []
    assert_same(load_survey(survey, cache=cache, report=lines.append), before)
    assert not lines  # from the cache
    for path in sorted((survey / "train/masks").iterdir()):
        change(path)
        os.utime(path, ns=(1, 1))
    after = load_survey(survey, cache=cache)
    np.testing.assert_array_equal(after.images, before.images)
    np.testing.assert_array_equal(after.masks, before.masks[:, ::-1])


def test_a_zip_that_keeps_size_and_time_is_read_again(survey: Path, cache: Path, tmp_path: Path):
    zips = write_zips(survey, tmp_path / "zips", method=zipfile.ZIP_STORED)
    (zips / "train.csv").unlink()
    os.utime(zips / "train.zip", ns=(1, 1))
    before, size = load_survey(zips, cache=cache), (zips / "train.zip").stat().st_size
    one, other = (survey / f"train/masks/{name}.png" for name in ("a4", "a5"))  # they change places
    contents = one.read_bytes(), other.read_bytes()
    other.write_bytes(contents[0])
    one.write_bytes(contents[1])
    zip_folder(zips / "train.zip", survey / "train", method=zipfile.ZIP_STORED)
    os.utime(zips / "train.zip", ns=(1, 1))
    assert (zips / "train.zip").stat().st_size == size
    after = load_survey(zips, cache=cache)
    np.testing.assert_array_equal(after.masks[4], before.masks[5])
    assert after.key != before.key


# Files as other people have them


@pytest.mark.parametrize("prefix", ["./", ".//", "./train/", "my survey/", "a/b/train/", "./a/"])
def test_a_folder_around_the_files_of_a_zip_does_not_count(survey: Path, cache: Path, tmp_path: Path, prefix: str):
    zips = write_zips(survey, tmp_path / "zips")
    zip_folder(zips / "train.zip", survey / "train", prefix)
    assert_same(load_survey(zips, cache=cache), load_survey(survey, cache=cache))


@pytest.mark.parametrize("prefix", ["./", "survey/", "a/b/"])
def test_a_survey_in_a_folder_of_a_zip_is_read(survey: Path, cache: Path, tmp_path: Path, prefix: str):
    with zipfile.ZipFile(tmp_path / "own.zip", "w") as archive:
        archive.writestr("README.txt", "x")
        archive.writestr("__MACOSX/survey/train/images/._a0.png", "x")
        for path in (path for path in sorted(survey.rglob("*")) if path.is_file()):
            archive.writestr(prefix + str(path.relative_to(survey)), path.read_bytes())
    assert_same(load_survey(tmp_path / "own.zip", cache=cache), load_survey(survey, cache=cache))


def test_of_two_surveys_in_a_zip_none_is_taken(survey: Path, cache: Path, tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "own.zip", "w") as archive:
        for top in ("north", "south"):
            for path in (survey / "train").rglob("*.png"):
                archive.write(path, f"{top}/{path.relative_to(survey)}")
    with pytest.raises(
        SurveyError, match=r"own\.zip: holds several surveys, in north and south; unpack it and pass one"
    ):
        load_survey(tmp_path / "own.zip", cache=cache, skip_bad=True)


LITTER = ["Thumbs.db", "thumbs.db", "desktop.ini", ".DS_Store", "._a0.png", "__MACOSX/._a0.png", "@eaDir/a0.png"]


@pytest.mark.parametrize("name", LITTER)
@pytest.mark.parametrize("is_zipped", [False, True], ids=["folder", "zip"])
def test_what_systems_leave_among_files_is_passed_over(
    survey: Path, cache: Path, tmp_path: Path, name: str, is_zipped: bool
):
    before = load_survey(survey, cache=cache)
    stray = survey / "train/images" / name
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"x")
    if is_zipped:
        zips = write_zips(survey, tmp_path / "zips")
        with zipfile.ZipFile(zips / "train.zip", "a") as archive:
            if stray.suffix != ".png":
                archive.write(stray, f"images/{name}")
        survey = zips
    assert_same(load_survey(survey, cache=cache), before)


def encrypted(content: bytes) -> bytes:
    """A zip whose members say that they are encrypted, in both of their headers."""
    changed = bytearray(content)
    for mark, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = changed.find(mark)
        while at >= 0:
            changed[at + flags] |= 1
            at = changed.find(mark, at + 1)
    return bytes(changed)


@pytest.mark.parametrize("is_outer", [False, True], ids=["train.zip", "everything"])
def test_an_encrypted_zip_is_one_message(survey: Path, cache: Path, tmp_path: Path, is_outer: bool):
    zips = write_zips(survey, tmp_path / "zips")
    change_bytes(zips / "train.zip", encrypted)
    if is_outer:
        with zipfile.ZipFile(tmp_path / OUTER_ZIP, "w") as archive:
            for path in zips.iterdir():
                archive.write(path, path.name)
        zips = tmp_path / OUTER_ZIP
    with pytest.raises(SurveyError) as raised:
        load_survey(zips, cache=cache, skip_bad=True)
    (line,) = [line for line in str(raised.value).splitlines() if "encrypted" in line]
    assert line.endswith("train.zip: is encrypted; unpack it with its password and pass the folder with --data DIR")


def dangle(path: Path) -> None:
    path.unlink()
    path.symlink_to("../../.git/annex/objects/none")


@pytest.mark.parametrize("name", [IMAGE, "train/masks/a4.png", "depths.csv"])
def test_a_link_whose_target_is_missing_is_one_message(survey: Path, cache: Path, name: str):
    before = Source(survey).fingerprint
    dangle(survey / name)
    with pytest.raises(SurveyError) as raised:
        load_survey(survey, cache=cache)
    [line] = str(raised.value).splitlines()
    assert line.startswith(f"{name}: is a link to ../../.git/annex/objects/none, which is missing (fetch it: git annex")
    if name == IMAGE:
        assert "a4" not in load_survey(survey, cache=cache, skip_bad=True).ids
    assert Source(survey).fingerprint != before


def test_a_link_to_a_missing_zip_is_one_message(survey: Path, cache: Path, tmp_path: Path):
    zips = write_zips(survey, tmp_path / "zips")
    dangle(zips / "train.zip")
    with pytest.raises(SurveyError, match=r"train\.zip: .*is a link to .* which is missing"):
        load_survey(zips, cache=cache)


@pytest.mark.parametrize("named", ["outer", "outer/survey/train", "outer/survey/train/images", "."])
def test_a_folder_beside_a_survey_leads_to_it(tmp_path: Path, named: str, monkeypatch: pytest.MonkeyPatch):
    write_survey(tmp_path / "outer/survey")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SurveyError) as raised:
        load_survey(Path(named), cache=tmp_path / "cache")
    [line] = str(raised.value).splitlines()
    told = line.rpartition("--data ")[2]
    assert "no survey found, but there seems to be one in" in line and Path(told).samefile("outer/survey")


def test_a_folder_of_surveys_leads_to_the_first(tmp_path: Path):
    for name in ("north", "south"):
        write_survey(tmp_path / "all of them" / name)
    with pytest.raises(SurveyError, match=r"one in .*north \(and 1 more\); name that folder: --data '.*/north'"):
        load_survey(tmp_path / "all of them", cache=tmp_path / "cache")
