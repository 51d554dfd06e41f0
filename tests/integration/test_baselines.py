"""All rules online on a real engine: every token is counted, every pair of traces is exact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from runs import ARTIFACT, offline_stop, run_stopper, said

from stopper.artifact import Artifact

PROMPTS = 18
ALPHA = 0.05


def stopper(*arguments: str, folder: Path) -> None:
    assert run_stopper(*arguments, folder=folder) == 0, said(folder)


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("baselines")
    stopper(
        "baselines", "--limit", str(PROMPTS), "--alpha", str(ALPHA), "--enforce-eager",
        "--json", "figures.json", "--records", "records.jsonl", "--plot", "rules.png",
        folder=folder,
    )  # fmt: skip
    figures = json.loads((folder / "figures.json").read_text())
    records: dict[str, list[Any]] = {}
    for line in (folder / "records.jsonl").read_text().splitlines():
        record = json.loads(line)
        records.setdefault(record["rule"], []).append(record)
    return {"figures": figures, "records": records, "plot": folder / "rules.png"}


def test_every_rule_was_run_on_every_prompt(found):
    rules = [row["rule"] for row in found["figures"]["rows"]]
    assert rules == [
        "stopper", "budget", "no-thinking", "lynx", "deer", "dynasor", "eat", "thinkbrake",
        "nowait",
    ]  # fmt: skip
    assert set(found["records"]) == {"full", *rules}
    assert {len(records) for records in found["records"].values()} == {PROMPTS}
    assert found["plot"].read_bytes().startswith(b"\x89PNG")


def test_our_accounts_are_those_of_the_engine(found):
    for row in (found["figures"]["full"], *found["figures"]["rows"]):
        engine = row["engine"]
        assert round(row["all_tokens"] * PROMPTS) == engine["generated"], row["rule"]
        assert round(row["prefill_tokens"] * PROMPTS) == engine["prompt"], row["rule"]
        assert round(row["cached_tokens"] * PROMPTS) == engine["cached"], row["rule"]
        parts = ("tokens", "overrun_tokens", "trial_tokens", "answer_tokens")
        assert sum(row[part] for part in parts) == pytest.approx(row["all_tokens"])


def test_rules_that_try_answers_pay_for_it_and_the_others_do_not(found):
    for row in found["figures"]["rows"]:
        tries = row["rule"] in ("deer", "dynasor", "eat")
        assert (row["trials"] > 0, row["trial_tokens"] > 0) == (tries, tries), row["rule"]
        assert (row["cached_tokens"] > 0) >= tries


def test_every_rule_thinks_the_full_trace_up_to_where_it_stops(found):
    full = found["records"]["full"]
    for rule, records in found["records"].items():
        if rule in ("nowait", "no-thinking"):
            continue
        for record, whole in zip(records, full, strict=True):
            kept = record["thinking_tokens"] + record["overrun_tokens"]
            assert record["output_ids"][:kept] == whole["output_ids"][:kept], rule
            assert record["full_answer"] == whole["answer"]
    exact = {row["rule"]: row["main_equal_share"] for row in found["figures"]["rows"]}
    assert {rule for rule, share in exact.items() if share < 1.0} <= {"nowait"}


def test_what_is_bad_is_what_disagrees(found):
    assert found["figures"]["loss"] == "disagree"
    for row in found["figures"]["rows"]:
        records = found["records"][row["rule"]]
        bad = [r["changed"] and r["answer"] != r["full_answer"] for r in records]
        assert row["bad_stops"] == sum(bad), row["rule"]


def test_the_engine_stops_where_the_offline_rule_does(found):
    artifact = Artifact.load(ARTIFACT)
    stopped = 0
    for short, whole in zip(found["records"]["stopper"], found["records"]["full"], strict=True):
        expected = offline_stop(whole, artifact, ALPHA)
        assert short["changed"] == (expected is not None)
        if expected is not None:
            assert short["thinking_tokens"] == expected
            stopped += 1
    assert stopped >= PROMPTS // 2


def test_the_demo_comes_to_the_same_stops(found, tmp_path):
    arguments = ("--limit", str(PROMPTS), "--alpha", str(ALPHA), "--traces", "0")
    stopper("demo", *arguments, "--json", "demo.json", folder=tmp_path)
    demo = json.loads((tmp_path / "demo.json").read_text())
    ours = next(row for row in found["figures"]["rows"] if row["rule"] == "stopper")
    assert demo["stopped"]["tokens"] == pytest.approx(ours["tokens"])
    assert demo["full"]["tokens"] == pytest.approx(found["figures"]["full"]["tokens"])
    assert demo["stopped_early"] == sum(r["changed"] for r in found["records"]["stopper"])
    assert demo["bad_stops"] == ours["bad_stops"]
    assert demo["stopped"]["accuracy"] == pytest.approx(ours["accuracy"])
    assert demo["oracle_tokens"] == pytest.approx(found["figures"]["oracle"]["tokens"])
