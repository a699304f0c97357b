"""Pictures of a search: whole, repeatable, and left out where there is nothing to see."""

import os
import subprocess
import sys

import cv2
import matplotlib as mpl
import numpy as np
import pytest
from made_search import add, new_study, search
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from salt_ray.report.figures import draw_study
from salt_ray.report.style import ORANGE, PURPLE, SKY

pytestmark = pytest.mark.filterwarnings("error")
ALL = ["history", "importances", "slices", "curves"]


def picture(png: bytes) -> np.ndarray:
    """(H, W) colours as 0xrrggbb, checked to be something that is worth looking at."""
    blue, green, red = np.moveaxis(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR).astype(np.int32), -1, 0)
    image = red << 16 | green << 8 | blue
    assert image.shape[1] == 1200
    assert 300 <= image.shape[0] <= 3000
    assert len(np.unique(image)) > 20
    return image


def shows(png: bytes, colour: str) -> bool:
    """Whether pixels of exactly this colour (#rrggbb) are there."""
    return bool((picture(png) == int(colour[1:], 16)).any())


def test_a_search_in_every_state_gives_four_pictures() -> None:
    drawn = draw_study(search("c" * 12 + "pcpfpwr"))
    assert list(drawn) == ALL
    for name in ("history", "slices", "curves"):
        assert all(shows(drawn[name], colour) for colour in (ORANGE, PURPLE, SKY)), name


def test_what_did_not_happen_is_not_shown() -> None:
    for name, png in draw_study(search("c" * 12)).items():
        assert not any(shows(png, colour) for colour in (ORANGE, PURPLE, SKY)), name


def test_the_same_trials_give_the_same_bytes() -> None:
    first, second = (draw_study(search("c" * 12 + "pf")) for _ in range(2))
    assert first == second
    assert not any(b"Matplotlib version" in png for png in first.values())
    other = draw_study(search("c" * 12 + "pf", seed=1))
    assert list(first) == list(other) and all(first[name] != other[name] for name in first)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ("", []),
        ("w", []),
        ("f", ["curves"]),
        ("ppr", ["curves"]),
        ("c", ["history", "slices", "curves"]),
        ("pcf", ["history", "slices", "curves"]),
    ],
)
def test_what_cannot_be_drawn_is_left_out(states: str, expected: list[str]) -> None:
    drawn = draw_study(search(states))
    assert list(drawn) == expected
    for png in drawn.values():
        picture(png)


def test_trials_without_scores_or_parameters_are_no_error() -> None:
    study = new_study()
    add(study, TrialState.FAIL, reason="out of memory")
    assert draw_study(study) == {}
    add(study, TrialState.PRUNED, scores=[float("nan")])
    assert draw_study(study) == {}
    add(study, TrialState.COMPLETE, 0.8)
    assert list(draw_study(study)) == ["history"]


def test_a_pruned_baseline_is_no_pruned_trial_like_the_others() -> None:
    assert not shows(draw_study(search("pcc"))["curves"], ORANGE)
    assert shows(draw_study(search("cpc"))["curves"], ORANGE)


def test_unusual_spaces_and_names() -> None:
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
    drawn = draw_study(study)
    assert list(drawn) == ALL[:3]
    for png in drawn.values():
        picture(png)


def test_settings_of_matplotlib_are_not_touched() -> None:
    before = dict(mpl.rcParams)
    draw_study(search("cc"))
    assert dict(mpl.rcParams) == before


def test_settings_of_the_user_do_not_show() -> None:
    plain = draw_study(search("cc"))
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.bbox": "tight"}):
        changed = draw_study(search("cc"))
    assert plain == changed


def test_results_need_no_matplotlib_and_figures_no_display() -> None:
    code = (
        "import sys, salt_ray.tuning.results; assert 'matplotlib' not in sys.modules; "
        "import salt_ray.report.figures; assert 'matplotlib.pyplot' not in sys.modules"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "MPLBACKEND")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
