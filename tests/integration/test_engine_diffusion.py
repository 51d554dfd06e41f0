"""DiffusionGemma in vLLM's V2 runner, through Triton's interpreter: halts where the rule says.

A small model with random weights. One engine serves every case: it takes longer to start than to
run. A tap notes what vLLM's sampler saw, and the rule in numpy is asked about that.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusion_model import CANVAS, RULE, STEPS, make_artifact, make_model
from runs import environment

from probes.margins import aggregate, top2_margins
from stopper.halting import progress_at
from stopper.halting_policy import HaltingPolicy

pytestmark = pytest.mark.filterwarnings("ignore")  # those of transformers, making the model

HERE = Path(__file__).parent
ALPHAS = (0.1, 0.3, 0.5, 0.7, 0.9)

#: Every way to ask for something.
MIXED: list[dict[str, Any]] = [
    *({"stopper_alpha": alpha} for alpha in ALPHAS),
    {},
    {"stopper": 0},
    {"stopper": "audit", "stopper_alpha": 0.7},
    {"diffusion_max_steps": 5},
    {"diffusion_canvas_length": CANVAS // 2},
]
OFF, AUDIT, FEWER, NARROW = 6, 7, 8, 9

#: Nothing but requests that must not be touched.
UNTOUCHED: list[dict[str, Any]] = [{"stopper": (0, "audit")[n % 2]} for n in range(4)]


@dataclass(frozen=True)
class Runs:
    """What the engine did in each pass."""

    folder: Path
    result: dict[str, Any]
    policy: HaltingPolicy

    def steps(self, tap: str, number: int) -> list[dict[str, Any]]:
        """Give the tap's notes, each row by request."""
        folder = self.folder / f"{tap}-{number}"
        found = []
        for at, requests in enumerate(json.loads((folder / "requests.json").read_text())):
            step = dict(np.load(folder / f"{at:04d}.npz"))
            ends = np.cumsum(step["counts"])
            rows = {}
            for n, request in enumerate(requests):
                row = {name: step[name][n] for name in step if name != "logits"}
                row["logits"] = step["logits"][ends[n] - step["counts"][n] : ends[n]]
                rows[request.split("-")[0]] = row
            found.append(rows)
        return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("diffusion")
    model = make_model(folder / "model")
    artifact = make_artifact(folder / "artifact", model)
    passes = [
        [{"prompt": [5, 6, 7, *range(8, 9 + n)], "args": args} for n, args in enumerate(asked)]
        for asked in ([{}] * len(UNTOUCHED), UNTOUCHED, MIXED)
    ]
    spec = {"model": str(model), "artifact": str(folder / "artifact"), "passes": passes}
    (folder / "spec.json").write_text(json.dumps(spec))
    done = subprocess.run(
        [sys.executable, HERE / "diffusion_run.py", folder / "spec.json", folder],
        env=environment(v2=True) | {"PYTHONPATH": str(HERE / "diffusion_on_cpu")},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=1400,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    result = json.loads((folder / "result.json").read_text())
    return Runs(folder, result, HaltingPolicy.from_artifact(artifact))


def numbered(runs: Runs, number: int) -> list[str]:
    """Name the requests of a pass as the engine did: one after the other over all passes."""
    before = sum(len(one) for one in runs.result["passes"][:number])
    return [str(before + n) for n in range(len(runs.result["passes"][number]))]


def denoising(runs: Runs, number: int, request: str) -> list[list[dict[str, Any]]]:
    """Give a request's denoising steps, canvas by canvas.

    Under asynchronous scheduling one step more may be under way when the last canvas is committed;
    its result is thrown away.
    """
    canvases: list[list[dict[str, Any]]] = []
    current: list[dict[str, Any]] = []
    for rows in runs.steps("inner", number):
        row = rows.get(request)
        if row is None or not row["counts"]:
            continue
        if row["committing"]:
            canvases.append(current)
            current = []
        else:
            current.append(row)
    return canvases


def first_halt(scores: list[np.float32], level: np.float32) -> int | None:
    """Say where a canvas is halted; at its last step it ends anyway."""
    return next((i for i, score in enumerate(scores[:-1]) if score > level), None)


def pure_score(row: dict[str, Any], steps: int) -> np.float32:
    """Ask the rule in numpy about the logits that vLLM's sampler saw."""
    best = row["logits"].argmax(axis=-1)
    undecided = row["canvas"][: len(best)] != best
    region = undecided if undecided.any() else np.ones_like(undecided)
    margins = top2_margins(row["logits"])
    signal = aggregate(margins[np.newaxis], region[np.newaxis], RULE.aggregate)[0]
    return RULE.score(signal, progress_at(int(row["step"]), steps), changed=False)


def test_the_production_runner_and_scheduler_ran(runs: Runs) -> None:
    assert runs.result["runner"] == "v2"
    assert runs.result["async_scheduling"]


def test_requests_that_are_off_or_audited_get_the_tokens_they_get_without_stopper(
    runs: Runs,
) -> None:
    without, untouched, _ = runs.result["passes"]
    assert [one["tokens"] for one in untouched] == [one["tokens"] for one in without]
    assert {one["record"]["decision"] for one in untouched} <= {"off", "marked", "not_stopped"}


def test_every_request_halts_at_the_step_that_the_pure_rule_says(runs: Runs) -> None:
    halted_at = set()
    for n, request in enumerate(numbered(runs, 2)[: len(ALPHAS) + 1]):
        level = runs.policy.level(MIXED[n].get("stopper_alpha"))
        canvases = denoising(runs, 2, request)
        record = runs.result["passes"][2][n]["record"]
        assert len(canvases) == 2
        for number, steps in enumerate(canvases):
            scores = [pure_score(row, STEPS) for row in steps]
            first = next((i for i, score in enumerate(scores) if score > level), STEPS - 1)
            assert len(steps) == first + 1
            assert [int(row["cap"]) for row in steps] == [STEPS] * first + [first + 1]
            told = [first, float(scores[-1])] if first < STEPS - 1 else [None, None]
            assert record["canvases"][number] == [len(steps), *told]
            tokens = runs.result["passes"][2][n]["tokens"][number * CANVAS :][:CANVAS]
            assert tokens == steps[-1]["logits"].argmax(axis=-1).tolist()
            halted_at.add(len(steps))
        assert record["threshold"] == pytest.approx(float(level))
        assert record["alpha"] == MIXED[n].get("stopper_alpha", runs.policy.alpha)
        assert record["steps"] == sum(map(len, canvases))
        assert record["steps_saved"] == 2 * STEPS - record["steps"]
    assert len(halted_at) >= 4  # the case says something: early, late, in between, perhaps never


def test_neighbours_of_halting_requests_run_all_their_steps(runs: Runs) -> None:
    names = numbered(runs, 2)
    for n, steps in ((OFF, STEPS), (AUDIT, STEPS), (FEWER, 5), (NARROW, STEPS)):
        for canvas in denoising(runs, 2, names[n]):
            assert [int(row["step"]) for row in canvas] == list(range(steps))
            assert {int(row["cap"]) for row in canvas} == {steps}


def test_an_audit_is_marked_where_it_would_have_halted(runs: Runs) -> None:
    record = runs.result["passes"][2][AUDIT]["record"]
    level = runs.policy.level(0.7)
    for number, canvas in enumerate(denoising(runs, 2, numbered(runs, 2)[AUDIT])):
        scores = [pure_score(row, STEPS) for row in canvas]
        assert record["canvases"][number][:2] == [STEPS, first_halt(scores, level)]
    assert record["decision"] == "marked"
    assert record["steps"] == 2 * STEPS


def test_requests_that_ask_for_another_canvas_are_left_alone_and_told_so(runs: Runs) -> None:
    found = [runs.result["passes"][2][n]["record"] for n in (OFF, FEWER, NARROW)]
    assert [(one["decision"], one["reason"]) for one in found] == [
        ("off", "asked_off"),
        ("not_applied", "diffusion_max_steps"),
        ("not_applied", "diffusion_options"),
    ]


def test_no_cap_outlives_the_call_and_nothing_failed(runs: Runs) -> None:
    for rows in runs.steps("outer", 2):
        assert all(row["cap"] == row["cap_after"] for row in rows.values())
    assert runs.result["counters"]["fail_open"] == {}
