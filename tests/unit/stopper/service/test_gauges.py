"""What stands now is in `/metrics`: artifacts, audits against alpha, engines, the replica."""

from __future__ import annotations

import asyncio
import math
import re
from pathlib import Path

import httpx
from audit_makers import VERSION, ask, bad, engine, hand_in, until
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families
from sidecars import ARTIFACT, MODEL, another, replica, settings

from stopper.scripted.serving import serving
from stopper.service.metrics import Metrics
from stopper.service.proxy.gauges import label_of
from tests.servers import free_port

PAGE = Path(__file__).resolve().parents[4] / "docs" / "sidecar.md"


async def metrics(client: httpx.AsyncClient) -> dict[str, float]:
    """Every sample, by its name and the values of its labels but for the artifact's version."""
    text = (await client.get("/metrics")).text
    return {
        " ".join([sample.name, *(v for k, v in sample.labels.items() if k != "artifact")]):
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }  # fmt: skip


def test_an_artifact_shows_its_alpha_and_when_it_expires_until_another_succeeds_it(
    tmp_path: Path,
) -> None:
    another(tmp_path / "first")
    another(tmp_path / "second")

    async def run() -> None:
        async with replica(settings(tmp_path / "first")) as (client, runtime):
            old = runtime.catalog.active(MODEL)
            load = {"model": MODEL, "folder": "second"}
            assert (await client.post("/v1/artifacts/load", json=load)).status_code == 200
            new = runtime.catalog.active(MODEL)
            sample = runtime.metrics.registry.get_sample_value
            for served, active in ((old, False), (new, True)):
                labels = {"model": MODEL, "artifact": served.version}
                alpha = sample("stopper_artifact_alpha", labels)
                expires = sample("stopper_artifact_expires_timestamp_seconds", labels)
                assert alpha is not None
                assert expires is not None
                if active:
                    assert served.artifact.manifest.expires is not None
                    assert alpha == served.alpha
                    assert expires == served.artifact.manifest.expires.timestamp()
                else:
                    assert math.isnan(alpha)
                    assert math.isnan(expires)

    asyncio.run(run())


def test_a_model_whose_artifact_cannot_be_used_is_shown_while_that_lasts() -> None:
    async def run() -> None:
        async with replica(settings()) as (client, runtime):
            for why, shown in ((None, 0.0), ("it expired", 1.0), (None, 0.0)):
                runtime.catalog.withhold(MODEL, why)
                found = await metrics(client)
                assert found[f"stopper_artifact_unavailable {MODEL}"] == shown
                assert math.isnan(found[f"stopper_artifact_expires_timestamp_seconds {MODEL}"])

    asyncio.run(run())


def test_the_audits_stand_in_the_metrics_as_in_the_status_and_are_gone_after_re_arming() -> None:
    async def run() -> None:
        async with replica(settings()) as (client, _):
            assert "stopper_bad_stop_share" not in await metrics(client)
            await hand_in(client, bad(range(20)))
            (served,) = (await client.get("/v1/status")).json()["artifacts"]
            figures, found = served["standing"], await metrics(client)
            for name, field in (
                ("audited_requests", "audits"), ("bad_stop_share", "share"),
                ("bad_stop_share_low", "low"), ("bad_stop_share_high", "high"),
                ("audited_alpha", "alpha"), ("drift_evidence", "value"), ("drift_bar", "bar"),
            ):  # fmt: skip
                assert found[f"stopper_{name}"] == figures[field]
            assert found["stopper_bad_stop_share_low"] > found["stopper_audited_alpha"]
            assert found["stopper_alarm"] == 1
            warned = {warning["panel"] for warning in figures["warnings"]}
            for panel in ("cues", "tokens", "top_scores"):
                assert found[f"stopper_profile_warning {panel}"] == float(panel in warned)

            again = {"artifact": VERSION, "why": "the prompts were changed back"}
            assert (await client.post("/v1/alarm/re-arm", json=again)).status_code == 200
            found = await metrics(client)
            assert math.isnan(found["stopper_bad_stop_share"])
            assert found["stopper_alarm"] == 0

    asyncio.run(run())


def test_engines_are_shown_with_their_failures_and_breakers_and_responses_by_status() -> None:
    async def run() -> None:
        dead = f"http://127.0.0.1:{free_port()}"
        with serving(engine()) as url:
            chosen = settings(upstreams=[url, dead], audits={"share": 0.0})
            async with replica(chosen) as (client, _):

                async def both_asked() -> bool:
                    return (await metrics(client))[f"stopper_upstream_up {url}"] == 1

                await until(both_asked)
                for _ in range(2):
                    await ask(client, "right")
                assert (await client.post("/v1/completions", content=b"x")).status_code == 400
                found = await metrics(client)
                assert found[f"stopper_upstream_up {dead}"] == 0
                assert found["stopper_ready"] == 1
                assert found[f"stopper_upstream_requests {url}"] == 0
                assert found[f"stopper_upstream_failures_total {url}"] == 0
                assert found[f"stopper_upstream_breaker_open {url}"] == 0
                assert found["stopper_front_responses_total 200"] == 2
                assert found["stopper_front_responses_total 400"] == 1

    asyncio.run(run())


def test_a_replica_without_a_living_engine_is_shown_as_not_ready_and_its_breaker_as_open() -> None:
    async def run() -> None:
        dead = f"http://127.0.0.1:{free_port()}"
        chosen = settings(upstreams=[dead], proxy={"breaker_failures": 1, "retries": 0})
        async with replica(chosen) as (client, _):
            body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
            statuses = [
                (await client.post("/v1/chat/completions", json=body)).status_code for _ in range(2)
            ]
            assert statuses == [502, 503]

            async def unready() -> bool:
                return (await metrics(client))["stopper_ready"] == 0

            await until(unready)
            found = await metrics(client)
            assert found[f"stopper_upstream_up {dead}"] == 0
            assert found[f"stopper_upstream_breaker_open {dead}"] == 1
            assert found[f"stopper_upstream_failures_total {dead}"] == 1
            assert found["stopper_front_responses_total 502"] == 1
            assert found["stopper_front_responses_total 503"] == 1

    asyncio.run(run())


def test_scores_that_an_engine_decided_on_are_counted_with_its_report() -> None:
    async def run() -> None:
        with serving(engine()) as url:
            chosen = settings(ARTIFACT, upstreams=[url], audits={"share": 0.0})
            async with replica(chosen) as (client, _):
                await ask(client, "right")  # stopped at its first cue, of score 2.5
                await ask(client, "calm")  # one cue of score 0.5
                found = await metrics(client)
                assert found["stopper_probe_score_count"] == 2
                below = [found[f"stopper_probe_score_bucket {le}"] for le in ("0.0", "1.0", "3.0")]
                assert below == [0, 1, 2]

    asyncio.run(run())


def test_no_label_tells_the_password_in_an_engines_url() -> None:
    assert label_of("http://user:secret@engine:8000/base") == "http://engine:8000/base"
    assert label_of("http://10.0.0.7:8000") == "http://10.0.0.7:8000"


def test_the_page_of_the_sidecar_names_every_metric_with_its_labels() -> None:
    table = {}
    for row in re.findall(r"^\| (`stopper_[^|]*) \|([^|]*)\|", PAGE.read_text(), re.MULTILINE):
        for name in re.findall(r"`(\w+)`", row[0]):
            table[name] = tuple(re.findall(r"`(\w+)`", row[1]))
    known = {}
    for metric in vars(Metrics()).values():
        if isinstance(metric, Counter | Gauge | Histogram):
            (family,) = metric.describe()
            name = family.name + ("_total" if family.type == "counter" else "")
            known[name] = tuple(metric._labelnames)
    assert len(known) > 30
    assert table == known
