"""The package's own sentence filter on real questions, where STOPPER_DATA names their folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from stopper import cli

DATA = os.environ.get("STOPPER_DATA")
FILES = ("xquad-en.json", "squad-v2.0-dev-part.json")
REPEATS, ALPHA, CONFIDENCE = 100, 0.05, 0.9

if DATA is None:

    def test_nothing_is_measured_on_real_questions_for_stopper_data_is_not_set() -> None:
        assert "STOPPER_DATA" not in os.environ

else:

    @pytest.mark.timeout(1800)  # about a minute of one core, more where it is shared
    def test_the_filter_of_the_package_keeps_its_word_on_held_out_articles(tmp_path: Path) -> None:
        out = tmp_path / "figures.json"
        files = [word for name in FILES for word in ("--data", str(Path(str(DATA)) / name))]
        with pytest.raises(SystemExit) as caught:
            cli.main([
                "context", "evaluate", *files, "--format", "squad", "--alpha", str(ALPHA),
                "--repeats", str(REPEATS), "--json", str(out),
            ])  # fmt: skip
        assert caught.value.code == 0
        figures = json.loads(out.read_text())
        assert figures["n_queries"] >= 200
        assert figures["auroc"] >= 0.90
        assert figures["at_recall"]["0.95"]["share"] <= 0.5
        assert figures["tokens_out"] <= 0.5 * figures["tokens_in"]
        # One calibration on other articles: its risk must not lie clearly above alpha.
        assert figures["risk_interval"][0] <= ALPHA
        by_query, by_article = figures["repeats"]
        assert (by_article["unit"], by_article["method"]) == ("article", "hcp")
        assert by_article["mean_risk"] <= ALPHA
        assert (by_query["unit"], by_query["count"]) == ("query", REPEATS)
        assert by_query["mean_risk"] <= ALPHA
        assert by_query["clearly_above"] <= REPEATS * (1 - CONFIDENCE)
