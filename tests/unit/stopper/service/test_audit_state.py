import asyncio
import dataclasses
import hashlib
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from audit_makers import BEGIN, SERVED, VERSION, audit
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from calibration.monitor import Monitor, MonitorState, read_audits
from calibration.monitor.requests import RequestsState
from stopper.errors import InputError
from stopper.service.audits import pages
from stopper.service.audits.alarms import now
from stopper.service.audits.log_file import AuditLog
from stopper.service.audits.pages import join, split
from stopper.service.audits.vault import Beginning, Kept, Vault
from stopper.service.audits.watching import Watch, enter, standing
from stopper.service.settings import AuditSettings
from stopper.service.store import MemoryStore

WATCH = Watch.of(SERVED, AuditSettings(), None)


def a_monitor(older: int = 0, newer: int = 0) -> tuple[Monitor, MonitorState]:
    """A monitor that remembers so many requests."""
    hashes = [hashlib.sha256(str(n).encode()).hexdigest()[:16] for n in range(older + newer)]
    known = RequestsState(older="".join(hashes[:older]), newer="".join(hashes[older:]))
    monitor = Monitor(WATCH.settings, WATCH.profile)
    monitor.update(audit(number, loss=number % 2) for number in range(7))
    state = monitor.state().model_copy(update={"requests": known})
    return monitor, state


def parted(state: MonitorState, monitor: Monitor) -> tuple[pages.Head, dict[str, bytes]]:
    return split(state, standing(monitor, monitor.verdict(), now()))


@pytest.mark.parametrize(("older", "newer"), [(0, 0), (0, 999), (0, 1000), (3000, 1), (2000, 2500)])
def test_a_state_comes_back_from_its_pages_to_the_last_bit(older: int, newer: int) -> None:
    monitor, state = a_monitor(older, newer)
    head, written = parted(state, monitor)
    read = pages.decode(pages.encode(head), "here")
    assert join(read, written, "here") == state
    assert len(written) == older // 1000 + newer // 1000


def test_a_further_audit_changes_the_head_and_no_page() -> None:
    monitor, state = a_monitor(2000, 2500)
    _, before = parted(state, monitor)
    more = state.requests.newer + "0123456789abcdef"
    later = state.model_copy(update={"requests": state.requests.model_copy(update={"newer": more})})
    head, after = parted(later, monitor)
    assert after == before
    assert len(pages.encode(head)) < 20_000


def test_a_state_with_a_missing_or_altered_part_is_refused() -> None:
    monitor, state = a_monitor(1000, 1500)
    head, written = parted(state, monitor)
    name = head.older[0]
    altered = bytearray(written[name])
    altered[5] = ord("0") if altered[5] != ord("0") else ord("1")
    for wrong in ({}, written | {name: bytes(altered)}, written | {name: b"\xff"}):
        with pytest.raises(InputError, match="there"):
            join(head, wrong, "there")
    for broken in (b"", b"\x00\x01", with_other_state(head)):
        with pytest.raises(InputError, match="there"):
            join(pages.decode(broken, "there"), written, "there")


def with_other_state(head: pages.Head) -> bytes:
    return pages.encode(pages.Head(b"nonsense", head.older, head.newer, head.tail, head.standing))


def test_a_state_outlives_figures_of_another_version() -> None:
    monitor, state = a_monitor(0, 1500)
    head, written = parted(state, monitor)
    fields = msgspec.msgpack.decode(pages.encode(head))
    del fields["standing"]["label"]
    read = pages.decode(msgspec.msgpack.encode(fields), "here")
    assert read.standing is None
    assert join(read, written, "here") == state


@hypothesis_settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 1)), max_size=14), st.data())
def test_audits_entered_in_parts_count_as_in_one_monitor(
    drawn: list[tuple[int, int]], data: st.DataObject
) -> None:
    audits = [audit(number, loss=loss) for number, loss in drawn]
    whole = Monitor(WATCH.settings, WATCH.profile)
    whole.update(audits)
    head, written, fates, place = None, {}, [], 0
    while place < len(audits):
        size = data.draw(st.integers(1, len(audits) - place))
        found = enter(WATCH, head, written, audits[place : place + size], now())
        head, written, place = found.head, found.pages, place + size
        fates += found.fates
        assert found.head.standing == found.standing
        assert found.standing.audits == found.verdict.audits
    if head is not None:
        assert join(head, written, "here") == whole.state()
    assert fates.count("counted") == len({number for number, _ in drawn})
    assert fates.count("repeated") == len(drawn) - len({number for number, _ in drawn})


def test_what_finished_before_a_re_arming_does_not_count() -> None:
    watch = dataclasses.replace(WATCH, since=BEGIN + timedelta(seconds=2))
    found = enter(watch, None, {}, [audit(number, loss=1) for number in range(4)], now())
    assert found.fates == ["before_rearm", "before_rearm", "counted", "counted"]
    assert found.verdict.audits == 2


def test_mapie_leaves_other_alphas_out_and_says_so() -> None:
    watch = Watch.of(SERVED, AuditSettings(method="mapie"), None)
    given = [audit(0), audit(1, alpha=0.2), audit(2)]
    assert enter(watch, None, {}, given, now()).fates == ["counted", "other_alpha", "counted"]


def test_a_level_that_is_changed_midway_is_refused_with_the_remedy() -> None:
    begun = enter(WATCH, None, {}, [audit()], now())
    stricter = Watch.of(SERVED, AuditSettings(delta=0.001), None)
    with pytest.raises(InputError, match=r"delta.*re-arm"):
        enter(stricter, begun.head, begun.pages, [audit(1)], now())


def test_of_two_who_exchange_one_state_the_second_must_try_again() -> None:
    async def run() -> None:
        store, beginning = MemoryStore(), Beginning(VERSION)
        first, second = Vault(store), Vault(store)
        seen = [await vault.read(beginning) for vault in (first, second)]
        entered = [enter(WATCH, None, {}, [audit(number)], now()) for number in range(2)]
        assert await first.exchange(beginning, seen[0], entered[0])
        assert not await second.exchange(beginning, seen[1], entered[1])
        kept = await second.read(beginning)
        again = enter(WATCH, kept.head, kept.pages, [audit(1)], now())
        assert await second.exchange(beginning, kept, again)
        assert (await first.look(beginning)).head == again.head

    asyncio.run(run())


def test_a_store_that_lost_a_state_gets_it_back() -> None:
    async def run() -> None:
        store, beginning = MemoryStore(), Beginning(VERSION)
        vault = Vault(store)
        monitor, state = a_monitor(0, 2500)
        head, written = parted(state, monitor)
        await store.update(beginning.key, lambda _: pages.encode(head))
        for name, page in written.items():
            await store.update(f"monitor-page:{name}", lambda _, page=page: page)
        known = await vault.read(beginning)
        store._values.clear()
        assert await vault.read(beginning) == known
        assert await Vault(store).read(beginning) == known  # also for others

    asyncio.run(run())


def test_a_store_that_came_back_with_an_earlier_state_gets_the_last_one() -> None:
    async def run() -> None:
        store, beginning = MemoryStore(), Beginning(VERSION)
        ahead, behind = Vault(store), Vault(store)
        backup: dict[str, bytes] = {}
        for number in range(4):
            vault = behind if number < 2 else ahead
            kept = await vault.read(beginning)
            entered = enter(WATCH, kept.head, kept.pages, [audit(number)], now())
            assert await vault.exchange(beginning, kept, entered)
            if number == 2:
                backup = dict(store._values)
        for lost in (backup, {}):
            store._values = dict(lost)
            await behind.look(beginning)
            kept = await ahead.look(beginning)
            assert kept.head == entered.head
            assert (await behind.look(beginning)).head == entered.head
        unknown = pages.encode(msgspec.structs.replace(entered.head, standing=None))
        await store.update(beginning.key, lambda _: unknown)  # written by another version
        assert (await ahead.look(beginning)).data == unknown

    asyncio.run(run())


def test_pages_of_forgotten_requests_are_deleted() -> None:
    async def run() -> None:
        store, beginning = MemoryStore(), Beginning(VERSION)
        vault = Vault(store)
        monitor, state = a_monitor(2000, 1000)
        rotated = state.requests.model_copy(
            update={"older": state.requests.newer, "newer": "0123456789abcdef"}
        )
        for kept_state in (state, state.model_copy(update={"requests": rotated})):
            before = await vault.read(beginning)
            entered = enter(WATCH, None, {}, [audit()], now())
            head, written = parted(kept_state, monitor)
            found = dataclasses.replace(entered, head=head, pages=written)
            assert await vault.exchange(beginning, before, found)
        held = {key for key in store._values if key.startswith("monitor-page:")}
        assert held == {f"monitor-page:{name}" for name in head.older}
        assert await Vault(store).read(beginning) == Kept(pages.encode(head), head, written)

    asyncio.run(run())


def test_the_log_is_what_the_monitor_command_reads(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "audits.jsonl"
    log = AuditLog(path)
    given = [audit(number) for number in range(4)]
    assert log.append(given[:2])
    with path.open("ab") as file:
        file.write(b'{"request_id": "cut')
    assert log.append(given[2:])
    lines = path.read_text().splitlines()
    assert lines.pop(2) == '{"request_id": "cut'
    path.write_text("\n".join(lines))
    assert list(read_audits(path)) == given


def test_a_log_that_cannot_be_written_is_refused_at_start_and_told_later(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"audits\.log"):
        AuditLog(tmp_path)
    log = AuditLog(tmp_path / "sub" / "audits.jsonl")
    (tmp_path / "sub" / "audits.jsonl").unlink()
    (tmp_path / "sub").rmdir()
    assert not log.append([audit()])
