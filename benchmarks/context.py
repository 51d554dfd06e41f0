"""What filtering retrieved documents costs, and what it spares the reader; ratios of one run.

    STOPPER_DATA=DATA python benchmarks/context.py [--json FILE] [--rounds 5] [--queries 8]

DATA holds ``squad-v2.0-dev-part.json`` or another file in SQuAD format, see `--data`. A query's
documents are its own paragraph and four others. Parts are timed by turns, and medians compared:

filter_over_spared      time to filter by the encoder / prefill time that the reader then spares
cached_over_uncached    Yes/No scores of a document of 20 sentences, with and without prefix caching
encoder_over_body       the encoder scorer / one batched forward of its bare body on the same pieces

The reader, which also answers Yes or No, is vLLM with a Llama of random weights in the sizes of
SmolLM2-135M (30 layers of 576; 106 M parameters without the embeddings), float32, on this machine's
CPU. Only its speed counts. Reader and filter take turns on the same cores (`--cores`).
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

SENTENCES = 20
PARTS = ("encoder", "filter", "yes_no")
LENGTHS = {"max_model_len": 2048, "max_num_batched_tokens": 4096}
_salts = itertools.count()


def cases(file: Path, count: int, documents: int, seed: int = 0) -> list[tuple[str, list[Any]]]:
    """Draw questions, each with its paragraph and others of the file."""
    from stopper.context import Document

    articles = json.loads(file.read_text())["data"]
    asked = [
        (one["question"], Document(article["title"], paragraph["context"]))
        for article in articles
        for paragraph in article["paragraphs"]
        for one in paragraph["qas"][:1]
    ]
    drawn = random.Random(seed)
    drawn.shuffle(asked)
    found = []
    for question, own in asked[:count]:
        others = [one for _, one in drawn.sample(asked, documents + 3) if one != own]
        found.append((question, [own, *others[: documents - 1]]))
    return found


def twenty(cases_: Sequence[tuple[str, list[Any]]]) -> list[tuple[str, Any]]:
    """Make documents of 20 sentences out of the paragraphs."""
    from probes.sentences import passage_of
    from stopper.context import split

    found = []
    for question, documents in cases_:
        texts = [one.text[a:b] for one in documents for a, b in split(one.text)]
        if len(texts) >= SENTENCES:
            found.append((question, passage_of(documents[0].title, texts[:SENTENCES])))
    return found


def start_reader(folder: Path, vocabulary: int) -> Any:
    """Start vLLM on a Llama of random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
        num_attention_heads=9, num_key_value_heads=3, max_position_embeddings=2048,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    from vllm import LLM

    return LLM(
        model=str(folder), dtype="float32", skip_tokenizer_init=True, enforce_eager=True,
        enable_prefix_caching=True, enable_chunked_prefill=False, block_size=32, max_num_seqs=32,
        disable_log_stats=True, **LENGTHS,
    )  # fmt: skip


class Reader:
    """The engine, fed with token ids; prompts of equal salt may share computed prefixes."""

    def __init__(self, llm: Any) -> None:
        self.llm = llm

    def prefill(
        self, prompts: Sequence[list[int]], shared: bool, answers: Sequence[int] = ()
    ) -> None:
        """Compute prompts and one token each."""
        from vllm import SamplingParams

        params = SamplingParams(
            temperature=0.0, max_tokens=1, detokenize=False,
            logprob_token_ids=list(answers) or None, logprobs=1 if answers else None,
        )  # fmt: skip
        common = f"salt-{next(_salts)}"
        inputs = [
            {
                "prompt_token_ids": ids,
                "cache_salt": common if shared else f"salt-{next(_salts)}",
            }
            for ids in prompts
        ]
        # As `adapters.openai` does it: one first, for the others to find its prefix.
        for part in (inputs[:1], inputs[1:]) if shared else (inputs,):
            if part:
                self.llm.generate(part, params, use_tqdm=False)


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that something takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure_filter(
    reader: Reader, found: Any, tokens: Any, asked: list[tuple[str, list[Any]]], rounds: int
) -> dict[str, float]:
    """Time filtering, and the reader on the whole and on what is left."""

    def prompt(question: str, texts: Sequence[str]) -> list[int]:
        return list(tokens.encode("\n\n".join([*texts, question])))

    times: dict[str, list[float]] = {"filter": [], "whole": [], "left": []}
    lengths = {"whole": 0, "left": 0}
    for number in range(rounds + 1):
        spent = dict.fromkeys(times, 0.0)
        for question, documents in asked:
            start = time.perf_counter()
            done = found.compress(question, documents)
            spent["filter"] += time.perf_counter() - start
            whole = prompt(question, [one.text for one in documents])
            left = prompt(question, [one for one in done.documents if one])
            spent["whole"] += timed(lambda ids=whole: reader.prefill([ids], False))
            spent["left"] += timed(lambda ids=left: reader.prefill([ids], False))
            if number == 0:
                lengths["whole"] += len(whole)
                lengths["left"] += len(left)
        if number:  # the first warms up
            for name, value in spent.items():
                times[name].append(value)
    middle = {name: statistics.median(values) for name, values in times.items()}
    return {
        "filter_over_spared": middle["filter"] / (middle["whole"] - middle["left"]),
        "filter_over_whole_prefill": middle["filter"] / middle["whole"],
        "dropped_share_of_tokens": 1.0 - lengths["left"] / lengths["whole"],
        "tokens_per_query": lengths["whole"] / len(asked),
        "filter_ms_per_query": 1e3 * middle["filter"] / len(asked),
        "prefill_tokens_per_s": lengths["whole"] / middle["whole"],
    }


def measure_yes_no(
    reader: Reader, builder: Any, documents: list[tuple[str, Any]], rounds: int
) -> dict[str, float]:
    """Time the prompts of documents of 20 sentences, cached and not."""
    times: dict[bool, list[float]] = {True: [], False: []}
    prompts = [[one.ids for one in builder.prompts(*case)] for case in documents]
    first = next(iter(builder.prompts(*documents[0])))
    for number in range(rounds + 1):
        for shared in (True, False) if number % 2 else (False, True):
            spent = timed(
                lambda shared=shared: [
                    reader.prefill(some, shared, (builder.yes, builder.no)) for some in prompts
                ]
            )
            if number:
                times[shared].append(spent)
    cached, uncached = (statistics.median(times[shared]) for shared in (True, False))
    return {
        "cached_over_uncached": cached / uncached,
        "cached_ms_per_document": 1e3 * cached / len(documents),
        "prefix_tokens": len(first.prefix),
        "closing_tokens": statistics.mean(len(ids) for some in prompts for ids in some)
        - statistics.mean(len(next(iter(builder.prompts(*case))).prefix) for case in documents),
    }


def measure_encoder(
    scorer: Any, asked: list[tuple[str, list[Any]]], rounds: int
) -> dict[str, float]:
    """Time the scorer, and the body alone on the very sequences that the scorer feeds it."""
    from probes.sentences import Passage
    from stopper.context import split

    batches = [
        (question, [Passage(one.title, one.text, tuple(split(one.text))) for one in documents])
        for question, documents in asked
    ]
    body = scorer.reader.body
    fed: list[list[Any]] = []
    encode = body.encode
    body.encode = lambda sequences: (fed.append(list(sequences)), encode(sequences))[1]
    for batch in batches:
        scorer.score(*batch)
    del body.encode
    times: dict[str, list[float]] = {"scorer": [], "body": []}
    for number in range(rounds + 1):
        scored = timed(lambda: [scorer.score(*batch) for batch in batches])
        bare = timed(lambda: [encode(sequences) for sequences in fed])
        if number:
            times["scorer"].append(scored)
            times["body"].append(bare)
    middle = {name: statistics.median(values) for name, values in times.items()}
    sentences = sum(len(one.spans) for _, passages in batches for one in passages)
    return {
        "encoder_over_body": middle["scorer"] / middle["body"],
        "sentences_per_s": sentences / middle["scorer"],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--data", type=Path, help="a file in SQuAD format")
    parser.add_argument("--artifact", type=Path, help="of the encoder; default: the package's own")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--queries", type=int, default=8)
    parser.add_argument("--documents", type=int, default=5)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--cores", default="", help="for the reader, such as 0 or 0-3")
    asked = parser.parse_args()
    data = asked.data or Path(os.environ.get("STOPPER_DATA", ".")) / "squad-v2.0-dev-part.json"
    if not data.is_file():
        parser.error(f"{data} is missing; set STOPPER_DATA or give --data, a file in SQuAD format")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    if asked.cores:
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = asked.cores

    from probes.causal_prompts import PromptBuilder
    from probes.causal_tokens import FastTokens
    from probes.causal_wording import Wording
    from probes.encoder_body import installed_body
    from stopper.context.filters import make_filter

    result: dict[str, Any] = {"rounds": asked.rounds, "queries": asked.queries}
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as ending:
        reader = None
        if {"filter", "yes_no"} & set(asked.parts):
            # First, while this process has not computed anything: the engine's are forked.
            llm = start_reader(Path(scratch), 30522)
            ending.callback(llm.llm_engine.engine_core.shutdown)
            reader = Reader(llm)
        found = make_filter("encoder", asked.artifact)
        drawn = cases(data, asked.queries, asked.documents)
        tokens = FastTokens.from_folder(installed_body())  # only lengths count
        builder = PromptBuilder(tokens, LENGTHS["max_model_len"] - 1, Wording(starts=False))
        if "encoder" in asked.parts:
            result["encoder"] = measure_encoder(found.scorer, drawn, asked.rounds)
        if reader is not None and "filter" in asked.parts:
            result["filter"] = measure_filter(reader, found, tokens, drawn, asked.rounds)
        if reader is not None and "yes_no" in asked.parts:
            result["yes_no"] = measure_yes_no(reader, builder, twenty(drawn)[:3], asked.rounds)
    print(json.dumps(result, indent=2))
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
