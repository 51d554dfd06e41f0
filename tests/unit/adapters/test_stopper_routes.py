"""The routes on vLLM's server, over real sessions behind an engine of two ranks."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from session_makers import SO, WAIT, admit, feed, request, session
from starlette.testclient import TestClient

from adapters.vllm.endpoint import DecisionsEndpoint
from adapters.vllm.session import Session
from stopper.exposition import FAMILIES

NAME = "chatcmpl-7/b"  # a client may call its request anything
ENGINE = f"{NAME}-0a1b2c3d"


class Engine:
    """As much of an engine client as the routes use; its first rank samples nothing."""

    def __init__(self, one: Session) -> None:
        self._session = one
        self.gone: set[str] = set()
        self.output_processor = SimpleNamespace(has_request=lambda name: name not in self.gone)

    async def collective_rpc(self, method: str, args: tuple[Any, ...]) -> list[Any]:
        one = self._session
        if method == "stopper_decision":
            return [None, one.decision(*args)]
        if method == "stopper_stop_thinking":
            found = one.stop_thinking(*args)
            asked = {"outcome": found.outcome, "reason": found.reason}
            return [None, {**asked, "request_ids": list(found.request_ids)}]
        assert method in ("stopper_decisions", "stopper_counters")
        return [[], one.decisions(*args)] if args else [{}, one.counters()]


@pytest.fixture
def engine() -> Engine:
    return Engine(session())


@pytest.fixture
def app(engine: Engine) -> FastAPI:
    made = FastAPI()
    made.state.stopper_engine = engine
    made.state.vllm_config = SimpleNamespace(
        additional_config={"stopper": {}},
        parallel_config=SimpleNamespace(data_parallel_size=1, _api_process_count=1),
    )
    DecisionsEndpoint().attach_router(made)
    return made


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as made:
        yield made


def stop(client: TestClient, name: str) -> tuple[int, dict[str, Any]]:
    found = client.post(f"/stopper/requests/{name}/stop-thinking")
    return found.status_code, found.json()


def test_a_running_request_is_stopped_and_told_of(client: TestClient, engine: Engine) -> None:
    one = engine._session
    admit(one, request(ENGINE), request("off-0a1b2c3d", {"stopper": 0}))
    feed(one, ENGINE, SO)
    status, said = stop(client, NAME)
    assert (status, said["outcome"], said["request_ids"]) == (200, "stopping", [ENGINE])
    assert stop(client, NAME)[0] == 409
    assert stop(client, NAME)[1]["outcome"] == "already_stopping"
    assert feed(one, ENGINE, SO, SO, start=2) == [2]
    record = client.get(f"/stopper/decisions/{NAME}").json()
    assert (record["request_id"], record["reason"]) == (ENGINE, "asked_to_stop")
    status, said = stop(client, "off")
    assert (status, said["outcome"], said["reason"]) == (409, "not_watched", "asked_off")
    assert client.get("/stopper/counters").json()["fail_open"] == {}
    assert client.get("/stopper/metrics").status_code == 200
    told = client.get("/stopper/decisions").json()["decisions"]
    assert {one["request_id"] for one in told} == {ENGINE, "off-0a1b2c3d"}


def test_who_has_finished_is_unknown_before_the_worker_hears_of_it(
    client: TestClient, engine: Engine, app: FastAPI
) -> None:
    admit(engine._session, request(ENGINE))
    feed(engine._session, ENGINE, WAIT)
    engine.gone.add(ENGINE)
    assert stop(client, NAME)[0] == 404
    app.state.vllm_config.parallel_config._api_process_count = 2  # another one may know of it
    assert stop(client, NAME)[1]["outcome"] == "already_stopping"


def test_nobody_is_404(client: TestClient, app: FastAPI) -> None:
    status, said = stop(client, "nobody")
    assert (status, said["outcome"], said["request_ids"]) == (404, "unknown", [])
    assert "data-parallel" not in said["detail"]
    assert client.get("/stopper/decisions/nobody").status_code == 404
    app.state.vllm_config.parallel_config.data_parallel_size = 2
    assert "data-parallel" in stop(client, "nobody")[1]["detail"]


def test_without_stopper_everything_is_409(client: TestClient, app: FastAPI) -> None:
    for off in ({}, None, "stopper"):
        app.state.vllm_config.additional_config = off
        assert stop(client, NAME)[0] == 409
        assert client.get(f"/stopper/decisions/{NAME}").status_code == 409
        assert client.get("/stopper/metrics").status_code == 409


def test_prometheus_reads_what_the_counters_say(client: TestClient, engine: Engine) -> None:
    admit(engine._session, request(ENGINE))
    feed(engine._session, ENGINE, WAIT, WAIT)
    engine._session.close()
    counters = client.get("/stopper/counters").json()
    assert counters["decisions"]
    samples = [
        sample
        for family in text_string_to_metric_families(client.get("/stopper/metrics").text)
        for sample in family.samples
    ]
    told = {
        (sample.name, label): sample.value for sample in samples for label in sample.labels.values()
    }
    assert told == {
        (FAMILIES[group][0], label): number
        for group, found in counters.items()
        for label, number in found.items()
    }
