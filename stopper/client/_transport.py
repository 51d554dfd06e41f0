"""httpx's exceptions become the client's own."""

from __future__ import annotations

import httpx

from stopper.client._errors import BadAnswerError, ClientError, NoAnswerError, TimedOutError


def failure(error: httpx.RequestError, base_url: httpx.URL) -> ClientError:
    """Return the exception for a request that came to nothing."""
    said = str(error) or type(error).__name__
    if isinstance(error, httpx.TimeoutException):
        return TimedOutError(f"{base_url}: the sidecar did not answer in time ({said})")
    if isinstance(error, httpx.TransportError):
        return NoAnswerError(f"{base_url}: no answer from the sidecar: {said}")
    return BadAnswerError(f"{base_url}: the answer cannot be read: {said}")  # a wrong encoding
