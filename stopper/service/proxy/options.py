"""What a client's request asks of stopper, and the body that goes to the engine.

The body is changed only where it must be, and then field by field: every other value keeps its
bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from stopper.errors import InputError
from stopper.request_options import RequestOptions
from stopper.service.problems import refuse
from stopper.service.proxy.carried import OWN

Silence = Literal["kill_switch", "alarm"]

_fields_of = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

ECHOES = frozenset({"echo", "kv_transfer_params", "use_beam_search", "prompt_embeds", "tools"})
"""Fields with which an audit is not tried: the output would change, or is not one plain text."""


class _Stopper(msgspec.Struct, forbid_unknown_fields=True):
    """The request's field `stopper`."""

    alpha: Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)] | None = None
    enabled: bool | None = None
    documents: Any = None
    query: Any = None
    context: Any = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request as it goes to the engine.

    Attributes
    ----------
    model
        As the client names it; empty where it names none.
    body
        The client's bytes, changed only where needed.
    off
        Why it is not to be stopped, where that is known beforehand: "kill_switch", "alarm" or
        "asked_off".
    audit
        It goes as an audit, whoever asked for that.
    audited
        The front made an audit of it.
    not_audited
        It was chosen for an audit, but cannot be one.
    strip_ids
        The client did not ask for the token ids that the audit brings.

    """

    model: str
    body: bytes
    off: str | None
    audit: bool
    audited: bool
    not_audited: bool
    strip_ids: bool


def prepare(
    body: bytes,
    *,
    silence: Callable[[str], Silence | None],
    chosen: bool,
    auditable: bool,
    alpha: float | None,
) -> Prepared:
    """Read a request's body and write the engine's.

    Parameters
    ----------
    body
        JSON.
    silence
        Says for a model why nothing may be stopped.
    chosen
        Whether the request is to be audited.
    auditable
        Whether its route tells token ids.
    alpha
        Of requests that name none; None leaves it to the engine.

    Raises
    ------
    ProblemError
        400 where the body is no JSON object, its options are wrong, or contradict each other.

    """
    fields = _read(body)
    model = _value(fields, "model", "")
    if not isinstance(model, str):
        refuse("bad-request", "model: must be a string")
    client = _xargs(fields)
    xargs = _merged(client, _stopper(fields))
    try:
        options = RequestOptions.from_extra_args(xargs)
    except InputError as error:
        refuse("bad-request", str(error))
    silenced = silence(model)
    off: str | None = silenced or ("asked_off" if options.mode == "off" else None)
    audited = not_audited = strip = False
    if silenced is not None:
        xargs = {**xargs, "stopper": 0}
    elif options.mode in ("stop", "audit") and options.alpha is None and alpha is not None:
        xargs = {**xargs, "stopper_alpha": alpha}
    changes: dict[str, bytes] = {}
    if chosen and off is None and options.mode == "stop":
        audited = auditable and _can_be_audited(fields)
        not_audited = not audited
        if audited:
            xargs = {**xargs, "stopper": "audit"}
            strip = _value(fields, "return_token_ids", None) is not True
            if strip:
                changes["return_token_ids"] = b"true"
    if xargs != client:
        changes["vllm_xargs"] = msgspec.json.encode(xargs)
    if changes or "stopper" in fields:
        body = _written(fields, changes)
    audit = audited or (off is None and options.mode == "audit")
    return Prepared(model, body, off, audit, audited, not_audited, strip)


def _read(body: bytes) -> dict[str, msgspec.Raw]:
    try:
        return _fields_of(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        refuse("bad-request", f"The body must be a JSON object: {error}.")


def _value(fields: Mapping[str, msgspec.Raw], name: str, default: Any) -> Any:
    raw = fields.get(name)
    if raw is None:
        return default
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        refuse("bad-request", f"{name}: {error}")


def _xargs(fields: Mapping[str, msgspec.Raw]) -> dict[str, Any]:
    found = _value(fields, "vllm_xargs", None)
    if found is None:
        return {}
    if not isinstance(found, dict):
        refuse("bad-request", "vllm_xargs: must be an object")
    return found


def _stopper(fields: Mapping[str, msgspec.Raw]) -> _Stopper:
    raw = fields.get("stopper")
    if raw is None or bytes(raw) == b"null":
        return _Stopper()
    try:
        found = msgspec.json.decode(raw, type=_Stopper)
    except msgspec.DecodeError as error:
        refuse("bad-request", f'stopper: {error}; give {{"alpha": 0.05, "enabled": true}}')
    for name in OWN:  # still there: nobody has compressed them
        if getattr(found, name) is not None:
            refuse(
                "bad-request",
                f"stopper.{name}: documents are compressed for /v1/chat/completions, by a sidecar "
                "that was started with --context",
            )
    return found


def _merged(client: dict[str, Any], asked: _Stopper) -> dict[str, Any]:
    """Put the field `stopper` into vLLM's own arguments, where it does not contradict them."""
    found = dict(client)
    if asked.enabled is not None:
        mode = found.setdefault("stopper", int(asked.enabled))
        if asked.enabled != (mode not in (0, "0", False)):
            refuse(
                "bad-request",
                f"stopper.enabled: {str(asked.enabled).lower()} contradicts vllm_xargs.stopper; "
                "give one of them",
            )
    if asked.alpha is not None:
        alpha = found.setdefault("stopper_alpha", asked.alpha)
        if alpha != asked.alpha:
            refuse(
                "bad-request",
                f"stopper.alpha: {asked.alpha} contradicts vllm_xargs.stopper_alpha; "
                "give one of them",
            )
    return found


def _can_be_audited(fields: Mapping[str, msgspec.Raw]) -> bool:
    if any(_value(fields, name, None) not in (None, False, []) for name in ECHOES & fields.keys()):
        return False
    if _value(fields, "include_reasoning", None) is False:
        return False  # vLLM hides the token ids together with the reasoning
    prompt = _value(fields, "prompt", "")
    one = isinstance(prompt, str) or (
        isinstance(prompt, list) and all(isinstance(part, int) for part in prompt)
    )
    return one and _value(fields, "n", None) in (None, 1)


def _written(fields: Mapping[str, msgspec.Raw], changes: Mapping[str, bytes]) -> bytes:
    parts = {name: changes.get(name, bytes(raw)) for name, raw in fields.items()}
    parts.update(changes)
    parts.pop("stopper", None)
    return (
        b"{"
        + b",".join(msgspec.json.encode(name) + b":" + raw for name, raw in parts.items())
        + b"}"
    )
