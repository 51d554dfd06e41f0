import asyncio
import stat
from pathlib import Path

import pytest
from sidecars import replica, settings
from typer.testing import CliRunner

from stopper.cli import build_app
from stopper.errors import InputError
from stopper.service.auth import ApiKey, KeyRing
from stopper.service.key_file import new_key, read_keys, to_toml, write_keys
from stopper.service.problems import ProblemError


def ring_of(*scopes: str) -> tuple[str, KeyRing]:
    key, kept = new_key("ci", scopes)
    return key, KeyRing((kept,))


def status_of(ring: KeyRing, header: str | None, scope: str) -> int:
    try:
        ring.check(header, scope)  # type: ignore[arg-type]
    except ProblemError as error:
        assert len(header or "") < 20 or str(header) not in error.problem.detail
        return error.problem.status
    return 200


def test_without_keys_everybody_is_let_in() -> None:
    assert KeyRing().check(None, "admin") == "anonymous"


@pytest.mark.parametrize(
    ("held", "asked", "status"),
    [
        ("decide", "decide", 200),
        ("decide", "read", 403),
        ("decide", "admin", 403),
        ("read", "decide", 403),
        ("admin", "decide", 200),
        ("admin", "read", 200),
    ],
)
def test_a_key_opens_what_its_scopes_say(held: str, asked: str, status: int) -> None:
    key, ring = ring_of(held)
    assert status_of(ring, f"Bearer {key}", asked) == status


def test_what_is_no_known_key_is_unauthorized() -> None:
    key, ring = ring_of("admin")
    for header in (None, "", key, "Bearer", f"Basic {key}", f"Bearer {key}x", f"Bearer {key[:-1]}"):
        assert status_of(ring, header, "read") == 401
    assert status_of(ring, f"bearer {key}", "read") == 200


def test_a_file_of_keys_holds_no_key_and_is_private(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    made = [new_key(name, ("read", "decide")) for name in ("a", "b")]
    write_keys(file, [kept for _, kept in made])
    assert list(read_keys(file)) == [kept for _, kept in made]
    text = file.read_text()
    assert not any(key in text for key, _ in made)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("keys = 3", "keys"),
        ("[[keys]]\nname = 'a'", "sha256"),
        ("[[keys]\n", "not a file of keys"),
        ("surprise = 1", "surprise"),
    ],
)
def test_a_wrong_file_is_refused_naming_the_field(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=named):
        KeyRing(file=file)


def test_a_name_or_a_scope_that_cannot_be_is_refused() -> None:
    for name, scopes in (("a b", ("read",)), ('"', ("read",)), ("a", ()), ("a", ("write",))):
        with pytest.raises(InputError):
            new_key(name, scopes)


def changed_ring(ring: KeyRing) -> KeyRing:
    ring._next = 0.0  # look again now rather than within a second
    return ring


def test_a_changed_file_is_read_again_and_an_emptied_one_lets_nobody_in(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    (old, kept), (new, other) = new_key("old", ["read"]), new_key("new", ["read"])
    write_keys(file, [kept])
    ring = KeyRing(file=file)
    assert status_of(ring, f"Bearer {old}", "read") == 200
    write_keys(file, [other])
    assert status_of(changed_ring(ring), f"Bearer {old}", "read") == 401
    assert status_of(ring, f"Bearer {new}", "read") == 200
    write_keys(file, [])
    assert status_of(changed_ring(ring), f"Bearer {new}", "read") == 401
    assert status_of(ring, None, "read") == 401
    assert not ring.open


def test_while_the_file_is_broken_the_last_keys_hold_and_it_says_so(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    key, kept = new_key("a", ["read"])
    write_keys(file, [kept])
    ring = KeyRing(file=file)
    for harm in (lambda: file.write_text("[["), file.unlink):
        harm()
        assert status_of(changed_ring(ring), f"Bearer {key}", "read") == 200
        assert ring.fault is not None
        assert str(file) in ring.fault
    write_keys(file, [kept])
    assert status_of(changed_ring(ring), f"Bearer {key}", "read") == 200
    assert ring.fault is None


def test_every_route_but_the_probes_and_the_page_needs_a_key(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    key, kept = new_key("ops", ["read"])
    write_keys(file, [kept])

    async def statuses() -> dict[str, tuple[int, int]]:
        found = {}
        async with replica(settings(keys_file=file)) as (client, _):
            paths = client._transport.app.openapi()["paths"]  # type: ignore[attr-defined]
            for path, operations in paths.items():
                for method in operations:
                    name = f"{method} {path}"
                    url = path.replace("{", "").replace("}", "")
                    bare = await client.request(method, url)
                    wrong = await client.request(method, url, headers={"Authorization": "Bearer x"})
                    found[name] = (bare.status_code, wrong.status_code)
            assert (await client.get("/metrics", headers=bearer(key))).status_code == 200
            off = await client.post("/v1/kill-switch", headers=bearer(key), json={"on": True})
            assert off.status_code == 403
        return found

    found = asyncio.run(statuses())
    opened = {name for name, codes in found.items() if codes != (401, 401)}
    assert opened <= {"get /livez", "get /readyz", "get /"}
    assert {"get /metrics", "post /v1/kill-switch", "get /v1/artifacts"} <= found.keys()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_the_command_makes_lists_and_revokes_keys(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    run = CliRunner().invoke
    made = run(build_app(), ["keys", "new", "ci", "--scope", "decide", "--file", str(file)])
    assert made.exit_code == 0
    key = made.stdout.strip()
    assert KeyRing(file=file).check(f"Bearer {key}", "decide") == "ci"
    listed = run(build_app(), ["keys", "list", "--file", str(file)])
    assert listed.stdout.startswith("ci  decide  ")
    again = run(build_app(), ["keys", "new", "ci", "--scope", "read", "--file", str(file)])
    assert isinstance(again.exception, InputError)
    assert run(build_app(), ["keys", "revoke", "ci", "--file", str(file)]).exit_code == 0
    assert read_keys(file) == ()
    gone = run(build_app(), ["keys", "revoke", "ci", "--file", str(file)])
    assert isinstance(gone.exception, InputError)


def test_without_a_file_the_block_can_be_appended_to_one(tmp_path: Path) -> None:
    made = CliRunner().invoke(build_app(), ["keys", "new", "ci", "--scope", "read"])
    file = tmp_path / "keys.toml"
    file.write_text(made.stdout)
    key = made.stderr.split()[-1]
    assert KeyRing(file=file).check(f"Bearer {key}", "read") == "ci"


def test_a_block_says_only_what_may_be_known() -> None:
    key, kept = new_key("ci", ["admin"])
    assert isinstance(kept, ApiKey)
    assert key not in to_toml(kept)
