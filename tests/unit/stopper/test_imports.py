"""What runs inside the engine imports nothing heavy; the errors are those of the ground floor."""

from __future__ import annotations

import subprocess
import sys

import pytest

import probes.errors
import stopper.errors

HEAVY = ("sklearn", "mapie", "fastapi", "redis", "pyarrow", "matplotlib", "typer", "transformers")


def modules(statement: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", statement],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}


@pytest.mark.parametrize(
    "statement",
    [
        "import stopper.artifact, stopper.policy, stopper.cues, probes.torch_network",
        "import calibration.traces, calibration.risk, probes.fit, probes.shaping",
        "import stopper.halting, probes.torch_margins, calibration.denoising",
        "import stopper.cli; stopper.cli.entry_points = lambda group: []; stopper.cli.build_app()",
    ],
    ids=["engine", "store", "halting", "cli"],
)
def test_the_engine_side_is_light(statement: str) -> None:
    found = modules(statement)
    assert "probes.errors" in found
    # The command line is made of typer; numpy is already more than `stopper --help` needs.
    own = {"typer"} if "cli" in statement else set()
    assert found & (set(HEAVY) - own) == set()


def test_torch_is_not_needed_to_read_an_artifact() -> None:
    assert "torch" not in modules("import stopper.artifact, stopper.policy, stopper.cues")
    assert "torch" not in modules("import stopper.halting, calibration.denoising")


def test_every_error_is_offered_where_people_look() -> None:
    for name in stopper.errors.__all__:
        assert getattr(stopper.errors, name) is getattr(probes.errors, name)
    defined = {
        name for name, value in vars(probes.errors).items()
        if isinstance(value, type) and issubclass(value, probes.errors.StopperError)
    }  # fmt: skip
    assert defined == set(stopper.errors.__all__)
