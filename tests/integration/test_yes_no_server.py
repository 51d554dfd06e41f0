"""The Yes/No scorer against a real vLLM server with prefix caching, and with a LoRA adapter."""

from __future__ import annotations

import re

import httpx
import numpy as np
import pytest
from runs import environment
from served import PROGRAMS, Program

from adapters.openai import ServerError, ServerReader, server_scorer
from probes.causal_loading import load_causal_scorer
from probes.causal_tokens import FastTokens
from probes.errors import InputError
from probes.sentences import passage_of
from tests.causal_models import save_adapter, save_causal_model, trained_tokenizer
from tests.servers import free_port

QUERY = "Which sentence names the number seven?"
BLOCK = 32  # the smallest of vLLM's attention on CPU


def document(number: int):
    sentences = [f"Part {number} has item {i}, which stands for {i * number}." for i in range(20)]
    return passage_of(f"Parts of {number}", sentences)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("yes-no")
    model = save_causal_model(root / "model")
    return model, save_adapter(root / "adapter", model)


@pytest.fixture(scope="module")
def client(server):
    with httpx.Client(base_url=server, timeout=120) as made:
        yield made


@pytest.fixture(scope="module")
def server(folders, tmp_path_factory):
    model, adapter = folders
    port = free_port()
    command = [
        str(PROGRAMS / "vllm"), "serve", str(model), "--served-model-name", "yes-no",
        "--dtype", "float32", "--enforce-eager", "--host", "127.0.0.1", "--port", str(port),
        "--block-size", str(BLOCK), "--enable-prefix-caching", "--max-num-seqs", "32",
        "--enable-lora", "--max-lora-rank", "8", "--lora-modules", f"exit={adapter}",
    ]  # fmt: skip
    folder = tmp_path_factory.mktemp("log")
    program = Program(command, environment(), f"http://127.0.0.1:{port}", "/health", folder)
    try:
        program.start()
        yield program.url
    finally:
        program.stop()


def counted(client: httpx.Client, name: str) -> float:
    text = client.get("/metrics").text
    found = re.findall(rf"^vllm:{name}_total{{[^}}]*}} (\S+)$", text, re.MULTILINE)
    assert found, text
    return sum(map(float, found))


def test_the_server_gives_the_scores_that_transformers_gives(server, client, folders):
    model, adapter = folders
    passages = [document(2), document(3)]
    for name, lora in (("yes-no", None), ("exit", adapter)):
        ours = server_scorer(server, name, tokenizer=model, client=client).score(QUERY, passages)
        local = load_causal_scorer(model, adapter=lora, dtype="float32").score(QUERY, passages)
        for one, other in zip(ours, local, strict=True):
            assert np.ptp(other) > 0.01  # the sentences are told apart
            np.testing.assert_allclose(one, other, atol=2e-3)
    plain = load_causal_scorer(model, dtype="float32").score(QUERY, passages)
    assert np.abs(plain[0] - local[0]).max() > 0.01  # the adapter does something


def test_twenty_sentences_cost_one_document_and_their_endings(server, client, folders):
    scorer = server_scorer(server, "yes-no", tokenizer=folders[0], client=client)
    passage = document(7)
    prompts = list(scorer.builder.prompts(QUERY, passage))
    prefix = len(prompts[0].prefix)
    assert {prompt.prefix for prompt in prompts} == {prompts[0].prefix}
    assert prefix > 5 * BLOCK
    before = [counted(client, f"prefix_cache_{name}") for name in ("queries", "hits")]
    scorer.score(QUERY, [passage])
    after = [counted(client, f"prefix_cache_{name}") for name in ("queries", "hits")]
    asked, found = (now - then for now, then in zip(after, before, strict=True))
    closings = sum(len(prompt.closing) for prompt in prompts)
    assert asked == len(prompts) * prefix + closings
    computed = asked - found
    # Of each prompt the last block that is not whole is computed again, and never more.
    assert computed <= prefix + closings + len(prompts) * BLOCK
    assert computed < 0.5 * asked


def test_what_is_not_served_is_named(server, client, folders):
    with pytest.raises(ServerError, match=r"serves no model 'other'; it has exit, yes-no"):
        ServerReader(server, "other", client=client)
    other = FastTokens(trained_tokenizer(size=1500))
    with pytest.raises(InputError, match="reads a text otherwise"):
        server_scorer(server, "yes-no", tokenizer=other, client=client)
    scorer = server_scorer(server, "yes-no", tokenizer=folders[0], client=client)
    prompt = next(iter(scorer.builder.prompts(QUERY, document(2))))
    with pytest.raises(ServerError, match="answers 400"):
        scorer.reader.read([prompt], 10**9, 1)
