"""`stopper collect`: prompts in, traces with cues, hidden states and forced answers out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.vllm.engine import EngineOptions, running_engine
from adapters.vllm.fingerprint import engine_facts, model_fingerprint
from adapters.vllm.generation import Sampling, force_answers, generate
from adapters.vllm.labelling import record
from adapters.vllm.prompts import Prompt
from adapters.vllm.settings import CollectSettings, PluginSettings
from adapters.vllm.shards import Shard, collected, trace_name
from calibration.comparers import AUTO, Comparer, get_comparer
from calibration.files import replacing
from calibration.records import TraceMeta
from probes.provenance import Closing
from probes.spec import default_layers
from probes.validation import parse
from stopper.cues import CueAutomaton, CueSpec
from stopper.errors import InputError

if TYPE_CHECKING:
    from calibration.traces import TraceWriter


@dataclass(frozen=True, slots=True)
class Markers:
    """Texts around the thinking and after it.

    `answer_prompt` is put in the model's mouth once the thinking is closed, when labels are
    collected and when the plugin stops alike; empty lets the model answer by itself.
    """

    think_start: str = "<think>"
    think_end: str = "</think>"
    answer_prompt: str = "\n\nFinal Answer: \\boxed{"
    max_answer_tokens: int = 64

    def closing(self, tokenizer: Any) -> Closing:
        """Encode for this model."""
        return Closing(
            end_ids=tuple(encode(tokenizer, self.think_end)),
            answer_prompt=self.answer_prompt,
            answer_prompt_ids=tuple(encode(tokenizer, self.answer_prompt)),
            max_answer_tokens=self.max_answer_tokens,
        )


@dataclass(frozen=True, slots=True)
class Job:
    """What to collect and how."""

    engine: EngineOptions
    sampling: Sampling
    markers: Markers
    words: tuple[str, ...]
    interval: int | None
    paragraph: bool
    layers: str | None
    rollouts: int
    batch: int
    comparer: str = AUTO.name


def encode(tokenizer: Any, text: str) -> list[int]:
    """Encode a text alone, without special tokens around it."""
    return list(tokenizer.encode(text, add_special_tokens=False)) if text else []


def parse_layers(text: str | None, depth: int) -> tuple[int, ...]:
    """Read "9,16,last"; None chooses by depth (`probes.spec.default_layers`).

    Raises
    ------
    InputError
        A part that is no layer of this model.

    """
    if text is None:
        return default_layers(depth)
    found = set()
    for part in text.split(","):
        name = part.strip()
        layer = depth if name == "last" else int(name) if name.isdecimal() else 0
        if not 1 <= layer <= depth:
            raise InputError(f"--layers: {name!r} is no layer of this model; 1 to {depth}, or last")
        found.add(layer)
    return tuple(sorted(found))


def collect(job: Job, prompts: list[Prompt], out: Path, shard: Shard | None = None) -> int:
    """Collect traces into a store; resumes where an earlier run stopped.

    Parameters
    ----------
    shard
        Collect only this share, into a store of its own in `out`.

    Returns
    -------
    Number of traces that were added.

    """
    from tqdm import tqdm
    from transformers import AutoConfig, AutoTokenizer

    from calibration.traces import TraceWriter

    comparer = get_comparer(job.comparer)
    try:
        tokenizer = AutoTokenizer.from_pretrained(job.engine.model)
        config = AutoConfig.from_pretrained(job.engine.model).get_text_config()
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{job.engine.model}: no model to load there ({reason})") from None
    layers = parse_layers(job.layers, int(config.num_hidden_layers))
    fields = {
        "words": job.words,
        "interval": job.interval,
        "paragraph": job.paragraph,
        "think_start_ids": tuple(encode(tokenizer, job.markers.think_start)),
        "think_end_ids": tuple(encode(tokenizer, job.markers.think_end)),
    }
    spec = parse(CueSpec, fields, "--cue, --every, --think-start, --think-end", "Mend the flag")
    settings = PluginSettings(collect=CollectSettings(layers=layers, cues=spec))
    closing = job.markers.closing(tokenizer)
    automaton = CueAutomaton.build(tokenizer, spec)
    with running_engine(job.engine, settings) as llm:
        meta = _meta(llm.llm_engine.vllm_config, job, layers, spec, closing)
        folder = out if shard is None else shard.folder(out)
        if shard is not None:
            prompts = [prompt for prompt in prompts if shard.takes(prompt.id)]
        done = collected(out, shard, meta)
        with TraceWriter(folder, meta, part_traces=job.batch) as writer:
            # Every worker leaves the same file beside the stores: what reads them looks there.
            for place in {folder, out}:
                _save_cues(automaton, place)
            todo = [
                (name, prompt)
                for prompt in prompts
                for rollout in range(job.rollouts)
                if (name := trace_name(prompt.id, rollout)) not in done
            ]
            total = len(prompts) * job.rollouts
            with tqdm(total=total, initial=total - len(todo), unit="trace", desc="collect") as bar:
                for start in range(0, len(todo), job.batch):
                    part = todo[start : start + job.batch]
                    _collect_batch(llm, job, part, closing, automaton, tokenizer, writer, comparer)
                    bar.update(len(part))
    return len(todo)


def _meta(
    vllm_config: Any, job: Job, layers: tuple[int, ...], spec: CueSpec, closing: Closing
) -> TraceMeta:
    model, facts = model_fingerprint(vllm_config), engine_facts(vllm_config, "auto")
    return TraceMeta(
        model=model,
        layers=layers,
        hidden_size=model.hidden_size,
        cues=spec.model_dump(mode="json"),
        closing=closing,
        sampling={
            "temperature": job.sampling.temperature,
            "top_p": job.sampling.top_p,
            "top_k": job.sampling.top_k,
            "max_tokens": job.sampling.max_tokens,
            "seed": job.sampling.seed,
        },
        engine={"vllm": facts.vllm_version, "runner": facts.runner, "device": facts.device},
        comparer=job.comparer,
    )


def _collect_batch(
    llm: Any,
    job: Job,
    part: list[tuple[str, Prompt]],
    closing: Closing,
    automaton: CueAutomaton,
    tokenizer: Any,
    writer: TraceWriter,
    comparer: Comparer,
) -> None:
    ids = [prompt.token_ids(tokenizer) for _, prompt in part]
    params = [job.sampling.params(name, 1) for name, _ in part]
    traces = generate(llm, ids, params, closing.end_ids)
    forced = force_answers(llm, traces, closing, job.sampling)
    for (name, prompt), trace, answers in zip(part, traces, forced, strict=True):
        width = writer.meta.width
        writer.append(
            record(
                name, prompt, trace, answers, closing, automaton.labels, tokenizer, width, comparer
            )
        )
    writer.flush()


def _save_cues(automaton: CueAutomaton, out: Path) -> None:
    from safetensors.numpy import save

    with replacing(out / "cues.safetensors") as file:
        file.write(save(automaton.to_tensors()))


def generation_defaults(model: str) -> dict[str, Any]:
    """Read the model's own sampling defaults (`generation_config.json`), as vLLM serves it."""
    config = _generation_config(model)
    return {name: config[name] for name in ("temperature", "top_p", "top_k") if name in config}


def defaults_left_out(model: str) -> str | None:
    """Name the sampling defaults that vLLM would serve this model with and we collect without.

    Returns a sentence with the remedy; None where there are none. A value that changes nothing
    counts as none.
    """
    config = _generation_config(model)
    neutral = {"min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0,
               "frequency_penalty": 0.0}  # fmt: skip
    others = {
        name: value
        for name, value in neutral.items()
        if config.get(name) is not None and float(config[name]) != value
    }
    if not others:
        return None
    named = ", ".join(f"{name} {config[name]}" for name in others)
    return (
        f"warning: the model's generation_config.json sets {named}, which `vllm serve` applies and "
        "collection does not: the served traces would be others than the calibrated ones. Serve "
        f"with --override-generation-config '{json.dumps(others)}'"
    )


def _generation_config(model: str) -> dict[str, Any]:
    from transformers import GenerationConfig

    try:
        config = GenerationConfig.from_pretrained(model).to_diff_dict()
    except OSError:
        return {}
    plain: dict[str, Any] = json.loads(json.dumps(config, default=str))
    return plain
