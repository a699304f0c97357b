"""Folds: rank by depth, balanced, saved, hashed, and refused where they do not fit."""

from pathlib import Path

import numpy as np
import pytest

from salt_ray.survey.folds import FoldError, FoldTable, depth_folds, load_folds, random_folds, section_folds

IDS = np.array([f"{i:04x}" for i in range(103)])
DEPTHS = np.random.default_rng(0).integers(50, 960, len(IDS)).astype(np.float32)


def test_folds_follow_depth_rank_and_partition_the_tiles() -> None:
    table = depth_folds(IDS, DEPTHS, 5)
    order = np.lexsort((table.ids, DEPTHS[np.searchsorted(IDS, table.ids)]))
    assert (table.folds[order] == np.arange(len(IDS)) % 5).all()
    validated = np.concatenate([table.split(fold, IDS)[1] for fold in range(5)])
    assert sorted(validated) == list(range(len(IDS)))
    for fold in range(5):
        training, validation = table.split(fold, IDS)
        assert not set(training) & set(validation)
        assert len(training) + len(validation) == len(IDS)


def test_the_order_of_the_survey_does_not_matter() -> None:
    shuffled = np.random.default_rng(1).permutation(len(IDS))
    assert depth_folds(IDS[shuffled], DEPTHS[shuffled], 5).digest == depth_folds(IDS, DEPTHS, 5).digest


def test_without_depths_tiles_are_ranked_by_id() -> None:
    table = depth_folds(IDS, np.full(len(IDS), np.nan, np.float32), 4)
    assert (table.folds == np.arange(len(IDS)) % 4).all()


def test_folds_by_depth_are_those_that_were_called_random() -> None:
    """Of the version before: runs made with it must find their tables."""
    missing = np.where(np.arange(len(IDS)) % 7 == 0, np.nan, DEPTHS)
    digests = [depth_folds(IDS, depths, 5).digest[:16] for depths in (DEPTHS, missing)]
    assert digests == ["0335f26238935870", "b53a3c59d2f79ef6"]


def test_random_folds_vary_with_the_seed_and_with_nothing_else() -> None:
    tables = [random_folds(IDS, 5, seed) for seed in range(20)]
    assert len({table.digest for table in tables}) == 20
    shuffled = np.random.default_rng(1).permutation(IDS)
    assert [random_folds(shuffled, 5, seed).digest for seed in range(20)] == [table.digest for table in tables]
    for table in tables:
        assert (table.ids == IDS).all()
        assert sorted(np.bincount(table.folds).tolist()) == [20, 20, 21, 21, 21]
    # Two random divisions into five agree on a fifth of the tiles: 20.6 of 103, with a spread of 4.
    agree = [(one.folds == other.folds).sum() for one in tables for other in tables if one is not other]
    assert 18 < np.mean(agree) < 23


def test_a_saved_table_is_the_same_table(tmp_path: Path) -> None:
    table = depth_folds(IDS, DEPTHS, 5)
    table.save(tmp_path / "folds.csv")
    assert load_folds(tmp_path / "folds.csv", 5).digest == table.digest


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    table = depth_folds(IDS, DEPTHS, 5)
    with pytest.raises(FoldError, match="no fold 5"):
        table.split(5, IDS)
    with pytest.raises(FoldError, match="not in this survey"):
        table.split(0, IDS[1:])
    with pytest.raises(FoldError, match="exactly once"):
        FoldTable(np.array(["a", "a"]), np.array([0, 1]), 2)
    with pytest.raises(FoldError, match="labelled tiles into 5 folds"):
        depth_folds(IDS[:4], DEPTHS[:4], 5)
    with pytest.raises(FoldError, match="labelled tiles into 5 folds"):
        random_folds(IDS[:4], 5, 0)
    table.save(tmp_path / "folds.csv")
    with pytest.raises(FoldError, match=r"\[4\]"):
        load_folds(tmp_path / "folds.csv", 4)
    (tmp_path / "other.csv").write_text("id,part\na,1\n")
    with pytest.raises(FoldError, match="delete "):
        load_folds(tmp_path / "other.csv", 2)


def test_sections_stay_whole_and_folds_are_about_equally_large() -> None:
    sizes = {"north": 30, "east": 20, "south": 20, "west": 12, "lake": 8}
    sections = np.repeat(list(sizes), list(sizes.values()))
    ids = np.array([f"{i:03d}" for i in np.random.default_rng(0).permutation(len(sections))])
    table = section_folds(ids, sections, 3)
    fold_of = dict(zip(table.ids.tolist(), table.folds.tolist(), strict=True))
    folds = {section: {fold_of[tile] for tile in ids[sections == section]} for section in sizes}
    assert all(len(fold) == 1 for fold in folds.values())
    assert sorted(np.bincount(table.folds).tolist()) == [28, 30, 32]
    order = np.random.default_rng(1).permutation(len(ids))
    assert section_folds(ids[order], sections[order], 3).digest == table.digest


def test_too_few_sections_are_a_sentence() -> None:
    with pytest.raises(FoldError, match="cannot split 2 sections with labelled tiles into 3 folds: lower"):
        section_folds(np.array(["a", "b", "c"]), np.array(["n", "n", "s"]), 3)
