"""Hold-outs: a list is read or refused; of groups that are drawn none is cut."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from salt_ray.errors import RunError
from salt_ray.survey.holdout import drawn, held_out
from salt_ray.survey.synthetic import write_survey
from salt_ray.survey.tiles import Survey, load_survey


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    directory = tmp_path_factory.mktemp("data") / "survey"
    write_survey(directory, 60, seed=2, tile_px=32)
    return load_survey(directory)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("name\na\n", "column id"),
        ("id\nnobody\n", "1 tiles .* not labelled here .first: nobody"),
        ("id\n", "lists no tiles"),
        ("id,fold\n{0},{1},\n", "line 2 has 3 fields, the header 2"),
        ("fold,id\n{0},{1},\n{0},{1},\n", "line 2 has 3 fields, the header 2"),
        ("id;fold\n{0};1\n", "column id"),
        ('id\n"{0}\n', "cannot be parsed"),
        ("id\n{0} \n", "line 2 has the id '.* '; an id is"),
    ],
)
def test_a_hold_out_that_does_not_fit_is_refused(survey: Survey, tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "holdout.csv").write_text(content.format(*survey.ids[:2]))
    with pytest.raises(RunError, match=words):
        held_out(survey, tmp_path / "holdout.csv")


@pytest.mark.parametrize("content", ["id\n{0}\n{1}\n", "\ufeff fold, id\r\n1,{0}\r\n2,{1}\r\n\r\n1,{0}\r\n"])
def test_a_hold_out_may_have_other_columns_and_name_a_tile_twice(survey: Survey, tmp_path: Path, content: str) -> None:
    (tmp_path / "holdout.csv").write_text(content.format(*survey.ids[:2]), encoding="utf-8")
    assert np.flatnonzero(held_out(survey, tmp_path / "holdout.csv")).tolist() == [0, 1]


def random_groups(seed: int, lone: int) -> np.ndarray:
    """(n,) 40 groups of up to 30 tiles and some of one, in a random order."""
    random = np.random.default_rng(seed)
    sizes = np.append(random.integers(2, 31, 40), np.ones(lone, int))
    return random.permutation(np.repeat(np.arange(len(sizes)), sizes))


@pytest.mark.parametrize("share", [0.05, 0.1, 0.37, 0.9])
def test_no_group_is_cut_and_the_share_is_met(share: float) -> None:
    for seed in range(10):
        groups = random_groups(seed, 300)
        chosen = drawn(groups, share, seed)
        assert chosen.sum() == round(share * len(groups))  # lone tiles fill what whole groups leave
        assert not set(groups[chosen]) & set(groups[~chosen])


def test_without_lone_tiles_no_whole_groups_come_nearer() -> None:
    random = np.random.default_rng(0)
    for seed in range(50):
        sizes = random.integers(2, 31, 8)
        groups = random.permutation(np.repeat(np.arange(8), sizes))
        chosen, wanted = drawn(groups, 0.2, seed), round(0.2 * len(groups))
        every = [sum(some) for count in range(8) for some in itertools.combinations(sizes.tolist(), count)]
        assert abs(chosen.sum() - wanted) == min(abs(held - wanted) for held in every)
        assert not set(groups[chosen]) & set(groups[~chosen])


def test_another_seed_draws_other_groups_and_each_is_as_likely() -> None:
    groups = random_groups(0, 100)
    again = [drawn(groups, 0.3, seed) for seed in (0, 0, 1)]
    assert (again[0] == again[1]).all() and (again[0] != again[2]).any()
    often = np.mean([drawn(np.repeat(np.arange(30), 5), 0.2, seed)[::5] for seed in range(400)], axis=0)
    assert often.min() > 0.1 and often.max() < 0.3  # each group's count has a spread of 8 around 80


@pytest.mark.parametrize(("sizes", "share", "held"), [([10] * 5, 0.05, 0), ([10] * 5, 0.15, 10), ([7], 0.9, 0)])
def test_whole_groups_may_be_too_large(sizes: list[int], share: float, held: int) -> None:
    assert drawn(np.repeat(np.arange(len(sizes)), sizes), share, 0).sum() == held
