"""A small report, and a reader of pages that insists on balanced tags."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from typing import Any

import numpy as np

from calibration.calibrate import calibrate
from calibration.page.report import Fact, Origin, Report, make_report
from calibration.report import Evaluator, Rule
from calibration.simulate import SimulatorSettings, simulate
from calibration.table import CueTable

FOUND = calibrate(simulate(SimulatorSettings(200, seed=1)), "disagree", 0.1)
RULE = Rule("ltt", "disagree", 0.9, FOUND.worst_scores, FOUND.good_scores, FOUND.bad_scores)
TEST = simulate(SimulatorSettings(120, seed=2))
ORIGIN = Origin(
    title="demo",
    source="test.jsonl",
    model="org/tiny",
    made="2025-01-02 03:04 UTC",
    n_units=200,
    promise="at most a tenth",
    label=None,
    score_meaning="These scores are the probe's log-odds as fitted.",
    facts=(
        ("Artifact", (Fact("created", "2025-01-01 00:00 UTC"), Fact("hash", "abc", code=True))),
    ),
)
PIXEL = b"\x89PNG\r\n\x1a\n"


def changed(table: CueTable, **columns: Any) -> CueTable:
    """Give the table with other columns; None of a label column stands for all unknown."""
    for name in ("full_correct", "correct", "agrees"):
        if name in columns and columns[name] is None:
            columns[name] = np.full_like(getattr(table, name), -1)
    return replace(table, **columns)


def report(table: CueTable = TEST, rule: Rule = RULE, **changes: Any) -> Report:
    origin = replace(ORIGIN, **changes)
    return make_report(Evaluator(table, rule), [0.1], origin)


VOID = {"meta", "img", "source", "br", "link", "input", "hr", "rect", "circle", "line"}


@dataclass
class Page(HTMLParser):
    """What stands on a page; asserts that every tag is closed in order."""

    text: str = ""
    ids: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    alts: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    attributes: list[tuple[str, str | None]] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    @classmethod
    def read(cls, html: str) -> Page:
        page = cls()
        page.feed(html)
        page.close()
        assert page._open == []
        return page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        found = dict(attrs)
        self.ids += [found["id"] or ""] if "id" in found else []
        self.links += [found["href"] or ""] if "href" in found else []
        self.sources += [value or "" for name, value in attrs if name in ("src", "srcset")]
        if tag == "img":
            self.alts.append(found.get("alt") or "")
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open and self._open[-1] == tag, f"</{tag}> closes {self._open[-3:]}"
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] != "style":
            self.text += data

    @property
    def plain(self) -> str:
        """The text with single spaces."""
        return " ".join(self.text.split())


def blank(found: Report) -> dict[tuple[str, str], bytes]:
    """Stand-ins for drawn figures, so that tests of the page need not draw."""
    return {(p.name, theme): PIXEL for p in found.pictures for theme in ("light", "dark")}
