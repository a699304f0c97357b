"""Files from outside execute nothing, lead nowhere and fill no memory; the code has no finding that nobody answered."""

from __future__ import annotations

import copy
import pickle
import resource
import struct
import subprocess
import sys
import time
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from kaggle_layout import IMAGE, LABELLED, UNLABELLED, set_row, write_survey

from salt_ray.artifacts import RunDirectory
from salt_ray.config import Experiment, FloatRange, Tune
from salt_ray.errors import RunError, SaltRayError
from salt_ray.experiment_file import load_experiment
from salt_ray.inference.stored import StoredRecords, chunk_path
from salt_ray.model.encoder import build_encoder
from salt_ray.postprocessing.predicted import positions
from salt_ray.section import ExperimentError
from salt_ray.storage import load_array
from salt_ray.survey import decoding, memory, png, zips
from salt_ray.survey.holdout import held_out
from salt_ray.survey.memory import MAX_EDGE_PX
from salt_ray.survey.prepared import prepare_survey
from salt_ray.survey.tiles import SurveyError, load_survey
from salt_ray.tuning.space import study_folder
from salt_ray.tuning.study import Study

ROOT = Path(__file__).parents[1]
BAD_IDS = ["../../etc/passwd", "/abs", "a/b", "a\\b", "..", "C:a", "a\0b", "a\nb", "\u202eab", "\x1b[2Jab", "=1+1", ""]
BAD_IDS += ["x" * 101, "x" * 200_000]
PACKED_ZEROS = zlib.compress(bytes(256 << 20), level=1)


@pytest.fixture
def survey(tmp_path: Path) -> Path:
    return write_survey(tmp_path / "survey")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return open, (str(self.path), "w")


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    return Trap(tmp_path / "sprung")


# Each writes a trap under a path in one of the formats in which a pickle may come.
def as_pickle(path: Path, trap: Trap) -> None:
    path.write_bytes(pickle.dumps(trap, protocol=2))  # the one that torch expects


def as_npy(path: Path, trap: Trap) -> None:
    with open(path, "wb") as file:
        np.save(file, np.array([trap], dtype=object), allow_pickle=True)


def as_npz(path: Path, trap: Trap) -> None:
    with open(path, "wb") as file:
        np.savez(file, halves=np.array([trap], dtype=object), allow_pickle=True)


def as_torch(path: Path, trap: Trap) -> None:
    torch.save({"conv1.weight": trap, "state_dict": trap}, path)


def as_old_torch(path: Path, trap: Trap) -> None:
    torch.save({"conv1.weight": trap}, path, _use_new_zipfile_serialization=False)


every_format = pytest.mark.parametrize("write", [as_pickle, as_npy, as_npz, as_torch, as_old_torch])


# Loads execute nothing -----------------------------------------------------------------------------------------------


@every_format
def test_the_trap_is_one(write: Callable, trap: Trap, tmp_path: Path) -> None:
    """Whoever unpickles it, as these loaders must not, leaves the file behind."""
    write(tmp_path / "trap", trap)
    if write in (as_torch, as_old_torch):
        torch.load(tmp_path / "trap", weights_only=False)
    else:
        loaded = np.load(tmp_path / "trap", allow_pickle=True)
        if write is as_npz:
            loaded["halves"]
    assert trap.path.exists()


@every_format
def test_caches_of_tiles_execute_nothing(
    write: Callable, trap: Trap, survey: Path, cache: Path, tiny: Experiment
) -> None:
    lines: list[str] = []
    before = prepare_survey(load_survey(survey, cache=cache), tiny, cache=cache / "padded")
    wanted = np.array(before.images)
    for path in list(cache.rglob("images.npy")):
        path.unlink()
        write(path, trap)
    again = prepare_survey(load_survey(survey, cache=cache, report=lines.append), tiny, lines.append, cache / "padded")
    np.testing.assert_array_equal(again.images, wanted, strict=True)
    assert sum("damaged" in line for line in lines) == 2
    assert not trap.path.exists()


@every_format
@pytest.mark.parametrize("suffix", ["pt", "safetensors", "npz"])
def test_weights_of_an_encoder_execute_nothing(write: Callable, suffix: str, trap: Trap, tmp_path: Path) -> None:
    path = tmp_path / f"weights.{suffix}"
    write(path, trap)
    with pytest.raises(ExperimentError, match="neither safetensors nor a weights-only torch file"):
        build_encoder("mnasnet_small", path)
    assert not trap.path.exists()


@every_format
def test_predictions_in_a_run_execute_nothing(write: Callable, trap: Trap, tmp_path: Path) -> None:
    write(tmp_path / "tiles.npy", trap)
    with pytest.raises(RunError, match=r"tiles\.npy is damaged"):
        load_array(tmp_path / "tiles.npy")
    path = chunk_path(tmp_path, 0)
    path.parent.mkdir()
    write(path, trap)
    with pytest.raises(RunError, match=r"00000\.npy is damaged"):
        StoredRecords(tmp_path)[np.array([0])]
    assert not trap.path.exists()


@every_format
def test_a_study_executes_nothing(write: Callable, trap: Trap, tiny: Experiment, tmp_path: Path) -> None:
    """Optuna's SQLite storage holds plain columns and JSON; its journal, which unpickles, is not used."""
    parameter = FloatRange(name="lr", fields=("trainings.all.stages.plateau.lr",), low=0.001, high=0.1)
    experiment, run = tiny.replace(tune=Tune(parameters=(parameter,))), RunDirectory(tmp_path / "run")
    (tmp_path / "run" / "study").mkdir(parents=True)
    write(tmp_path / "run" / "study" / "study.db", trap)
    with pytest.raises(SaltRayError, match=r"study\.db"):
        Study(experiment, run, study_folder(experiment, run, {}))
    assert not trap.path.exists()


@pytest.mark.parametrize("write", [as_pickle, lambda path, trap: path.write_text(f"open({str(trap.path)!r}, 'w')")])
def test_an_experiment_in_json_executes_nothing(write: Callable, trap: Trap, tmp_path: Path) -> None:
    write(tmp_path / "experiment.json", trap)
    with pytest.raises(ExperimentError, match="is not valid JSON"):
        load_experiment(tmp_path / "experiment.json")
    assert not trap.path.exists()


# Zips ----------------------------------------------------------------------------------------------------------------


def zipped(survey: Path, change: Callable[[zipfile.ZipFile], object]) -> Path:
    """The folder of a survey whose training tiles are in a zip that ``change`` spoils before it is closed."""
    with zipfile.ZipFile(survey / "train.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((survey / "train").rglob("*.png")):
            archive.write(path, str(path.relative_to(survey / "train")))
        with warnings.catch_warnings(action="ignore"):
            change(archive)
    (survey / "train").rename(survey / "unpacked")
    return survey


def refusal(survey: Path, cache: Path, skip_bad: bool = True) -> str:
    with pytest.raises(SurveyError) as raised:
        load_survey(survey, cache=cache, skip_bad=skip_bad)
    return str(raised.value)


@pytest.mark.parametrize("name", ["//host/x.png", "images/..\\..\\x.png", "\\\\host\\x.png", "d:x.png", "images/../x"])
def test_names_do_not_lead_out_of_a_zip(survey: Path, cache: Path, name: str) -> None:
    assert "points outside the zip" in refusal(zipped(survey, lambda archive: archive.writestr(name, b"x")), cache)


def test_a_link_in_a_zip_is_not_followed(survey: Path, cache: Path) -> None:
    link = zipfile.ZipInfo("images/link.png")
    link.external_attr = 0o120777 << 16
    target = str(survey / "unpacked" / "images" / "a4.png")
    message = refusal(zipped(survey, lambda archive: archive.writestr(link, target)), cache, skip_bad=False)
    assert "link.png: is not a PNG file" in message


def test_members_that_share_bytes_are_refused(survey: Path, cache: Path) -> None:
    def add_twin(archive: zipfile.ZipFile) -> None:
        twin = copy.copy(archive.getinfo("images/a4.png"))
        twin.filename = "images/twin.png"
        archive.filelist.append(twin)

    assert "overlaps another member" in refusal(zipped(survey, add_twin), cache)


@pytest.mark.parametrize("declared", [100, 60 << 20])
def test_a_member_is_not_inflated_beyond_what_it_declares(survey: Path, cache: Path, declared: int) -> None:
    """256 MiB of zeros in 256 KiB; and a few bytes that say to be 60 MiB."""

    def add_bomb(archive: zipfile.ZipFile) -> None:
        archive.writestr("images/a9.png", bytes(256 << 20) if declared == 100 else b"x")
        archive.getinfo("images/a9.png").file_size = declared

    zipped(survey, add_bomb)
    tracemalloc.start()
    try:
        message = refusal(survey, cache, skip_bad=False)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()
    assert "images/a9.png: is damaged in its zip" in message


def test_a_member_that_is_too_long_is_not_inflated(survey: Path, cache: Path) -> None:
    def add(archive: zipfile.ZipFile) -> None:
        archive.writestr("images/a9.png", bytes(decoding.MAX_TILE_BYTES + 1))

    assert "at most 67,108,864 are read" in refusal(zipped(survey, add), cache, skip_bad=False)


@pytest.mark.parametrize("name", ["train.zip", "test.zip"])
def test_a_zip_in_a_zip_that_inflates_too_much_is_refused(tmp_path: Path, cache: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / zips.OUTER_ZIP, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, bytes(100 << 20))
    assert "104,857,600 bytes long" in refusal(tmp_path, cache)


def test_one_part_comes_from_one_zip(survey: Path, tmp_path: Path, cache: Path) -> None:
    zipped(survey, lambda archive: None)
    with zipfile.ZipFile(tmp_path / zips.OUTER_ZIP, "w") as archive:
        archive.write(survey / "train.zip", "train.zip")
        archive.write(survey / "train.zip", "more/train.zip")
    assert "more/train.zip: is in the zip twice" in refusal(tmp_path / zips.OUTER_ZIP, cache)


def test_a_zip_of_too_many_members_is_refused_before_they_are_listed(
    survey: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zips, "MAX_DIRECTORY_BYTES", 300)
    message = refusal(zipped(survey, lambda archive: None), cache)
    assert "its list of members has" in message and "at most 300 are read" in message


# Pictures ------------------------------------------------------------------------------------------------------------


def handmade(edge: int, data: bytes, text: bytes = b"") -> bytes:
    """A grey PNG of edge x edge px with this compressed data, and with compressed text."""
    header = struct.pack(">IIBBBBB", edge, edge, 8, 0, 0, 0, 0)
    parts = {b"IHDR": header, b"zTXt": text, b"IDAT": data, b"IEND": b""}
    packed = [
        struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part))
        for kind, part in parts.items()
        if part or kind != b"zTXt"
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize("edge", [MAX_EDGE_PX + 1, 100_000, 2**31 - 1])
def test_a_picture_that_claims_to_be_huge_is_not_decoded(edge: int) -> None:
    with pytest.raises(ValueError, match=f"at most {MAX_EDGE_PX}"):
        png.decode(handmade(edge, zlib.compress(bytes(100))))


def test_a_picture_with_more_data_than_pixels_is_not_inflated() -> None:
    """libpng would go through all of it: 10 s for 2 GB in 2 MB."""
    start = time.process_time()
    with pytest.raises(ValueError, match="bytes of picture data for 10 x 10 px"):
        png.decode(handmade(10, PACKED_ZEROS))
    assert time.process_time() - start < 2


def test_text_in_a_picture_is_not_inflated_to_its_size() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB
    text = b"a\0\0" + PACKED_ZEROS
    assert png.decode(handmade(10, zlib.compress(bytes(110)), text)).shape == (10, 10)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


def test_pictures_do_not_fill_the_memory(survey: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "usable_bytes", lambda: 4096)  # a quarter of it holds seven tiles of 144 bytes
    assert "its pictures take more than 0 MiB, a quarter of the memory of this machine" in refusal(survey, cache)


# Ids -----------------------------------------------------------------------------------------------------------------


def harmless(message: str) -> bool:
    """What a terminal may print: no control characters, and not much."""
    return all(len(line) < 2000 and line.isprintable() for line in message.splitlines())


@pytest.mark.parametrize("identity", BAD_IDS, ids=lambda identity: ascii(identity[:20]))
@pytest.mark.parametrize("table", ["train.csv", "depths.csv", "sample_submission.csv"])
def test_a_table_names_no_path(survey: Path, cache: Path, table: str, identity: str) -> None:
    with open(survey / table, "a", newline="") as file:
        file.write(f'"{identity}",1 1\n')
    with pytest.raises(SurveyError) as raised:
        load_survey(survey, cache=cache)
    assert harmless(str(raised.value)) and table in str(raised.value)
    assert "an id is letters, digits, _ and -" in str(raised.value)
    assert set(load_survey(survey, cache=cache, skip_bad=True).ids) <= {*LABELLED, *UNLABELLED}


@pytest.mark.parametrize("name", ["..png", "a\nb.png", "\u202eab.png", "\x1b[2J.png", "=1+1.png", "x" * 101 + ".png"])
@pytest.mark.parametrize("is_zipped", [False, True], ids=["folder", "zip"])
def test_a_file_name_that_is_no_id_is_refused(survey: Path, cache: Path, name: str, is_zipped: bool) -> None:
    if is_zipped:
        zipped(survey, lambda archive: archive.write(survey / IMAGE, f"images/{name}"))
    else:
        (survey / "train/images" / name).write_bytes((survey / IMAGE).read_bytes())
    if name.startswith("."):  # hidden files are passed over
        load_survey(survey, cache=cache)
        return
    message = refusal(survey, cache, skip_bad=False)
    assert harmless(message) and "has a name that is not a valid id" in message


@pytest.mark.parametrize("identity", BAD_IDS, ids=lambda identity: ascii(identity[:20]))
def test_tables_of_a_run_are_only_compared_with_the_tiles(
    survey: Path, cache: Path, tiny: Experiment, tmp_path: Path, identity: str
) -> None:
    tiles = load_survey(survey, cache=cache)
    (tmp_path / "holdout.csv").write_text(f'id\n"{identity}"\n')
    with pytest.raises(RunError, match="an id is letters, digits, _ and -") as raised:
        held_out(tiles, tmp_path / "holdout.csv")
    assert harmless(str(raised.value))
    with pytest.raises(KeyError):
        positions(np.array(["a0", identity]), tiles.ids)
    prepared = prepare_survey(tiles, tiny, cache=cache)
    prepared.depth_folds(2).save(tmp_path / "folds.csv")
    set_row(tmp_path / "folds.csv", f'"{identity}",0')
    with pytest.raises(SaltRayError, match=r"folds\.csv"):
        prepared.load_folds(tmp_path / "folds.csv", 2)


# The code ------------------------------------------------------------------------------------------------------------


def test_bandit_finds_nothing_that_is_not_answered() -> None:
    command = [sys.executable, "-m", "bandit", "-q", "-c", "pyproject.toml", "-r"]
    folders = ["salt_ray", "launch.py", "experiments", "benchmarks"]
    done = subprocess.run([*command, *folders], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
