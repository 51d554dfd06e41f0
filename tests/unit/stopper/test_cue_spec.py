"""Cue settings: what they accept, and the sentence with which they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from stopper.cues import CueSpec

IDS: dict[str, Any] = {"think_start_ids": (1,), "think_end_ids": (2,)}


def test_defaults_and_json_round_trip() -> None:
    spec = CueSpec(**IDS)
    assert spec.words == spec.labels == ("hmm", "wait", "alternatively")
    assert CueSpec.model_validate_json(spec.model_dump_json()) == spec


def test_words_are_folded_and_repetitions_dropped() -> None:
    spec = CueSpec(words=["Wait", " WAIT ", "let  me\tcheck", "Étape 2"], **IDS)
    assert spec.words == ("wait", "let me check", "étape 2")


def test_labels_name_every_kind_of_event() -> None:
    spec = CueSpec(words=("hmm",), paragraph=True, interval=64, **IDS)
    assert spec.labels == ("hmm", "paragraph", "every 64")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"words": ("",)}, "not be empty"),
        ({"words": ("  ",)}, "not be empty"),
        ({"words": ("wait!",)}, "remove '!'"),
        ({"words": (3,)}, "cue word 3 is not a string"),
        ({"words": "wait"}, "valid tuple"),
        ({"words": 5}, "valid tuple"),
        ({"words": [f"w{rank}" for rank in range(130)]}, "at most 125"),
        ({"words": ()}, "no cue at all"),
        ({"interval": 0}, "greater than or equal to 1"),
        ({"think_start_ids": ()}, "think_start_ids is empty"),
        ({"think_end_ids": ()}, "think_end_ids is empty"),
        ({"think_end_ids": (-1,)}, "greater than or equal to 0"),
        ({"think_end_ids": ("2",)}, "valid integer"),
        ({"think_end_ids": (1,)}, "the same ids"),
        ({"unknown": 1}, "not permitted"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        CueSpec(**{**IDS, **options})
