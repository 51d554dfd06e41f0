"""The front's own errors: problem documents that OpenAI's clients can read as well."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from stopper.service.problems import MEDIA_TYPE, ProblemError


def respond(error: ProblemError) -> Response:
    """Answer with the problem, and with it again as OpenAI writes errors.

    The member `error` is an extension as RFC 9457, section 3.2, allows it: OpenAI's client shows
    its message.
    """
    found = error.problem
    document = msgspec.to_builtins(found) | {
        "error": {
            "message": found.detail or found.title,
            "type": error.name,
            "param": None,
            "code": found.status,
        }
    }
    return Response(msgspec.json.encode(document), found.status, error.headers, MEDIA_TYPE)
