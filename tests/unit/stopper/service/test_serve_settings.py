import json
import logging
import re
import sys
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel
from sidecars import ARTIFACT
from typer.testing import CliRunner

from stopper.cli import build_app
from stopper.errors import InputError, UnsupportedError
from stopper.service import logs
from stopper.service.examination import is_loopback
from stopper.service.key_file import new_key, write_keys
from stopper.service.settings import ServeSettings
from tests.servers import redis_server

ROOT = Path(__file__).resolve().parents[4]
NAMED = f"tiny={ARTIFACT}"


def serve(*options: str) -> Any:
    return CliRunner().invoke(build_app(), ["serve", *options])


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STOPPER_PORT", raising=False)


def test_options_beat_variables_and_variables_beat_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "sidecar.toml"
    file.write_text(
        f'artifacts = "{ARTIFACT}"\nport = 1\nhost = "127.0.0.2"\n[limits]\ndrain_s = 1\nbody_s = 2'
    )
    monkeypatch.setenv("STOPPER_PORT", "2")
    monkeypatch.setenv("STOPPER_HOST", "127.0.0.3")
    monkeypatch.setenv("STOPPER_LIMITS__DRAIN_S", "3")
    found = ServeSettings.read(file, port=4, host=None)
    assert (found.port, found.host) == (4, "127.0.0.3")
    assert (found.limits.drain_s, found.limits.body_s) == (3.0, 2.0)
    assert found.artifacts[0].folder == ARTIFACT


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("surprise = 1", "surprise"),
        ("[limits]\nsurprise = 1", "limits.surprise"),
        ("port = 70000", "port"),
        ("workers = 2\nartifacts = 'a'", "redis"),
        ("upstreams = ['ftp://x']", "upstreams"),
        ("alpha = 1.0", "alpha"),
        ("port = ", "sidecar.toml"),
        ("", "--artifact DIR"),
    ],
)
def test_a_wrong_file_is_refused_naming_the_setting(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "sidecar.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=re.escape(named)):
        ServeSettings.read(file)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such configuration file"):
        ServeSettings.read(tmp_path / "none.toml")


def test_the_example_configuration_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    done = serve("--config", "deploy/sidecar.toml", "--check")
    assert done.exit_code == 0
    assert "ok    model tiny: artifact" in done.stdout
    assert done.stdout.endswith("would listen on 127.0.0.1:8080\n")


def test_every_line_that_the_example_leaves_out_could_be_put_in(tmp_path: Path) -> None:
    text = (ROOT / "deploy" / "sidecar.toml").read_text()
    whole = re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE)
    assert whole.count("\n# ") < text.count("\n# ")
    file = tmp_path / "sidecar.toml"
    file.write_text(whole)
    found = ServeSettings.read(file)
    assert found.workers == 2
    assert found.limits.requests_per_minute == 600


def test_the_check_names_all_faults_at_once(tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text("[[keys]]\nname = 'x'")
    done = serve(
        "--artifact", NAMED, "--artifact", f"other={tmp_path}", "--artifact", NAMED,
        "--keys-file", str(tmp_path / "keys.toml"), "--redis", "redis://127.0.0.1:1/0",
        "--upstream", "http://user:secret@127.0.0.1:1", "--check",
    )  # fmt: skip
    assert done.exit_code == 2
    lines = done.stdout.splitlines()
    faults = [line for line in lines if line.startswith("FAULT")]
    assert len(faults) == 3
    assert "no artifact here" in faults[0]
    assert "both serve model 'tiny'" in faults[1]
    assert "keys.0.sha256" in faults[2]
    warnings = [line for line in lines if line.startswith("warn")]
    assert len(warnings) == 2
    assert "redis" in warnings[0]
    assert "not reached" in warnings[1]
    assert "secret" not in done.stdout


def test_the_check_says_what_would_be_served(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    write_keys(file, [new_key("a", ["read"])[1]])
    file.chmod(0o666)
    with redis_server() as redis:
        done = serve(
            "--artifact", NAMED, "--redis", redis.url, "--keys-file", str(file),
            "--host", "0.0.0.0", "--port", "0", "--check",
        )  # fmt: skip
    assert done.exit_code == 0
    assert "ok    with 1 API keys" in done.stdout
    assert "ok    state in Redis" in done.stdout
    assert "chmod 600" in done.stdout


def test_other_machines_are_not_served_without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "sidecar.example"):
        refused = serve("--artifact", NAMED, "--host", host)
        assert isinstance(refused.exception, InputError)
        assert "--allow-open" in str(refused.exception)
        assert "stopper keys new" in str(refused.exception)
    done = serve("--artifact", NAMED, "--host", "0.0.0.0", "--allow-open", "--check")
    assert done.exit_code == 0
    assert [is_loopback(host) for host in ("127.9.9.9", "::1", "localhost")] == [True] * 3


def test_an_address_that_is_not_ours_is_refused() -> None:
    refused = serve("--artifact", NAMED, "--host", "192.0.2.1", "--allow-open")
    assert isinstance(refused.exception, InputError)
    assert "--host and --port" in str(refused.exception)


def test_without_the_extra_the_command_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "stopper.service.settings")
    monkeypatch.setitem(sys.modules, "pydantic_settings", None)
    refused = serve("--artifact", NAMED)
    assert isinstance(refused.exception, UnsupportedError)
    assert "pydantic_settings" in str(refused.exception)
    assert "pip install 'stopper[serve]'" in str(refused.exception)


def leaves(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Return all settings by their dotted names, with their defaults."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        kinds = [field.annotation]
        if get_origin(field.annotation) in (Union, UnionType):
            kinds = list(get_args(field.annotation))
        groups = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        for group in groups:
            found |= leaves(group, f"{prefix}{name}.")
        if not groups or field.default is None:
            found[f"{prefix}{name}"] = field.default
    return found


def test_the_table_of_settings_is_right() -> None:
    text = (ROOT / "docs" / "sidecar.md").read_text()
    table = text[text.index("### Settings") :]
    rows = re.findall(r"^\| `([\w.]+)` \| (none|`[^`]*`) \|", table, re.MULTILINE)
    told = {name: default.strip("`") for name, default in rows}
    wanted = {n: "none" if d is None else str(d) for n, d in leaves(ServeSettings).items()}
    assert told == wanted


def test_logs_are_json_and_tracebacks_keep_no_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "the prompt was: secret"
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", list(root.handlers))
    levels = {n: logging.getLogger(n).level for n in (None, "stopper", "uvicorn.error")}
    try:
        for form in ("json", "text"):
            logs.configure(ServeSettings.read(artifacts=[ARTIFACT], log_format=form))
            logger = logging.getLogger("stopper.tests")
            try:
                try:
                    raise ConnectionRefusedError(111, "Connection refused")
                except OSError as error:
                    raise ValueError(words) from error
            except ValueError:
                logger.exception("fault", extra={"request": {"status": 500}})
            logger.debug("too fine")
            logging.getLogger("httpx").info("of others, only warnings")
            said = capsys.readouterr().err
            assert "secret" not in said
            assert "ValueError" in said
            assert "Connection refused" in said
            assert "test_serve_settings.py" in said
            assert "fine" not in said
            assert "others" not in said
            if form == "json":
                (line,) = said.splitlines()
                found = json.loads(line)
                assert found["level"] == "ERROR"
                assert found["request"] == {"status": 500}
                assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found["time"])
            else:
                assert "status=500" in said
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
