"""Audits are chosen by a request's id alone, the same everywhere and for ever."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stopper.service.sampling import audited

IDS = [f"request-{number}" for number in range(20_000)]


def test_the_choice_is_pinned_for_all_versions() -> None:
    chosen = [number for number in range(400) if audited(f"request-{number}", 0.02)]
    assert chosen == [18, 42, 46, 48, 294, 297, 326, 356, 381]


def test_another_process_chooses_alike() -> None:
    code = (
        "from stopper.service.sampling import audited;"
        "print([n for n in range(400) if audited(f'request-{n}', 0.02)])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = [number for number in range(400) if audited(f"request-{number}", 0.02)]
    assert out.stdout.strip() == str(here)


@pytest.mark.parametrize("share", [0.005, 0.02, 0.5])
def test_about_the_share_is_audited(share: float) -> None:
    found = sum(audited(name, share) for name in IDS) / len(IDS)
    assert abs(found - share) < 4 * (share * (1 - share) / len(IDS)) ** 0.5


@settings(deadline=None)
@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_audits_all_that_a_smaller_one_did(name: str, a: float, b: float) -> None:
    assert audited(name, min(a, b)) <= audited(name, max(a, b))


@settings(deadline=None)
@given(st.text(st.characters()))
def test_none_and_all(name: str) -> None:
    assert not audited(name, 0.0)
    assert audited(name, 1.0)
