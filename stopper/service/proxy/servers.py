"""The vLLM servers behind the front: what each one serves, how busy it is, whether it fails."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence

from purgatory.domain.model import Context, OpenedState

from stopper.errors import InputError
from stopper.service.settings import ProxySettings, Upstream

logger = logging.getLogger(__name__)

WITHOUT_STOPPER_S = 30.0
"""For so long a server that has no stopper is not asked for decisions again."""


class EngineServer:
    """One server.

    Its circuit breaker opens after several failures in a row. Then it gets no request until
    `breaker_reset_s` have passed; the outcome of the next ones closes it, or opens it again.
    A request that the client leaves counts neither way.

    Parameters
    ----------
    upstream
        Its address, and the file with its key.
    settings
        Of the breaker.

    Attributes
    ----------
    running
        Requests that are under way on it through this process.
    models
        What it serves and under which path it holds them; None until it has told.
    versions
        By model, the artifact that its last decision named.
    reachable
        Whether it answered when it was last asked for its models.
    on_failure
        Called at each failure; it must not raise.

    Raises
    ------
    InputError
        If the key's file cannot be read.

    """

    def __init__(self, upstream: Upstream, settings: ProxySettings) -> None:
        self.url = upstream.url.rstrip("/")
        self.running = 0
        self.models: dict[str, str] | None = None
        self.versions: dict[str, str] = {}
        self.reachable = False
        self.on_failure: Callable[[], None] = lambda: None
        self._key = _key(upstream)
        self._breaker = Context(self.url, settings.breaker_failures, settings.breaker_reset_s)
        self._without_stopper_until = 0.0

    def headers(self, authorization: str | None) -> dict[str, str]:
        """Return what it is sent as Authorization.

        Parameters
        ----------
        authorization
            The client's, where it may be passed on: the server's own key comes first.

        """
        given = f"Bearer {self._key}" if self._key is not None else authorization
        return {} if given is None else {"authorization": given}

    @property
    def state(self) -> str:
        """Of the breaker: "closed", "opened" or "half-opened"."""
        return self._breaker.state

    def admits(self) -> bool:
        """Tell whether the breaker lets a request through."""
        try:
            self._breaker.handle_new_request()
        except OpenedState:
            return False
        return True

    def succeeded(self) -> None:
        """Note that it has answered."""
        self._breaker.handle_end_request()
        self._log()

    def failed(self, error: BaseException) -> None:
        """Note that it was not reached, was silent, broke off, or said 502, 503 or 504."""
        self._breaker.handle_exception(error)
        self.on_failure()
        self._log()

    def _log(self) -> None:
        before = self._breaker.messages[:]
        self._breaker.messages.clear()  # nobody else listens
        for message in before:
            state = getattr(message, "state", None)
            if state is not None:
                level = logging.WARNING if state == "opened" else logging.INFO
                logger.log(level, "engine %s: circuit breaker %s", self.url, state)

    @property
    def has_stopper(self) -> bool:
        """False for half a minute after it has said that it has none."""
        return time.monotonic() >= self._without_stopper_until

    def lacks_stopper(self) -> None:
        """Note that it has said so."""
        self._without_stopper_until = time.monotonic() + WITHOUT_STOPPER_S


def candidates(servers: Sequence[EngineServer], model: str) -> list[EngineServer]:
    """Return the servers that serve a model, or may, the least busy first.

    Where nobody is known to serve it everybody is asked: the engine's own answer says it best.
    """
    knowing = [server for server in servers if server.models is not None and model in server.models]
    silent = [server for server in servers if server.models is None]
    # `sorted` keeps the order of equals.
    return sorted(knowing or silent or servers, key=lambda server: server.running)


def choose(
    servers: Sequence[EngineServer], model: str, tried: Collection[EngineServer]
) -> EngineServer | None:
    """Return the server for a request: the least busy one, if possible one not tried yet.

    None where the breaker of every candidate is open.
    """
    found = candidates(servers, model)
    fresh = [server for server in found if server not in tried]
    for server in [*fresh, *(server for server in found if server in tried)]:
        if server.admits():
            return server
    return None


def _key(upstream: Upstream) -> str | None:
    if upstream.api_key_file is None:
        return None
    try:
        key = upstream.api_key_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{upstream.api_key_file}: {getattr(error, 'strerror', None) or error}; "
            f"it must hold the API key of {upstream.url}"
        ) from None
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise InputError(f"{upstream.api_key_file}: must hold one API key, and nothing else")
    return key
