"""A real Prometheus scrapes a real sidecar: rules and dashboard are asked of what it holds."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from monitored import ROOT, WATCHING, Stage, stage

from tests.servers import until

DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "stopper.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
GROUPS = yaml.safe_load((WATCHING / "alerts.yaml").read_text())["groups"]
RULES = {rule["alert"]: rule["expr"] for group in GROUPS for rule in group["rules"]}
FRONT = 'sum(stopper_decisions_total{decision!~"stop|mark|continue"})'

#: As long as nothing goes wrong these have nothing to show.
QUIET = {
    "Failed open a second, by cause",
    "Engines: faults a second, by cause",
    "Not applied a second, by cause",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("monitored")) as found:
        with found.traffic(pause_s=0.02):
            until(lambda: found.asked >= 80, "80 requests")
            until(lambda: bool(found.query("stopper_bad_stop_share")), "an audit")
            # Rates need two looks at a counter that has grown.
            until(lambda: _grows(found, "stopper_context_tokens_in_total"), "documents")
            until(lambda: _grows(found, "vllm:generation_tokens_total"), "the engines")
        until(lambda: _number(found.query(FRONT)) == found.asked, "the last request")
        yield found


def _number(result: list[dict[str, Any]]) -> float:
    return float(result[0]["value"][1]) if result else 0.0


def _grows(found: Stage, metric: str) -> bool:
    return _number(found.query(f"sum(rate({metric}[1m]))")) > 0


def _as_grafana(expression: str) -> str:
    for name, value in {
        "$__rate_interval": "1m", "$__range": "5m", "$job": "stopper|vllm", "$instance": ".*",
        "$model": ".*", "$artifact": ".*",
    }.items():  # fmt: skip
        expression = expression.replace(name, value)
    assert "$" not in expression
    return expression


def test_every_expression_of_the_dashboard_is_answered_and_every_panel_shows_something(
    made: Stage,
) -> None:
    shown = {
        panel["title"]: [made.query(_as_grafana(target["expr"])) for target in panel["targets"]]
        for panel in PANELS
    }
    assert {title for title, results in shown.items() if not any(results)} <= QUIET


def test_every_variable_of_the_dashboard_has_choices(made: Stage) -> None:
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            inside = variable["query"]["query"].removeprefix("label_values(").removesuffix(")")
            selector, _, label = inside.rpartition(", ")
            found = {one["metric"].get(label) for one in made.query(_as_grafana(selector))}
            assert found
            assert None not in found


def test_prometheus_counts_what_was_asked(made: Stage) -> None:
    assert _number(made.query("sum(stopper_front_responses_total)")) == made.asked
    by_decision = {
        one["metric"]["decision"]: float(one["value"][1])
        for one in made.query("sum by (decision) (stopper_decisions_total)")
    }
    assert {"stopped", "audited", "off", "stop", "mark", "continue"} <= by_decision.keys()
    buckets = made.query('sum(stopper_probe_score_bucket{le="+Inf"})')
    assert _number(buckets) == _number(made.query("sum(stopper_probe_score_count)")) > made.asked


def test_all_rules_are_evaluated_without_an_error_and_nothing_is_called_wrong(made: Stage) -> None:
    for expression in RULES.values():
        made.query(expression)
    rules = [rule for group in made.api("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == set(RULES)
    assert {rule["name"]: rule.get("lastError", "") for rule in rules} == dict.fromkeys(RULES, "")
    firing = {rule["name"] for rule in rules if rule["state"] == "firing"}
    assert firing <= {"StopperTrafficChanged"}  # the script is not the calibration traffic


def test_bad_audits_and_the_kill_switch_reach_the_alerts(made: Stage) -> None:
    (served,) = made.query("stopper_artifact_info == 1")
    version = served["metric"]["artifact"]
    now = datetime.now(UTC).isoformat()
    bad = [
        {
            "request_id": f"bad{number}", "time": now, "artifact": version, "alpha": 0.05,
            "loss_name": "disagree", "marked": True, "loss": 1, "score": 2.0, "cues": 3,
            "tokens": 250, "top_score": 4.0,
        }
        for number in range(60)
    ]  # fmt: skip
    (sidecar,) = made.sidecars
    made.client.post(f"{sidecar}/v1/audits", json={"audits": bad}).raise_for_status()
    switch = {"on": True, "why": "drill"}
    made.client.post(f"{sidecar}/v1/kill-switch", json=switch).raise_for_status()

    def alerts(state: str) -> dict[str, dict[str, str]]:
        found = made.query(f'ALERTS{{alertstate="{state}"}}')
        return {one["metric"]["alertname"]: one["metric"] for one in found}

    until(lambda: "StopperDriftAlarm" in alerts("firing"), "the alarm's alert")
    assert alerts("firing")["StopperDriftAlarm"]["artifact"] == version
    until(lambda: "StopperKillSwitchOn" in alerts("pending"), "the switch's alert")
    told = made.api("alerts")["alerts"]
    notes = {alert["labels"]["alertname"]: alert["annotations"] for alert in told}
    assert notes["StopperDriftAlarm"]["summary"] == (
        f"The promise of artifact {version} no longer holds"
    )


def test_the_preview_draws_every_kind_of_panel(made: Stage, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location(
        "preview", ROOT / "deploy" / "grafana" / "preview.py"
    )
    assert spec is not None
    assert spec.loader is not None
    preview = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(preview)
    kinds = {panel["type"]: panel for panel in DASHBOARD["panels"]}
    assert kinds.keys() == {*preview.DRAWN, "row"}
    one_each = DASHBOARD | {"panels": list(kinds.values())}
    out = tmp_path / "dashboard.png"
    preview.draw(one_each, preview.Source(made.prometheus, minutes=1), out, 40)
    assert out.read_bytes().startswith(b"\x89PNG")
