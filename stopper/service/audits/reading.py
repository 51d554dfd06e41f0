"""Bodies of `POST /v1/audits` become audits; what is wrong is named by its field."""

from __future__ import annotations

from calibration.monitor import Audit
from probes.validation import parse, read_json
from stopper.errors import InputError
from stopper.service.audits.records import MOST_AUDITS
from stopper.service.problems import refuse

_FORM = 'Send one audit, or {"audits": [...]} (docs/monitoring.md)'
_LONGEST = 2000


def read(content_type: str | None, body: bytes) -> list[Audit]:
    """Read a body.

    Raises
    ------
    ProblemError
        415 for another content type, 400 for what is no JSON, 413 for too many audits, 422 naming
        every wrong field. Nothing of a wrong body is counted.

    """
    named = (content_type or "").partition(";")[0].strip().lower()
    if named != "application/json":
        refuse("unsupported-media-type", f"Send application/json; got {named[:100] or 'none'}.")
    try:
        found = read_json(body)
    except ValueError as error:
        refuse("bad-request", f"Not JSON: {error}. {_FORM}.")
    if not isinstance(found, dict):
        refuse("unprocessable", f"A {type(found).__name__} instead of an object. {_FORM}.")
    if "audits" not in found:
        return [_audit("audit", found)]
    many = found["audits"]
    if len(found) > 1 or not isinstance(many, list) or not many:
        refuse("unprocessable", f"audits: must be a list of audits, and alone. {_FORM}.")
    if len(many) > MOST_AUDITS:
        refuse("too-large", f"audits: {len(many)}; send at most {MOST_AUDITS} at a time.")
    return [_audit(f"audits[{place}]", one) for place, one in enumerate(many)]


def _audit(where: str, fields: object) -> Audit:
    try:
        return parse(Audit, fields, where, f"{_FORM}.")
    except InputError as error:
        refuse("unprocessable", str(error)[:_LONGEST])
