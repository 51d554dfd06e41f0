"""Looks at everything a configuration names before it is served."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from dataclasses import dataclass, field

import httpx

from calibration.monitor.evidence import evidence
from stopper.context.filters import make_filter
from stopper.errors import InputError, StopperError
from stopper.service.audits.judging import Judge
from stopper.service.catalog import Served
from stopper.service.key_file import read_keys
from stopper.service.runtime import make_store
from stopper.service.settings import ServeSettings
from stopper.service.store import StoreUnavailable

_UPSTREAM_S = 3.0


@dataclass(slots=True)
class Examination:
    """What would be served, and what is wrong.

    Attributes
    ----------
    served
        One line each.
    faults
        The sidecar does not start with them.
    warnings
        It does, and does without until they are mended.

    """

    served: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def require_closed(settings: ServeSettings) -> None:
    """Refuse to serve other machines without keys.

    Raises
    ------
    InputError
        With the remedy.

    """
    if not is_loopback(settings.host) and settings.keys_file is None and not settings.allow_open:
        raise InputError(
            f"host {settings.host}: other machines could stop requests without a key. Make one by "
            "`stopper keys new NAME --scope decide --file keys.toml` and give --keys-file, or "
            "insist with --allow-open"
        )


def examine(settings: ServeSettings) -> Examination:
    """Load artifacts and keys, ask Redis and the engines."""
    found = Examination()
    for look in (_artifacts, _audits, _access, _otel, _context):
        look(settings, found)
    asyncio.run(_others(settings, found))
    return found


def _artifacts(settings: ServeSettings, found: Examination) -> None:
    models: dict[str, Served] = {}
    for source in settings.artifacts:
        try:
            served = Served.read(source, settings.alpha)
        except StopperError as error:
            found.faults.append(str(error))
            continue
        if served.model in models:
            found.faults.append(
                f"{source.folder} and {models[served.model].folder} both serve model "
                f"{served.model!r}; give one of them another name by MODEL=DIR"
            )
            continue
        models[served.model] = served
        expires = served.artifact.manifest.expires
        until = "" if expires is None else f", until {expires:%Y-%m-%d}"
        found.served.append(
            f"model {served.model}: artifact {served.version} from {source.folder} "
            f"(loss {served.record.loss}, alpha {served.alpha:g}{until})"
        )
        if settings.upstreams and settings.audits.share > 0:
            try:
                Judge.of(served)
            except StopperError as error:
                found.warnings.append(f"no live audits: {error}")


def _audits(settings: ServeSettings, found: Examination) -> None:
    try:
        evidence(settings.audits.method, settings.audits.delta)
    except StopperError as error:
        found.faults.append(f"audits: {error}")


def _access(settings: ServeSettings, found: Examination) -> None:
    try:
        require_closed(settings)
    except InputError as error:
        found.faults.append(str(error))
    if settings.keys_file is None:
        found.served.append("without API keys: whoever reaches it may do everything")
        return
    try:
        keys = read_keys(settings.keys_file)
    except InputError as error:
        found.faults.append(str(error))
        return
    if not keys:
        found.warnings.append(f"{settings.keys_file}: has no keys, so that nobody is let in")
    if settings.keys_file.stat().st_mode & 0o022:
        found.warnings.append(
            f"{settings.keys_file}: others may write to it; chmod 600 {settings.keys_file}"
        )
    found.served.append(f"with {len(keys)} API keys")


def _otel(settings: ServeSettings, found: Examination) -> None:
    if settings.otel:
        from stopper.service.tracing import make_provider

        try:
            make_provider().shutdown()
        except StopperError as error:
            found.faults.append(str(error))


def _context(settings: ServeSettings, found: Examination) -> None:
    context = settings.context
    if not context.enabled:
        return
    try:
        made = make_filter(
            context.scorer, context.artifact, alpha=context.alpha, threshold=context.threshold
        )
    except StopperError as error:
        found.faults.append(f"context: {error}")
    else:
        which = f"artifact {made.artifact}" if made.artifact else "the overlap scorer"
        found.served.append(f"context compression by {which}, threshold {made.threshold():g}")


async def _others(settings: ServeSettings, found: Examination) -> None:
    if settings.redis is None:
        found.served.append("state in this process: one replica only")
    else:
        await _redis(settings, found)
    if not settings.upstreams:
        found.served.append("no upstream: the OpenAI-compatible front is off")
    async with httpx.AsyncClient(timeout=_UPSTREAM_S) as client:
        for upstream in settings.upstreams:
            await _upstream(client, upstream.url, found)
    if settings.port:
        with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((settings.host, settings.port))
            except OSError as error:
                found.warnings.append(f"{settings.host}:{settings.port}: {error.strerror}")


async def _redis(settings: ServeSettings, found: Examination) -> None:
    try:
        store = make_store(settings)
    except StopperError as error:
        found.faults.append(str(error))
        return
    try:
        await store.ping()
        found.served.append("state in Redis")
    except StoreUnavailable as error:
        found.warnings.append(f"redis: {error}; until it is there nothing is stopped")
    finally:
        await store.close()


async def _upstream(client: httpx.AsyncClient, url: str, found: Examination) -> None:
    shown = httpx.URL(url).copy_with(userinfo=b"")
    try:
        answer = await client.get(f"{url}/health")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        found.warnings.append(f"upstream {shown}: not reached ({type(error).__name__})")
        return
    if answer.status_code >= 500:
        found.warnings.append(f"upstream {shown}: /health answers {answer.status_code}")
    else:
        found.served.append(f"OpenAI-compatible front for {shown}")
