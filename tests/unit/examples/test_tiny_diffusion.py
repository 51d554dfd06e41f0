from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adapters.transformers.identity import load_tokenizer
from examples.tiny_diffusion import problems
from examples.tiny_diffusion.batches import collate, draw_masks
from examples.tiny_diffusion.measure import full_decodes, replays
from examples.tiny_diffusion.muon import orthogonal
from examples.tiny_diffusion.recipe import CANVAS, Recipe
from examples.tiny_diffusion.tokens import MODEL_DIR, TASKS, build_tokenizer
from examples.tiny_diffusion.train import Trainer, canvas_logits

TOKENIZER = build_tokenizer()
FILES = Path(problems.__file__).parent / "problems"


def test_the_generator_is_deterministic() -> None:
    first = problems.sample("test", 20, seed=3)
    assert first == problems.sample("test", 20, seed=3)
    assert first != problems.sample("test", 20, seed=4)


def test_every_problem_stays_in_its_split() -> None:
    for split in problems.SPLITS:
        assert all(p.split == split for p in problems.sample(split, 50, seed=5))


def test_committed_problem_files_share_no_group() -> None:
    groups: dict[str, set[str]] = {}
    for split in ("select", "calibrate", "test"):
        lines = (FILES / f"{split}.jsonl").read_text("utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        groups[split] = {row["group"] for row in rows}
        assert len(groups[split]) == len(rows) == 1000
        assert {row["category"] for row in rows} == set(TASKS)
        expected = problems.sample(split, 5, seed=1)
        assert [(r["prompt"], r["answer"]) for r in rows[:5]] == [
            (p.prompt, p.answer) for p in expected
        ]
    assert not groups["select"] & groups["calibrate"]
    assert not groups["select"] & groups["test"]
    assert not groups["calibrate"] & groups["test"]


def _follow(prompt: list[str]) -> list[str]:
    *arrows, _, place = prompt[2:]
    steps = dict(arrow.split(">") for arrow in arrows)
    path = []
    while place in steps:
        place = steps[place]
        path.append(place)
    return path


def _walk(prompt: list[str]) -> list[str]:
    place, places = int(prompt[-2]), []
    for sign in prompt[1 : problems.WALK + 1]:
        if sign != ".":
            place += {"+": 1, "-": -1, "=": 0}[sign]
            places.append(str(place % 10))
    return places


@pytest.mark.parametrize("task", TASKS)
def test_answers_are_right_and_fit_the_canvas(task: str) -> None:
    for problem in (p for p in problems.sample("train", 300, seed=2) if p.task == task):
        words, answer = problem.prompt.split(), problem.answer.split()
        assert words[0] == task
        assert ":" in words
        assert len(answer) < CANVAS
        given = words[1:-1]
        expected = {
            "copy": lambda given=given: given,
            "reverse": lambda given=given: given[::-1],
            "sort": lambda given=given: sorted(given),
            "follow": lambda words=words: _follow(words),
            "walk": lambda words=words: _walk(words),
        }
        assert answer == expected[task]()


def test_prompts_and_answers_survive_the_tokenizer() -> None:
    for problem in problems.sample("train", 200, seed=2):
        ids = TOKENIZER.encode(problem.prompt)
        assert TOKENIZER.unk_token_id not in ids
        assert TOKENIZER.decode(TOKENIZER.encode(problem.answer)) == problem.answer


def test_a_chat_of_one_message_is_that_message() -> None:
    chat = [{"role": "user", "content": "copy a b :"}]
    assert TOKENIZER.apply_chat_template(chat, tokenize=False) == "copy a b :"


def test_the_committed_tokenizer_is_the_built_one() -> None:
    committed = load_tokenizer(MODEL_DIR)
    assert committed.get_vocab() == TOKENIZER.get_vocab()
    assert committed.encode("follow a>b from a :") == TOKENIZER.encode("follow a>b from a :")


@given(
    st.integers(0, 2**32),
    st.integers(1, 8),
    st.integers(9, CANVAS),
    st.sampled_from((0.0, 0.3, 1.0)),
)
def test_something_hidden_is_always_learned(
    seed: int, length: int, canvas: int, ahead: float
) -> None:
    hidden, learned = draw_masks(random.Random(seed), length, canvas, ahead)
    assert len(hidden) == len(learned) == canvas
    assert any(learned)
    assert all(h for h, chosen in zip(hidden, learned, strict=True) if chosen)
    if ahead == 1.0:
        first = hidden.index(True)
        assert first < length
        assert hidden == [i >= first for i in range(canvas)]
        assert learned == [i == first for i in range(canvas)]


def test_batches_hide_cells_of_the_canvas_alone() -> None:
    drawn = problems.sample("train", 16, seed=2)
    batch = collate(random.Random(1), drawn, CANVAS, TOKENIZER, dict.fromkeys(TASKS, 0.3))
    canvas = batch.ids[:, -CANVAS:]
    hidden = canvas == TOKENIZER.mask_token_id
    assert hidden[batch.learned].all()
    assert torch.equal(canvas[~hidden], batch.targets[~hidden])
    assert not (batch.ids[:, :-CANVAS] == TOKENIZER.mask_token_id).any()
    assert torch.equal(batch.attended, batch.ids != TOKENIZER.pad_token_id)


def test_the_network_sees_both_ways_and_no_padding() -> None:
    model = Trainer(Recipe(), TOKENIZER).model.eval()
    ids = torch.tensor([TOKENIZER.encode("copy a b : a b")])
    other, padded = ids.clone(), torch.nn.functional.pad(ids, (3, 0))
    other[0, -1] = TOKENIZER.encode("c")[0]
    with torch.inference_mode():
        logits = canvas_logits(model, ids, torch.ones_like(ids, dtype=torch.bool), 2)
        changed = canvas_logits(model, other, torch.ones_like(ids, dtype=torch.bool), 2)
        moved = canvas_logits(model, padded, padded != TOKENIZER.pad_token_id, 2)
    assert not torch.allclose(logits[0, 0], changed[0, 0])
    torch.testing.assert_close(moved, logits, rtol=1e-3, atol=1e-3)


def test_orthogonal_brings_singular_values_near_one() -> None:
    matrix = torch.randn(24, 16, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonal(matrix))
    assert 0.5 < values.min() <= values.max() < 1.3


def _small(rows: int, batches: int) -> Recipe:
    stage = replace(Recipe().stages[0], rows=rows)
    return replace(Recipe(), batches_per_pool=batches, stages=(stage,))


def test_fifty_steps_of_training_lower_the_loss() -> None:
    torch.set_num_threads(1)
    history = Trainer(_small(rows=8, batches=25), TOKENIZER).run(None, 600, steps=50)
    assert len(history) == 50
    assert sum(history[-5:]) < 0.9 * sum(history[:5])


def test_a_resumed_training_goes_on_as_if_never_stopped(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    recipe = _small(rows=4, batches=2)
    whole, half, rest = (Trainer(recipe, TOKENIZER) for _ in range(3))
    whole.run(None, 600, steps=4)
    half.run(tmp_path, 600, steps=2)
    rest.load(tmp_path)
    rest.run(None, 600, steps=4)
    assert rest.step == whole.step == 4
    for name, weight in rest.model.state_dict().items():
        torch.testing.assert_close(weight, whole.model.state_dict()[name])


def test_the_learning_rate_falls_at_the_end_of_every_cycle() -> None:
    recipe, start = Recipe(), 0
    for cycle in recipe.cycles:
        middle = start + int(cycle.steps * cycle.decay_from)
        start += cycle.steps
        assert recipe.learning_rate(middle - 1) == cycle.rate
        assert recipe.learning_rate(start - 1) < 0.03 * cycle.rate
    assert start == recipe.steps


def test_stages_follow_one_another() -> None:
    recipe = Recipe()
    assert recipe.stage(0) is recipe.stages[0]
    assert recipe.stage(recipe.stages[0].pools) is recipe.stages[1]
    assert recipe.stage(10**6) is recipe.stages[-1]


def test_the_committed_weights_solve_most_problems() -> None:
    torch.set_num_threads(1)
    drawn = problems.sample("test", 20, seed=8)
    found = replays(drawn, full_decodes(MODEL_DIR, drawn, progress=False))
    assert sum(r.right for r in found) >= 16
    assert any(not r.agrees[0] for r in found)
    assert all(r.agrees[-1] for r in found)
