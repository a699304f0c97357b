"""Pictures of a search: whole, repeatable, and left out where there is nothing to see."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
import pytest
from made_search import add, new_study, search
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from salt_ray.tuning.figures import ORANGE, PURPLE, SKY, draw_study

pytestmark = pytest.mark.filterwarnings("error")
ALL = ["history.png", "importances.png", "slices.png", "curves.png"]


def picture(path: Path) -> np.ndarray:
    """(H, W) colours as 0xrrggbb, checked to be something that is worth looking at."""
    blue, green, red = np.moveaxis(cv2.imread(str(path)).astype(np.int32), -1, 0)
    image = red << 16 | green << 8 | blue
    assert image.shape[1] == 1200
    assert 300 <= image.shape[0] <= 3000
    assert len(np.unique(image)) > 20
    return image


def shows(path: Path, colour: str) -> bool:
    """Whether pixels of exactly this colour (#rrggbb) are there."""
    return bool((picture(path) == int(colour[1:], 16)).any())


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_a_search_in_every_state_gives_four_pictures(tmp_path: Path) -> None:
    written = draw_study(search("c" * 12 + "pcpfpwr"), tmp_path / "new")
    assert names(written) == ALL
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(ALL)
    for name in ("history.png", "slices.png", "curves.png"):
        assert all(shows(tmp_path / "new" / name, colour) for colour in (ORANGE, PURPLE, SKY)), name


def test_what_did_not_happen_is_not_shown(tmp_path: Path) -> None:
    for path in draw_study(search("c" * 12), tmp_path):
        assert not any(shows(path, colour) for colour in (ORANGE, PURPLE, SKY)), path.name


def test_the_same_trials_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (draw_study(search("c" * 12 + "pf"), tmp_path / folder) for folder in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert not any(b"Matplotlib version" in path.read_bytes() for path in first)
    other = draw_study(search("c" * 12 + "pf", seed=1), tmp_path / "c")
    assert all(a.read_bytes() != b.read_bytes() for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ("", []),
        ("w", []),
        ("f", ["curves.png"]),
        ("ppr", ["curves.png"]),
        ("c", ["history.png", "slices.png", "curves.png"]),
        ("pcf", ["history.png", "slices.png", "curves.png"]),
    ],
)
def test_what_cannot_be_drawn_is_left_out(states: str, expected: list[str], tmp_path: Path) -> None:
    written = draw_study(search(states), tmp_path)
    assert names(written) == expected
    for path in written:
        picture(path)


def test_trials_without_scores_or_parameters_are_no_error(tmp_path: Path) -> None:
    study = new_study()
    add(study, TrialState.FAIL, reason="out of memory")
    assert draw_study(study, tmp_path) == []
    add(study, TrialState.PRUNED, scores=[float("nan")])
    assert draw_study(study, tmp_path) == []
    add(study, TrialState.COMPLETE, 0.8)
    assert names(draw_study(study, tmp_path)) == ["history.png"]


def test_a_pruned_baseline_is_no_pruned_trial_like_the_others(tmp_path: Path) -> None:
    draw_study(search("pcc"), tmp_path)
    assert not shows(tmp_path / "curves.png", ORANGE)
    draw_study(search("cpc"), tmp_path)
    assert shows(tmp_path / "curves.png", ORANGE)


def test_unusual_spaces_and_names(tmp_path: Path) -> None:
    study = new_study()
    space = {
        "a_name_as_long_as_a_parameter_of_a_search_can_possibly_be_ok": FloatDistribution(0.1, 0.35, log=True),
        "one_value": IntDistribution(3, 3),
        "one_value_log": FloatDistribution(0.5, 0.5, log=True),
        "wide": FloatDistribution(1e-8, 1, log=True),
        "whole_log": IntDistribution(1, 64, log=True),
        "choice": CategoricalDistribution(["$x^$", True, 2, 0.5, "a_path/to/some_weights.safetensors"]),
    }
    for number in range(12):
        params = dict(
            zip(
                space,
                (0.2, 3, 0.5, 10.0 ** -(number % 8), 1 + number, space["choice"].choices[number % 5]),
                strict=True,
            )
        )
        add(study, TrialState.COMPLETE, 0.8 + number / 100, params, space)
    written = draw_study(study, tmp_path)
    assert names(written) == ALL[:3]
    for path in written:
        picture(path)


def test_settings_of_matplotlib_are_not_touched(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    draw_study(search("cc"), tmp_path)
    assert dict(mpl.rcParams) == before


def test_settings_of_the_user_do_not_show(tmp_path: Path) -> None:
    plain = draw_study(search("cc"), tmp_path / "plain")
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.bbox": "tight"}):
        changed = draw_study(search("cc"), tmp_path / "changed")
    assert [path.read_bytes() for path in plain] == [path.read_bytes() for path in changed]


def test_results_need_no_matplotlib_and_figures_no_display() -> None:
    code = (
        "import sys, salt_ray.tuning.results; assert 'matplotlib' not in sys.modules; "
        "import salt_ray.tuning.figures; assert 'matplotlib.pyplot' not in sys.modules"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "MPLBACKEND")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
