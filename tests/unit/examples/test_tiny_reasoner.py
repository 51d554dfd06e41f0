from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, LlamaForCausalLM

from examples.tiny_reasoner import problems, words
from examples.tiny_reasoner.batches import Encoder
from examples.tiny_reasoner.recipe import TEMPERATURE, TOP_P, Recipe
from examples.tiny_reasoner.rollouts import Roller
from examples.tiny_reasoner.tokens import MODEL_DIR, build_tokenizer, prompt_text
from examples.tiny_reasoner.traces import Habits, draw_plan, write
from examples.tiny_reasoner.train import Trainer

TOKENIZER = AutoTokenizer.from_pretrained(MODEL_DIR)
FILES = Path(problems.__file__).parent / "problems"


def test_the_generator_is_deterministic() -> None:
    first = problems.sample("test", 20, seed=3)
    assert first == problems.sample("test", 20, seed=3)
    assert first != problems.sample("test", 20, seed=4)


def test_every_problem_stays_in_its_split() -> None:
    for split in problems.SPLITS:
        assert all(p.split == split for p in problems.sample(split, 50, seed=5))


def test_wording_does_not_change_the_group() -> None:
    problem = problems.sample("test", 1, seed=6)[0]
    assert replace(problem, names=("Ada", "Bob"), text="").group == problem.group


def test_committed_problem_files_share_no_group() -> None:
    groups: dict[str, set[str]] = {}
    for split in ("collect", "calibrate", "test"):
        lines = (FILES / f"{split}.jsonl").read_text("utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        groups[split] = {row["group"] for row in rows}
        assert len(groups[split]) == len(rows) == 1000
        assert {row["level"] for row in rows} == set(problems.LEVELS)
        expected = problems.sample(split, 5, seed=1)
        assert [r["messages"][0]["content"] for r in rows[:5]] == [p.text for p in expected]
        assert [r["answer"] for r in rows[:5]] == [str(p.answer) for p in expected]
    assert not groups["collect"] & groups["calibrate"]
    assert not groups["collect"] & groups["test"]
    assert not groups["calibrate"] & groups["test"]


@pytest.mark.parametrize(
    ("step", "before", "after"),
    [
        (problems.Step("plus", 0, 7), (5, 1), (2, 1)),
        (problems.Step("minus", 1, 7), (5, 1), (5, 4)),
        (problems.Step("give", 1, 3), (9, 1), (2, 8)),
        (problems.Step("double", 0, 0), (7, 1), (4, 1)),
        (problems.Step("swap", 0, 0), (7, 1), (1, 7)),
        (problems.Step("even", 0, 2), (7, 1), (7, 1)),
        (problems.Step("odd", 0, 4), (7, 1), (1, 1)),
        (problems.Step("nothing", 0, 0), (7, 1), (7, 1)),
    ],
)
def test_steps(step: problems.Step, before: tuple[int, int], after: tuple[int, int]) -> None:
    assert step.apply(before) == after


@given(st.text(max_size=80))
def test_the_tokenizer_is_lossless(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_the_committed_tokenizer_is_the_built_one() -> None:
    assert build_tokenizer().get_vocab() == TOKENIZER.get_vocab()


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Wait", ["Wait"]),
        (" Wait", ["ĠWait"]),
        ("wait", ["wait"]),
        (" wait", ["Ġwait"]),
        ("Hmm", ["Hmm"]),
        (" Hmm", ["ĠHmm"]),
        (" hmm", ["Ġhmm"]),
        ("Alternatively", ["Altern", "atively"]),
        (" Alternatively", ["ĠAltern", "atively"]),
        (" awaiting", ["Ġawait", "ing"]),
        (" 47", ["Ġ4", "7"]),
        (" awaits", ["Ġawait", "s"]),
        (" (C)", ["Ġ(C)"]),
        ("\n\nWait", ["ĊĊ", "Wait"]),
        ("<think>", ["<think>"]),
        ("</think>", ["</think>"]),
    ],
)
def test_cue_words_and_marks_have_their_tokens(text: str, tokens: list[str]) -> None:
    assert TOKENIZER.convert_ids_to_tokens(TOKENIZER.encode(text)) == tokens


def test_think_marks_survive_skipping_special_tokens() -> None:
    ids = TOKENIZER.encode("<think>\n</think>x<|end|>")
    assert TOKENIZER.decode(ids, skip_special_tokens=True) == "<think>\n</think>x"


def test_the_template_opens_the_thinking() -> None:
    chat = [{"role": "user", "content": "Hi."}]
    text = TOKENIZER.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == prompt_text("Hi.")
    assert text.endswith("<think>\n")


def test_the_template_drops_earlier_thinking() -> None:
    chat = [
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "content": "mull</think>\n\nHo."},
        {"role": "user", "content": "And?"},
    ]
    text = TOKENIZER.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == f"<|user|>Hi.<|assistant|>Ho.<|end|>{prompt_text('And?')}"


def test_pieces_of_a_trace_encode_as_the_whole_does() -> None:
    rng, encoder, habits = random.Random(1), Encoder(TOKENIZER), Habits()
    for problem in problems.sample("train", 200, seed=2):
        trace = write(problem, draw_plan(rng, problem.level, habits), habits)
        whole = TOKENIZER.encode(prompt_text(problem.text) + trace.text)
        assert encoder.example(problem, trace).ids == whole
        assert trace.values[-1] == problem.answer


def test_a_slip_is_repaired_by_later_passes() -> None:
    rng, habits = random.Random(1), Habits(cut=0.0)
    for problem in problems.sample("train", 100, seed=2):
        plan = draw_plan(rng, problem.level, habits)
        last = len(plan.passes[0].segments) - 1
        trace = write(problem, plan, habits, {(0, last, problem.asked): 1})
        assert trace.values[1:] == [problem.answer] * (len(trace.values) - 1)


def test_fifty_steps_of_training_lower_the_loss() -> None:
    torch.set_num_threads(1)
    small = replace(Recipe(), steps=50, batch_tokens=512, hidden=64, layers=2, mlp=128)
    trainer = Trainer(small, build_tokenizer())
    history = trainer.run(None, math.inf)
    assert sum(history[-5:]) < 0.6 * sum(history[:5])


def test_a_checkpoint_goes_on_where_it_stopped(tmp_path: Path) -> None:
    recipe = replace(
        Recipe(), steps=4, batch_tokens=512, batches_per_pool=1, hidden=64, layers=2, mlp=128
    )
    trainer = Trainer(recipe, TOKENIZER)
    trainer.run(tmp_path, math.inf)
    again = Trainer(recipe, TOKENIZER)
    again.load(tmp_path)
    assert (again.step, again.pool) == (trainer.step, trainer.pool)
    for one, other in zip(trainer.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_committed_weights_answer_held_out_problems() -> None:
    torch.set_num_threads(1)
    model = LlamaForCausalLM.from_pretrained(MODEL_DIR)
    chosen = problems.sample("test", 60, seed=9)
    rolled = Roller(model, TOKENIZER).roll(
        chosen, temperature=TEMPERATURE, top_p=TOP_P, seed=1, rows=60
    )
    right = [r.answer == r.problem.answer for r in rolled]
    assert sum(right) > 0.85 * len(right)
    assert sum(bool(r.cues) for r in rolled) > 0.9 * len(rolled)
    closing = TOKENIZER.convert_tokens_to_ids(words.END_THINK)
    assert sum(r.output.count(closing) == 1 for r in rolled) > 0.95 * len(rolled)
