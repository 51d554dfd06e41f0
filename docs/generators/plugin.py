"""The vLLM plugin: settings, request options, records, routes and counters, from its code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from adapters.vllm import endpoint, stop_thinking
from adapters.vllm.host_tracker import ScoredCue
from adapters.vllm.journal import KEPT, Journal
from adapters.vllm.record import Admitted, record
from adapters.vllm.settings import CollectSettings, PluginSettings, RemoteSettings
from adapters.vllm.watch import Outcome
from docs.generators.docstrings import attributes, summary
from docs.generators.fields import kind, meaning, model_in
from docs.generators.markdown import code, fence, linked, plain, pretty, table, value
from stopper.halting import PRESETS, HaltingRule
from stopper.request_options import RequestOptions
from stopper.schedule import Schedule


def blocks() -> Iterator[str]:
    """Give the page's blocks."""
    yield "# Settings and records of the plugin"
    yield (
        "What the [vLLM plugin](../vllm.md) reads and tells, from its code. It does nothing until "
        "`--additional-config` has an object `stopper`; an unknown key or a wrong value is refused "
        "at start, by name."
    )
    yield fence("json", '{"stopper": {"artifact": "artifact", "alpha": 0.05}}')
    yield "## Settings"
    yield _settings(PluginSettings)
    yield "### remote"
    yield "Let a [sidecar](../vllm.md#remote-mode) decide; the engine finds the cues."
    yield _settings(RemoteSettings)
    yield "### collect"
    yield linked(plain(summary(CollectSettings.__doc__)))
    yield table(
        ("key", "", "default"),
        ((code(n), kind(f), _default(f.default)) for n, f in CollectSettings.model_fields.items()),
    )
    yield "### halting"
    yield (
        "A hand-picked rule for [diffusion models](../diffusion-engines.md), without a promise. "
        "`preset` names one of the papers' settings, whose values hold where a key is not given: "
        + ", ".join(map(code, PRESETS))
        + "."
    )
    yield table(("key", "default", ""), _halting())
    yield "## Options of a request"
    yield (
        "In the OpenAI API as `vllm_xargs`, offline as `SamplingParams.extra_args`. An unknown key "
        "that begins with `stopper` is answered with HTTP 400."
    )
    yield table(("key", "values", "default", ""), _request_options())
    yield "## Records"
    yield (
        "One for each finished request, in the `decisions` file (JSON Lines) and at the routes "
        f"below, which know the newest {KEPT:,}. What each field means: "
        "[decisions](../vllm.md#decisions). A request that was stopped:"
    )
    yield pretty(example_record())
    yield "## Routes"
    yield "On vLLM's own server, with `VLLM_PLUGINS=stopper`."
    yield table(("route", ""), _routes())
    outcomes = ", ".join(map(code, get_args(stop_thinking.Outcome)))
    yield f"`outcome` of a wish to stop the thinking: {outcomes}."
    yield "## Counters"
    names = ", ".join(map(code, Journal(None).counters()))
    yield (
        f"`GET /stopper/counters` has {names}, each with a number for every decision, reason or "
        "cause; in remote mode `remote` besides. The causes are listed in "
        "[decisions](../vllm.md#decisions) and [remote mode](../vllm.md#remote-mode)."
    )


def example_record() -> dict[str, Any]:
    """Return the record of a request that was stopped at its second cue."""
    seen = (
        ScoredCue(58, label=1, level=0.5, score=-1.25),
        ScoredCue(107, label=2, level=2.0, score=3.5),
    )
    outcome = Outcome("chatcmpl-17-0-1a2b3c4d", 2, 0, 107, 3.5, top_score=3.5, seen=seen)
    admitted = Admitted("stop", prompt_tokens=12, alpha=0.05, threshold=1.75)
    return record(outcome, admitted, ("hmm", "wait"), "0123456789abcdef", running=False)


def _halting() -> Iterator[tuple[str, str, str]]:
    told = attributes(Schedule.__doc__) | attributes(HaltingRule.__doc__)
    for name, default in HaltingRule().to_json().items():
        yield code(name), value(default), linked(plain(told[name]))


def _request_options() -> Iterator[tuple[str, str, str, str]]:
    told = attributes(RequestOptions.__doc__)
    options = RequestOptions()
    modes = ", ".join(
        f"{value(given)} ({RequestOptions.from_extra_args({'stopper': given}).mode})"
        for given in (1, 0, "audit", "fixed")
    )
    yield code("stopper"), modes, "`1`", told["mode"]
    yield code("stopper_alpha"), plain("number > 0, < 1"), value(options.alpha), told["alpha"]


def _routes() -> Iterator[tuple[str, str]]:
    for route in endpoint._router().routes:
        assert isinstance(route, APIRoute)
        path = route.path.replace(":path}", "}")
        for method in sorted(route.methods):
            yield code(f"{method} {path}"), summary(route.endpoint.__doc__)


def _settings(model: type[BaseModel]) -> str:
    return table(
        ("key", "", "default", "meaning"),
        (
            (
                code(name),
                "object" if model_in(field.annotation) else plain(kind(field)),
                _default(field.default),
                linked(plain(meaning(model, name))),
            )
            for name, field in model.model_fields.items()
        ),
    )


def _default(given: Any) -> str:
    return "**required**" if given is PydanticUndefined else value(given)
