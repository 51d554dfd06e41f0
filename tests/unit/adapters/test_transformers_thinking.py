"""Rows of `model.generate` are stopped where the offline rule says, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import makers
import numpy as np
import pytest
import torch
from offline_rule import replayed
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

from adapters.transformers import ThinkingStopper, model_fingerprint
from probes.provenance import Closing
from stopper.artifact import Artifact
from stopper.cues import CueAutomaton
from stopper.errors import ArtifactError, InputError, StopperError, UnsupportedError

TINY = Path(__file__).resolve().parents[3] / "examples" / "tiny_reasoner"
ROWS, TOKENS = 4, 120
FIRST, SOON = slice(1), slice(2, 3)  # the second one is stopped within 70 tokens
SAMPLED = {"do_sample": True, "temperature": 0.8, "top_p": 0.95, "top_k": 0}
ALPHAS = [0.05, 0.005] * (ROWS // 2)


class World:
    """The tiny reasoner, a padded batch of prompts, and the same batch left to think."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.tokenizer = AutoTokenizer.from_pretrained(TINY / "model", padding_side="left")
        self.model = AutoModelForCausalLM.from_pretrained(TINY / "model")
        self.artifact = Artifact.load(TINY / "artifact")
        lines = (TINY / "problems" / "test.jsonl").read_text("utf-8").splitlines()[:ROWS]
        chats = [json.loads(line)["messages"] for line in lines]
        texts = self.tokenizer.apply_chat_template(
            chats, tokenize=False, add_generation_prompt=True
        )
        self.inputs = self.tokenizer(
            texts, return_tensors="pt", padding=True, add_special_tokens=False
        )
        self.width = self.inputs["input_ids"].shape[1]
        self.full = self.run()

    def run(self, *processors: Any, rows: slice = slice(ROWS), **changes: Any) -> list[list[int]]:
        """Return the output of each row, cut after its end."""
        set_seed(7)
        inputs = {name: tensor[rows] for name, tensor in self.inputs.items()}
        asked = {"max_new_tokens": TOKENS, **SAMPLED, **changes}
        ids = self.model.generate(**inputs, **asked, logits_processor=list(processors))
        end = self.model.generation_config.eos_token_id
        outputs = ids[:, self.width :].tolist()
        return [one[: one.index(end) + 1] if end in one else one for one in outputs]

    def prompt(self, row: int) -> list[int]:
        """Return the token ids of one prompt, without its padding."""
        mask = self.inputs["attention_mask"][row].bool()
        return self.inputs["input_ids"][row][mask].tolist()

    def offline(
        self, row: int, alpha: float, artifact: Artifact | None = None, output: Sequence[int] = ()
    ) -> Any:
        """Return the offline decision on the full output."""
        ids = list(output) or self.full[row]
        return replayed(artifact or self.artifact, self.model, self.prompt(row), ids, alpha)

    def with_cues(self, **changes: Any) -> Artifact:
        """Return the artifact with other cues."""
        manifest = self.artifact.manifest
        spec = manifest.cues.model_copy(update=changes)
        return replace(
            self.artifact,
            manifest=manifest.model_copy(update={"cues": spec}),
            cues=CueAutomaton.build(self.tokenizer, spec),
        )


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def same(outcome: Any, offline: Any, decision: str = "stop") -> bool:
    expected = decision if offline.decision == "stop" else "keep"
    close = outcome.score == offline.score or abs(outcome.score - offline.score) < 1e-3
    names = ("reason", "position", "cue", "label")
    equal = all(getattr(outcome, name) == getattr(offline, name) for name in names)
    return outcome.decision == expected and close and equal


def test_each_row_is_decided_as_offline_under_its_own_alpha(world: World) -> None:
    with ThinkingStopper(world.model, world.artifact, ALPHAS) as stopper:
        outputs = world.run(stopper)
    outcomes = stopper.outcomes()
    offline = [world.offline(row, alpha) for row, alpha in enumerate(ALPHAS)]
    assert {one.decision for one in offline} == {"stop", "keep"}
    assert [same(*pair) for pair in zip(outcomes, offline, strict=True)] == [True] * ROWS
    assert [one.threshold for one in outcomes] == [one.threshold for one in offline]
    (end,) = world.artifact.manifest.closing.end_ids
    for outcome, output, full in zip(outcomes, outputs, world.full, strict=True):
        if outcome.position is None:
            assert output == full
        else:
            at = outcome.position
            assert output[: at + 1] == [*full[:at], end]
            assert full[at] != end
            assert "boxed" in world.tokenizer.decode(output[at:])  # it answers by itself
            assert output[-1] == world.model.generation_config.eos_token_id


def test_an_audit_marks_and_changes_nothing(world: World) -> None:
    with ThinkingStopper(world.model, world.artifact, audit=True) as stopper:
        assert world.run(stopper) == world.full
    for row, outcome in enumerate(stopper.outcomes()):
        assert same(outcome, world.offline(row, 0.05), "audit")
        seen = world.artifact.cues.events(world.prompt(row), world.full[row][:-1])
        assert outcome.cues == len(seen)  # an audit goes on looking


def test_without_a_cache_the_decisions_are_the_same(world: World) -> None:
    with ThinkingStopper(world.model, world.artifact) as stopper:
        outputs = world.run(stopper, rows=SOON, use_cache=False, max_new_tokens=70)
    with ThinkingStopper(world.model, world.artifact) as cached:
        assert world.run(cached, rows=SOON, max_new_tokens=70) == outputs
    assert stopper.outcomes()[0].decision == "stop"
    assert same(stopper.outcomes()[0], cached.outcomes()[0])


def test_each_of_several_sequences_of_a_prompt_is_a_row(world: World) -> None:
    with ThinkingStopper(world.model, world.artifact, [0.05, 1e-9]) as stopper:
        world.run(stopper, rows=SOON, num_return_sequences=2, max_new_tokens=70)
    first, second = stopper.outcomes()
    assert first.decision == "stop"
    assert (second.decision, second.reason) == ("keep", "too_few_calibration_traces")


def test_the_answer_prompt_is_forced_after_the_end(world: World) -> None:
    word = tuple(world.tokenizer.encode(" The answer is", add_special_tokens=False))
    closing = Closing(
        end_ids=world.artifact.manifest.closing.end_ids,
        answer_prompt=" The answer is",
        answer_prompt_ids=word,
    )
    manifest = world.artifact.manifest.model_copy(update={"closing": closing})
    with ThinkingStopper(world.model, replace(world.artifact, manifest=manifest)) as stopper:
        (output,) = world.run(stopper, rows=SOON, max_new_tokens=80)
    at = stopper.outcomes()[0].position
    assert tuple(output[at : at + 1 + len(word)]) == (*closing.end_ids, *word)


def test_cues_at_an_interval_are_seen_too(world: World) -> None:
    artifact = world.with_cues(interval=20, words=("hmm",))
    with ThinkingStopper(world.model, artifact, 0.02) as stopper:
        world.run(stopper, rows=slice(2))
    outcomes = stopper.outcomes()
    assert "every 20" in {one.label for one in outcomes}
    assert all(same(one, world.offline(row, 0.02, artifact)) for row, one in enumerate(outcomes))


def test_a_row_that_has_ended_is_looked_at_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    dot = world.tokenizer.convert_tokens_to_ids(".")
    monkeypatch.setattr(world.model.generation_config, "eos_token_id", dot)
    artifact = world.with_cues(interval=2)
    with ThinkingStopper(world.model, artifact, audit=True) as stopper:
        outputs = world.run(stopper, max_new_tokens=60)
    lengths = {len(output) for output in outputs}
    assert len(lengths) > 1, "all rows end together: nothing is tested"
    for row, outcome in enumerate(stopper.outcomes()):
        assert outcome.cues == len(artifact.cues.events(world.prompt(row), outputs[row][:-1]))


def test_a_fault_leaves_the_row_alone_and_is_reported(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: ThinkingStopper, row: int) -> Any:
        raise MemoryError("no room")

    monkeypatch.setattr(ThinkingStopper, "_hidden", broken)
    with ThinkingStopper(world.model, world.artifact) as stopper:
        outputs = world.run(stopper, max_new_tokens=70)
    assert outputs == [full[:70] for full in world.full]
    assert stopper.outcomes()[2].reason == "fault"
    assert "row 2 goes on unwatched after a fault: no room" in caplog.text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"num_beams": 3, "do_sample": False, "top_p": None, "temperature": None},
            "the rows do not go on where they were",
        ),
        ({"prompt_lookup_num_tokens": 3, "rows": FIRST}, "gave no hidden state of this token"),
    ],
    ids=["beam search", "assisted generation"],
)
def test_what_takes_tokens_back_is_refused(
    world: World, changes: dict[str, Any], words: str
) -> None:
    with (
        ThinkingStopper(world.model, world.artifact) as stopper,
        pytest.raises(UnsupportedError, match=words),
    ):
        world.run(stopper, **changes)


def test_one_stopper_serves_one_call(world: World) -> None:
    stopper = ThinkingStopper(world.model, world.artifact)
    assert stopper.outcomes() == []
    with pytest.raises(InputError, match="use it in a with block"):
        world.run(stopper, rows=FIRST, max_new_tokens=2)
    with stopper:
        world.run(stopper, rows=FIRST, max_new_tokens=2)
        with pytest.raises(UnsupportedError, match="the rows do not go on"):
            world.run(stopper, rows=FIRST, max_new_tokens=2)
    with stopper, pytest.raises(UnsupportedError, match="this stopper was used before"):
        world.run(stopper, rows=FIRST, max_new_tokens=2)


def test_nothing_stays_on_the_model(world: World) -> None:
    before = (dict(world.model._forward_hooks), dict(world.model._forward_pre_hooks))
    with (
        pytest.raises(RuntimeError, match="given up"),
        ThinkingStopper(world.model, world.artifact),
    ):
        raise RuntimeError("given up")
    assert (world.model._forward_hooks, world.model._forward_pre_hooks) == before


@pytest.mark.parametrize("alpha", [0.0, 1.5, [0.05, float("nan")]], ids=["0", "1.5", "nan"])
def test_a_number_that_is_no_alpha_is_refused(world: World, alpha: Any) -> None:
    with pytest.raises(InputError, match="alpha must lie between 0 and 1"):
        ThinkingStopper(world.model, world.artifact, alpha)


def test_alphas_are_one_for_each_row(world: World) -> None:
    with (
        ThinkingStopper(world.model, world.artifact, [0.05, 0.1]) as stopper,
        pytest.raises(InputError, match="2 numbers for 3 rows"),
    ):
        world.run(stopper, rows=slice(3), max_new_tokens=2)


def test_prompts_without_token_ids_are_refused(world: World) -> None:
    vectors = torch.zeros(1, 3, 128)
    with (
        ThinkingStopper(world.model, world.artifact) as stopper,
        pytest.raises(UnsupportedError, match="Call generate with input_ids"),
    ):
        world.model.generate(
            inputs_embeds=vectors,
            attention_mask=torch.ones(1, 3, dtype=torch.int64),
            max_new_tokens=2,
            logits_processor=[stopper],
        )


def test_another_model_is_refused(world: World) -> None:
    other = AutoModelForCausalLM.from_pretrained(TINY / "model", dtype=torch.bfloat16)
    with pytest.raises(InputError, match="dtype is 'bfloat16', expected 'float32'"):
        ThinkingStopper(other, world.artifact)


def test_the_model_is_told_as_the_engine_tells_it(world: World) -> None:
    found = model_fingerprint(world.model)
    assert found.mismatches(world.artifact.manifest.model) == []
    assert found.vocab_size == 542 and found.quantization is None


def test_a_model_without_a_fast_tokenizer_is_refused(world: World, tmp_path: Path) -> None:
    world.model.config.save_pretrained(tmp_path)
    bare = AutoModelForCausalLM.from_config(world.model.config)
    bare.config._name_or_path = str(tmp_path)
    bare.name_or_path = str(tmp_path)
    with pytest.raises(UnsupportedError, match=r"no tokenizer\.json"):
        model_fingerprint(bare)


def test_artifacts_that_stop_nothing_are_refused(world: World) -> None:
    bare = makers.artifact(probe=None, cues=None, closing=None, model=None)
    for artifact, words in (
        (makers.artifact(calibrated=False), "is not calibrated"),
        (bare, "has no probe or no cues"),
    ):
        with pytest.raises(ArtifactError, match=words):
            ThinkingStopper(world.model, artifact)
    with pytest.raises(StopperError, match="calibrated on another model"):
        ThinkingStopper(world.model, makers.artifact())


def test_scores_are_left_as_they_are_where_nothing_is_forced(world: World) -> None:
    with ThinkingStopper(world.model, world.artifact) as stopper:
        scores = torch.from_numpy(np.zeros((1, 542), np.float32))
        assert stopper(world.inputs["input_ids"][:1], scores) is scores
