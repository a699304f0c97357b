"""The page is whole, says what the run scored, can be read by everyone, and asks nobody for anything."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from pathlib import Path

import numpy as np
import optuna
import pytest
from browser import Page, in_browser
from page_reader import PageReader, read_page

from salt_ray.artifacts import RunDirectory
from salt_ray.errors import RunError
from salt_ray.inference.paired import Difference
from salt_ray.inference.scores import run_scores
from salt_ray.inference.thresholds import FoldThresholds, Thresholds
from salt_ray.postprocessing.corrections import Corrections
from salt_ray.postprocessing.rules import RULES
from salt_ray.report import parts
from salt_ray.report.finished import FinishedRun
from salt_ray.report.page import PARTS, render, write_report
from salt_ray.report.parts import RULE_TEXTS
from salt_ray.report.trials import clock
from salt_ray.storage import write_atomically
from salt_ray.training.times import write_times
from salt_ray.tuning.study import STUDY_NAME

SMALL = 2 << 20  # bytes of the page of a run of sixty small tiles; most of it is pictures
HOSTILE = '<script>alert("x")</script>{{ 7 * 7 }}'


@pytest.fixture(scope="module")
def text(made_run: FinishedRun) -> str:
    return render(made_run)


@pytest.fixture(scope="module")
def reader(text: str) -> PageReader:
    return read_page(text)


def section(text: str, name: str) -> str:
    return re.search(rf'<section id="{name}".*?</section>', text, re.DOTALL)[0]


def test_every_part_is_there_or_says_why_not(text: str, reader: PageReader) -> None:
    assert [element.attributes["id"] for element in reader.all("section")] == list(PARTS)
    for name in PARTS:
        left_out = section(text, name).count("Left out: ")
        assert left_out == (name in ("search", "where"))  # there was no search, and the survey has one section
    assert "There is no search in this run directory" in section(text, "search")
    targets = [element.attributes["href"] for element in reader.all("a")]
    assert targets == ["#content", *(f"#{name}" for name in PARTS)]


def test_it_says_what_the_run_scored(text: str, made_run: FinishedRun) -> None:
    scores, answer = made_run.scores, section(text, "answer")
    for value in (scores["oof"], scores["test"], scores["rules"]["test"]["before"], *scores["folds"].values()):
        assert f"{value:.4f}" in answer
    assert f"{scores['trivial']['all_empty']:.4f}" in answer
    rules = section(text, "rules")
    for name in RULES:
        assert name in rules and RULE_TEXTS[name] in rules
    assert "+0.0200 (+0.0100 … +0.0300)" in rules and "+0.0000 (−0.0100 … +0.0100)" in rules  # kept or not
    for words in ("Each of 9 labels in 1 mosaics", "34 in 12", "&lt; 0.001", "gain not shown", "too little evidence"):
        assert words in rules


def test_the_rules_of_an_older_version_are_shown_as_it_chose_them(made_run: FinishedRun) -> None:
    alone = {name: {"before": 0.5, "after": 0.5, "gain": 0.0, "spread": 0.01, "kept": False} for name in RULES}
    alone["copy_down"] |= {"after": 0.52, "gain": 0.02, "kept": True}
    old = {"repeats": 10, "hidden_share": 0.25, "hidden_tiles_per_repeat": 146, "alone": alone}
    scores = made_run.scores | {"rules": made_run.scores["rules"] | old | {"together": alone["copy_down"]}}
    rules = section(render(dataclasses.replace(made_run, scores=scores)), "rules")
    assert "146 labels" in rules and rules.count("+0.0200 ± 0.0100") == 2 and "+0.0000 ± 0.0100" in rules


def test_thresholds_that_the_labels_chose_stand_beside_the_given_ones(text: str, made_run: FinishedRun) -> None:
    given, prepared = made_run.decision, made_run.prepared
    pairs = {0: (0.35, 0.25), 1: (0.3, 0.2)}
    of_folds = {
        fold: FoldThresholds(
            decision=given.replace(mask_threshold=mask, salt_threshold=salt), tiles=20, before=0.5123, after=0.5321
        )
        for fold, (mask, salt) in pairs.items()
    }
    gain = Difference(37, 30, 0.5123, 0.5321, 0.0012, 0.0345, 20, 10, 7)
    final = given.replace(mask_threshold=0.45, salt_threshold=0.15)
    chosen = Thresholds(given=given, final=final, folds=of_folds, gain=gain)
    folds = np.full(len(prepared.survey.ids), -1)
    folds[prepared.trainable] = made_run.tables["random"].folds
    decisions = chosen.decisions(folds)
    scores, _ = run_scores(prepared, made_run.models, made_run.tables, decisions, None)
    scores = made_run.scores | {name: scores[name] for name in ("folds", "oof")}
    run = dataclasses.replace(made_run, decisions=decisions, thresholds=chosen, scores=scores)
    shown = section(render(run), "thresholds")
    assert f"Thresholds chosen: {final.thresholds} instead of {given.thresholds}" in shown
    assert "0.5123 before, 0.5321 with each fold" in shown and "+0.0012 to +0.0345 (30 groups" in shown
    for mask, salt in pairs.values():
        assert f"<td>20</td><td>{mask}</td><td>{salt}</td><td>0.5123</td><td>0.5321</td>" in shown
    assert "in use: 0.45" in shown or "in use 0.45" in shown
    with pytest.raises(RunError, match="belongs to other predictions"):  # all tiles by the final ones
        render(dataclasses.replace(run, decisions=chosen.decisions(np.full_like(folds, -1))))
    stay = dataclasses.replace(
        made_run, thresholds=chosen.model_copy(update={"gain": None, "folds": {}, "final": given})
    )
    shown = section(render(stay), "thresholds")
    assert (
        "Thresholds stay as given" in shown and "needs the predictions of two folds" in shown and "<table>" not in shown
    )
    assert "hresholds stay" not in text and "the thresholds are the experiment's own" in section(text, "thresholds")


def test_the_configuration_in_it_makes_the_same_experiment(reader: PageReader, made_run: FinishedRun) -> None:
    (shown,) = [element.text for element in reader.all("pre") if element.text.startswith("{")]
    assert type(made_run.experiment).model_validate(json.loads(shown)) == made_run.experiment


def test_a_run_of_several_seeds_says_how_far_they_scatter(elsewhere: FinishedRun) -> None:
    path = elsewhere.run.path.parent / "seed-7"
    elsewhere.run.path.rename(path)
    one = dataclasses.replace(elsewhere, run=RunDirectory(path))
    assert "seeds" not in section(render(one), "answer")
    each = [elsewhere.scores["oof"], 0.5]
    for found, said in ((each, True), ([0.25, 0.5], False)):
        spread = {"each": found, "mean": 0.4321, "sd": 0.0123}
        write_atomically(path.parent / "seeds.json", json.dumps({"scores": {"oof": spread}}))
        answer = section(render(one), "answer")
        assert ("2 seeds" in answer and "0.4321" in answer and "± 0.0123; this run is one" in answer) is said
    write_atomically(path.parent / "seeds.json", '{"scores": {}}')
    with pytest.raises(RunError, match=r"seeds.json is damaged"):
        render(one)


def test_it_says_what_trained_the_folds(elsewhere: FinishedRun) -> None:
    assert "The training hardware is unknown" in section(render(elsewhere), "origin")
    for fold, names in enumerate((["one <GPU>", "another"], ["one <GPU>"])):
        folder = elsewhere.run.stage("random", fold, "plateau").parent
        write_atomically(folder / "hardware.json", json.dumps({"trained_on": names}))
    origin = section(render(elsewhere), "origin")
    assert "Trained on one &lt;GPU&gt;, then another: fold 0." in origin
    assert "Trained on one &lt;GPU&gt;: fold 1." in origin


def test_it_says_how_long_the_folds_trained_where_that_is_known(elsewhere: FinishedRun) -> None:
    for stage in elsewhere.experiment.trainings[0].stages:
        rows = [{"epoch": epoch, "ended": 1e9 + epoch, "seconds": 60.25} for epoch in range(1, stage.epochs + 1)]
        write_times(elsewhere.run.stage("random", 0, stage.name), rows)
    epochs = sum(stage.epochs for stage in elsewhere.experiment.trainings[0].stages)
    assert [row["time"] for row in parts.where(elsewhere)["folds"]] == [clock(epochs * 60.25), None]
    assert section(render(elsewhere), "where").count("<td>not known</td>") == 1


def test_every_picture_says_what_it_shows(reader: PageReader) -> None:
    pictures = reader.all("img")
    assert len(pictures) == 4 * (12 + 8 + 8) + 2 * 4
    drawn = [element for element in reader.elements if element.attributes.get("role") == "img"]
    assert len(drawn) == len(reader.all("svg")) == 4 + 2 + 1 + 2 + 2
    for alt in [*(picture.attributes["alt"] for picture in pictures), *(e.attributes["aria-label"] for e in drawn)]:
        assert len(alt) > 20 and "nan" not in alt


def test_it_can_be_read_without_eyes_or_mouse(reader: PageReader) -> None:
    (html,) = reader.all("html")
    assert html.attributes["lang"] == "en"
    levels = [int(element.tag[1]) for element in reader.elements if re.fullmatch(r"h[1-6]", element.tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(later <= before + 1 for before, later in itertools.pairwise(levels))
    assert len(reader.all("table")) == len(reader.all("caption")) >= 10
    assert all(element.attributes["scope"] in ("row", "col") for element in reader.all("th"))
    ids = [element.attributes["id"] for element in reader.elements if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    for element in reader.elements:
        for name in ("aria-labelledby", "href"):
            assert element.attributes.get(name, "#").removeprefix("#") in ("", *ids)
        if element.attributes.get("class") == "scroll":  # what scrolls can be reached by the keyboard
            assert element.attributes["tabindex"] == "0" and element.attributes["aria-label"]


def test_it_asks_nobody_for_anything(text: str, reader: PageReader) -> None:
    assert not reader.all("script") and not reader.all("link") and not reader.all("iframe")
    for element in reader.elements:
        assert element.attributes.get("src", "data:image/").startswith("data:image/")
        assert element.attributes.get("href", "#").startswith("#")
        assert not [name for name in element.attributes if name.startswith("on")]
    assert not re.search(r"url\((?!#)|@import|https?:", text)
    (policy,) = [e.attributes["content"] for e in reader.all("meta") if "http-equiv" in e.attributes]
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_it_is_small_and_the_same_every_time(text: str, elsewhere: FinishedRun) -> None:
    assert len(text.encode()) < SMALL
    path = write_report(dataclasses.replace(elsewhere))
    assert path.read_text() == text  # and it does not say where the run lies
    write_report(dataclasses.replace(elsewhere))
    assert path.read_text() == text


def test_a_page_that_cannot_be_finished_leaves_the_earlier_one(
    elsewhere: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_report(elsewhere)
    before = path.read_bytes()

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("salt_ray.storage.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_report(dataclasses.replace(elsewhere))
    assert path.read_bytes() == before and [p.name for p in path.parent.glob("*report*")] == ["report.html"]
    assert not list(path.parent.glob(".*.tmp"))


def test_text_from_outside_stays_text(elsewhere: FinishedRun) -> None:
    experiment = elsewhere.experiment.model_copy(update={"name": HOSTILE})
    survey = elsewhere.prepared.survey
    names = np.array([*survey.ids], dtype="U100")
    place = elsewhere.prepared.trainable[0]
    names[place] = HOSTILE
    ids = np.where(elsewhere.mosaics.ids == survey.ids[place], HOSTILE, elsewhere.mosaics.ids.astype("U100"))
    table = elsewhere.tables["random"]
    folds = dataclasses.replace(table, ids=np.where(table.ids == survey.ids[place], HOSTILE, table.ids.astype("U100")))
    hostile = dataclasses.replace(survey, ids=names, remarks=(f"left out: {HOSTILE}",))
    text = render(
        dataclasses.replace(
            elsewhere,
            experiment=experiment,
            prepared=dataclasses.replace(elsewhere.prepared, survey=hostile),
            mosaics=dataclasses.replace(elsewhere.mosaics, ids=ids),
            tables={"random": folds},
        )
    )
    assert "<script" not in text and "&lt;script&gt;" in text
    reader = read_page(text)
    (title,) = reader.all("title")
    assert title.text.startswith(HOSTILE)
    assert [e.text for e in reader.all("li") if e.text.startswith("left out")] == [f"left out: {HOSTILE}"]


def test_what_a_run_lacks_is_said(elsewhere: FinishedRun) -> None:
    experiment = elsewhere.experiment.replace(postprocessing={"rules": "none"})
    survey = dataclasses.replace(elsewhere.prepared.survey, depths=np.full(len(elsewhere.prepared.survey.ids), np.nan))
    remarks = ("left out: train/images/a.png: is no PNG; replace it with an intact file",)
    survey = dataclasses.replace(survey, remarks=remarks)
    scores = {name: value for name, value in elsewhere.scores.items() if name not in ("test", "test_tiles")}
    text = render(
        dataclasses.replace(
            elsewhere,
            experiment=experiment,
            prepared=dataclasses.replace(elsewhere.prepared, survey=survey),
            mosaics=None,
            corrections=Corrections.none(survey.tile_px),
            scores=scores | {"rules": {}, "trivial": {"all_empty": 0.25, "best_constant": None}},
        )
    )
    assert "Left out: The survey has no depths" in section(text, "where")
    assert "Left out: The run assembled no mosaics" in section(text, "where")
    assert "Left out: The survey's tiles are not in section folders" in section(text, "where").replace("&#39;", "'")
    assert "Left out: Masks are not post-processed" in section(text, "rules")
    assert "Without a hold-out or a known test truth" in section(text, "answer")
    assert "0.2500" in section(text, "answer") and "–" in section(text, "answer")
    assert "as predicted" not in section(text, "answer") and "after the mosaic rules" not in section(text, "answer")
    assert remarks[0] in section(text, "data") and "--skip-bad" in section(text, "origin")
    read_page(text)


def test_a_hold_out_stands_beside_the_other_scores(elsewhere: FinishedRun) -> None:
    held_out = np.zeros(elsewhere.prepared.survey.labelled, bool)
    held_out[elsewhere.prepared.trainable[::4]] = True
    prepared = dataclasses.replace(elsewhere.prepared, held_out=held_out)
    scores, _ = run_scores(prepared, elsewhere.models, elsewhere.tables, elsewhere.decisions, None)
    run = dataclasses.replace(elsewhere, prepared=prepared, scores=scores)
    out_of_fold, hold_out = parts.answer(run)["columns"]
    truth = prepared.survey.masks
    assert hold_out["score"] == scores["holdout"] and hold_out["tiles"] == held_out.sum()
    assert out_of_fold["before"] is None and hold_out["before"] == scores["rules"]["holdout"]["before"]
    assert hold_out["all_empty"] == (~truth[held_out].any(axis=(1, 2))).mean()
    assert out_of_fold["all_empty"] == (~truth[prepared.trainable].any(axis=(1, 2))).mean()


def test_a_search_in_the_run_is_shown(elsewhere: FinishedRun) -> None:
    elsewhere.run.study.mkdir()
    study = optuna.create_study(
        storage=f"sqlite:///{elsewhere.run.study / 'study.db'}", study_name=STUDY_NAME, direction="maximize"
    )
    distribution = {"lr": optuna.distributions.FloatDistribution(0.001, 0.1, log=True)}
    for number, value in enumerate((0.25, 0.5, 0.375)):
        params = {"lr": 0.01 * (number + 1)}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distribution, value=value))
    before = sorted(path.name for path in elsewhere.run.study.iterdir())
    part = parts.search(elsewhere)
    assert [shown["alt"][:10] for shown in part["pictures"]] == ["Values of ", "Values ove"]
    shown = section(render(elsewhere), "search")
    assert "trial 1 with 0.5000" in shown and "+0.2500 against" in shown and "3 complete" in shown
    assert shown.count("<img") == 2
    assert sorted(path.name for path in elsewhere.run.study.iterdir()) == before


def test_mosaics_that_failed_and_identical_tiles_are_named(elsewhere: FinishedRun) -> None:
    (elsewhere.run.postprocessing / "done.json").write_text('{"failed": {"3": "killed", "5": "killed"}}')
    survey = elsewhere.prepared.survey
    images = np.array(survey.images)
    one, other, *_ = elsewhere.prepared.trainable
    images[other] = images[one]
    same = dataclasses.replace(survey, images=images)
    text = render(dataclasses.replace(elsewhere, prepared=dataclasses.replace(elsewhere.prepared, survey=same)))
    assert "which keep their predicted masks: 2." in section(text, "rules")
    assert f"<code>{survey.ids[one]}</code>, <code>{survey.ids[other]}</code>" in section(text, "data")
    assert "with the same pixels: 1;" in section(text, "data")


def test_scores_of_other_predictions_are_refused(elsewhere: FinishedRun) -> None:
    with pytest.raises(RunError, match="belongs to other predictions: run score"):
        render(dataclasses.replace(elsewhere, scores={**elsewhere.scores, "oof": 0.123}))


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_at_every_width(text: str, scheme: str, tmp_path: Path) -> None:
    """At the width of a phone and of a desk: pictures load, links lead somewhere, nothing is wider than the screen."""
    path = tmp_path / "report.html"
    path.write_text(text)

    async def visit(tab: Page) -> None:
        for domain in ("Page", "Runtime", "Log", "Network"):
            await tab.call(f"{domain}.enable")
        await tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        await tab.call("Page.navigate", url=path.as_uri())
        loaded = (
            "new Promise(done => document.readyState == 'complete' ? done(1) : addEventListener('load', () => done(1)))"
        )
        await tab.call("Runtime.evaluate", expression=loaded, awaitPromise=True)
        assert await tab.value("document.querySelector('h1').innerText") == "tiny"
        for width in (390, 1280):
            await tab.call(
                "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
            )
            assert await tab.value("document.documentElement.scrollWidth") <= width
            assert await tab.value("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
            assert await tab.value(
                "[...document.querySelectorAll('svg')].every(s => s.getBoundingClientRect().width > 200)"
            )
        assert await tab.value(
            "[...document.querySelectorAll('a')].every(a => document.getElementById(a.hash.slice(1)) !== null)"
        )
        ink = await tab.value("getComputedStyle(document.querySelector('svg text')).fill")
        page_colour = await tab.value("getComputedStyle(document.body).backgroundColor")
        assert contrast(ink, page_colour) > 10
        assert brightness(page_colour) < 0.1 if scheme == "dark" else brightness(page_colour) > 0.9
        wrong = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded", "Network.loadingFailed")
        assert not [event for event in tab.events if event["method"] in wrong]

    in_browser(visit)


def brightness(colour: str) -> float:
    """Relative luminance of ``rgb(r, g, b)``, 0 … 1 (WCAG 2)."""
    shares = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def contrast(one: str, other: str) -> float:
    low, high = sorted((brightness(one), brightness(other)))
    return (high + 0.05) / (low + 0.05)
