"""Connections to the engines."""

from __future__ import annotations

import httpx

from stopper.service.settings import ProxySettings

KEEP_ALIVE_S = 2.0
"""vLLM's server closes an idle connection after 5 s: one that is about to be closed is not used."""


def connect(settings: ProxySettings) -> httpx.AsyncClient:
    """Return a client whose reads have no timeout: `SilenceClock` watches those."""
    return httpx.AsyncClient(
        timeout=httpx.Timeout(None, connect=settings.connect_s),
        limits=httpx.Limits(
            max_connections=None, max_keepalive_connections=None, keepalive_expiry=KEEP_ALIVE_S
        ),
        follow_redirects=False,
        trust_env=False,
    )
