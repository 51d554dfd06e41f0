"""What differs between two artifacts, and when one may take the other's place."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import makers
import numpy as np
import pytest

from calibration.profile import Histogram, Profile
from calibration.splits import group_hashes
from probes.network import Probe
from probes.sequence import SequenceProbe, tensor_shapes
from stopper import cli
from stopper.artifact import Artifact
from stopper.comparison import compare

Capture = pytest.CaptureFixture[str]

LATER = makers.CREATED + timedelta(days=10)


def run(*argv: str | Path) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main([str(part) for part in argv])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def profile(n_traces: int) -> Profile:
    counts = Histogram(edges=(1.0,), counts=(1, n_traces))
    return Profile(n_traces=n_traces, cues=counts, tokens=counts, scores=counts)


def changed(**fields: Any) -> Artifact:
    """The specimen with other fields in its manifest."""
    made = makers.artifact()
    return replace(made, manifest=made.manifest.model_copy(update=fields))


def recalibrated(worst: np.ndarray, record: dict[str, Any], **fields: Any) -> Artifact:
    made = makers.artifact()
    fields["calibration"] = makers.calibration(worst, **record)
    manifest = made.manifest.model_copy(update=fields)
    return Artifact(manifest, made.probe, made.cues, worst, made.splits)


def other_worst() -> Artifact:
    return recalibrated(np.sort(makers.worst_scores(seed=1) + np.float32(1)), {})


def named(ours: Artifact, theirs: Artifact) -> list[str]:
    return [one.field for one in compare(ours, theirs, LATER).differences]


def test_equal_artifacts_of_two_days_are_the_same() -> None:
    for days in (None, timedelta(days=30)):
        pair = [
            changed(created=day, expires=None if days is None else day + days)
            for day in (makers.CREATED, LATER)
        ]
        assert compare(*pair, LATER).differences == ()
    found = compare(makers.artifact(), changed(created=LATER), LATER)
    assert found.differences == ()
    assert (found.obstacles, found.cautions) == ((), ())
    assert found.to_json()["same"] is True


@pytest.mark.parametrize(
    ("theirs", "fields"),
    [
        (changed(model=makers.fingerprint(dtype="half")), ["model.dtype"]),
        (changed(sampling={"temperature": 0.5}), ["sampling.temperature"]),
        (changed(sampling={}), ["sampling", "sampling.temperature"]),
        (
            changed(closing=makers.closing().model_copy(update={"end_ids": (3,)})),
            ["closing.end_ids"],
        ),
        (changed(libraries={"numpy": "9"}), ["libraries.numpy"]),
        (changed(comparer="exact"), ["comparer"]),
        (changed(profile=profile(5)), ["profile.n_traces", "profile.cues.counts"]),
        (changed(expires=LATER), ["valid_days"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_field_that_differs_is_named(theirs: Artifact, fields: list[str]) -> None:
    found = named(makers.artifact(), theirs)
    assert set(fields) <= set(found) | {"sampling"}
    assert {name.split(".")[0] for name in found} == {fields[0].split(".")[0]}
    back = named(theirs, makers.artifact())
    assert set(back) == set(found)


def test_probe_weights_are_compared_by_hash_and_largest_change() -> None:
    made = makers.artifact()
    assert isinstance(made.probe, Probe)
    tensors = {name: array.copy() for name, array in made.probe.to_tensors().items()}
    tensors["layer.0.weight"][0, 3] += np.float32(0.25)
    theirs = replace(made, probe=Probe.from_tensors(makers.spec(), tensors))
    (one,) = compare(made, theirs, LATER).differences
    assert one.field == "probe weights layer.0.weight"
    assert one.ours.startswith("float32 [1, 18] sha256 ")
    assert one.theirs.endswith("largest change 0.25")
    assert one.ours.split(",")[0] != one.theirs.split(", largest")[0]
    assert compare(made, theirs, LATER).obstacles == ()


def test_calibration_shows_thresholds_per_alpha() -> None:
    found = named(makers.artifact(), other_worst())
    assert "calibration.threshold" in found
    assert {"threshold at alpha 0.1", "threshold at alpha 0.2"} <= set(found)
    assert "threshold at alpha 0.01" not in found  # too few traces on both sides
    assert "calibration scores worst_scores" in found


def test_splits_show_how_much_they_share() -> None:
    made = makers.artifact()
    splits = {
        "train": group_hashes(["p1", "p9"]),
        "calibrate": made.splits["calibrate"],
        "test": group_hashes(["p5"]),
    }
    found = compare(made, replace(made, splits=splits), LATER).differences
    assert [(one.field, one.ours, one.theirs) for one in found] == [
        ("split train", "2 groups", "2 groups, 1 shared"),
        ("split test", None, "1 groups"),
    ]


@pytest.mark.parametrize(
    ("theirs", "reason"),
    [
        (
            changed(model=makers.fingerprint(revision="x", num_layers=5)),
            "another model: num_layers",
        ),
        (makers.artifact(calibrated=False), "it is not calibrated"),
        (changed(closing=makers.closing().model_copy(update={"end_ids": (3,)})), "another closing"),
        (makers.artifact(cues=None), "other cues"),
        (makers.artifact(model=None, probe=None, cues=None), "made from scores"),
        (changed(expires=LATER), "it expired on 2025-01-12"),
    ],
    ids=["model", "calibration", "closing", "cues", "scores", "expired"],
)
def test_what_stands_in_the_way_is_named(theirs: Artifact, reason: str) -> None:
    assert any(reason in text for text in compare(makers.artifact(), theirs, LATER).obstacles)


def test_a_probe_with_memory_may_not_replace_one_that_is_served() -> None:
    spec = makers.spec(kind="gru", hidden_dims=(3,))
    tensors = {name: np.ones(shape, "f4") for name, shape in tensor_shapes(spec).items()}
    made = makers.artifact()
    manifest = made.manifest.model_copy(update={"probe": spec})
    theirs = replace(made, manifest=manifest, probe=SequenceProbe(spec, tensors))
    found = compare(made, theirs, LATER)
    assert any("remembers earlier cues" in text for text in found.obstacles)
    assert {"probe.kind", "probe weights gru.weight_hh"} <= {x.field for x in found.differences}


def test_cautions_do_not_forbid() -> None:
    theirs = recalibrated(
        makers.worst_scores(12),
        {"loss": "wrong", "alpha": 0.3},
        sampling={"temperature": 0.2},
        engine={"vllm": "0.33.0"},
        expires=LATER + timedelta(days=1),
    )
    ours = changed(engine={"vllm": "0.32.0"})
    found = compare(ours, theirs, LATER)
    assert found.obstacles == ()
    text = "; ".join(found.cautions)
    for word in ("sampling", "another engine", "loss wrong", "never stops", "2025-01-13"):
        assert word in text


# By the command line.


def test_exit_codes_and_words(tmp_path: Path, capsys: Capture, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    a, b, c = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    makers.artifact().save(a)
    changed(created=LATER).save(b)
    other_worst().save(c)
    assert run("diff", a, b) == 0
    assert "The same, but for the time of creation" in capsys.readouterr().out
    report = tmp_path / "d.json"
    assert run("diff", a, c, "--json", report) == 1
    shown = capsys.readouterr().out
    assert f"B ({c}) may replace A ({a}) under running traffic" in shown
    assert "the same model, cues and closing" in shown
    found = json.loads(report.read_text())
    assert found["same"] is False and found["may_replace"] is True
    assert "calibration.threshold" in [one["field"] for one in found["differences"]]
    makers.artifact(closing=None).save(c)
    assert run("diff", a, c) == 1
    shown = capsys.readouterr().out
    assert "may NOT replace" in shown and "another closing" in shown
    assert run("diff", a, tmp_path / "nothing") == 2
    assert "no artifact here" in capsys.readouterr().err


def test_an_expired_artifact_can_be_compared(tmp_path: Path, capsys: Capture) -> None:
    changed(expires=LATER).save(tmp_path / "a")
    assert run("diff", tmp_path / "a", tmp_path / "a") == 0
    shown = capsys.readouterr()
    assert "expired on 2025-01-12" in shown.err and "--valid-days" in shown.err
    assert "it expired on" in shown.out
