"""The alert rules: valid, tested by promtool, made of metrics that exist, each with its runbook."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from queries import exported, faults

from stopper.service.settings import ServeSettings
from tests.servers import monitoring_program

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "deploy" / "prometheus"
RULES = [
    rule
    for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
NAMES = [rule["alert"] for rule in RULES]
KNOWN = exported() | {"up": frozenset()}

every_rule = pytest.mark.parametrize("rule", RULES, ids=NAMES)


def promtool(*words: str) -> str:
    done = subprocess.run(
        [monitoring_program("promtool"), *words],
        cwd=FOLDER, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_rules_and_configuration() -> None:
    assert f"{len(RULES)} rules found" in promtool("check", "rules", "alerts.yaml")
    assert "1 rule files found" in promtool("check", "config", "prometheus.yml")


def test_every_rule_fires_where_it_should_and_only_there() -> None:
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yaml")
    expected = re.findall(r'alertname="(\w+)"', (FOLDER / "alerts_test.yaml").read_text())
    assert set(expected) == set(NAMES)


@every_rule
def test_a_rule_asks_for_what_the_sidecar_exports(rule: dict[str, Any]) -> None:
    assert faults(rule["expr"], KNOWN) == []


@every_rule
def test_a_rule_says_how_bad_it_is_what_happens_and_where_help_is(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    notes = rule["annotations"]
    assert notes.keys() == {"summary", "description", "runbook_url"}
    assert notes["runbook_url"] == f"docs/runbooks.md#{rule['alert'].lower()}"
    for label in re.findall(r"\$labels\.(\w+)", notes["summary"] + notes["description"]):
        assert label in rule["expr"] or label == "instance"


def test_every_alert_has_its_runbook_and_every_runbook_its_alert() -> None:
    text = (ROOT / "docs" / "runbooks.md").read_text()
    assert re.findall(r"^### (Stopper\w+)$", text, re.MULTILINE) == NAMES
    for section in re.split(r"^#+ .*$", text.partition("### Stopper")[2], flags=re.MULTILINE):
        told = re.findall(r"^\*\*(.+?)\.\*\*", section, re.MULTILINE)
        assert told in ([], ["Means", "Users notice", "Look first", "Mend", "Ignore it"]), section
    assert len(NAMES) == len(set(NAMES)) >= 12


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ("stopper_alarms == 1", ["stopper_alarms"]),
        ('sum by (model) (stopper_alarm{job="x"})', ["by (model)"]),
        ('rate(stopper_decisions_total{outcome="x"}[5m])', ["stopper_decisions_total{outcome}"]),
        ('rate(stopper_decisions_total{decision=~"stop|halt"}[5m])', ["decision=halt"]),
        ("rate(stopper_probe_score_sum[1h])", ["stopper_probe_score_sum"]),
        ("1 + 1", ["no metric"]),
    ],
)
def test_what_does_not_exist_is_found(expression: str, wrong: list[str]) -> None:
    found = faults(expression, KNOWN)
    assert [one for one in wrong if one in found] == wrong


def test_prometheus_scrapes_the_services_of_the_compose_file_where_they_listen() -> None:
    jobs = {
        job["job_name"]: job["dns_sd_configs"][0]
        for job in yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    }
    assert jobs["stopper"]["port"] == ServeSettings.model_fields["port"].default
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
    names = set(services)
    for service in services.values():
        networks = service.get("networks", {})
        names |= {alias for found in networks.values() for alias in found["aliases"]}
    for job in jobs.values():
        assert set(job["names"]) <= names
