"""Reads prompts from JSON lines and renders them as the served model would see them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from stopper.errors import InputError


class Prompt(BaseModel):
    """One prompt; extra fields of a line are left alone.

    Attributes
    ----------
    id
        Unique in the file; the line number where it is missing.
    messages, prompt
        A chat (rendered with the model's own template), or a text taken as it is.
    group
        The prompt's identity over rollouts and splits; a hash of its text where missing.
    answer
        Gold answer, if known. Loss `disagree` needs none.
    level, category
        Difficulty and kind of problem, if the data set names them.

    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    messages: list[dict[str, Any]] | None = None
    prompt: str | None = None
    group: str = ""
    answer: str | None = None
    level: int | None = None
    category: str | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.messages is None) == (self.prompt is None):
            raise ValueError("give either 'messages' (a chat) or 'prompt' (a text)")
        if not self.group:
            text = json.dumps(self.messages) if self.prompt is None else self.prompt
            digest = hashlib.sha256(text.encode()).hexdigest()[:16]
            object.__setattr__(self, "group", digest)  # frozen for everybody else
        return self

    def token_ids(self, tokenizer: Any) -> list[int]:
        """Render with the chat template (or encode the plain text)."""
        if self.prompt is not None:
            return list(tokenizer.encode(self.prompt))
        rendered = tokenizer.apply_chat_template(
            self.messages, tokenize=False, add_generation_prompt=True
        )
        return list(tokenizer.encode(rendered, add_special_tokens=False))


def read_prompts(path: Path, limit: int | None = None) -> list[Prompt]:
    """Read a JSONL file of prompts.

    Raises
    ------
    InputError
        Names the line and the field; ids that occur twice are refused.

    """
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit}: must be at least 1")
    found: dict[str, Prompt] = {}
    try:
        with path.open(encoding="utf-8") as file:
            for prompt in _parse(path, file):
                if prompt.id in found:
                    raise InputError(f"{path}: id {prompt.id!r} occurs twice; make ids unique")
                found[prompt.id] = prompt
                if len(found) == limit:
                    break
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give a JSONL file of prompts") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error.reason}); save it as UTF-8") from None
    if not found:
        raise InputError(f"{path}: holds no prompts")
    return list(found.values())


def _parse(path: Path, lines: Any) -> Iterator[Prompt]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}:{number}: not JSON ({error})") from None
        if not isinstance(fields, dict):
            raise InputError(f"{path}:{number}: must be an object, is {type(fields).__name__}")
        try:
            yield Prompt.model_validate({"id": str(number), **fields})
        except ValidationError as error:
            fault = error.errors()[0]
            name = ".".join(map(str, fault["loc"])) or "line"
            raise InputError(f"{path}:{number}: {name}: {fault['msg']}") from None
