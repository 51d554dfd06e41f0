"""What a report says about its artifact: provenance as plain facts, and what a score means."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from calibration.page import words
from calibration.page.report import Fact, Origin
from calibration.risk import promise
from probes.errors import InputError
from stopper.artifact import Artifact
from stopper.libraries import versions_used
from stopper.manifest import Manifest

_WHEN = "%Y-%m-%d %H:%M UTC"


def origin_of(
    artifact: Artifact,
    title: str,
    source: str,
    alpha: float,
    command: Sequence[str],
    notes: Sequence[str] = (),
    warnings: Sequence[str] = (),
    digest: str | None = None,
    promise_text: str | None = None,
    section: tuple[str, tuple[Fact, ...]] | None = None,
) -> Origin:
    """Gather what the page tells about an artifact.

    Parameters
    ----------
    artifact
        Calibrated.
    title, source
        Names of the artifact and of the test traces.
    alpha
        Of the headline.
    command
        That makes the report, as its words.
    notes, warnings
        Remarks about the test traces, at the end and at the top of the page.
    digest
        Of the manifest as it lies on disk, where known.
    promise_text
        The formal sentence, where it is worded otherwise than a trace's.
    section
        Further facts, with their title.

    Raises
    ------
    InputError
        If it is not calibrated.
    """
    manifest = artifact.manifest
    record = manifest.calibration
    if record is None:
        raise InputError("the artifact is not calibrated. Run `stopper calibrate` on it first")
    formal = promise_text or record.promise
    if promise_text is None and alpha != record.alpha and record.method != "lynx":
        formal = promise(
            record.loss, alpha, record.method, record.confidence or 0.9, record.n_units
        )
    now = datetime.now(UTC)
    label = manifest.training.get("label")
    return Origin(
        title=title,
        source=source,
        model=None if manifest.model is None else manifest.model.model,
        made=now.strftime(_WHEN),
        n_units=record.n_units,
        promise=formal,
        label=label if label in ("agrees", "correct") else None,
        score_meaning=score_meaning(manifest),
        warnings=(*_expiry(manifest, now), *warnings),
        notes=tuple(notes),
        facts=_facts(artifact, command, digest, section),
    )


def score_meaning(manifest: Manifest) -> str:
    """Say what a score is, after shaping."""
    probe = manifest.probe
    if probe is None:
        return (
            "These scores are a user's own; nothing says that they were meant as log-odds, and if "
            "they were not, a curve far from the diagonal is no fault."
        )
    if probe.shaping == "rise" and probe.rise_weight:
        return (
            "These scores are shaped: the probe's log-odds plus "
            f"{probe.rise_weight:g} times their rise over the lowest so far in the trace. Later in "
            "a trace they therefore lie above the plain log-odds; being too sure there is no fault."
        )
    return "These scores are the probe's log-odds as fitted."


def _expiry(manifest: Manifest, now: datetime) -> tuple[str, ...]:
    if manifest.expires is None or not manifest.expired(now):
        return ()
    when = manifest.expires.astimezone(UTC).strftime(_WHEN)
    return (f"This artifact expired on {when}. Its promise no longer holds: calibrate it again.",)


def _facts(
    artifact: Artifact,
    command: Sequence[str],
    digest: str | None,
    section: tuple[str, tuple[Fact, ...]] | None,
) -> tuple[tuple[str, tuple[Fact, ...]], ...]:
    manifest = artifact.manifest
    sections = {
        "Artifact": _identity(manifest),
        "Model": _model(manifest),
        **({} if section is None else {section[0]: list(section[1])}),
        "Calibration": _calibration(artifact),
        "Training of the probe": _training(manifest) if manifest.halting is None else [],
        "Hashes (SHA-256)": [
            Fact("manifest", digest or words.UNKNOWN_TEXT, code=True),
            *(Fact(name, sha, code=True) for name, sha in sorted(manifest.files.items())),
        ],
        "This report": [
            Fact("command", shlex.join(command), code=True),
            Fact("made with", _pairs({"Python": platform.python_version(), **_versions()})),
        ],
    }
    return tuple((title, tuple(facts)) for title, facts in sections.items() if facts)


def _identity(manifest: Manifest) -> list[Fact]:
    expires = "never" if manifest.expires is None else _time(manifest.expires)
    return [
        Fact("created", _time(manifest.created)),
        Fact("expires", expires),
        Fact("made by", f"stopper {manifest.stopper_version}, schema {manifest.schema_version}"),
        Fact("libraries", _pairs(manifest.libraries)),
        Fact("engine", _pairs(manifest.engine)),
        Fact("answers compared by", manifest.comparer or words.UNKNOWN_TEXT),
    ]


def _model(manifest: Manifest) -> list[Fact]:
    model, probe = manifest.model, manifest.probe
    facts = []
    if model is None:
        made = "scores" if manifest.halting is None else "decodes that do not name it"
        facts.append(Fact("model", f"none: the artifact was made from {made}, it cannot be served"))
    else:
        facts += [
            Fact("model", model.model),
            Fact("revision", model.revision or words.UNKNOWN_TEXT),
            Fact(
                "shape",
                f"{model.architecture}, {model.num_layers} layers of {model.hidden_size}, "
                f"vocabulary {model.vocab_size:,}",
            ),
            Fact("dtype", model.dtype),
            Fact("quantization", model.quantization or "none"),
            Fact("tokenizer", model.tokenizer_sha256, code=True),
            Fact("chat template", model.chat_template_sha256 or "none", code=True),
        ]
    if probe is not None:
        inside = f" {list(probe.hidden_dims)}" if probe.hidden_dims else ""
        layers = ", ".join(map(str, probe.layers))
        rise = f", weight {probe.rise_weight:g}" if probe.shaping == "rise" else ""
        facts.append(
            Fact("probe", f"{probe.kind}{inside}, layers {layers}, shaping {probe.shaping}{rise}")
        )
    if manifest.cues is not None:
        facts.append(Fact("cues", ", ".join(manifest.cues.labels)))
    if manifest.closing is not None:
        prompt = manifest.closing.answer_prompt
        said = f", then {prompt!r}" if prompt else ""
        facts.append(
            Fact("closing of the thinking", f"token ids {list(manifest.closing.end_ids)}{said}")
        )
    facts.append(Fact("sampling", _pairs(manifest.sampling)))
    return facts


def _calibration(artifact: Artifact) -> list[Fact]:
    record = artifact.manifest.calibration
    if record is None:
        return []
    confidence = "" if record.confidence is None else f", confidence {record.confidence:g}"
    cues = "cues" if artifact.manifest.halting is None else "denoising steps"
    sizes = {name: len(part) for name, part in artifact.splits.items() if "." not in name}
    return [
        Fact("method", f"{record.method}{confidence}"),
        Fact("rule", f"{record.rule} {_short(record.parameters) if record.parameters else ''}"),
        Fact("loss", record.loss),
        Fact(
            "as calibrated",
            f"alpha {record.alpha:g}, threshold {words.threshold_text(record.threshold)}",
        ),
        Fact(
            "made on",
            f"{record.n_units:,} prompts, {record.n_traces:,} traces (at most {record.rollouts} a "
            f"prompt), {record.n_cues:,} {cues}",
        ),
        Fact("prompts in each split", _pairs(sizes)),
    ]


def _training(manifest: Manifest) -> list[Fact]:
    return [
        Fact(str(name).replace("_", " "), _short(value))
        for name, value in manifest.training.items()
    ]


def _versions() -> dict[str, str]:
    """Add to what calibration has loaded what draws the page."""
    drawing = ("scikit-learn", "matplotlib", "jinja2")
    return {**versions_used(), **{name: version(name) for name in drawing if _installed(name)}}


def _installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


def _pairs(values: Mapping[str, object]) -> str:
    if not values:
        return words.UNKNOWN_TEXT
    return ", ".join(f"{name} {_short(value)}" for name, value in values.items())


def _short(value: object) -> str:
    if value is None:
        return words.UNKNOWN_TEXT
    if isinstance(value, Mapping):
        return _pairs(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _time(when: datetime) -> str:
    return when.astimezone(UTC).strftime(_WHEN)
