"""Which headers go through the front, and which end there (RFC 9110, section 7.6.1)."""

from __future__ import annotations

from collections.abc import Iterable

Headers = list[tuple[bytes, bytes]]

HOP_BY_HOP = frozenset({
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
    b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
})  # fmt: skip

_NOT_SENT = HOP_BY_HOP | {
    b"host", b"content-length", b"expect", b"authorization", b"x-request-id", b"accept-encoding",
}  # fmt: skip
_NOT_RETURNED = HOP_BY_HOP | {b"content-length", b"date", b"server"}


def to_engine(received: Iterable[tuple[bytes, bytes]], request_id: str) -> Headers:
    """Return a client's headers for the engine, without Authorization.

    `traceparent` and `tracestate` are among those that pass. The engine must not compress: the
    front reads along.

    Parameters
    ----------
    received
        Names in lower case, as ASGI gives them.
    request_id
        Sent as X-Request-Id, from which vLLM makes the response's id.

    """
    kept = _kept(received, _NOT_SENT)
    kept.append((b"x-request-id", request_id.encode("latin-1", "replace")))
    kept.append((b"accept-encoding", b"identity"))
    return kept


def to_client(
    received: Iterable[tuple[bytes, bytes]], request_id: str, length: int | None
) -> Headers:
    """Return the engine's headers for the client.

    Parameters
    ----------
    received
        Any case.
    request_id
        Told where the engine does not.
    length
        Of the body, where it is known.

    """
    kept = _kept(received, _NOT_RETURNED)
    if not any(name == b"x-request-id" for name, _ in kept):
        kept.append((b"x-request-id", request_id.encode("latin-1", "replace")))
    if length is not None:
        kept.append((b"content-length", b"%d" % length))
    return kept


def value_of(received: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    """Return the first value of a header."""
    for key, value in received:
        if key.lower() == name:
            return value.decode("latin-1")
    return None


def _kept(received: Iterable[tuple[bytes, bytes]], dropped: frozenset[bytes]) -> Headers:
    pairs = [(name.lower(), value) for name, value in received]
    named = {
        token.strip().lower()
        for name, value in pairs
        if name == b"connection"
        for token in value.split(b",")
    }
    return [(name, value) for name, value in pairs if name not in dropped and name not in named]
