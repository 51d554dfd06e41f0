"""The page: whole, self-contained, true to the evaluation, safe, and honest about gaps."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from page_makers import FOUND, ORIGIN, RULE, TEST, Page, blank, changed, report

from calibration.calibrate import calibrate
from calibration.page import words
from calibration.page.report import Fact, make_report, render, write_report
from calibration.report import Evaluator, Rule
from calibration.simulate import SimulatorSettings, simulate
from probes.errors import InputError, UnsupportedError

HOSTILE = "<script>alert(1)</script>\"'&{{ 7*7 }}$\\frac{$"


def page_of(*args, **kwargs) -> Page:  # type: ignore[no-untyped-def]
    found = report(*args, **kwargs)
    return Page.read(render(found, blank(found)))


def test_the_page_is_balanced_and_every_link_on_it_leads_somewhere_on_it() -> None:
    page = page_of()
    assert len(page.links) >= 8
    assert [link for link in page.links if link.removeprefix("#") not in page.ids] == []
    assert len(set(page.ids)) == len(page.ids)


def test_nothing_is_loaded_from_outside() -> None:
    found = report()
    html = render(found, blank(found))
    page = Page.read(html)
    assert len(page.sources) == 2 * len(found.pictures) > 10
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert not re.search(r"https?:|//[a-z]|url\(|@import", html.replace("//", "//"))
    assert {"script", "link", "iframe", "object"} & set(page.tags) == set()
    policy = dict(page.attributes).get("content", "")
    assert "default-src 'none'" in html and policy is not None


def test_the_numbers_on_the_page_are_those_of_the_evaluation() -> None:
    found = report()
    evaluation = Evaluator(TEST, RULE).at(0.1)
    text = Page.read(render(found, blank(found))).plain
    row = evaluation.stopped
    assert 0 < row.bad_stops < 20
    for spelled in (
        words.percent(evaluation.saved_share),
        words.percent(row.accuracy),
        words.percent(evaluation.full.accuracy),
        words.percent(row.bad_stop_share),
        words.interval_text(row.bad_stop_interval),
        words.tokens_text(evaluation.oracle.tokens),
        f"{row.bad_stops:.0f} of 120",
        words.threshold_text(row.threshold),
    ):
        assert " ".join(spelled.split()) in text


def test_every_figure_says_what_it_shows() -> None:
    found = report()
    page = Page.read(render(found, blank(found)))
    assert [p.name for p in found.pictures] == [
        "risk", "tradeoff", "place", "lengths", "scores", "cues", "reliability",
    ]  # fmt: skip
    assert page.alts and all(len(alt) > 40 for alt in page.alts)
    for picture in found.pictures:
        assert len(picture.caption) > 80
        assert picture.numbers.rows
        assert {len(row) for row in picture.numbers.rows} == {len(picture.numbers.columns)}


def test_hostile_strings_are_shown_and_not_obeyed(tmp_path: Path) -> None:
    levels = [HOSTILE if row % 2 else "\u202e\x07fine\ntwo" for row in range(len(TEST))]
    found = report(
        changed(TEST, strata={HOSTILE: levels}),
        title=HOSTILE, source=HOSTILE, model=HOSTILE, promise=HOSTILE, warnings=(HOSTILE,),
        notes=(HOSTILE,), score_meaning=HOSTILE, facts=((HOSTILE, (Fact(HOSTILE, HOSTILE),)),),
    )  # fmt: skip
    files = write_report(found, tmp_path / "out")  # drawn too: labels must not be read as formulas
    html = files[0].read_text(encoding="utf-8")
    page = Page.read(html)
    assert "script" not in page.tags
    assert "<script" not in html
    assert page.text.count("<script>alert(1)</script>") >= 10
    assert "49" not in re.findall(r"\{\{ (.*?) \}\}", page.text)


def test_unknown_labels_are_called_unknown_and_never_guessed() -> None:
    text = page_of(changed(TEST, full_correct=None, correct=None)).plain
    assert "Right answersunknown" in text
    assert "no gold answers for all of these traces" in text
    assert "requests not stopped badly" in text


def test_a_probe_fitted_to_a_label_that_is_missing_has_no_reliability() -> None:
    found = report(changed(TEST, correct=None), label="correct")
    assert "reliability" not in [p.name for p in found.pictures]
    assert "reliability of the score is unknown" in Page.read(render(found, blank(found))).plain


def test_a_stratum_of_one_value_offers_nothing_to_compare() -> None:
    found = report(changed(TEST, strata={"level": ["3"] * len(TEST)}))
    assert found.groups.parts == ()
    text = Page.read(render(found, blank(found))).plain
    assert "By level there is nothing to compare: all traces have 3." in text
    assert "marginal" in text


def test_a_test_set_without_a_bad_cue_is_drawn(tmp_path: Path) -> None:
    found = report(changed(TEST, agrees=np.ones_like(TEST.agrees)))
    assert found.verdict.status == "kept"
    assert found.evaluation.score_auroc is None
    assert len(write_report(found, tmp_path)) == 8
    assert "one class only" in Page.read(render(found, blank(found))).plain


@pytest.mark.parametrize("worst", [np.inf, -np.inf], ids=["no stop", "all stop at the first cue"])
def test_rules_that_never_or_always_stop_are_drawn(tmp_path: Path, worst: float) -> None:
    units = np.full(200, worst if worst < 0 else np.float32(1e30), dtype=np.float32)
    found = report(rule=Rule("ltt", "disagree", 0.9, units))
    assert found.evaluation.stopped.stopped_share == (0.0 if worst > 0 else 1.0)
    write_report(found, tmp_path)
    assert ("no trace is stopped" in found.pictures[2].alt) == (worst > 0)
    limits = [row[1] for row in found.pictures[0].numbers.rows]
    assert ("stops at the first cue" in limits) == (worst < 0)


def test_what_the_rule_promises_decides_the_verdict() -> None:
    assert report().verdict.status == "kept"
    shifted = simulate(SimulatorSettings(800, cues=60, seed=3))
    broken = report(shifted)
    assert broken.verdict.status == "broken"
    assert broken.evaluation.stopped.bad_stop_interval[0] > 0.1  # type: ignore[index]
    lynx = calibrate(simulate(SimulatorSettings(200, seed=1)), "disagree", 0.1, method="lynx")
    plain = report(rule=Rule("lynx", "disagree", None, None, lynx.good_scores, lynx.bad_scores))
    assert plain.verdict.status == "none"
    assert "promises nothing" in " ".join(plain.promise.paragraphs) or "no promise" in " ".join(
        plain.promise.paragraphs
    )


def test_a_share_above_alpha_but_within_chance_is_said_to_be_so() -> None:
    rule = Rule("ltt", "disagree", 0.9, FOUND.worst_scores)
    evaluator = Evaluator(simulate(SimulatorSettings(40, cues=30, seed=7)), rule)
    alphas = [a / 1000 for a in range(20, 200)]
    noisy = [
        a for a in alphas
        if rule.carries(a)
        and (e := evaluator.at(a).stopped).bad_stop_share > a >= (e.bad_stop_interval or (1, 1))[0]
    ]  # fmt: skip
    assert noisy
    assert make_report(evaluator, noisy[:1], ORIGIN).verdict.status == "noise"


def test_the_files_are_whole(tmp_path: Path) -> None:
    found = report(changed(TEST, strata={"level": [str(r % 3) for r in range(len(TEST))]}))
    files = write_report(found, tmp_path / "new" / "folder")
    assert sorted(tmp_path.rglob("*")) == sorted(
        [tmp_path / "new", tmp_path / "new/folder", *files]
    )
    assert [file.name for file in files[1:]] == [f"{p.name}.png" for p in found.pictures]
    for file in files[1:]:
        data = file.read_bytes()
        assert data.startswith(b"\x89PNG\r\n\x1a\n") and data.endswith(b"IEND\xaeB`\x82")
        assert int.from_bytes(data[16:20], "big") > 700
    assert Page.read(files[0].read_text(encoding="utf-8")).alts


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="file/out: cannot be made"):
        write_report(report(), tmp_path / "file" / "out")


@pytest.mark.parametrize("module", ["jinja2", "matplotlib"])
def test_a_missing_library_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    found = report()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UnsupportedError, match=module):
        if module == "jinja2":
            render(found, blank(found))
        else:
            write_report(found, tmp_path)
