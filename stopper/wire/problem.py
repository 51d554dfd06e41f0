"""Problem details for HTTP APIs (RFC 9457): every error the sidecar answers with."""

from __future__ import annotations

import msgspec


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """A problem document, `application/problem+json`.

    Attributes
    ----------
    type
        `urn:stopper:problem:NAME`; NAME is fixed and fit for a program to branch on.
    title
        Says what is wrong, the same for every occurrence.
    status
        The HTTP status.
    detail
        Says what is wrong here, and the remedy. Never holds prompts, outputs or keys.
    instance
        The request id, where there is one.

    """

    type: str
    title: str
    status: int
    detail: str = ""
    instance: str = ""
