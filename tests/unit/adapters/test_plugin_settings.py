"""The `stopper` object of `--additional-config`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.vllm.settings import PluginSettings
from stopper.errors import InputError

CUES = {"think_start_ids": [1], "think_end_ids": [2]}
COLLECT = {"layers": [1, 2], "cues": CUES}


def read(stopper: Any) -> PluginSettings | None:
    return PluginSettings.from_additional_config({"stopper": stopper, "other": 1})


@pytest.mark.parametrize("additional", [None, {}, {"other": {}}, {"stopper": None}, object(), "x"])
def test_without_the_key_there_is_nothing(additional: Any) -> None:
    assert PluginSettings.from_additional_config(additional) is None


def test_what_is_read() -> None:
    found = read({"artifact": "DIR", "alpha": 0.05, "decisions": "d.jsonl"})
    assert found == PluginSettings(artifact=Path("DIR"), alpha=0.05, decisions=Path("d.jsonl"))
    assert found.tracker == "auto"
    assert not found.keep_hidden
    collecting = read({"collect": COLLECT})
    assert collecting is not None
    assert collecting.collect is not None
    assert collecting.collect.layers == (1, 2)
    # As `collect` hands them to the engine, and back again in every worker.
    dumped = collecting.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    assert read(dumped) == collecting


@pytest.mark.parametrize(
    ("stopper", "words"),
    [
        ("DIR", "'stopper' is str, not an object"),
        (True, "'stopper' is bool, not an object"),
        ({}, "give 'artifact', the folder that `stopper calibrate` wrote"),
        ({"alpha": 0.1}, "give 'artifact'"),
        ({"artifact": "DIR", "collect": COLLECT}, "give 'artifact'"),
        ({"artifact": "DIR", "aplha": 0.1}, "aplha: Extra inputs"),
        ({"artifact": 5}, "artifact: "),
        ({"artifact": "DIR", "alpha": 0}, "alpha: .*greater than 0"),
        ({"artifact": "DIR", "alpha": 1}, "alpha: .*less than 1"),
        ({"artifact": "DIR", "alpha": float("nan")}, "alpha: "),
        ({"artifact": "DIR", "alpha": "much"}, "alpha: "),
        ({"artifact": "DIR", "tracker": "gpu"}, "tracker: .*'auto', 'host' or 'device'"),
        ({"collect": {"layers": [], "cues": CUES}}, "collect.layers: "),
        ({"collect": {"layers": [1]}}, "collect.cues: Field required"),
        ({"collect": {"layers": [1], "cues": {}}}, "collect.cues.think_start_ids: Field required"),
        ({"artifact": "DIR", "alpha": 2, "tracker": 1}, "alpha: .*; tracker: "),
    ],
)
def test_what_is_refused(stopper: Any, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read(stopper)
    assert str(caught.value).startswith("--additional-config")
    assert "\n" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
FIELDS = st.dictionaries(st.sampled_from(sorted(PluginSettings.model_fields)), JSON)


@settings(deadline=None)
@given(FIELDS | JSON)
def test_anything_is_understood_or_refused(stopper: Any) -> None:
    try:
        found = read(stopper)
    except InputError:
        return
    assert (found is None) == (stopper is None)
