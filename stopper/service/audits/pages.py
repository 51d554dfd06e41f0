"""A monitor's state as the store keeps it: a small head that changes, and pages that never do.

Most of a state is the hashes of up to 100,000 request ids. They are cut into pages of 1,000, each
under the name of its own content: the head lists the names. So an update writes the head, and a
page now and then; the store's calls stay short.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping

import msgspec

from calibration.monitor import MonitorState, dump_state, load_state
from probes.errors import InputError
from stopper.service.status.records import Standing

PAGE = 1000 * 16
"""Characters of a page; a hash has 16."""


class Head(msgspec.Struct, frozen=True):
    """What changes with every audit.

    Attributes
    ----------
    state
        The state with its digest as JSON, compressed, without the hashes.
    older, newer
        Names of the pages of the two generations; the last of each may be short.
    tail
        Hashes of the newer generation that fill no page yet.
    standing
        How the promise stands, for those who only look; None where another version of the sidecar
        wrote other figures.

    """

    state: bytes
    older: list[str]
    newer: list[str]
    tail: str
    standing: Standing | None


class _Essential(msgspec.Struct):
    state: bytes
    older: list[str]
    newer: list[str]
    tail: str


def split(state: MonitorState, standing: Standing) -> tuple[Head, dict[str, bytes]]:
    """Cut a state into its head and its pages by name."""
    fields = json.loads(dump_state(state))
    requests = fields["requests"]
    older, newer = requests["older"], requests["newer"]
    requests["older"] = requests["newer"] = ""
    full = len(newer) - len(newer) % PAGE
    pages: dict[str, bytes] = {}
    plain = json.dumps(fields, separators=(",", ":")).encode()
    head = Head(
        zlib.compress(plain, 1),
        _put(pages, older),
        _put(pages, newer[:full]),
        newer[full:],
        standing,
    )
    return head, pages


def _put(pages: dict[str, bytes], hashes: str) -> list[str]:
    names = []
    for start in range(0, len(hashes), PAGE):
        page = hashes[start : start + PAGE].encode()
        name = hashlib.sha256(page).hexdigest()[:32]
        pages[name] = page
        names.append(name)
    return names


def join(head: Head, pages: Mapping[str, bytes], source: str) -> MonitorState:
    """Put a state together again; `pages` holds those that the head names.

    Raises
    ------
    InputError
        Naming `source`, if a part is missing or altered.

    """
    try:
        fields = json.loads(zlib.decompress(head.state))
        older = b"".join(pages[name] for name in head.older).decode()
        newer = b"".join(pages[name] for name in head.newer).decode() + head.tail
        fields["requests"] |= {"older": older, "newer": newer}
    except (zlib.error, ValueError, KeyError, TypeError) as problem:
        raise InputError(
            f"{source}: a part of the state is missing or damaged ({problem}). Restore the store "
            "from a backup, or begin a new state: POST /v1/alarm/re-arm"
        ) from None
    return load_state(json.dumps(fields).encode(), source)


def encode(head: Head) -> bytes:
    """Write a head."""
    return msgspec.msgpack.encode(head)


def decode(data: bytes, source: str) -> Head:
    """Read a head.

    Raises
    ------
    InputError
        If it is none.

    """
    try:
        try:
            return msgspec.msgpack.decode(data, type=Head)
        except msgspec.ValidationError:
            found = msgspec.msgpack.decode(data, type=_Essential)
            return Head(found.state, found.older, found.newer, found.tail, None)
    except msgspec.MsgspecError as problem:
        raise InputError(
            f"{source}: not the state of a monitor ({problem}). Begin a new one: POST "
            "/v1/alarm/re-arm"
        ) from None
