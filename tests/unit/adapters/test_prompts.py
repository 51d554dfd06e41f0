"""Prompt files: good lines, bad lines, and how a prompt is rendered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapters.vllm.prompts import Prompt, read_prompts
from stopper.errors import InputError

CHAT = [{"role": "user", "content": "3+4"}]


def write(folder: Path, *lines: Any) -> Path:
    file = folder / "prompts.jsonl"
    text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    file.write_text("\n".join(text), encoding="utf-8")
    return file


def test_what_is_read(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        {"id": "a", "messages": CHAT, "answer": "7", "level": 2, "group": "g", "source": "mine"},
        "   ",
        {"prompt": "3 + 4 ="},
        {"id": "c", "messages": CHAT, "answer": None},
    )
    first, second, third = read_prompts(file)
    assert first == Prompt(id="a", messages=CHAT, answer="7", level=2, group="g")
    assert (second.id, second.prompt, second.answer, second.level) == ("3", "3 + 4 =", None, None)
    assert [prompt.id for prompt in read_prompts(file, limit=2)] == ["a", "3"]
    assert len(read_prompts(file, limit=99)) == 3
    assert third.group


def test_the_group_is_the_text_where_none_is_given(tmp_path: Path) -> None:
    other = [{"role": "user", "content": "4+3"}]
    file = write(
        tmp_path,
        {"messages": CHAT},
        {"messages": CHAT, "answer": "7"},
        {"messages": other},
        {"prompt": "3+4"},
    )
    same, again, differs, plain = (prompt.group for prompt in read_prompts(file))
    assert same == again
    assert len({same, differs, plain}) == 3
    assert Prompt(id="x", prompt="3+4").group == plain


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "2: not JSON"),
        ("[" * 100_000, "2: not JSON"),
        ("[1]", "2: must be an object, is list"),
        ({}, "2: line: .*give either 'messages' .* or 'prompt'"),
        ({"prompt": "a", "messages": CHAT}, "2: line: .*give either"),
        ({"prompt": 5}, "2: prompt: "),
        ({"messages": "3+4"}, "2: messages: "),
        ({"messages": ["3+4"]}, "2: messages.0: "),
        ({"id": 7, "prompt": "a"}, "2: id: "),
        ({"prompt": "a", "level": "hard"}, "2: level: "),
        ({"prompt": "a", "answer": 7}, "2: answer: "),
        ({"id": "a", "prompt": "b"}, "id 'a' occurs twice; make ids unique"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: Any, words: str) -> None:
    file = write(tmp_path, {"id": "a", "prompt": "b"}, line)
    with pytest.raises(InputError, match=words) as caught:
        read_prompts(file)
    assert str(caught.value).startswith(f"{file}:")
    assert "\n" not in str(caught.value)
    assert len(read_prompts(file, limit=1)) == 1  # what lies beyond is not looked at


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b'{"prompt": "\xe4"}')
    for name, words in (
        ("missing", "No such file"),
        ("", "Is a directory"),
        ("latin", "not UTF-8"),
    ):
        with pytest.raises(InputError, match=words):
            read_prompts(tmp_path / name)
    with pytest.raises(InputError, match="holds no prompts"):
        read_prompts(write(tmp_path, "", "  "))


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_is_at_least_one(tmp_path: Path, limit: int) -> None:
    with pytest.raises(InputError, match=rf"--limit {limit}: must be at least 1"):
        read_prompts(tmp_path / "unread", limit)


class Characters:
    """A tokenizer that knows what it was asked."""

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [0] * add_special_tokens + list(map(ord, text))

    def apply_chat_template(self, messages: Any, **asked: Any) -> str:
        assert asked == {"tokenize": False, "add_generation_prompt": True}
        return f"<{messages[0]['content']}>"


def test_rendering_adds_special_tokens_once() -> None:
    assert Prompt(id="a", messages=CHAT).token_ids(Characters()) == list(map(ord, "<3+4>"))
    assert Prompt(id="a", prompt="3").token_ids(Characters()) == [0, ord("3")]
