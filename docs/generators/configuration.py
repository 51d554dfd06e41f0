"""The sidecar's settings: key of the file, option, variable, default, meaning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from docs.generators.cli import commands
from docs.generators.docstrings import summary
from docs.generators.fields import is_list, kind, meaning, model_in
from docs.generators.markdown import code, fence, linked, plain, table, value
from stopper.service.settings import ServeSettings

# Options whose name is not that of their setting.
RENAMED = {
    "artifacts": "--artifact",
    "upstreams": "--upstream",
    "context.enabled": "--context",
    "context.artifact": "--context-artifact",
}
HEAD = ("key", "", "default", "meaning", "option or variable")


def blocks() -> Iterator[str]:
    """Give the page's blocks."""
    yield "# Settings of the sidecar"
    yield (
        "What `stopper serve` reads. An option beats its variable, which beats the file that "
        "`--config` names (TOML). An unknown name and a wrong value are refused at start, by name; "
        "`stopper serve --check` says what would be served. How it all works: "
        "[the sidecar](../sidecar.md)."
    )
    yield fence("toml", _example())
    yield "## General"
    groups = {}
    plain_fields = []
    for name, field in ServeSettings.model_fields.items():
        inner = model_in(field.annotation)
        if inner is not None:
            groups[name] = (inner, field)
        if inner is None or is_list(field.annotation):
            plain_fields.append(name)
    yield table(HEAD, (_row(ServeSettings, name) for name in plain_fields))
    for name, (model, field) in groups.items():
        several = is_list(field.annotation)
        heading = f"[[{name}]]" if several else f"[{name}]"
        yield f"## {code(heading)}"
        yield linked(plain(summary(model.__doc__)))
        prefix = "" if several else f"{name}."
        yield table(HEAD, (_row(model, inner, prefix, several) for inner in model.model_fields))


def options() -> set[str]:
    """Return the options of `stopper serve`."""
    serve = next(it for it in commands() if it.words == ("serve",))
    return {option for parameter in serve.built.params for option in parameter.opts}


def _row(
    model: type[BaseModel], name: str, prefix: str = "", several: bool = False
) -> tuple[str, ...]:
    field = model.model_fields[name]
    key = f"{prefix}{name}"
    option = RENAMED.get(key, f"--{name.replace('_', '-')}" if not prefix else "")
    variable = f"STOPPER_{key.upper().replace('.', '__')}"
    if several:  # an entry of a list: the file alone has its keys
        option = variable = ""
    default = "**required**" if field.default is PydanticUndefined else _default(field.default)
    return (
        code(name),
        plain(kind(field)),
        default,
        linked(plain(meaning(model, name))),
        " ".join(filter(None, (code(option if option in options() else ""), code(variable)))),
    )


def _default(given: Any) -> str:
    return "" if given in ((), None) or isinstance(given, BaseModel) else value(given)


def _example() -> str:
    return """
port = 8080

[[artifacts]]
model = "tiny"
folder = "examples/tiny_reasoner/artifact"

[limits]
drain_s = 30        # --config FILE; or the variable STOPPER_LIMITS__DRAIN_S
""".strip()
