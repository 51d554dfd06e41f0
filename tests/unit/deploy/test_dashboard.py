"""The dashboard: made of metrics that exist, laid out without overlap, every panel explained."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from queries import exported, faults, of_sidecar, of_vllm

ROOT = Path(__file__).resolve().parents[3]
GRAFANA = ROOT / "deploy" / "grafana"
FILE = GRAFANA / "dashboards" / "stopper.json"
DASHBOARD = json.loads(FILE.read_text())
ROWS = [panel for panel in DASHBOARD["panels"] if panel["type"] == "row"]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {found["name"]: found for found in DASHBOARD["templating"]["list"]}
BUILT_IN = {"__rate_interval", "__range", "__all"}
KNOWN = exported() | of_vllm() | {"ALERTS": frozenset({"alertname", "alertstate", "severity"})}
COLUMNS = 24

every_panel = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])


def expressions(panel: dict[str, Any]) -> list[str]:
    return [target["expr"] for target in panel["targets"]]


def numbers(text: str) -> str:
    """Put a duration where Grafana would."""
    return re.sub(r"\$__\w+", "5m", text)


@every_panel
def test_a_panel_asks_for_what_is_exported(panel: dict[str, Any]) -> None:
    assert [faults(numbers(found), KNOWN) for found in expressions(panel)] == [
        [] for _ in panel["targets"]
    ]


@every_panel
def test_a_panel_is_explained_and_has_unit_thresholds_and_its_data_source(
    panel: dict[str, Any],
) -> None:
    assert len(panel["description"]) > 20
    assert panel["datasource"]["uid"] == "${datasource}"
    assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
    references = [target["refId"] for target in panel["targets"]]
    assert len(set(references)) == len(references) > 0
    field = panel["fieldConfig"]["defaults"]
    assert field["thresholds"]["steps"][0]["value"] is None
    # A count, a state or a logit has none.
    unitless = ("stat", "table", "heatmap", "state-timeline")
    assert "unit" in field or panel["type"] in unitless or "decimals" in field


@every_panel
def test_rates_are_taken_over_grafanas_own_interval(panel: dict[str, Any]) -> None:
    for found in expressions(panel):
        assert set(re.findall(r"\[([^]]+)\]", found)) <= {"$__rate_interval", "$__range"}


@every_panel
def test_a_quantile_or_heatmap_is_of_buckets_by_le(panel: dict[str, Any]) -> None:
    for found in expressions(panel):
        if "histogram_quantile" in found or panel["type"] == "heatmap":
            assert re.search(r"_bucket\{", found)
            assert "sum by (le)" in found
        else:
            assert "_bucket" not in found
    if panel["type"] == "heatmap":
        assert [target["format"] for target in panel["targets"]] == ["heatmap"]


@every_panel
def test_a_legend_names_labels_that_the_answer_has(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        kept = re.findall(r"\bby \(([^)]*)\)", target["expr"])
        if kept:
            assert named <= set(re.split(r",\s*", kept[0]))
        else:
            assert named <= {"instance"}


def test_every_variable_that_is_used_is_defined_and_asks_for_what_exists() -> None:
    text = FILE.read_text()
    used = set(re.findall(r"\$\{?(\w+)\}?", text)) - BUILT_IN
    assert used == set(VARIABLES)
    for variable in VARIABLES.values():
        if variable["type"] == "query":
            asked = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
            assert asked is not None
            assert faults(asked[1], KNOWN) == []
            metric = re.match(r"\w+", asked[1])
            assert metric is not None
            assert asked[2] in KNOWN[metric[0]] | {"job", "instance"}


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    covered: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= COLUMNS
        cells = set(
            itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"]))
        )
        assert not covered & cells, panel["title"]
        covered |= cells
    height = 1 + max(y for _, y in covered)
    assert len(covered) == COLUMNS * height  # and leave no holes


def test_the_promise_comes_first() -> None:
    assert ROWS[0]["title"] == "Does the promise hold?"
    first = [panel for panel in PANELS if panel["gridPos"]["y"] < ROWS[1]["gridPos"]["y"]]
    text = " ".join(found for panel in first for found in expressions(panel))
    for metric in ("stopper_alarm", "stopper_kill_switch", "stopper_bad_stop_share_high",
                   "stopper_audited_alpha"):  # fmt: skip
        assert metric in text


def test_every_metric_of_the_sidecar_but_a_few_is_on_the_dashboard() -> None:
    text = FILE.read_text()
    families = {re.sub(r"_(bucket|count|sum|created|total)$", "", name) for name in of_sidecar()}
    missing = {name for name in families if name not in text}
    assert missing == {"stopper_audits_without_answer"}


def test_the_annotations_show_alerts_that_the_rules_raise() -> None:
    (own,) = (found for found in DASHBOARD["annotations"]["list"] if not found.get("builtIn"))
    assert faults(own["target"]["expr"], KNOWN) == []
    pattern = re.search(r'alertname=~"([^"]+)"', own["target"]["expr"])
    assert pattern is not None
    groups = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text())["groups"]
    names = [rule["alert"] for group in groups for rule in group["rules"]]
    assert all(re.fullmatch(pattern[1], name) for name in names)


def test_what_is_provisioned_is_what_lies_here() -> None:
    (source,) = yaml.safe_load(
        (GRAFANA / "provisioning" / "datasources" / "prometheus.yaml").read_text()
    )["datasources"]
    (provider,) = yaml.safe_load(
        (GRAFANA / "provisioning" / "dashboards" / "stopper.yaml").read_text()
    )["providers"]
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    name, port = source["url"].removeprefix("http://").split(":")
    assert f"127.0.0.1:{port}:{port}" in compose["services"][name]["ports"]
    mounts = dict(volume.split(":")[:2] for volume in compose["services"]["grafana"]["volumes"])
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]


def test_the_dashboard_is_of_a_known_schema_and_makes_no_demands_on_a_server() -> None:
    # 42 is what Grafana 12.2 to 13.2 write.
    assert DASHBOARD["schemaVersion"] == 42
    assert DASHBOARD["id"] is None
    assert {panel["type"] for panel in PANELS} <= {
        "stat", "timeseries", "table", "heatmap", "state-timeline"
    }  # fmt: skip
