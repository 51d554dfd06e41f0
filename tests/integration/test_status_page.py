"""The status page of a real sidecar in a real Chromium."""

from __future__ import annotations

import hashlib
import shutil
from datetime import UTC, datetime, timedelta

import httpx
import msgspec
import numpy as np
import pytest
from playwright.sync_api import expect, sync_playwright
from runs import ARTIFACT

from stopper.artifact import Artifact
from stopper.service.app import create_app
from stopper.service.auth import ApiKey, KeyRing
from stopper.service.runtime import Runtime
from stopper.service.settings import ServeSettings
from stopper.wire import Decision, DecisionBatch, DecisionEvent, HiddenState
from tests.servers import serving, until

CHROMIUM = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
        if (found := shutil.which(name))
    ),
    "chromium is missing: run `make test`, which sees to it",
)
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield found
        found.close()


@pytest.fixture
def sidecar():
    settings = ServeSettings.read(artifacts=[f"reasoner={ARTIFACT}"])
    runtime = Runtime.from_settings(settings)
    with serving(create_app(runtime=runtime)) as server:
        yield server.url, runtime


class Page:
    """A page with its sins written down."""

    def __init__(self, browser, url, expected=(), **context):
        self._expected = expected
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.faults: list[str] = []
        self.outside: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda sent: self._request(sent.url, url))
        self.page.goto(f"{url}/")

    def _console(self, message):
        told = any(text in message.text for text in self._expected)
        if message.type in ("error", "warning") and not told:
            self.faults.append(message.text)

    def _request(self, asked, url):
        if not asked.startswith((url, "data:")):
            self.outside.append(asked)

    def __enter__(self):
        return self.page

    def __exit__(self, *problem):
        self.context.close()
        if problem[0] is None:
            assert not self.faults
            assert not self.outside


def decide(url: str, trace: str, hidden: np.ndarray) -> list[Decision]:
    """Send the cues of one trace."""
    shape = (hidden.shape[1],)
    events = [
        DecisionEvent(
            trace, "reasoner", 10 * (number + 1), audit=False,
            hidden_state=HiddenState(state.astype("<f4").tobytes(), "float32", shape),
        )
        for number, state in enumerate(hidden)
    ]  # fmt: skip
    answer = httpx.post(
        f"{url}/v1/stop-decisions",
        content=msgspec.json.encode(DecisionBatch(events)),
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 200, answer.text
    return [msgspec.convert(one, Decision) for one in answer.json()["decisions"]]


def decide_some(url: str, number: int) -> None:
    """Send cues of a few traces, of which some stop."""
    probe = Artifact.load(ARTIFACT).probe
    rng = np.random.default_rng(0)
    for trace in range(number):
        decide(url, f"trace-{trace}", rng.normal(size=(6, probe.spec.input_dim)) * 3)


def audit(number: int, version: str, loss: int) -> dict[str, object]:
    when = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
    return {
        "request_id": f"audit-{number}", "time": when.isoformat(), "artifact": version,
        "alpha": 0.05, "loss_name": "disagree", "marked": True, "loss": loss, "score": 1.5,
        "cues": 6, "tokens": 220 + number % 40, "top_score": 2.0 + number % 7 / 7,
    }  # fmt: skip


def send_audits(url: str, version: str, losses: list[int]) -> None:
    audits = [audit(number, version, loss) for number, loss in enumerate(losses)]
    answer = httpx.post(f"{url}/v1/audits", json={"audits": audits}, timeout=30)
    assert answer.status_code == 200, answer.text


def status(url: str) -> dict:
    return httpx.get(f"{url}/v1/status").json()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_shows_what_happens_and_fits(sidecar, browser, tmp_path, scheme, width):
    url, runtime = sidecar
    version = runtime.catalog.all_active()[0].version
    decide_some(url, 40)
    send_audits(url, version, [int(n % 40 == 0) for n in range(200)])
    until(lambda: status(url)["counters"] and status(url)["artifacts"][0]["standing"], "figures")
    size = {"width": width, "height": 900}
    with Page(browser, url, viewport=size, color_scheme=scheme) as page:
        expect(page.locator("#state")).to_have_text("stopping")
        expect(page.locator("#tiles")).to_contain_text("240")
        expect(page.locator("blockquote")).to_contain_text("at most 0.05 are stopped early")
        expect(page.locator("main")).to_contain_text("5 of 200 audits")
        expect(page.locator("#decisions tr").first).to_contain_text("reasoner")
        assert page.locator("svg").count() == 3
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(15, 20, 27)") == (scheme == "dark")
        picture = tmp_path / "page.png"
        page.screenshot(path=picture, full_page=True)
        assert picture.stat().st_size > 10_000


def test_the_kill_switch_is_turned_on_and_off_with_a_reason(sidecar, browser):
    url, _ = sidecar
    with Page(browser, url) as page:
        page.get_by_role("button", name="Stop nothing anymore").click()
        assert not (status(url)["control"]["kill_switch"] or {}).get("on")  # no reason given
        page.locator("#why").fill("<b>answers</b> look odd")
        page.keyboard.press("Enter")
        expect(page.locator("#state")).to_have_text("kill switch on")
        expect(page.locator("#notices")).to_contain_text("<b>answers</b> look odd")
        assert status(url)["control"]["kill_switch"]["on"]
        (answer,) = decide(url, "held", np.ones((1, 128 * 4)))
        assert answer.reason == "kill_switch"
        page.locator("#why").fill("checked")
        page.get_by_role("button", name="Stop thinking again").click()
        expect(page.locator("#state")).to_have_text("stopping")
        assert not status(url)["control"]["kill_switch"]["on"]


def test_an_alarm_is_shown_and_re_armed(sidecar, browser):
    url, runtime = sidecar
    version = runtime.catalog.all_active()[0].version
    send_audits(url, version, [1] * 60)
    until(lambda: status(url)["artifacts"][0]["alarm"] is not None, "the alarm")
    with Page(browser, url) as page:
        expect(page.locator("#state")).to_have_text("alarm")
        expect(page.locator("#notices")).to_contain_text(f"artifact {version} stops nothing")
        page.locator("[data-rearm] input").fill("new template was at fault")
        page.locator("[data-rearm] button").click()
        expect(page.locator("#state")).to_have_text("stopping")
    assert status(url)["artifacts"][0]["rearmed"]["why"] == "new template was at fault"


def test_it_asks_for_a_key_and_says_what_the_key_may_not_do(sidecar, browser):
    url, runtime = sidecar
    runtime.keys = KeyRing((ApiKey("eyes", _sha("look"), frozenset({"read"})),))
    with Page(browser, url, expected=("status of 401", "status of 403")) as page:
        expect(page.locator("#state")).to_have_text("key needed")
        expect(page.locator("#body")).to_be_hidden()
        page.locator("#key").fill("look")
        page.get_by_role("button", name="Use it").click()
        expect(page.locator("#state")).to_have_text("stopping")
        page.locator("#why").fill("just so")
        page.keyboard.press("Enter")
        expect(page.locator("#switch-error")).to_contain_text("admin")
        assert runtime.board.current.kill_switch is None


def test_it_says_when_the_sidecar_is_gone(browser):
    settings = ServeSettings.read(artifacts=[f"reasoner={ARTIFACT}"])
    with serving(create_app(settings)) as server:
        held = Page(browser, server.url)
        expect(held.page.locator("#state")).to_have_text("stopping")
    expect(held.page.locator("#state")).to_have_text("sidecar away", timeout=10_000)
    held.context.close()


def test_it_loads_nothing_from_elsewhere_and_runs_no_foreign_script(sidecar):
    url, _ = sidecar
    answer = httpx.get(f"{url}/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in answer.text.replace("http://www.w3.org/2000/svg", "").replace("HTTP", "")
    assert (
        answer.headers["content-security-policy"]
        != httpx.get(f"{url}/").headers["content-security-policy"]
    )


def _sha(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
