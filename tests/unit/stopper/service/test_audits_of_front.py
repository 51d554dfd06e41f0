import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from audit_makers import (
    VERSION,
    ask,
    audits_of,
    counted,
    engine,
    finished,
    outcomes,
    record,
    standing,
    until,
)
from sidecars import ARTIFACT, replica, settings

from calibration.monitor import read_audits
from stopper.artifact import Artifact
from stopper.errors import InputError
from stopper.scripted.app import ScriptedEngine
from stopper.scripted.faults import Fault
from stopper.scripted.serving import serving
from stopper.service.app import create_app
from stopper.service.audits import auditor
from stopper.service.examination import examine
from stopper.service.runtime import Runtime

LATE = Fault(kind="delay", seconds=0.4)
BUSY = Fault(kind="status", code=503, times=3)
TOO_LONG = Fault(kind="status", code=400)
BROKEN = Fault(kind="status", code=500)


@contextlib.asynccontextmanager
async def audited(
    app: ScriptedEngine, folder: Path = ARTIFACT, **audits: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, Runtime]]:
    """A sidecar that audits every request, in front of a real server."""
    with serving(app) as url:
        chosen = settings(folder, upstreams=[url], audits={"share": 1.0, **audits})
        async with replica(chosen) as found:
            yield found


def follow_ups(app: ScriptedEngine) -> list[dict[str, Any]]:
    return [seen.body for seen in app.engine.log if seen.path == "/v1/completions"]


def test_audits_of_live_requests_compare_the_answer_at_the_mark_with_the_full_one(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        app, log = engine(), tmp_path / "audits.jsonl"
        async with audited(app, log=log) as (client, _):
            texts = ["right", "wrong", "same", "mute", "calm", "plain", "right"]
            for number, text in enumerate(texts):
                await ask(client, text, stream=bool(number % 2))

            async def all_in() -> bool:
                return (await audits_of(client))[0] == len(texts)

            await until(all_in)
            assert await audits_of(client) == (7, 2)  # wrong, mute
            assert await outcomes(client) == {"good": 5, "bad": 2}
            missing = await counted(client, "stopper_audits_without_answer_total")
            assert missing == {"full": 1}
        found = list(read_audits(log))
        assert [audit.loss for audit in found] == [0, 1, 0, 1, 0, 0, 0]  # as they finished
        assert [audit.marked for audit in found] == [*[True] * 4, False, False, True]
        assert [audit.cues for audit in found] == [2, 2, 2, 2, 1, 0, 2]
        assert {audit.top_score for audit in found} == {3.5, 0.5, None}
        assert len({audit.request_id for audit in found}) == 7

    asyncio.run(run())


def test_the_client_has_its_answer_before_anything_is_asked_further() -> None:
    async def run() -> None:
        app = engine()
        closing = Artifact.load(ARTIFACT).manifest.closing
        assert closing is not None
        async with audited(app) as (client, runtime):
            heard: list[int] = []
            runtime.finished.listen(lambda _: heard.append(len(follow_ups(app))))
            runtime.finished.listen(lambda _: app.engine.faults.set(LATE))
            await ask(client, "right")
            assert heard == [0]
            found = (await client.get("/v1/status")).json()
            assert found["auditing"] == {"share": 1.0, "waiting": 1, "lost": 0}
            assert await standing(client) is None

            async def in_and_shown() -> bool:
                found = (await client.get("/v1/status")).json()
                (artifact,) = found["artifacts"]
                shown = sum(artifact["scores"]["recent"]) == 2 and len(found["decisions"]) == 1
                return shown and await audits_of(client) == (1, 0)

            await until(in_and_shown)
            found = (await client.get("/v1/status")).json()
            (decision,) = found["decisions"]
            assert (decision["source"], decision["decision"]) == ("front", "audited")
            assert found["auditing"]["waiting"] == 0
            (body,) = follow_ups(app)
            text = app.engine.tokenizer.decode(body.pop("prompt"))
            assert text.endswith("<think>Let me see. Wait</think>" + closing.answer_prompt)
            assert body == {
                "model": "tiny",
                "max_tokens": closing.max_answer_tokens,
                "temperature": 0,
                "vllm_xargs": {"stopper": 0},
            }

    asyncio.run(run())


def test_audits_wait_for_an_engine_that_fails_and_keep_their_order(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(auditor, "PAUSES_S", (0.02,))
    monkeypatch.setattr(auditor, "MOST_TRIES", 2)

    async def run() -> None:
        app, log = engine(), tmp_path / "audits.jsonl"
        async with audited(app, log=log) as (client, runtime):
            runtime.finished.listen(lambda _: app.engine.faults.set(BUSY))
            await ask(client, "wrong")
            calm = record(decision="not_stopped", position=None, score=None)
            runtime.finished.tell(finished(1, record=calm))
            assert await standing(client) is None

            async def two_in() -> bool:
                return await audits_of(client) == (2, 1)

            await until(two_in)
            assert [audit.marked for audit in read_audits(log)] == [True, False]
            assert await counted(client, "stopper_audits_without_answer_total") == {}

    asyncio.run(run())


def test_nothing_is_judged_while_an_engine_is_away_and_new_requests_are_left_out_unseen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(auditor, "PAUSES_S", (0.05,))
    monkeypatch.setattr(auditor, "MOST_WAITING", 3)
    monkeypatch.setattr(auditor, "LAST_S", 0.1)

    async def run() -> None:
        async with replica(settings()) as (client, runtime):
            calm = record(decision="not_stopped", position=None, score=None)
            runtime.finished.tell(finished(0))  # marked, its engine is nowhere
            for number in range(1, 3):
                runtime.finished.tell(finished(number, record=calm))
            for number in range(3, 6):  # marked or not
                runtime.finished.tell(finished(number, **({"record": calm} if number % 2 else {})))
            await asyncio.sleep(0.3)
            assert await standing(client) is None
            assert await outcomes(client) == {"queue_full": 3}

    asyncio.run(run())


@pytest.mark.parametrize("fault", [TOO_LONG, BROKEN])
def test_an_engine_that_refuses_a_mark_for_good_has_no_answer_there_which_is_bad(
    fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditor, "PAUSES_S", (0.02,))

    async def run() -> None:
        app = engine()
        async with audited(app) as (client, runtime):
            runtime.finished.listen(lambda _: app.engine.faults.set(fault))
            await ask(client, "right")

            async def one_in() -> bool:
                return await audits_of(client) == (1, 1)

            await until(one_in)
            missing = await counted(client, "stopper_audits_without_answer_total")
            assert missing == {"engine": 1}

    asyncio.run(run())


def test_requests_that_cannot_be_audited_are_counted_by_their_reason() -> None:
    calm: dict[str, Any] = {"decision": "not_stopped", "position": None, "score": None}
    cases: list[tuple[str, dict[str, Any]]] = [
        ("no_record", {"record": None}),
        ("no_record", {"record": {"decision": "marked"}}),
        ("no_record", {"record": record(**calm, top_score=None)}),
        ("not_applied", {"record": record(decision="failed_open")}),
        ("not_applied", {"record": record(decision="stopped", reason="asked_to_stop")}),
        ("unknown_artifact", {"record": record(artifact="0" * 16)}),
        ("no_token_ids", {"output_token_ids": None}),
        ("good", {"record": record(**calm, cues=0, top_score=None)}),
        ("good", {"record": record(**calm)}),
    ]

    async def run() -> None:
        async with replica(settings()) as (client, runtime):
            for number, (_, changes) in enumerate(cases):
                runtime.finished.tell(finished(number, **changes))
            runtime.finished.tell(finished(99, audited=False))
            wanted = Counter(outcome for outcome, _ in cases)

            async def told() -> bool:
                return await outcomes(client) == wanted

            await until(told)

    asyncio.run(run())


def test_a_loss_that_needs_right_answers_is_said_at_start_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = Artifact.load(ARTIFACT)
    calibration = loaded.manifest.calibration
    assert calibration is not None
    changed = calibration.model_copy(update={"loss": "harm"})
    Artifact(
        manifest=loaded.manifest.model_copy(update={"calibration": changed}),
        probe=loaded.probe,
        cues=loaded.cues,
        worst_scores=loaded.worst_scores,
        splits=loaded.splits,
    ).save(tmp_path / "harm")

    found = examine(settings(tmp_path / "harm", upstreams=["http://127.0.0.1:9"]))
    assert any("no live audits" in warning for warning in found.warnings)

    async def run() -> None:
        app = engine()
        async with audited(app, tmp_path / "harm") as (client, runtime):
            assert "needs the right answers" in caplog.text
            (served,) = runtime.catalog.all_active()
            assert served.version != VERSION
            runtime.finished.tell(finished(record=record(artifact=served.version)))
            assert await outcomes(client) == {"needs_gold": 1}

    asyncio.run(run())


def test_a_method_that_does_not_exist_is_refused_before_anything_is_served() -> None:
    chosen = settings(audits={"method": "guessing"})
    with pytest.raises(InputError, match=r"audits: .*guessing.*betting"):
        create_app(chosen)
    assert any("guessing" in fault for fault in examine(chosen).faults)
