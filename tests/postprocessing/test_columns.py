"""Rules 2, 3, 4, 5 and 7 on mosaics drawn by hand."""

import pytest
from sketch import drawn, mosaic, text

from salt_ray.postprocessing.columns import copy_down, copy_up, empty_below_closed, join_labels, join_predictions

EMPTY = "..... ..... ..... ..... ....."
LEFT = "##... ##... ##... ##... ##..."
RIGHT = "...## ...## ...## ...## ...##"
TWO = "#...# #...# #...# #...# #...#"
DOT = "..... ..... ..#.. ..... ....."  # touches no edge
DOME = "..... ..... ..... .###. #####"  # terminal, closed below, 32 % salt
SPECK = "..... ..... ..... ..... ..#.."  # terminal, 4 % salt
BLOT = "##### .#.#. ..... #.... ..#.#"  # neither vertical nor terminal


def lines(mask: str) -> str:
    return mask.replace(" ", "\n")


def test_labels_are_joined_over_all_rows_between() -> None:
    seen = mosaic({(0, 0): LEFT, (1, 0): BLOT, (3, 0): EMPTY, (4, 0): RIGHT}, labelled=[(0, 0), (4, 0)])
    # 3 px to the right over 15 lines (one tile of them is missing): line k starts at 3 (k + 1) / 16 px.
    assert drawn(seen, join_labels(seen)) == {
        (1, 0): ("##...\n##...\n.##..\n.##..\n.##..", [(0, 0), (4, 0)]),
        (3, 0): ("..##.\n..##.\n..##.\n...##\n...##", [(0, 0), (4, 0)]),
    }


@pytest.mark.parametrize(
    ("upper", "lower"), [(LEFT, TWO), (EMPTY, EMPTY), (LEFT, EMPTY), (EMPTY, LEFT), (DOT, LEFT), (LEFT, DOT)]
)
def test_labels_whose_runs_differ_are_not_joined(upper: str, lower: str) -> None:
    seen = mosaic({(0, 0): upper, (1, 0): BLOT, (2, 0): lower}, labelled=[(0, 0), (2, 0)])
    assert join_labels(seen) == []


def test_only_labels_that_follow_one_another_in_a_column_are_joined() -> None:
    tiles = {(0, 0): LEFT, (1, 0): EMPTY, (2, 0): EMPTY, (3, 0): EMPTY, (4, 0): LEFT, (0, 1): LEFT, (1, 1): LEFT}
    seen = mosaic(tiles, labelled=[(0, 0), (2, 0), (4, 0), (0, 1), (1, 1)])
    assert join_labels(seen) == []


def test_the_facing_edges_decide() -> None:
    upper, lower = "##### ..... ..... ..... #.##.", "#..## ..... ..... ..... #...#"
    seen = mosaic({(0, 0): upper, (1, 0): EMPTY, (2, 0): lower}, labelled=[(0, 0), (2, 0)])
    assert drawn(seen, join_labels(seen)) == {(1, 0): ("#.##.\n#.##.\n#.###\n#..##\n#..##", [(0, 0), (2, 0)])}


def test_a_vertical_label_is_copied_down_until_a_label() -> None:
    tiles = {(0, 0): BLOT, (1, 0): LEFT, (2, 0): BLOT, (4, 0): EMPTY, (5, 0): DOME, (6, 0): EMPTY, (0, 1): EMPTY}
    seen = mosaic(tiles, labelled=[(1, 0), (5, 0)])
    assert drawn(seen, copy_down(seen)) == {(2, 0): (lines(LEFT), [(1, 0)]), (4, 0): (lines(LEFT), [(1, 0)])}


@pytest.mark.parametrize("other", [EMPTY, DOT, DOME, BLOT, SPECK])
def test_other_labels_are_not_copied(other: str) -> None:
    seen = mosaic({(0, 0): DOME, (1, 0): EMPTY, (2, 0): other, (3, 0): EMPTY}, labelled=[(2, 0)])
    assert copy_down(seen) == copy_up(seen) == []


def test_predictions_are_not_copied() -> None:
    seen = mosaic({(0, 0): DOME, (1, 0): EMPTY, (2, 0): LEFT, (3, 0): EMPTY})
    assert copy_down(seen) == copy_up(seen) == []


def test_copies_stop_at_corrected_tiles() -> None:
    tiles = {(0, 0): DOME, (1, 0): EMPTY, (2, 0): BLOT, (3, 0): LEFT, (4, 0): BLOT, (5, 0): EMPTY}
    seen = mosaic(tiles, labelled=[(3, 0)], corrected=[(2, 0), (4, 0)])
    assert copy_down(seen) == copy_up(seen) == []


def test_a_vertical_label_is_copied_up_to_a_terminal_tile() -> None:
    tiles = {(0, 0): EMPTY, (1, 0): SPECK, (2, 0): EMPTY, (3, 0): BLOT, (4, 0): LEFT, (5, 0): EMPTY, (0, 1): DOME}
    seen = mosaic(tiles, labelled=[(4, 0)])
    assert drawn(seen, copy_up(seen)) == {(2, 0): (lines(LEFT), [(4, 0)]), (3, 0): (lines(LEFT), [(4, 0)])}


def test_without_one_it_is_copied_to_the_topmost_terminal_row_of_the_mosaic() -> None:
    column = {(row, 0): EMPTY for row in range(5)} | {(5, 0): LEFT}
    others = {(0, 1): SPECK, (1, 1): BLOT, (2, 1): DOME, (3, 1): DOME}  # the speck has too little salt
    for labelled in ([(5, 0)], [(5, 0), (2, 1)]):
        seen = mosaic(column | others, labelled)
        assert drawn(seen, copy_up(seen)) == {(row, 0): (lines(LEFT), [(5, 0)]) for row in (3, 4)}
    without = mosaic(column | {(0, 1): SPECK, (1, 1): BLOT}, [(5, 0)])
    assert copy_up(without) == []
    below = mosaic(column | {(6, 1): DOME}, [(5, 0)])
    assert copy_up(below) == []


def test_a_label_above_ends_the_copy() -> None:
    tiles = {(0, 0): DOME, (1, 0): EMPTY, (2, 0): EMPTY, (3, 0): EMPTY, (4, 0): LEFT}
    seen = mosaic(tiles, labelled=[(2, 0), (4, 0)])
    assert drawn(seen, copy_up(seen)) == {(3, 0): (lines(LEFT), [(4, 0)])}


@pytest.mark.parametrize("labelled", [[], [(0, 0)], [(4, 0)]])
def test_predictions_are_joined_over_empty_tiles(labelled: list[tuple[int, int]]) -> None:
    seen = mosaic({(0, 0): LEFT, (1, 0): EMPTY, (3, 0): EMPTY, (4, 0): RIGHT}, labelled)
    labels = mosaic({(0, 0): LEFT, (1, 0): EMPTY, (3, 0): EMPTY, (4, 0): RIGHT}, labelled=[(0, 0), (4, 0)])
    assert drawn(seen, join_predictions(seen)) == drawn(labels, join_labels(labels))
    assert len(join_predictions(seen)) == 2


def test_what_keeps_predictions_apart() -> None:
    both_labels = mosaic({(0, 0): LEFT, (1, 0): EMPTY, (2, 0): LEFT}, labelled=[(0, 0), (2, 0)])
    label_between = mosaic({(0, 0): LEFT, (1, 0): EMPTY, (2, 0): EMPTY, (3, 0): LEFT}, labelled=[(2, 0)])
    salt_between = mosaic({(0, 0): LEFT, (1, 0): EMPTY, (2, 0): DOT, (3, 0): EMPTY, (4, 0): LEFT})
    other_runs = mosaic({(0, 0): LEFT, (1, 0): EMPTY, (2, 0): TWO})
    none_between = mosaic({(0, 0): LEFT, (2, 0): LEFT, (3, 0): EMPTY})
    for seen in (both_labels, label_between, salt_between, other_runs, none_between):
        assert join_predictions(seen) == []


def test_below_a_closed_label_everything_predicted_becomes_empty() -> None:
    tiles = {(0, 0): LEFT, (1, 0): DOME, (2, 0): BLOT, (3, 0): LEFT, (5, 0): TWO, (6, 0): DOME, (7, 0): TWO}
    seen = mosaic(tiles | {(2, 1): LEFT, (1, 1): DOME}, labelled=[(1, 0), (3, 0), (6, 0)])
    assert drawn(seen, empty_below_closed(seen)) == {
        (2, 0): (lines(EMPTY), [(1, 0)]),
        (5, 0): (lines(EMPTY), [(1, 0)]),
        (7, 0): (lines(EMPTY), [(6, 0)]),
    }


def test_drawings_are_read_as_they_are_written() -> None:
    seen = mosaic({(0, 0): BLOT})
    assert text(seen.masks[0]) == lines(BLOT)
