from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_makers import BEGIN, SETTINGS, a_profile, audit, audits, audits_of_losses, bernoulli

from calibration.monitor import Audit, Monitor, MonitorState, Settings, read_state, write_state
from calibration.monitor import requests as requests_module
from calibration.monitor.requests import Requests, RequestsState
from probes.errors import InputError

PROFILE = a_profile()


def test_nothing_is_said_of_no_audits() -> None:
    verdict = Monitor(SETTINGS, PROFILE).verdict()
    assert not verdict.alarm and verdict.audits == 0 and verdict.mean_alpha is None
    assert "no audits yet" in verdict.sentence
    assert Monitor(SETTINGS).trail() == []


def test_bad_traffic_raises_an_alarm_that_stays() -> None:
    monitor = Monitor(SETTINGS, PROFILE)
    calm = monitor.update(bernoulli(300, 0.05))
    assert not calm.alarm and calm.sentence.startswith("in control: ")
    verdict = monitor.update(bernoulli(600, 0.4, first=300))
    assert verdict.alarm and verdict.since is not None and 300 < verdict.since < 450
    assert verdict.since_time == audit(verdict.since - 1).time
    assert f"ALARM since audit {verdict.since}" in verdict.sentence
    assert "Stop stopping" in verdict.sentence
    later = monitor.update(audits_of_losses([0] * 3000, first=900))
    assert later.value < later.bar
    assert (later.alarm, later.since) == (True, verdict.since)


def test_requests_without_a_mark_count() -> None:
    marked = audits_of_losses([1, 0, 0, 0] * 50)
    silent = [audit(500 + i, marked=False, score=None) for i in range(800)]
    mixed = [one for i, hit in enumerate(marked) for one in (hit, *silent[4 * i : 4 * i + 4])]
    assert Monitor(SETTINGS).update(marked).alarm
    verdict = Monitor(SETTINGS).update(mixed)
    assert not verdict.alarm and verdict.share == 0.05


def test_each_audit_is_judged_by_its_own_alpha() -> None:
    generous = [audit(i, alpha=0.5, loss=int(i % 4 == 0)) for i in range(400)]
    assert not Monitor(SETTINGS).update(generous).alarm
    strict = [audit(400 + i, alpha=0.02, loss=int(i % 10 == 0)) for i in range(400)]
    verdict = Monitor(SETTINGS).update([*generous, *strict])
    assert verdict.alarm and verdict.since is not None and verdict.since > 400
    assert verdict.share < (verdict.mean_alpha or 0)  # the mean alone would hide it
    assert verdict.tallies == ((0.02, 400, 40), (0.5, 400, 100))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"artifact": "f" * 16}, "artifact is 'ffffffffffffffff', this monitor watches"),
        ({"loss_name": "wrong"}, "loss_name is 'wrong', this monitor watches 'disagree'"),
    ],
)
def test_foreign_audits_are_refused_and_the_batch_with_them(
    change: dict[str, object], said: str
) -> None:
    monitor = Monitor(SETTINGS, PROFILE)
    monitor.update([audit(0)])
    before = monitor.state()
    with pytest.raises(InputError, match=said):
        monitor.update([audit(1), audit(2, **change)])
    assert monitor.state() == before


def test_a_second_alpha_is_refused_by_mapie_with_its_batch() -> None:
    monitor = Monitor(replace(SETTINGS, method="mapie"))
    monitor.update([audit(0)])
    before = monitor.state()
    with pytest.raises(InputError, match="judges audits of one alpha"):
        monitor.update([audit(1), audit(2, alpha=0.2)])
    assert monitor.state() == before


def test_a_request_counts_once() -> None:
    monitor = Monitor(SETTINGS)
    monitor.update(audits_of_losses([0, 1, 0]))
    verdict = monitor.update(audits_of_losses([0, 1, 0, 1]))
    assert (verdict.audits, verdict.bad, verdict.repeated) == (4, 2, 3)


def test_forgotten_requests_are_told_by_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests_module, "GENERATION", 10)
    memory = Requests()
    assert {memory.take(audit(i)) for i in range(30)} == {"new"}
    assert {memory.take(audit(i)) for i in range(10, 30)} == {"repeated"}
    assert {memory.take(audit(i)) for i in range(10)} == {"late"}
    assert memory.take(audit(99, time=BEGIN)) == "late"
    kept = RequestsState.model_validate_json(memory.state().model_dump_json())
    assert Requests(kept).take(audit(5)) == "late" and Requests(kept).take(audit(30)) == "new"
    assert len(memory.state().older) == len(memory.state().newer) == 160


@settings(max_examples=40, deadline=None)
@given(st.lists(audits(), max_size=40), st.lists(st.integers(0, 40), max_size=4), st.booleans())
def test_a_stream_cut_anywhere_and_restarted_gives_the_same_bits(
    tmp_path_factory: pytest.TempPathFactory,
    stream: list[Audit],
    cuts: list[int],
    mapie: bool,
) -> None:
    wanted = replace(SETTINGS, method="mapie") if mapie else SETTINGS
    if mapie:
        stream = [one.model_copy(update={"alpha": 0.1}) for one in stream]
    whole = Monitor(wanted, PROFILE)
    whole.update(stream)
    folder = tmp_path_factory.mktemp("s")
    path = folder / "state.json"
    bounds = [0, *sorted(cuts), len(stream)]
    for low, high in pairwise(bounds):
        part = Monitor.resume(wanted, PROFILE, path)
        part.update(stream[low:high])
        write_state(path, part.state())
    write_state(folder / "whole.json", whole.state())
    assert path.read_bytes() == (folder / "whole.json").read_bytes()
    assert part.verdict() == whole.verdict()


def test_a_long_stream_restarted_in_the_middle_gives_the_same_bits(tmp_path: Path) -> None:
    stream = [*bernoulli(1500, 0.09), *bernoulli(1500, 0.3, seed=1, first=1500)]
    whole, part = Monitor(SETTINGS, PROFILE), Monitor(SETTINGS, PROFILE)
    whole.update(stream)
    for place in range(0, 3000, 500):
        part.update(stream[place : place + 500])
        write_state(tmp_path / "s", part.state())
        part = Monitor.resume(SETTINGS, PROFILE, tmp_path / "s")
    assert part.state() == whole.state()
    assert part.trail() == whole.trail()
    assert whole.verdict().alarm


def test_the_trail_is_thinned_and_ends_where_it_stands() -> None:
    monitor = Monitor(SETTINGS)
    monitor.update(bernoulli(5001, 0.05))
    trail = monitor.trail()
    assert 400 < len(trail) <= 1024
    assert trail[-1].audits == 5001 and trail[-1].value == monitor.verdict().value
    assert [point.audits for point in trail] == sorted({point.audits for point in trail})


def test_threads_share_a_monitor() -> None:
    monitor = Monitor(SETTINGS, PROFILE)
    batches = [bernoulli(50, 0.1, seed=i, first=50 * i) for i in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(monitor.update, batches))
    verdict = monitor.verdict()
    assert verdict.audits == 800
    assert verdict.bad == sum(one.loss for batch in batches for one in batch)
    assert sum(monitor.panels[0].counts) == 800


def test_alphas_beyond_the_256th_count_without_a_tally() -> None:
    monitor = Monitor(SETTINGS)
    verdict = monitor.update([audit(i, alpha=(i + 1) / 1000) for i in range(300)])
    assert verdict.audits == 300 and len(verdict.tallies) == 256


@pytest.mark.parametrize("name", ["delta", "warning_delta"])
def test_levels_lie_between_zero_and_one(name: str) -> None:
    with pytest.raises(InputError, match=f"^{name} must lie between 0 and 1"):
        replace(SETTINGS, **{name: 1.0})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"artifact": "f" * 16}, "begun with artifact '0123456789abcdef'"),
        ({"loss_name": "wrong"}, "begun with loss_name 'disagree'"),
        ({"method": "mapie"}, "begun with method 'betting'"),
        ({"delta": 0.05}, "begun with delta 0.01, asked for is 0.05"),
        ({"warning_delta": 0.1}, "begun with warning_delta 0.05"),
    ],
)
def test_a_state_of_other_settings_is_refused(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    path = tmp_path / "s.json"
    write_state(path, Monitor(SETTINGS, PROFILE).state())
    with pytest.raises(InputError, match=said) as caught:
        Monitor.resume(replace(SETTINGS, **change), PROFILE, path)
    assert str(caught.value).startswith(f"{path}: the state was")
    assert "new state file" in str(caught.value)


def test_a_state_of_another_profile_is_refused(tmp_path: Path) -> None:
    monitor = Monitor(SETTINGS, PROFILE)
    monitor.update([audit(0)])
    with pytest.raises(InputError, match="are not those of the artifact's profile"):
        Monitor(SETTINGS, None, monitor.state())


def state_of(count: int) -> MonitorState:
    monitor = Monitor(SETTINGS, PROFILE)
    monitor.update(bernoulli(count, 0.3))
    return monitor.state()


STATE = state_of(60)


@settings(deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 255))
def test_one_altered_byte_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, place: int, change: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "altered.json"
    write_state(path, STATE)
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= change
    path.write_bytes(data)
    try:
        kept = read_state(path)
    except InputError as problem:
        assert str(path) in str(problem)
    else:
        assert kept == STATE  # white space, or another spelling of the same


def test_a_figure_altered_to_infinity_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "altered.json"
    write_state(path, STATE)
    text = path.read_text()
    assert text.count('"delta":0.01') == 1 or text.count('"delta": 0.01') == 1
    path.write_text(text.replace("0.01", "1e999", 1))
    with pytest.raises(InputError, match="wrong digest"):
        read_state(path)


@settings(deadline=None)
@given(st.integers(0, 10**9))
def test_a_cut_off_state_is_refused_with_the_remedy(
    tmp_path_factory: pytest.TempPathFactory, place: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.json"
    write_state(path, STATE)
    data = path.read_bytes()
    path.write_bytes(data[: place % (len(data) - 1)])
    with pytest.raises(InputError, match=r"Restore the file from a backup, or delete it"):
        read_state(path)


def test_other_states_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    for text, said in (
        ("[]", "not the state of a monitor"),
        ('{"version": true}', "not the state of a monitor"),
        ('{"version": 2}', "written by a newer stopper"),
        ('{"version": 1}', "altered since it was written"),
        ("{" + " " * (17 << 20), "larger than"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=said):
            read_state(path)
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_state(tmp_path)


def test_a_state_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        write_state(tmp_path / "none" / "s.json", STATE)
    assert list(tmp_path.iterdir()) == []


def test_the_order_of_time_does_not_matter_to_the_memory() -> None:
    monitor = Monitor(Settings(SETTINGS.artifact, "disagree"))
    early = audit(1, time=BEGIN - timedelta(days=1))
    assert monitor.update([audit(0), early]).audits == 2
