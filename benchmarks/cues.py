"""Cue matching: time to build the tables, and tokens per second of the look-ups.

Run: ``python benchmarks/cues.py [--vocabulary 150000] [--tokens 1000000]``
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from tokenizers import Tokenizer, decoders, models

from stopper.cues import CueAutomaton, CueSpec


def vocabulary(size: int, seed: int = 0) -> Tokenizer:
    """Make a byte-level vocabulary of random words, half of them with a leading blank."""
    rng = np.random.default_rng(seed)
    pieces = ["<think>", "</think>", "ĊĊ", "Ġwait", "Wait", "Hmm", "Alternatively"]
    words = dict.fromkeys(pieces)
    while len(words) < size:
        letters = rng.choice(list("etaoinshrdlucmwfgypb"), size=rng.integers(2, 12))
        words["Ġ" * int(rng.integers(2)) + "".join(letters)] = None
    tokenizer = Tokenizer(models.BPE({word: index for index, word in enumerate(words)}, []))
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def main() -> None:
    """Print one line per figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocabulary", type=int, default=150_000)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    options = parser.parse_args()
    tokenizer = vocabulary(options.vocabulary)
    spec = CueSpec(think_start_ids=(0,), think_end_ids=(1,), paragraph=True)

    begun = time.perf_counter()
    automaton = CueAutomaton.build(tokenizer, spec)
    print(f"build          {time.perf_counter() - begun:8.2f} s for {options.vocabulary:,} tokens")
    print(f"tables         {automaton.transitions.shape} states x classes")

    rng = np.random.default_rng(1)
    tokens = rng.integers(2, options.vocabulary, options.tokens)
    listed = tokens.tolist()
    automaton.step(0, 0)  # builds its lists
    begun = time.perf_counter()
    automaton.state_after(listed, 1)
    seconds = time.perf_counter() - begun
    print(f"step, Python   {options.tokens / seconds:12,.0f} tokens/s")
    begun = time.perf_counter()
    found = automaton.events([0], listed)
    seconds = time.perf_counter() - begun
    print(f"events, Python {options.tokens / seconds:12,.0f} tokens/s ({len(found)} events)")
    for batch in (1, 16, 256):
        states = np.ones(batch, np.int32)
        steps = tokens[: max(1, min(20_000, len(tokens) // batch)) * batch].reshape(-1, batch)
        begun = time.perf_counter()
        for row in steps:
            states = automaton.transitions[states, automaton.token_class[row]]
        seconds = time.perf_counter() - begun
        print(f"numpy, batch {batch:3} {steps.size / seconds:10,.0f} tokens/s")


if __name__ == "__main__":
    main()
