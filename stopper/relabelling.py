"""Labels of a trace store made again under another comparer: no model, no GPU, the same texts."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from calibration.comparers import Comparer, get_comparer
from calibration.records import TraceMeta, TraceRecord
from calibration.store_files import column
from calibration.traces import TraceDataset, TraceWriter
from probes.errors import InputError
from probes.provenance import Closing, fingerprint_files
from stopper.folders import is_empty


@dataclass(slots=True)
class Tally:
    """What relabelling changed.

    Attributes
    ----------
    traces, cues
        How many there are.
    answered, answered_before
        Full outputs in which an answer was found, now and before.
    changed
        How many labels differ from before, by their name: ``agrees`` and ``correct`` per cue,
        ``full_correct`` per trace.
    notes
        Remarks a person should read.

    """

    traces: int = 0
    cues: int = 0
    answered: int = 0
    answered_before: int = 0
    changed: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def count(self, before: TraceRecord, after: TraceRecord) -> None:
        """Add one trace."""
        self.traces += 1
        self.cues += len(after.cues)
        self.answered += after.answer is not None
        self.answered_before += before.answer is not None
        self.changed["full_correct"] += before.full_correct is not after.full_correct
        for old, new in zip(before.cues, after.cues, strict=True):
            self.changed["agrees"] += old.agrees is not new.agrees
            self.changed["correct"] += old.correct is not new.correct

    def to_json(self) -> dict[str, Any]:
        """Give the figures as plain JSON."""
        return {
            "traces": self.traces,
            "cues": self.cues,
            "answered": self.answered,
            "answered_before": self.answered_before,
            "changed": {name: self.changed[name] for name in ("agrees", "correct", "full_correct")},
        }


def relabelled(
    record: TraceRecord, comparer: Comparer, closing: Closing, tokenizer: Any
) -> TraceRecord:
    """Take the answers of one trace out of its stored token ids again, and compare them.

    Raises
    ------
    InputError
        If a cue holds an answer but not the token ids it was taken from.

    """
    answer = full_answer(record, comparer, closing.end_ids, tokenizer)
    known, cues = record.gold is not None, []
    for index, cue in enumerate(record.cues):
        if not cue.forced_ids and cue.forced_answer is not None:
            raise InputError(
                f"trace {record.trace_id!r}: cues[{index}] has an answer but no forced_ids, so "
                "that its answer cannot be taken out again. Collect these traces again"
            )
        text = tokenizer.decode(cue.forced_ids, skip_special_tokens=True)
        short = comparer.extract_forced(text, closing.answer_prompt)
        cues.append(
            replace(
                cue,
                forced_answer=short,
                correct=comparer.same(short, record.gold) if known else None,
                agrees=comparer.same(short, answer),
            )
        )
    right = comparer.same(answer, record.gold) if known else None
    return replace(record, answer=answer, full_correct=right, cues=cues)


def full_answer(
    record: TraceRecord, comparer: Comparer, end_ids: Sequence[int], tokenizer: Any
) -> str | None:
    """Return the answer after a stored trace's thinking; None if the thinking never ended."""
    rest = record.output_ids[record.thinking_tokens :]
    if not rest:
        return None
    return comparer.extract(tokenizer.decode(rest[len(end_ids) :], skip_special_tokens=True))


def relabel(store: Path, name: str, out: Path, tokenizer_folder: Path | None = None) -> Tally:
    """Write a copy of a store whose labels another comparer made.

    Parameters
    ----------
    store
        A trace store; it is left as it is.
    name
        A comparer of :mod:`calibration.comparers`.
    out
        A folder that does not exist yet, or is empty.
    tokenizer_folder
        Holds the model's ``tokenizer.json``; by default where the store says the model is, or the
        hub's local cache.

    Raises
    ------
    InputError
        If ``out`` holds something, the tokenizer is missing or another one, or a stored answer
        cannot be found again under the comparer that the store names: then the store or the
        tokenizer is not what it says, and new labels could not be trusted.

    """
    from tqdm import tqdm

    comparer = get_comparer(name)
    dataset = TraceDataset(store)
    meta = dataset.meta
    if out.exists() and not is_empty(out):
        raise InputError(f"{out}: holds files already. Name a new folder")
    tokenizer = load_tokenizer(meta, tokenizer_folder)
    tally = Tally()
    try:
        former: Comparer | None = get_comparer(meta.comparer)
    except InputError as problem:
        former = None
        tally.notes.append(f"the stored answers could not be checked: {problem}")
    changed = meta.model_copy(update={"comparer": name})
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        fresh = Path(scratch) / "store"
        with TraceWriter(fresh, changed) as writer:
            for record in tqdm(dataset, total=len(dataset), desc="relabel", unit="trace"):
                if former is not None:
                    _check(record, relabelled(record, former, meta.closing, tokenizer), store)
                made = relabelled(record, comparer, meta.closing, tokenizer)
                tally.count(record, made)
                writer.append(made)
        # A folder of several workers' stores has one in each.
        for folder in dict.fromkeys([store, *(part.parent for part in dataset.parts)]):
            if (folder / "cues.safetensors").is_file():
                shutil.copyfile(folder / "cues.safetensors", fresh / "cues.safetensors")
                break
        fresh.rename(out)
    return tally


def count_answered(store: Path) -> tuple[int, int]:
    """Count the traces of a store whose full output has an answer, and all of them."""
    answers = [answer for part in TraceDataset(store).parts for answer in column(part, "answer")]
    return sum(answer is not None for answer in answers), len(answers)


def load_tokenizer(meta: TraceMeta, folder: Path | None = None) -> Any:
    """Load the tokenizer that a store's token ids belong to.

    Raises
    ------
    InputError
        If it is not found, or its ``tokenizer.json`` hashes to something else.

    """
    from tokenizers import Tokenizer

    found = folder or _model_folder(meta.model.model, meta.model.revision)
    if found is None:
        raise InputError(
            f"the tokenizer of {meta.model.model} is not on this machine. Give the folder of its "
            "tokenizer.json by --tokenizer"
        )
    if fingerprint_files(found)["tokenizer_sha256"] != meta.model.tokenizer_sha256:
        raise InputError(
            f"{found / 'tokenizer.json'}: is not the tokenizer of these traces (its SHA-256 "
            "differs). Give the folder of the right one by --tokenizer"
        )
    return Tokenizer.from_file(str(found / "tokenizer.json"))


def _model_folder(model: str, revision: str | None) -> Path | None:
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(model, "tokenizer.json", revision=revision)
    except HFValidationError:  # a path on another machine is no hub id
        return None
    return Path(cached).parent if isinstance(cached, str) else None


def _check(stored: TraceRecord, again: TraceRecord, store: Path) -> None:
    pairs = [("answer", stored.answer, again.answer)]
    for index, (old, new) in enumerate(zip(stored.cues, again.cues, strict=True)):
        pairs.append((f"cues[{index}].forced_answer", old.forced_answer, new.forced_answer))
    for where, old_answer, new_answer in pairs:
        if old_answer != new_answer:
            raise InputError(
                f"{store}: trace {stored.trace_id!r}: {where} is {old_answer!r}, but its token ids "
                f"give {new_answer!r}; the store cannot be labelled again. Collect these traces "
                "again"
            )
