"""The report: every figure and table of one evaluation, as one HTML page and PNG files."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from calibration.files import replacing
from calibration.page import words
from calibration.page.canvas import DARK, LIGHT, THEMES, Numbers, Picture
from calibration.page.profiles import cue_profile, profile_picture
from calibration.page.promise import GLOSSARY, Promise, promise_of
from calibration.page.reliability import reliability_curve, reliability_picture
from calibration.page.risk import alphas_to_show, risk_picture
from calibration.page.rows import Rival, merged, replayed
from calibration.page.scores import score_histogram, scores_picture
from calibration.page.stops import length_picture, place_picture, stop_places
from calibration.page.strata import Breakdown, breakdown, strata_picture, strata_sentence
from calibration.page.tradeoff import tradeoff_picture
from calibration.page.verdict import Verdict, verdict_of
from calibration.profile import Profile
from calibration.report import Evaluation, Evaluator
from calibration.rules import ScoredRule
from calibration.table import UNKNOWN, YES
from probes.errors import InputError, UnsupportedError

PAGE = "report.html"


@dataclass(frozen=True)
class Fact:
    """One line of provenance; ``code`` sets it in a fixed-width face."""

    name: str
    value: str
    code: bool = False


@dataclass(frozen=True)
class Origin:
    """What the page says about where its figures come from.

    Attributes
    ----------
    title
        The artifact's name.
    source
        The test traces' name.
    model
        The model's; None where there is none.
    made
        When the page was made, as printed.
    n_units
        Prompts calibrated on.
    promise
        The formal sentence, for the headline's alpha.
    label
        The label that the probe was fitted to, "agrees" or "correct"; None unknown.
    score_meaning
        What a score is after shaping, one or two sentences.
    warnings
        What a reader must know first, such as an artifact past its date.
    notes
        Remarks about the test traces.
    facts
        Provenance, by section title.
    """

    title: str
    source: str
    model: str | None
    made: str
    n_units: int
    promise: str
    label: str | None
    score_meaning: str
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    facts: tuple[tuple[str, tuple[Fact, ...]], ...] = ()


@dataclass(frozen=True)
class Report:
    """All that the page shows.

    Attributes
    ----------
    evaluation
        At the headline's alpha.
    pictures
        In the order of the page, by name.
    """

    evaluation: Evaluation
    origin: Origin
    verdict: Verdict
    promise: Promise
    groups: Breakdown
    rivals: tuple[Rival, ...]
    pictures: tuple[Picture, ...]
    remarks: tuple[str, ...] = field(default=())

    @property
    def glossary(self) -> tuple[tuple[str, str], ...]:
        """The words at its end."""
        return GLOSSARY

    @property
    def groups_sentence(self) -> str:
        """The breakdown in words."""
        return strata_sentence(self.groups)


def make_report(
    evaluator: Evaluator,
    alphas: Sequence[float],
    origin: Origin,
    profile: Profile | None = None,
    others: Sequence[Rival] = (),
) -> Report:
    """Evaluate and prepare everything; draws nothing yet.

    Parameters
    ----------
    evaluator
        Of the artifact's rule on the test traces.
    alphas
        At least one; the first is the headline's.
    origin
        See :class:`Origin`.
    profile
        Of the calibration traces, where the artifact has it.
    others
        Rows of other commands at the first alpha.
    """
    asked = alphas[0]
    shown = alphas_to_show(evaluator.rule, alphas)
    evaluations = [evaluator.at(alpha) for alpha in shown]
    evaluation = next(e for e in evaluations if e.alpha == asked)
    table, bad = evaluator.table, evaluator.bad
    fitted = evaluator.rule.fitted(asked)
    stops = fitted.stops(table)
    rivals = merged(replayed(evaluation), others)
    places = stop_places(table, bad, stops)
    scores = fitted.rule.score(table) if isinstance(fitted.rule, ScoredRule) else table.scores
    histogram = score_histogram(scores, bad, fitted.threshold)
    groups = breakdown(table, bad, stops, asked)
    pictures = [
        risk_picture(evaluations, asked),
        tradeoff_picture(rivals, evaluations),
        place_picture(places),
        length_picture(places),
        scores_picture(histogram, evaluation.rule, evaluation.score_auroc),
        profile_picture(cue_profile(table, profile)),
    ]
    label, known, positive = _labels(evaluator, origin.label)
    remarks = []
    if len(known):
        curve = reliability_curve(known, positive)
        pictures.append(reliability_picture(curve, label, origin.score_meaning))
    else:
        remarks.append(f"No cue has the label '{label}': the reliability of the score is unknown.")
    if groups.parts:
        pictures.append(strata_picture(groups))
    return Report(
        evaluation=evaluation,
        origin=origin,
        verdict=verdict_of(evaluation),
        promise=promise_of(evaluation, origin.n_units, origin.promise),
        groups=groups,
        rivals=tuple(rivals),
        pictures=tuple(pictures),
        remarks=tuple(remarks),
    )


def _labels(
    evaluator: Evaluator, fitted: str | None
) -> tuple[str, NDArray[np.float32], NDArray[np.bool_]]:
    """Choose the labels for the reliability curve: those that the probe was fitted to."""
    table = evaluator.table
    column = {"agrees": table.agrees, "correct": table.correct}.get(fitted or "")
    if column is None:
        return "a good stop", table.scores, ~evaluator.bad
    known = column != UNKNOWN
    return str(fitted), table.scores[known], column[known] == YES


class Page(Protocol):
    """What a template is filled with."""

    @property
    def pictures(self) -> Sequence[Picture]:
        """In the order of the page, by name."""

    @property
    def glossary(self) -> Sequence[tuple[str, str]]:
        """The words at its end."""


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write the page and its figures, see :func:`write_page`."""
    return write_page(report, "report.html", folder)


def write_page(report: Page, template: str, folder: Path) -> list[Path]:
    """Write a page and one PNG a figure; each file appears when it is complete.

    Parameters
    ----------
    report
        What it shows.
    template
        Name of its template.
    folder
        Made if need be.

    Returns
    -------
    The files, the page first.

    Raises
    ------
    InputError
        When the folder cannot be made or a file cannot be written.
    UnsupportedError
        When jinja2 or matplotlib is not installed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise InputError(f"{folder}: cannot be made: {problem.strerror or problem}.") from None
    images = {
        (picture.name, theme.name): picture.png(theme)
        for picture in report.pictures
        for theme in THEMES
    }
    html = render(report, images, template)
    files = {PAGE: html.encode("utf-8")}
    files |= {f"{p.name}.png": images[p.name, LIGHT.name] for p in report.pictures}
    for name, content in files.items():
        with replacing(folder / name) as file:
            file.write(content)
    return [folder / name for name in files]


def render(
    report: Page, images: dict[tuple[str, str], bytes], template: str = "report.html"
) -> str:
    """Fill a template; `images` are PNGs by name of figure and theme.

    Raises
    ------
    UnsupportedError
        When jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError:
        raise UnsupportedError(
            "reports need jinja2; install it with `pip install 'stopper[calibrate]'`."
        ) from None
    environment = Environment(
        loader=PackageLoader("calibration.page", "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def figure(name: str) -> dict[str, Any] | None:
        picture = next((p for p in report.pictures if p.name == name), None)
        if picture is None:
            return None
        uris = {
            theme: "data:image/png;base64," + base64.b64encode(images[name, theme]).decode("ascii")
            for theme in (LIGHT.name, DARK.name)
        }
        return {"picture": picture, **uris}

    return environment.get_template(template).render(
        report=report, figure=figure, words=words, glossary=report.glossary, Numbers=Numbers
    )
