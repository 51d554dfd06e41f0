"""Audits for the monitor's tests: hand-made, and as Hypothesis draws them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import strategies as st

from calibration.monitor import Audit, Settings
from calibration.profile import Profile, profile_of
from calibration.simulate import SimulatorSettings, simulate

ARTIFACT = "0123456789abcdef"
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
SETTINGS = Settings(ARTIFACT, "disagree")


def audit(number: int = 0, **changes: object) -> Audit:
    """Audit `number`, one second after the one before; marked, unless told otherwise."""
    fields: dict[str, object] = {
        "request_id": f"r{number}",
        "time": BEGIN + timedelta(seconds=number),
        "artifact": ARTIFACT,
        "alpha": 0.1,
        "loss_name": "disagree",
        "marked": True,
        "loss": 0,
        "score": 1.5,
        "cues": 5,
        "tokens": 300,
        "top_score": 2.0,
    }
    return Audit.model_validate(fields | changes)


def audits_of_losses(losses: list[int], first: int = 0, **changes: object) -> list[Audit]:
    return [audit(first + place, loss=loss, **changes) for place, loss in enumerate(losses)]


def bernoulli(n: int, risk: float, seed: int = 0, first: int = 0) -> list[Audit]:
    drawn = np.random.default_rng(seed).random(n) < risk
    return audits_of_losses([int(loss) for loss in drawn], first)


def a_profile() -> Profile:
    return profile_of(simulate(SimulatorSettings(300, cues=5, seed=1)))


@st.composite
def audits(draw: st.DrawFn, number: int = 0) -> Audit:
    """Any audit of one artifact; ids repeat now and then."""
    cues = draw(st.integers(0, 30))
    marked = cues > 0 and draw(st.booleans())
    top = draw(st.floats(-30, 30)) if cues else None
    return audit(
        number,
        request_id=f"r{draw(st.integers(0, 200))}",
        alpha=draw(st.sampled_from([0.02, 0.1, 0.3])),
        marked=marked,
        loss=draw(st.integers(0, 1)) if marked else 0,
        score=draw(st.floats(-40, top)) if marked and top is not None else None,
        cues=cues,
        tokens=draw(st.integers(0, 3000)),
        top_score=top,
    )
