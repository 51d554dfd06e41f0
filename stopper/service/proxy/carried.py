"""The documents that a chat request carries, and the body with others in their places.

They come in three ways: the request's field `stopper.documents`, vLLM's field `documents`, and
tagged blocks inside messages. Only what holds a document is written anew; every other value keeps
its bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from stopper.context import Document
from stopper.service.problems import refuse
from stopper.service.proxy import tagged
from stopper.wire import ContextDocument
from stopper.wire.context import Alpha, Floor

MAY_CARRY = re.compile(rb'<document|\\u003[cC]document|"documents"|"stopper"').search
"""Cheap, and true of every body that needs a closer look."""

OWN = ("documents", "query", "context")
"""The members of the request's field `stopper` that are about documents."""

Raws = dict[str, msgspec.Raw]
_fields = msgspec.json.Decoder(Raws).decode
_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_any = msgspec.json.Decoder().decode


class ContextOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The request's `stopper.context`; None takes the sidecar's settings."""

    enabled: bool = True
    alpha: Alpha | None = None
    threshold: float | None = None
    floor: Floor | None = None


class _Asked(msgspec.Struct, frozen=True):
    documents: list[ContextDocument] | None = None
    query: str | None = None
    context: ContextOptions | None = None


@dataclass(slots=True)
class _Text:
    """A text of a message that has blocks."""

    message: int
    part: int | None
    text: str
    blocks: list[tagged.Block]


@dataclass(slots=True)
class Carried:
    """What a request carries.

    Attributes
    ----------
    options
        What it asks of the compression.
    query
        Of the field `stopper`, else the last user message outside its blocks.
    given, listed
        Documents of `stopper.documents` and of vLLM's `documents`.

    """

    options: ContextOptions
    query: str
    given: list[Document]
    listed: list[Document]
    _fields: Raws
    _stopper: Raws
    _messages: list[msgspec.Raw] = field(default_factory=list)
    _items: list[tuple[Raws, bool]] = field(default_factory=list)
    _texts: list[_Text] = field(default_factory=list)
    _last_user: int | None = None

    @property
    def documents(self) -> list[Document]:
        """All of them: given, listed, and those in blocks, in their order."""
        inside = [
            Document(block.title, one.text[block.start : block.end])
            for one in self._texts
            for block in one.blocks
        ]
        return [*self.given, *self.listed, *inside]

    def body(self, texts: Sequence[str] | None) -> bytes:
        """Write the request with other texts in the documents' places.

        Parameters
        ----------
        texts
            In the order of `documents`; None leaves them as they came.

        """
        whole = [document.text for document in self.documents] if texts is None else texts
        left = iter(whole)
        given = [Document(one.title, next(left), one.id) for one in self.given]
        changes: dict[str, bytes | None] = {}
        rest = {name: raw for name, raw in self._stopper.items() if name not in OWN}
        if len(rest) != len(self._stopper):
            changes["stopper"] = _object(rest) if rest else None
        listed = [next(left) for _ in self.listed]
        if texts is not None and self.listed:
            changes["documents"] = self._listed(listed)
        messages = dict(self._refilled(left)) if texts is not None else {}
        block = tagged.layout(given)
        if block:
            assert self._last_user is not None
            at = self._last_user
            raw = messages.get(at, bytes(self._messages[at]))
            messages[at] = _with_front(raw, block)
        if messages:
            parts = (messages.get(at, bytes(raw)) for at, raw in enumerate(self._messages))
            changes["messages"] = b"[" + b",".join(parts) + b"]"
        kept = {name: changes.get(name, bytes(raw)) for name, raw in self._fields.items()}
        return _object({name: raw for name, raw in kept.items() if raw is not None})

    def _listed(self, texts: list[str]) -> bytes:
        parts, left = [], iter(texts)
        for item, has_text in self._items:
            changed: Mapping[str, Any] = item
            if has_text:
                changed = {**item, "text": msgspec.Raw(msgspec.json.encode(next(left)))}
            parts.append(_object(changed))
        return b"[" + b",".join(parts) + b"]"

    def _refilled(self, left: Iterator[str]) -> Iterator[tuple[int, bytes]]:
        changed: dict[int, list[tuple[int | None, str]]] = {}
        for one in self._texts:
            text = tagged.refilled(one.text, one.blocks, [next(left) for _ in one.blocks])
            changed.setdefault(one.message, []).append((one.part, text))
        for at, texts in changed.items():
            message = _fields(self._messages[at])
            if texts[0][0] is None:
                content = msgspec.json.encode(texts[0][1])
            else:
                parts = [bytes(raw) for raw in _raws(message["content"])]
                for place, text in texts:
                    assert place is not None
                    part = _fields(parts[place])
                    parts[place] = _object({**part, "text": msgspec.Raw(msgspec.json.encode(text))})
                content = b"[" + b",".join(parts) + b"]"
            yield at, _object({**message, "content": msgspec.Raw(content)})


def read(body: bytes) -> Carried | None:
    """Look for documents; None where a request has none, and asks nothing about them.

    Raises
    ------
    ProblemError
        400 where the field `stopper` is wrong, or there is no message to put its documents into.

    """
    try:
        fields = _fields(body)
        stopper = _fields(fields.get("stopper", b"{}"))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None  # refused with better words further on
    asked = _asked(fields["stopper"]) if any(name in stopper for name in OWN) else _Asked()
    given = [Document(one.title, one.text, one.id) for one in asked.documents or ()]
    found = Carried(asked.context or ContextOptions(), "", given, [], fields, stopper)
    try:
        outside = _look(found)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        outside = None  # the engine says best what is wrong with it
        found.listed, found._items, found._texts = [], [], []
    if given and (outside is None or found._last_user is None):
        refuse("bad-request", "stopper.documents: there is no user message to put them into.")
    found.query = asked.query if asked.query is not None else (outside or "")
    return found if found.documents or asked != _Asked() else None


def _asked(raw: msgspec.Raw) -> _Asked:
    try:
        return msgspec.json.decode(raw, type=_Asked)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        refuse(
            "bad-request",
            f'stopper: {error}; give {{"documents": [{{"title": "...", "text": "..."}}]}}',
        )


def _look(found: Carried) -> str:
    """Find listed documents and blocks; return the last user message outside its blocks."""
    listed = found._fields.get("documents")
    for raw in _raws(listed) if listed is not None and bytes(listed) != b"null" else ():
        item = _fields(raw)
        text, title = (_text_of(item.get(name)) for name in ("text", "title"))
        found._items.append((item, text is not None))
        if text is not None:
            found.listed.append(Document(title or "", text))
    found._messages = _raws(found._fields.get("messages", b"[]"))
    outside = ""
    for at, raw in enumerate(found._messages):
        message = _fields(raw)
        role = _text_of(message.get("role"))
        if role == "assistant" or "content" not in message:
            continue
        words = []
        for part, text in _texts_of(message["content"]):
            blocks = tagged.blocks(text)
            if blocks:
                found._texts.append(_Text(at, part, text, blocks))
            words.append(tagged.outside(text, blocks))
        if role == "user":
            outside, found._last_user = "\n".join(words), at
    return outside.strip()


def _texts_of(content: msgspec.Raw) -> Iterator[tuple[int | None, str]]:
    value = _any(content)
    if isinstance(value, str):
        yield None, value
    elif isinstance(value, list):
        for place, part in enumerate(value):
            if isinstance(part, dict) and isinstance(part.get("text"), str):
                yield place, part["text"]


def _text_of(raw: msgspec.Raw | None) -> str | None:
    value = None if raw is None else _any(raw)
    return value if isinstance(value, str) else None


def _with_front(raw: bytes, block: str) -> bytes:
    """Put text before a message's own."""
    message = _fields(raw)
    value = _any(message.get("content", b'""'))
    if isinstance(value, list):
        part = msgspec.json.encode({"type": "text", "text": block})
        parts = [part, *(bytes(one) for one in _raws(message["content"]))]
        content = b"[" + b",".join(parts) + b"]"
    else:
        own = value if isinstance(value, str) else ""
        content = msgspec.json.encode(f"{block}\n\n{own}" if own else block)
    return _object({**message, "content": msgspec.Raw(content)})


def _object(fields: Mapping[str, Any]) -> bytes:
    return (
        b"{"
        + b",".join(msgspec.json.encode(name) + b":" + bytes(raw) for name, raw in fields.items())
        + b"}"
    )
