"""The decisions' file and memory."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.vllm import journal as module
from adapters.vllm.journal import Journal, finite


def record(name: str, decision: str = "stopped", **fields: Any) -> dict[str, Any]:
    return {"request_id": name, "decision": decision, "reason": "because", **fields}


def found(book: Journal, name: str) -> dict[str, Any] | None:
    ranked = book.find(name)
    return None if ranked is None else ranked[1]


def test_one_line_a_request_appended_at_once(tmp_path: Path) -> None:
    file = tmp_path / "decisions.jsonl"
    file.write_text('{"from": "before"}\n')
    book = Journal(file)
    book.add(record("a", text="ä\n\u2028"))
    lines = file.read_text(encoding="utf-8").split("\n")  # readable while the engine runs
    assert [json.loads(line) for line in lines[:-1]] == [
        {"from": "before"},
        record("a", text="ä\n\u2028"),
    ]
    book.close()
    book.close()
    book.add(record("b"))  # after the end: in memory only
    assert file.read_text(encoding="utf-8").split("\n") == lines
    assert found(book, "b") is not None


def test_memory_is_bounded_and_the_counters_are_not(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "KEPT", 3)
    book = Journal(None)
    for number in range(10):
        book.add(record(str(number)))
    assert [row["request_id"] for row in book.recent(100)] == ["7", "8", "9"]
    assert [row["request_id"] for row in book.recent(2)] == ["8", "9"]
    assert book.recent(0) == book.recent(-1) == []
    assert [found(book, name) is not None for name in ("6", "7")] == [False, True]
    assert len(book._ids._ranks) == 3
    assert book.counters()["decisions"] == {"stopped": 10}


def test_counters_by_decision_reason_and_cause() -> None:
    book = Journal(None)
    book.add(record("a", "not_applied", reason="lora"))
    book.add(record("b", "off", reason="asked_off"))
    book.count_fault("step")
    book.count_fault("score_not_finite", 3)
    assert book.counters() == {
        "decisions": {"not_applied": 1, "off": 1},
        "not_applied": {"lora": 1},
        "fail_open": {"step": 1, "score_not_finite": 3},
    }


def test_a_request_is_found_by_its_own_and_by_its_response_id() -> None:
    book = Journal(None)
    for name in ("chatcmpl-1-aaaaaaaa", "chatcmpl-2-bbbbbbbb", "chatcmpl-1-cccccccc"):
        book.add(record(name))
    assert found(book, "chatcmpl-2-bbbbbbbb") == record("chatcmpl-2-bbbbbbbb")
    assert found(book, "chatcmpl-2") == record("chatcmpl-2-bbbbbbbb")
    assert found(book, "chatcmpl-1") == record("chatcmpl-1-cccccccc")  # the newest
    assert found(book, "chatcmpl") is None
    assert found(book, "") is None


def test_an_id_used_again_counts_as_newest() -> None:
    book = Journal(None)
    for name, decision in (("a", "off"), ("b", "off"), ("a", "stopped")):
        book.add(record(name, decision))
    assert book.recent(9) == [record("b", "off"), record("a")]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
)


@settings(deadline=None)
@given(VALUES)
def test_nothing_that_json_does_not_know_gets_out(value: Any) -> None:
    text = json.dumps(finite(value), allow_nan=False)
    assert finite(json.loads(text)) == json.loads(text)


def test_finite_numbers_stay_as_they_are() -> None:
    assert finite({"a": 1.5, "b": [math.nan, (2, -math.inf)]}) == {"a": 1.5, "b": [None, [2, None]]}
