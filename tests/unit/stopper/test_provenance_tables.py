"""`stopper inspect` shows where an artifact comes from."""

from __future__ import annotations

import io

import makers
import numpy as np
from rich.console import Console
from rich.table import Table

from calibration.profile import Histogram, Profile
from stopper.provenance import origin_table, profile_table, provenance_tables, splits_table


def shown(*tables: Table) -> str:
    console = Console(file=io.StringIO(), width=200)
    for table in tables:
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_origin_names_versions_of_training_and_calibration() -> None:
    made = makers.artifact(
        engine={"vllm": "0.33.0", "runner": None},
        libraries={"stopper": "2", "numpy": "2.9"},
        training={
            "seed": 5,
            "leaked_groups": 2,
            "libraries": {"stopper": "1", "scikit-learn": "1.8"},
        },
        comparer="exact",
        files={"probe.safetensors": "c" * 64},
    )
    text = shown(origin_table(made.manifest))
    for part in (
        "vllm 0.33.0, runner unknown",
        "stopper 2, numpy 2.9",
        "scikit-learn 1.8",
        "exact",
    ):
        assert part in text
    assert "c" * 64 in text
    assert "5, of splits and fit" in text and "2, for a prompt of another split" in text
    assert shown(origin_table(makers.artifact().manifest)).count("unknown") == 4


def test_the_splits_say_what_is_unknown() -> None:
    splits = {
        "train": np.arange(3, dtype=np.uint64),
        "test": np.arange(3, 5, dtype=np.uint64),
        "test.prompts": np.arange(7, dtype=np.uint64),
    }
    text = shown(splits_table(splits))
    rows = [line.replace("│", " ").split() for line in text.splitlines()]
    assert ["train", "3", "unknown"] in rows and ["test", "2", "7"] in rows


def test_the_profile_is_shares_by_range() -> None:
    three = Histogram(edges=(2.0, 3.5), counts=(1, 2, 1))
    profile = Profile(
        n_traces=4,
        cues=three,
        tokens=Histogram(edges=(), counts=(4,)),
        scores=Histogram(edges=(), counts=(0,)),
    )
    text = shown(profile_table(profile))
    assert "below 2: 25%, 2 to 3.5: 50%, from 3.5: 25%" in text
    assert "4 in one range" in text and "none" in text and "highest" not in text
    full = profile.model_copy(update={"top_scores": three})
    assert "highest scores" in shown(profile_table(full))
    made = makers.artifact(profile=full)
    assert len(list(provenance_tables(made))) == 3
