"""Logged requests become prompts, or are counted with the reason why not."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.vllm.prompt_requests import LOGGED, read_requests
from adapters.vllm.prompt_sources import PromptSource, Read, read_source
from adapters.vllm.prompts import Prompt
from stopper.errors import InputError

CHAT = [{"role": "user", "content": "3+4"}]
OTHER = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "4+4"}]


def lines(*bodies: Any) -> list[str]:
    return [body if isinstance(body, str) else json.dumps(body) for body in bodies]


def log(folder: Path, *bodies: Any, name: str = "requests.jsonl") -> Path:
    file = folder / name
    file.write_text("\n".join(lines(*bodies)) + "\n", encoding="utf-8")
    return file


def vllm_line(body: Any) -> str:
    text = json.dumps(body)
    return f"DEBUG 11-24 00:11:22 [request_logger.py:73] Request chatcmpl-1{LOGGED}{text}"


@pytest.mark.parametrize(
    "wrap",
    [
        lambda body: body,
        lambda body: {"custom_id": "7", "method": "POST", "url": "/v1/chat", "body": body},
        lambda body: {"time": 1.5, "request": body},
        lambda body: {"request": {"headers": {}, "body": body}},
        vllm_line,
    ],
    ids=["bare", "batch", "wrapped", "twice", "vllm"],
)
def test_the_forms_of_a_logged_body(wrap: Any) -> None:
    found = read_requests(lines(wrap({"model": "m", "messages": CHAT, "temperature": 0.6})))
    (prompt,) = found.prompts
    assert prompt.messages == CHAT
    assert prompt.id == prompt.group == Prompt(id="x", messages=CHAT).group
    assert (found.models, found.skipped) == ({"m": 1}, {})


def test_a_completion_is_a_plain_prompt() -> None:
    found = read_requests(lines({"prompt": "3+4="}, {"prompt": ["5+6="]}))
    assert [prompt.prompt for prompt in found.prompts] == ["3+4=", "5+6="]


def test_text_parts_are_joined_as_vllm_joins_them() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    (prompt,) = read_requests(lines({"messages": [{"role": "user", "content": parts}]})).prompts
    assert prompt.messages == [{"role": "user", "content": "one\ntwo"}]


IMAGE = [{"type": "image_url", "image_url": {"url": "data:"}}, {"type": "text", "text": "What?"}]
SKIPPED = [
    ({"messages": [{"role": "user", "content": IMAGE}]},
     "images, audio or other parts that are no text"),
    ({"messages": CHAT, "tools": [{"type": "function"}]}, "uses tools"),
    ({"messages": [*CHAT, {"role": "tool", "content": "7"}]}, "uses tools"),
    ({"messages": [{"role": "assistant", "tool_calls": [1], "content": None}]}, "uses tools"),
    ({"messages": CHAT, "n": 2}, "asks for n > 1 answers"),
    ({"prompt": "a", "best_of": 3}, "asks for n > 1 answers"),
    ({"messages": CHAT, "model": "another"}, "another model ('another')"),
    ({"messages": CHAT, "model": "m", "chat_template_kwargs": {"enable_thinking": False}},
     "changes the prompt by chat_template_kwargs"),
    ({"messages": CHAT, "add_generation_prompt": False},
     "changes the prompt by add_generation_prompt"),
    ({"messages": CHAT, "response_format": {"type": "json_object"}},
     "constrains the output by response_format"),
    ({"input": "an embedding"}, "no messages and no prompt (another endpoint?)"),
    ({"messages": CHAT, "prompt": "a"}, "both messages and a prompt"),
    ({"prompt": [1, 2, 3]}, "its prompt is no single text (token ids, several prompts, or empty)"),
    ({"prompt": ["a", "b"]}, "its prompt is no single text (token ids, several prompts, or empty)"),
    ({"messages": []}, "its messages are no list, or an empty one"),
    ({"messages": "3+4"}, "its messages are no list, or an empty one"),
    ({"messages": [{"content": "3+4"}]}, "a message without a role"),
    ({"messages": [{"role": "user"}]}, "a message without text"),
    ({"messages": [{"role": "assistant", "content": "7", "reasoning_content": "hm"}]},
     "a message with 'reasoning_content'"),
    ({"prompt": "\ud800"}, "text that is no Unicode (a lone surrogate)"),
    ('{"messages": [{"role": "us', "not JSON, or cut off (see --max-log-len of vllm serve)"),
    ("[1, 2]", "not an object"),
    ("[" * 100_000, "not JSON, or cut off (see --max-log-len of vllm serve)"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "reason"), SKIPPED, ids=range(len(SKIPPED)))
def test_what_cannot_be_replayed_is_counted_with_its_reason(body: Any, reason: str) -> None:
    if isinstance(body, dict):
        body = {"model": "m"} | body
    found = read_requests(lines({"messages": CHAT, "model": "m"}, body), model="m")
    assert found.skipped == {reason: 1}
    assert (found.requests, len(found.prompts)) == (2, 1)
    assert any(note == f"skipped 1: {reason}" for note in found.notes(False))


def test_what_changes_nothing_is_not_refused() -> None:
    body = {
        "messages": CHAT, "n": 1, "tools": None, "chat_template_kwargs": {}, "stream": True,
        "response_format": {"type": "text"}, "add_generation_prompt": True, "stop": ["\n"],
    }  # fmt: skip
    assert len(read_requests(lines(body)).prompts) == 1


def test_a_prompt_that_comes_again_counts_once_or_is_a_rollout() -> None:
    bodies = lines({"messages": CHAT}, {"messages": OTHER}, {"messages": CHAT, "temperature": 1})
    once = read_requests(bodies)
    assert [prompt.messages for prompt in once.prompts] == [CHAT, OTHER]
    assert once.repeated == 1
    assert "1 requests repeat a prompt: left out" in " ".join(once.notes(False))
    kept = read_requests(bodies, keep_repeats=True)
    first, _, again = kept.prompts
    assert (again.group, again.id) == (first.group, f"{first.group}.2")
    assert "kept as rollouts of one group" in " ".join(kept.notes(True))


def test_names_stay_the_same_when_the_log_grows() -> None:
    bodies = lines({"messages": CHAT}, {"messages": CHAT}, {"messages": OTHER})
    before = [p.id for p in read_requests(bodies[:2], keep_repeats=True).prompts]
    after = [p.id for p in read_requests(["", "INFO: rotated", *bodies], keep_repeats=True).prompts]
    assert after[:2] == before
    assert len(set(after)) == 3


def test_a_whole_log_of_vllm_is_read(tmp_path: Path) -> None:
    file = log(
        tmp_path,
        *["INFO 11-24 00:11:20 [api_server.py:1] Starting"] * 300,
        '{"not": "a request, but a line of some dump"}',
        "[1, 2]",
        '(APIServer pid=7) INFO:     127.0.0.1:1 - "POST /v1/chat/completions HTTP/1.1" 200 OK',
        "(APIServer pid=7) " + vllm_line({"model": "org/m", "messages": CHAT}),
        "(APIServer pid=7) " + vllm_line({"model": "org/m", "messages": OTHER, "n": 4}),
        vllm_line({"model": "org/m", "messages": OTHER})[:-9],
        name="server.log",
    )
    found = read_source(file, PromptSource(), served="org/m")
    assert [prompt.messages for prompt in found.prompts] == [CHAT]
    said = "\n".join(found.notes)
    assert "3 requests, of which 2 were skipped: 1 distinct prompts" in said
    assert "skipped 1: asks for n > 1 answers" in said
    assert "skipped 1: not JSON, or cut off" in said
    assert "303 lines of the log are no requests" in said


def test_the_installed_vllm_still_logs_bodies_like_this() -> None:
    spec = importlib.util.find_spec("vllm")
    assert spec is not None and spec.origin is not None
    file = Path(spec.origin).parent / "entrypoints" / "serve" / "utils" / "request_logger.py"
    assert f'"Request %s{LOGGED}%s"' in file.read_text()


def test_one_model_of_a_log_is_taken(tmp_path: Path) -> None:
    file = log(
        tmp_path,
        {"model": "big", "messages": CHAT},
        {"model": "small", "messages": OTHER},
        {"model": "small", "messages": CHAT},
    )

    def taken(**changes: Any) -> Read:
        source = {name: changes[name] for name in changes if name != "served"}
        return read_source(file, PromptSource(**source), served=changes.get("served"))

    assert [p.messages for p in taken(served="models/big").prompts] == [CHAT]
    assert [p.messages for p in taken(requests_model="small").prompts] == [OTHER, CHAT]
    assert "skipped 1: another model ('big')" in taken(requests_model="small").notes
    with pytest.raises(InputError, match=r"several models \(big, small\); choose by --requests-m"):
        taken(served="third")
    with pytest.raises(InputError, match=r"--requests-model third: .* has requests to big, small"):
        taken(requests_model="third")


def test_a_log_without_one_usable_request_says_why(tmp_path: Path) -> None:
    file = log(tmp_path, {"model": "m", "messages": CHAT, "tools": [1]})
    with pytest.raises(InputError, match=r"no prompts that can be taken .*skipped 1: uses tools"):
        read_source(file, PromptSource())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["messages", "prompt", "role", "content", "type", "text", "body", "request", "n",
                 "model", "tools", "name", "response_format"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)  # fmt: skip
CONTENT = st.text(max_size=4) | st.lists(
    st.fixed_dictionaries({"type": st.sampled_from(["text", "image_url"]), "text": st.text()}),
    max_size=2,
)
BODY = st.fixed_dictionaries(
    {"messages": st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": CONTENT}))},
    optional={"model": st.sampled_from("mk"), "n": st.integers(0, 2), "tools": JSON},
)
LINE = st.one_of(
    JSON.map(json.dumps), BODY.map(json.dumps), BODY.map(vllm_line), st.text(max_size=20),
    BODY.map(lambda body: json.dumps({"body": body})[:-1]),
)  # fmt: skip


@given(st.lists(LINE, max_size=6), st.sampled_from([None, "m"]), st.booleans())
@settings(deadline=None, max_examples=80)
def test_every_line_of_any_log_is_accounted_for(log: list[str], model: Any, keep: bool) -> None:
    found = read_requests(log, model, keep)
    assert found.requests + found.other_lines == sum(bool(line.strip()) for line in log)
    dropped = 0 if keep else found.repeated
    assert found.requests == len(found.prompts) + sum(found.skipped.values()) + dropped
    assert len({prompt.id for prompt in found.prompts}) == len(found.prompts)
    for prompt in found.prompts:
        json.dumps(prompt.messages or prompt.prompt).encode()
    assert all("\n" not in note for note in found.notes(keep))


@given(st.lists(LINE, max_size=4), st.sampled_from(["auto", "requests", "prompts", "dataset"]))
@settings(deadline=None, max_examples=80)
def test_no_file_breaks_a_reader(tmp_path_factory: Any, log: list[str], kind: str) -> None:
    file = tmp_path_factory.getbasetemp() / "any.jsonl"
    file.write_text("\n".join(log), encoding="utf-8", errors="replace")
    try:
        found = read_source(file, PromptSource(kind))
    except InputError as problem:
        assert "\n" not in str(problem)
    else:
        assert found.prompts
