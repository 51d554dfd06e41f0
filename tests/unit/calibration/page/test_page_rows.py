"""Rows of other rules: read strictly, joined without doubles, drawn beside ours."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from page_makers import ORIGIN, RULE, TEST, Page, blank

from calibration.page.report import make_report, render
from calibration.page.rows import merged, read_rows, replayed
from calibration.report import Evaluator
from probes.errors import InputError

EVALUATOR = Evaluator(TEST, RULE)
ROW: dict[str, Any] = {
    "rule": "deer", "title": "DEER", "guarantee": "none", "accuracy": 0.9, "tokens": 300.0,
    "extra_tokens": 50.0, "bad_stops": 7, "bad_stop_share": 0.07,
    "bad_stop_interval": [0.03, 0.14], "stopped_share": 0.5, "wall_s": 12.5, "trials": 3.0,
}  # fmt: skip


def file(folder: Path, rows: list[dict[str, Any]] | None = None, **changes: Any) -> Path:
    data = {
        "alpha": 0.1, "loss": "disagree", "n_test": 100, "rows": [ROW] if rows is None else rows,
        "full": {"accuracy": 0.95, "tokens": 700.0}, "oracle": {"accuracy": None, "tokens": 200.0},
    } | changes  # fmt: skip
    path = folder / "rows.json"
    path.write_text(json.dumps(data))
    return path


def test_rows_stand_on_the_page_with_every_token_counted(tmp_path: Path) -> None:
    left_out = [{"rule": "budget", "artifact": "a", "reason": "needs --budget"}]
    others, notes = read_rows(file(tmp_path, left_out=left_out), 0.1, "disagree", "baselines")
    assert notes == ["rows.json: 'budget' was left out: needs --budget"]
    assert (others[0].rule, others[0].tokens, others[0].extra_tokens) == ("DEER", 350.0, 50.0)
    found = make_report(EVALUATOR, [0.1], ORIGIN, others=others)
    cells = next(p for p in found.pictures if p.name == "tradeoff").numbers.rows[-1]
    assert cells[0] == "7. DEER\xa0\N{DAGGER}"  # measured on other requests
    assert "350.0" in cells and "50.0\xa0%" in cells and "12.5" in cells
    assert "7. DEER" in Page.read(render(found, blank(found))).plain


def test_unknown_figures_are_drawn_as_far_as_they_are_known(tmp_path: Path) -> None:
    row = {"rule": "odd", "guarantee": "tokens", "accuracy": None, "tokens": 10.0}
    others, _ = read_rows(file(tmp_path, [ROW, row], full=None), 0.1, "disagree", "compare")
    picture = make_report(EVALUATOR, [0.1], ORIGIN, others=others).pictures[1]
    assert picture.numbers.rows[-1].count("unknown") >= 4
    assert "1 of the rules cannot be drawn" in picture.caption
    from calibration.page.canvas import DARK

    assert picture.png(DARK).startswith(b"\x89PNG")


def test_a_rule_far_below_is_an_arrow_and_the_caption_says_so(tmp_path: Path) -> None:
    for accuracy, said in ((0.9, False), (0.05, True)):
        path = file(tmp_path, [ROW | {"accuracy": accuracy}])
        others, _ = read_rows(path, 0.1, "disagree", "baselines")
        picture = make_report(EVALUATOR, [0.1], ORIGIN, others=others).pictures[1]
        assert ("arrows at the lower edge: 7." in picture.caption) == said


def test_the_same_rule_with_the_same_figures_is_shown_once(tmp_path: Path) -> None:
    own = replayed(EVALUATOR.at(0.1))
    lynx = next(row for row in own if row.rule.startswith("LYNX"))
    doubles = [replace(lynx, rule="lynx", kind="rival", source="x"), replace(own[1], rule="level")]
    assert merged(own, doubles) == own
    other = replace(lynx, rule="lynx", kind="rival", tokens=lynx.tokens + 1)
    assert merged(own, [other]) == [*own, other]


def test_artifacts_tell_rows_apart_where_there_are_several(tmp_path: Path) -> None:
    rows = [ROW | {"artifact": "runs/a"}, ROW | {"artifact": "runs/b"}]
    found, _ = read_rows(file(tmp_path, rows), 0.1, "disagree", "compare")
    assert [row.rule for row in found] == ["DEER (a)", "DEER (b)"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loss": "wrong"}, "loss is 'wrong', the artifact's is 'disagree'"),
        ({"alpha": 0.05}, "alpha is 0.05, the report's is 0.1"),
        ({"rows": []}, "rows: is empty"),
        ({"rows": [ROW | {"accuracy": 1.5}]}, "rows.0.accuracy"),
        ({"rows": [ROW | {"guarantee": "maybe"}]}, "rows.0.guarantee"),
        ({"rows": [{"rule": "x"}]}, "rows.0.tokens"),
        ({"n_test": 0}, "n_test"),
    ],
)
def test_rows_of_another_promise_or_form_are_refused(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=r"rows\.json") as caught:
        read_rows(file(tmp_path, **changes), 0.1, "disagree", "compare")
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[1, 2]", '{"alpha": NaN}', "\udcff"])
def test_a_file_that_is_no_such_json_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=r"rows\.json.*stopper compare"):
        read_rows(path, 0.1, "disagree", "compare")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json: cannot be read: No such file"):
        read_rows(tmp_path / "none.json", 0.1, "disagree", "compare")
