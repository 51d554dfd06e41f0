"""Where an artifact comes from, as tables: fingerprints, engine, libraries, splits, traffic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.markup import escape
from rich.table import Table

from calibration.profile import Histogram, Profile
from calibration.splits import PROMPTS
from stopper.artifact import Artifact
from stopper.manifest import Manifest

UNKNOWN = "unknown"

Splits = Mapping[str, npt.NDArray[np.uint64]]


def provenance_tables(artifact: Artifact) -> Iterator[Table]:
    """Yield all of an artifact's tables of provenance."""
    if artifact.manifest.profile is not None:
        yield profile_table(artifact.manifest.profile)
    if artifact.splits:
        yield splits_table(artifact.splits)
    yield origin_table(artifact.manifest)


def origin_table(manifest: Manifest) -> Table:
    """Return what the artifact was made of and with."""
    table = _pairs("provenance")
    table.add_row("schema", str(manifest.schema_version))
    model = manifest.model
    if model is not None:
        table.add_row("revision", escape(model.revision or UNKNOWN))
        table.add_row("quantization", escape(model.quantization or "none"))
        table.add_row("tokenizer sha256", model.tokenizer_sha256)
        table.add_row("template sha256", model.chat_template_sha256 or "no template")
    table.add_row("engine", escape(_listed(manifest.engine)))
    table.add_row("comparer", escape(manifest.comparer or UNKNOWN))
    table.add_row("libraries", escape(_listed(manifest.libraries)))
    trained = manifest.training.get("libraries")
    if isinstance(trained, dict) and trained != manifest.libraries:
        table.add_row("... at training", escape(_listed(trained)))
    if "seed" in manifest.training:
        left_out = manifest.training.get("leaked_groups", UNKNOWN)
        table.add_row("seed", f"{manifest.training['seed']}, of splits and fit")
        table.add_row("groups left out", f"{left_out}, for a prompt of another split")
    for name, sha256 in manifest.files.items():
        table.add_row(f"{name} sha256", sha256)
    return table


def split_sizes(splits: Splits) -> dict[str, dict[str, int | None]]:
    """Return how many groups and prompts each split keeps by hash; None where none are kept."""
    return {
        name: {
            "groups": hashes.size,
            "prompts": splits[name + PROMPTS].size if name + PROMPTS in splits else None,
        }
        for name, hashes in splits.items()
        if not name.endswith(PROMPTS)
    }


def splits_table(splits: Splits) -> Table:
    """Return the sizes of the splits."""
    table = Table(title="splits", title_justify="left")
    for title in ("split", "groups", "prompts"):
        table.add_column(title, justify="left" if title == "split" else "right")
    for name, sizes in split_sizes(splits).items():
        shown = (UNKNOWN if size is None else str(size) for size in sizes.values())
        table.add_row(escape(name), *shown)
    return table


def profile_table(profile: Profile) -> Table:
    """Return what the calibration traffic looked like: shares by range."""
    table = _pairs(f"profile of {profile.n_traces} calibration traces")
    table.add_row("cues per trace", _histogram(profile.cues))
    table.add_row("thinking tokens", _histogram(profile.tokens))
    table.add_row("scores of cues", _histogram(profile.scores))
    if profile.top_scores is not None:
        table.add_row("highest scores", _histogram(profile.top_scores))
    return table


def _histogram(counted: Histogram) -> str:
    total = sum(counted.counts)
    if not total:
        return "none"
    bounds = [f"{edge:.4g}" for edge in counted.edges]
    if not bounds:
        return f"{total} in one range"
    between = [f"{low} to {high}" for low, high in pairwise(bounds)]
    ranges = [f"below {bounds[0]}", *between, f"from {bounds[-1]}"]
    shares = zip(ranges, counted.counts, strict=True)
    return ", ".join(f"{name}: {count / total:.0%}" for name, count in shares if count)


def _listed(fields: Mapping[str, Any]) -> str:
    pairs = (f"{name} {UNKNOWN if value is None else value}" for name, value in fields.items())
    return ", ".join(pairs) or UNKNOWN


def _pairs(title: str) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    return table
