"""The board for Grafana: what an import needs, panels that do not overlap, and queries of gauges that there are.

When it was written, the file was valid against Grafana's own JSON schema of a dashboard (of its foundation SDK).
``test_local_ray`` finds its gauges on Ray's metrics port.
"""

from __future__ import annotations

import re
from itertools import combinations

import pytest
from grafana import LABEL_VALUES, PREFIX, board, parsed, shown_gauges

from salt_ray.cluster.gauges import GAUGES, TAGS

COLUMNS = 24  # of Grafana's grid
REQUIRED = {"uid", "title", "schemaVersion", "version", "panels", "templating", "time", "refresh"}


def test_a_board_has_what_an_import_needs() -> None:
    found = board()
    assert set(found) >= REQUIRED and found["schemaVersion"] >= 36  # since then sources are objects
    assert "id" not in found  # Grafana gives one; another's would replace some other board
    for panel in found["panels"]:
        assert panel["type"] in {"timeseries", "stat"} and panel["title"] and panel["targets"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert {target["refId"] for target in panel["targets"]} and set(panel["fieldConfig"]) == {
            "defaults",
            "overrides",
        }
        assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])
    assert len({panel["id"] for panel in found["panels"]}) == len(found["panels"])


def test_panels_lie_beside_each_other() -> None:
    places = [panel["gridPos"] for panel in board()["panels"]]
    assert all(one["x"] >= 0 and one["x"] + one["w"] <= COLUMNS and one["h"] > 0 for one in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above


def test_every_gauge_is_shown_and_no_other() -> None:
    assert {f"salt_ray_{name}" for name in shown_gauges()} == set(GAUGES)


def test_queries_and_legends_name_tags_and_variables_that_there_are() -> None:
    found = board()
    variables = {variable["name"]: variable for variable in found["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource" and variables["datasource"]["query"] == "prometheus"
    for name, variable in variables.items():
        if name != "datasource":
            match = LABEL_VALUES.fullmatch(variable["query"])
            metric, matched, _ = parsed(match["inner"])
            assert metric.removeprefix("ray_") in GAUGES and {match["label"], *matched} <= set(TAGS)
            assert variable["allValue"] == ".*"  # the trial of a fold is empty
    for panel in found["panels"]:
        for target in panel["targets"]:
            _, matched, kept = parsed(target["expr"])
            assert matched <= set(TAGS)
            named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert named and named <= (set(TAGS) if kept is None else kept)
            assert set(re.findall(r"\$(\w+)", target["expr"])) <= set(variables)


@pytest.mark.parametrize("query", ["ray_salt_ray_score{run=tiny}", "sum(ray_salt_ray_score", f"{PREFIX}score{{}} +"])
def test_a_query_that_is_none_is_noticed(query: str) -> None:
    with pytest.raises(AssertionError, match="no PromQL"):
        parsed(query)
