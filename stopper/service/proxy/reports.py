"""Asks an engine what it decided on a request, and makes the client's report of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec

from stopper.service.catalog import Catalog
from stopper.service.proxy import connections
from stopper.service.proxy.connections import FAILURES, Connections
from stopper.service.proxy.savings import tokens_saved_estimate
from stopper.service.proxy.servers import EngineServer
from stopper.wire import Outcome, Report

logger = logging.getLogger(__name__)

_OUTCOMES: dict[str, Outcome] = {
    "stopped": "stopped",
    "marked": "audited",
    "not_stopped": "not_stopped",
    "off": "off",
    "not_applied": "not_applied",
    "failed_open": "failed_open",
}
_NO_SUCH_ROUTE = {"detail": "Not Found"}


class _Record(msgspec.Struct):
    """What the front reads of an engine's decision (docs/vllm.md)."""

    decision: str
    reason: str | None = None
    position: int | None = None
    score: float | None = None
    threshold: float | None = None
    alpha: float | None = None
    artifact: str | None = None


_record = msgspec.json.Decoder(_Record).decode


@dataclass(frozen=True, slots=True)
class Told:
    """The report, and the engine's record where it told one."""

    report: Report
    record: Mapping[str, Any] | None = None


def unknown(reason: str) -> Told:
    """Report that the engine did not tell."""
    return Told(Report("unknown", reason))


def off(reason: str) -> Told:
    """Report that the request was sent with the stopper off."""
    return Told(Report("off", reason))


class Reporter:
    """Asks for decisions.

    Parameters
    ----------
    connections
        To the engines.
    catalog
        Artifacts, for the estimate.
    timeout_s
        Beyond it the report says "unknown".

    """

    def __init__(self, connections: Connections, catalog: Catalog, timeout_s: float) -> None:
        self._connections = connections
        self._catalog = catalog
        self._timeout = timeout_s

    async def ask(
        self,
        server: EngineServer,
        response_id: str | None,
        model: str,
        headers: Mapping[str, str],
        *,
        audited: bool,
    ) -> Told:
        """Return what was decided; never raises but for a cancellation.

        Parameters
        ----------
        audited
            The request was sent as an audit.

        """
        if not server.has_stopper:
            return Told(Report("not_applied", "engine_without_stopper"))
        if response_id is None:
            return unknown("no_response_id")
        url = f"{server.url}/stopper/decisions/{quote(response_id, safe='')}"
        try:
            answer = await self._connections.ask("GET", url, headers, self._timeout)
        except TimeoutError:
            return unknown("report_timeout")
        except FAILURES as error:
            logger.warning("engine %s: no report: %r", server.url, error)
            return unknown("report_failed")
        if answer.status == 409 or _is_missing(answer):
            server.lacks_stopper()
            return Told(Report("not_applied", "engine_without_stopper"))
        if answer.status == 404:
            return unknown("not_known_to_engine")
        try:
            if answer.status != 200:
                raise ValueError(f"status {answer.status}")
            found = _record(answer.body)
            record: Mapping[str, Any] = msgspec.json.decode(answer.body)
        except ValueError as error:  # msgspec's are
            logger.warning("engine %s: no report: %s", server.url, error)
            return unknown("report_failed")
        if found.artifact is not None:
            server.versions[model] = found.artifact
        return Told(self._report(found, audited), record)

    def _report(self, found: _Record, audited: bool) -> Report:
        outcome = _OUTCOMES.get(found.decision, "unknown")
        if audited and outcome == "not_stopped":
            outcome = "audited"
        return Report(
            outcome,
            found.reason,
            found.position,
            found.score,
            found.threshold,
            found.alpha,
            self._saved(found) if outcome == "stopped" else None,
            found.artifact,
        )

    def _saved(self, found: _Record) -> float | None:
        served = None if found.artifact is None else self._catalog.version(found.artifact)
        profile = None if served is None else served.artifact.manifest.profile
        if profile is None or found.position is None:
            return None
        return tokens_saved_estimate(profile.tokens, found.position)


def _is_missing(answer: connections.Told) -> bool:
    """Tell an engine without these routes from one that does not know the request."""
    if answer.status not in (404, 405):
        return False
    try:
        detail = msgspec.json.decode(answer.body)
    except ValueError:
        return True  # not ours
    ours = isinstance(detail, dict) and str(detail.get("detail", "")).startswith("no decision")
    return detail == _NO_SUCH_ROUTE or not ours
