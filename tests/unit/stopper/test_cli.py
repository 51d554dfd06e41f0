"""The command line: commands are found, errors are one line, bugs keep their traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from stopper import __version__, cli
from stopper.errors import TooFewTraces


def run(*argv: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    code = caught.value.code
    assert isinstance(code, int)
    return code


def plug(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    found = [EntryPoint(name, value, cli.GROUP) for name, value in values.items()]
    monkeypatch.setattr(cli, "entry_points", lambda group: found if group == cli.GROUP else [])


# Commands for the entry points below.


def greet(name: str, times: int = 1) -> None:
    """Say hello."""
    print(f"hello {name}" * times)


def refuse() -> None:
    raise TooFewTraces("21 traces, 22 are needed: 1 is missing")


def crash() -> None:
    raise ZeroDivisionError("a bug")


def finish() -> int:
    return 7


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"stopper {__version__}\n"


def test_help_lists_our_commands_and_those_of_entry_points(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plug(monkeypatch, greet="test_cli:greet")
    assert run("--help") == 0
    out = capsys.readouterr().out
    for name in ("train", "inspect", "greet", "Say hello."):
        assert name in out


@pytest.mark.parametrize("command", ["train", "inspect"])
def test_every_command_of_ours_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--help", "-h"):
        assert run(command, flag) == 0
        assert "Usage: stopper " + command in capsys.readouterr().out


def test_an_entry_point_runs_with_its_arguments(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plug(monkeypatch, greet="test_cli:greet")
    assert run("greet", "you", "--times", "2") == 0
    assert capsys.readouterr().out == "hello youhello you\n"


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        ("no_such_package.commands:f", "No module named 'no_such_package'"),
        ("test_cli:no_such_function", "no_such_function"),
        ("test_cli:__name__", "is no function"),
        ("stopper", "is no function"),
    ],
)
def test_a_broken_entry_point_breaks_only_itself(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, value: str, cause: str
) -> None:
    plug(monkeypatch, greet="test_cli:greet", broken=value)
    assert run("--help") == 0
    assert "unavailable" in capsys.readouterr().out
    assert run("greet", "you") == 0
    capsys.readouterr()
    assert run("broken", "--with", "flags", "and arguments") == 2
    err = capsys.readouterr().err
    assert "'broken'" in err
    assert value in err
    assert cause in err
    assert err.count("\n") == 1


def test_our_errors_are_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plug(monkeypatch, refuse="test_cli:refuse")
    assert run("refuse") == 2
    captured = capsys.readouterr()
    assert captured.err == "stopper: error: 21 traces, 22 are needed: 1 is missing\n"
    assert captured.out == ""


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch, crash="test_cli:crash")
    with pytest.raises(ZeroDivisionError, match="a bug"):
        cli.main(["crash"])


def test_a_bug_exits_1_with_a_plain_traceback() -> None:
    script = (
        "import sys, test_cli; from importlib.metadata import EntryPoint; from stopper import cli;"
        "cli.entry_points = lambda group: [EntryPoint('crash', 'test_cli:crash', group)];"
        "cli.main(['crash'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("ZeroDivisionError: a bug\n")


def test_a_value_returned_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch, finish="test_cli:finish")
    assert run("finish") == 0


@pytest.mark.parametrize("argv", [["nonsense"], ["train"], ["train", "x", "--nonsense"]])
def test_usage_errors_exit_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*argv) == 2
    assert "Usage: stopper" in capsys.readouterr().err


def test_without_arguments_it_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 2
    captured = capsys.readouterr()
    assert "Commands" in captured.out + captured.err


def test_the_installed_script() -> None:
    script = Path(sys.executable).with_name("stopper")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"stopper {__version__}\n"
