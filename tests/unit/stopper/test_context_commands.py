"""`stopper context`: from questions to an artifact, its promise and its figures, on a tiny BERT."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from relevance_makers import hotpot_file, squad_file, tiny_body

from calibration.dropping import LOSS
from calibration.hierarchical import threshold
from calibration.questions import read_questions
from probes.encoder_body import EncoderBody
from probes.sentences import passage_of
from stopper import cli
from stopper.artifact import Artifact, read_manifest
from stopper.comparison import unservable
from stopper.errors import ArtifactError
from stopper.policy import StopPolicy
from stopper.relevance import DEFAULT, load
from stopper.relevance.loading import threshold_of

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


def context(*argv: object) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(["context", *(str(word) for word in argv)])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def refused(capsys: Capture, *argv: object) -> str:
    assert context(*argv) == 2
    return capsys.readouterr().err


class Made:
    """What the first commands left behind."""

    def __init__(self, root: Path) -> None:
        self.body = tiny_body(root / "body")
        self.data = squad_file(root / "data.json", 60)
        self.folder = root / "filter"
        self.trained = root / "trained"
        shared = ("--data", self.data, "--encoder", self.body)
        assert context("train", *shared, "--out", self.trained) == 0
        assert (
            context("calibrate", self.trained, *shared, "--alpha", 0.1, "--out", self.folder) == 0
        )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("context"))


def test_the_artifact_says_what_it_is_and_promises(made: Made) -> None:
    artifact = Artifact.load(made.folder)
    manifest = artifact.manifest
    assert manifest.context is not None
    assert manifest.context.encoder_sha256 == EncoderBody(made.body).sha256
    record = manifest.calibration
    assert record is not None
    assert (record.loss, record.method, record.alpha) == (LOSS, "hcp", 0.1)
    assert "lose a sentence they need" in record.promise
    assert artifact.worst_scores is not None
    assert record.n_units == len(artifact.worst_scores)
    assert set(artifact.splits) == {"train", "calibrate", "test"}
    assert read_manifest(made.trained).calibration is None


def test_any_alpha_is_answered_from_the_stored_scores(made: Made) -> None:
    found = load(made.folder, made.body)
    assert found.artifact.worst_scores is not None
    for alpha in (0.1, 0.2, 0.5):
        groups = found.artifact.calibration_tensors["articles"]
        exact = threshold(found.artifact.worst_scores, groups, alpha)
        assert found.threshold(alpha) == exact
    assert found.threshold() == found.threshold(0.1)
    assert found.threshold(0.0001) == np.inf


def test_evaluation_counts_on_articles_that_nothing_was_made_of(
    made: Made, tmp_path: Path, capsys: Capture
) -> None:
    out, png = tmp_path / "figures.json", tmp_path / "figures.png"
    code = context(
        "evaluate", made.folder, "--data", made.data, "--format", "squad", "--alpha", 0.1,
        "--encoder", made.body, "--json", out, "--plot", png,
    )  # fmt: skip
    printed = capsys.readouterr()
    assert code == 0
    figures = json.loads(out.read_text())
    assert {
        "auroc", "n_queries", "queries_with_a_loss", "recall", "tokens_in", "tokens_out",
    } <= set(figures)  # fmt: skip
    artifact = Artifact.load(made.folder)
    questions = read_questions([made.data], "squad").questions
    aside = figures["set_aside"]
    assert figures["n_queries"] == len(questions) - aside["train"] - aside["calibrate"]
    assert figures["threshold"] == pytest.approx(threshold_of(artifact, 0.1))
    assert 0 < figures["tokens_out"] <= figures["tokens_in"]
    assert 0 <= figures["queries_with_a_loss"] <= figures["n_queries"]
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "set aside" in printed.out + printed.err


def test_repeats_are_reported_by_query_and_by_article(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    code = context(
        "evaluate", made.folder, "--data", made.data, "--alpha", 0.25, "--encoder", made.body,
        "--json", out, "--repeats", 5,
    )  # fmt: skip
    assert code == 0
    drawn = json.loads(out.read_text())["repeats"]
    assert [one["unit"] for one in drawn] == ["query", "article"]
    assert all(one["count"] == 5 and 0 <= one["mean_risk"] <= 1 for one in drawn)


def test_hotpotqa_goes_the_same_way(made: Made, tmp_path: Path) -> None:
    data = hotpot_file(tmp_path / "h.json", 200)
    shared = ("--data", data, "--format", "hotpotqa", "--encoder", made.body)
    folder, out = tmp_path / "filter", tmp_path / "figures.json"
    assert context("train", *shared, "--out", folder) == 0
    assert context("calibrate", folder, *shared, "--alpha", 0.2, "--method", "crc") == 0
    assert context("evaluate", folder, *shared, "--json", out) == 0
    figures = json.loads(out.read_text())
    assert figures["needed"] == 2 * figures["n_queries"]
    assert figures["auroc"] > 0.5


def test_the_loaded_filter_scores_what_the_commands_scored(made: Made) -> None:
    found = load(made.folder, made.body)
    document = passage_of("Arno", ["Arno lost a lamp in 1801.", "Rain fell."])
    (scores,) = found.scorer.score("When was the lamp of Arno lost?", [document])
    assert scores.shape == (2,)


def test_used_articles_are_refused_where_nothing_else_is_left(
    made: Made, tmp_path: Path, capsys: Capture
) -> None:
    again = Artifact.load(made.folder).splits
    questions = read_questions([made.data], "squad")
    from calibration.splits import group_hash

    rows = json.loads(made.data.read_text())
    used = {int(one) for name in ("train", "calibrate") for one in again[name]}
    rows["data"] = [a for a in rows["data"] if group_hash(a["title"]) in used]
    assert 0 < len(rows["data"]) < len({p.title for p in questions.paragraphs})
    only = tmp_path / "used.json"
    only.write_text(json.dumps(rows))
    shared = ("--data", only, "--encoder", made.body)
    assert "nothing was fitted to" in refused(capsys, "evaluate", made.folder, *shared)
    assert context("evaluate", made.folder, *shared, "--include-used") == 0
    captured = capsys.readouterr()
    assert "too good to be true" in captured.out + captured.err


def test_too_few_queries_are_refused_with_the_number_missing(
    made: Made, tmp_path: Path, capsys: Capture
) -> None:
    few = squad_file(tmp_path / "few.json", 3, seed=9, first=1000)
    shared = ("--data", few, "--encoder", made.body, "--alpha", 0.05)
    said = refused(capsys, "calibrate", made.trained, *shared, "--out", tmp_path / "no")
    assert "calibration queries on 3 articles are too few" in said
    assert "so 16 more" in said
    assert not (tmp_path / "no").exists()
    said = refused(capsys, "evaluate", made.folder, *shared[:4], "--alpha", 0.001)
    assert "too few for alpha 0.001" in said


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("train", "--data", "DATA", "--out", "OUT", "--train-fraction", "0.9"), "must be above 0"),
        (("train", "--data", "none.json", "--out", "OUT"), "none.json: No such file"),
        (("evaluate",), "needs --data"),
        (("evaluate", "TRAINED", "--data", "DATA"), "not calibrated"),
        (("calibrate", "TRAINED", "--data", "DATA", "--alpha", "2"), "strictly between 0 and 1"),
        (("calibrate", "nowhere", "--data", "DATA"), "no artifact here"),
        (("evaluate", "FOLDER", "--data", "DATA", "--repeats", "2", "--include-used"), "leave out"),
    ],
)
def test_what_cannot_be_is_refused_clearly(
    made: Made, tmp_path: Path, capsys: Capture, argv: tuple[str, ...], says: str
) -> None:
    known = {"DATA": made.data, "OUT": tmp_path / "out", "TRAINED": made.trained,
             "FOLDER": made.folder}  # fmt: skip
    words = [known.get(word, word) for word in argv]
    assert says in refused(capsys, *words, "--encoder", made.body).replace("\n", " ")


def test_another_encoder_is_refused(made: Made, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    other = tiny_body(tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    first = next(iter(weights))
    save_file({**weights, first: weights[first] + 1}, other / "model.safetensors", {"format": "pt"})
    with pytest.raises(ArtifactError, match="another encoder"):
        load(made.folder, other)


def test_a_filter_stops_nothing_and_a_stopping_rule_filters_nothing(
    made: Made, tmp_path: Path
) -> None:
    import makers

    artifact = Artifact.load(made.folder)
    assert unservable(artifact) == "is a sentence filter, which stops nothing"
    with pytest.raises(ArtifactError, match="is a sentence filter"):
        StopPolicy.from_artifact(artifact)
    makers.artifact().save(tmp_path / "stops")
    with pytest.raises(ArtifactError, match="not a sentence filter"):
        load(tmp_path / "stops", made.body)


def test_inspect_shows_a_filter(made: Made, capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        cli.main(["inspect", str(made.folder)])
    printed = capsys.readouterr().out
    assert "dropped" in printed
    assert "sentences by spacy" in printed


def test_the_filter_of_the_package_is_whole_and_calibrated() -> None:
    artifact = Artifact.load(DEFAULT)
    record, spec = artifact.manifest.calibration, artifact.manifest.context
    assert record is not None
    assert spec is not None
    assert spec.encoder == "all-MiniLM-L6-v2"
    assert record.loss == LOSS
    card = (DEFAULT / "README.md").read_text()
    assert spec.encoder_sha256 in card
    assert "CC BY-SA 4.0" in card
