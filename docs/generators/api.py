"""The public Python names: signature and first paragraph, read from the source and not imported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import griffe

from docs.generators.docstrings import summary, text_of
from docs.generators.markdown import code, fence, linked, plain, table

ROOT = Path(__file__).resolve().parents[2]

PARTS: dict[str, tuple[str, ...]] = {
    "The sidecar's client, and an engine for tests": (
        "stopper.client", "stopper.wire", "stopper.scripted",
    ),
    "Deciding": (
        "stopper.artifact", "stopper.policy", "stopper.cues", "stopper.halting",
        "stopper.schedule", "stopper.errors",
    ),
    "Calibrating": (
        "calibration.risk", "calibration.traces", "calibration.scores", "calibration.comparers",
        "calibration.rules", "calibration.monitor",
    ),
    "Probes": ("probes.spec", "probes.network", "probes.scorers"),
    "Documents": (
        "stopper.context", "stopper.context.filters", "stopper.relevance",
        "probes.causal_loading", "adapters.openai", "adapters.langchain", "adapters.llama_index",
    ),
    "Transformers": ("adapters.transformers",),
}  # fmt: skip
PACKAGES = ("probes", "calibration", "stopper", "adapters")
LONGEST = 88
"""Characters of a signature on one line."""


def blocks() -> Iterator[str]:
    """Give the page's blocks."""
    yield "# Python"
    yield (
        "Names to import. Other modules may change without notice. Every name has a docstring that "
        "says more: shapes, units, errors."
    )
    loader = griffe.GriffeLoader(search_paths=[ROOT])
    for package in PACKAGES:
        loader.load(package)
    for title, modules in PARTS.items():
        yield f"## {title}"
        for name in modules:
            yield from _module(name, loader.modules_collection[name])


def exports(module: griffe.Module) -> Iterator[tuple[str, griffe.Object]]:
    """Give what a module exports: its `__all__`, else the public names that it defines."""
    listed = [str(name) for name in module.exports or ()]
    own = [name for name, one in module.members.items() if one.is_public and not one.is_alias]
    for name in listed or own:
        found = module.members[name]
        target = found.final_target if isinstance(found, griffe.Alias) else found
        if isinstance(target, griffe.Class | griffe.Function | griffe.Attribute):
            yield name, target


def _module(name: str, module: griffe.Module) -> Iterator[str]:
    yield f"### {name}"
    text = text_of(_doc(module)).split("\n>>>")[0]
    if text:
        yield linked(plain(text))
    values = []
    for exported, target in exports(module):
        if isinstance(target, griffe.Attribute):
            values.append((code(exported), linked(plain(summary(_doc(target))))))
            continue
        yield f"#### {exported}"
        yield fence("python", _signature(exported, target))
        said = summary(_doc(target))
        if said:
            yield linked(plain(said))
        if isinstance(target, griffe.Class):
            yield from _inside(target)
    if any(said for _, said in values):
        yield table(("value", ""), values)
    elif values:
        yield f"Values: {', '.join(name for name, _ in values)}."


def _inside(owner: griffe.Class) -> Iterator[str]:
    methods = [
        one
        for one in owner.members.values()
        if isinstance(one, griffe.Function) and one.is_public and not one.name.startswith("__")
    ]
    if methods:
        said = ((_line(one.name, one), linked(plain(summary(_doc(one))))) for one in methods)
        yield "\n".join(
            f"- {code(line)}: {text}" if text else f"- {code(line)}" for line, text in said
        )


def _signature(name: str, target: griffe.Object) -> str:
    if isinstance(target, griffe.Function):
        return _wrapped(f"{'async ' if 'async' in target.labels else ''}def ", name, target)
    assert isinstance(target, griffe.Class)
    made = target.members.get("__init__")
    if isinstance(made, griffe.Function):
        return _wrapped("class ", name, made)
    bases = ", ".join(str(base) for base in target.bases)
    fields = [
        f"    {one.name}: {one.annotation}" + (f" = {one.value}" if one.value is not None else "")
        for one in target.members.values()
        if isinstance(one, griffe.Attribute) and one.is_public and one.annotation is not None
    ]
    head = f"class {name}({bases})" if bases else f"class {name}"
    return "\n".join((f"{head}:", *fields)) if fields else head


def _wrapped(word: str, name: str, function: griffe.Function) -> str:
    line = word + _line(name, function)
    if len(line) <= LONGEST:
        return line
    parameters = ",\n    ".join(_parameters(function))
    return f"{word}{name}(\n    {parameters},\n){_returns(function)}"


def _line(name: str, function: griffe.Function) -> str:
    return f"{name}({', '.join(_parameters(function))}){_returns(function)}"


def _returns(function: griffe.Function) -> str:
    given = function.returns
    return "" if given is None or function.name == "__init__" else f" -> {given}"


def _parameters(function: griffe.Function) -> Iterator[str]:
    starred = False
    for one in function.parameters:
        if one.name in ("self", "cls"):
            continue
        if one.kind is griffe.ParameterKind.keyword_only and not starred:
            starred = True
            yield "*"
        mark = {
            griffe.ParameterKind.var_positional: "*",
            griffe.ParameterKind.var_keyword: "**",
        }.get(one.kind, "")
        starred = starred or mark == "*"
        said = f"{mark}{one.name}" + ("" if one.annotation is None else f": {one.annotation}")
        yield said if one.default is None or mark else f"{said} = {one.default}"


def _doc(target: griffe.Object) -> str:
    return "" if target.docstring is None else target.docstring.value
