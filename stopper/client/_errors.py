"""What can go wrong between client and sidecar.

ClientError
├── NoAnswerError            no connection, or it broke
│   └── TimedOutError        nothing came in time
├── BadAnswerError           what came is no sidecar's answer
└── RefusedError             a problem document (RFC 9457) came
    ├── BadRequestError      400, 405, 408, 413, 415, 422
    ├── UnauthorizedError    401: no API key, or an unknown one
    ├── ForbiddenError       403: the key lacks the scope
    ├── NotFoundError        404: no such model, artifact or request
    ├── ConflictError        409: contradicts what is known
    ├── TooManyRequestsError 429
    └── SidecarError         5xx
        └── UnavailableError 503: draining, its store is away, or it has no engine
"""

from __future__ import annotations

from stopper.errors import StopperError
from stopper.wire import Problem


class ClientError(StopperError):
    """Base class.

    Attributes
    ----------
    problem
        What the sidecar said; None where it said nothing.
    retry_after
        Seconds to wait before asking again, where it said so.

    """

    def __init__(
        self, message: str, problem: Problem | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.problem = problem
        self.retry_after = retry_after


class NoAnswerError(ClientError):
    """The sidecar cannot be reached, or the connection broke."""


class TimedOutError(NoAnswerError):
    """The sidecar was silent for longer than the timeout."""


class BadAnswerError(ClientError):
    """Something answered, but not as a sidecar does: look at the address."""


class RefusedError(ClientError):
    """The sidecar refused; `problem` says why."""


class BadRequestError(RefusedError):
    """The request is not what it should be."""


class UnauthorizedError(RefusedError):
    """No API key, or one that the sidecar does not know."""


class ForbiddenError(RefusedError):
    """The API key may not do that."""


class NotFoundError(RefusedError):
    """No such model, artifact or request."""


class ConflictError(RefusedError):
    """It contradicts what the sidecar knows."""


class TooManyRequestsError(RefusedError):
    """More requests than are allowed; see `retry_after`."""


class SidecarError(RefusedError):
    """The sidecar, or an engine behind it, failed."""


class UnavailableError(SidecarError):
    """Not now."""


_BY_STATUS: dict[int, type[RefusedError]] = {
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    429: TooManyRequestsError,
    503: UnavailableError,
}


def refusal(problem: Problem, retry_after: float | None) -> RefusedError:
    """Return the exception for a problem."""
    usual = SidecarError if problem.status >= 500 else BadRequestError
    kind = _BY_STATUS.get(problem.status, usual)
    text = f"{problem.status} {problem.title}"
    return kind(f"{text}: {problem.detail}" if problem.detail else text, problem, retry_after)
