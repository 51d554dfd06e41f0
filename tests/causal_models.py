"""A tiny causal language model with a tokenizer that knows " Yes" and " No", random weights."""

from __future__ import annotations

from pathlib import Path

import torch

DOCS = Path(__file__).resolve().parents[1] / "docs"
SPECIAL = ("<|pad|>", "<|end|>", "<|user|>", "<|assistant|>")
CHAT = (
    "{% for m in messages %}<|user|>{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def trained_tokenizer(answers: str = "Answer: Yes\nAnswer: No\nYes\nNo\n", size: int = 2000):
    """Train a byte-level BPE on the documentation, in which the answers stand often."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(SPECIAL),
        show_progress=False,
    )
    texts = [(DOCS / name).read_text() for name in ("quickstart.md", "rules.md", "vllm.md")]
    tokenizer.train_from_iterator([*texts, *[answers] * 200], trainer)
    return tokenizer


def save_causal_model(folder: Path, *, hidden: int = 64, layers: int = 2, longest: int = 1024):
    """Save a Llama of random weights, in which Yes and No depend on what is read."""
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = trained_tokenizer()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|pad|>"
    )
    fast.chat_template = CHAT
    fast.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=2000, hidden_size=hidden, intermediate_size=2 * hidden,
        num_hidden_layers=layers, num_attention_heads=2, num_key_value_heads=2,
        max_position_embeddings=longest, initializer_range=0.3,
        bos_token_id=None, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def save_adapter(folder: Path, model: Path) -> Path:
    """Save a LoRA adapter that is not zero, as peft writes it."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    torch.manual_seed(1)
    config = LoraConfig(
        r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM",
        init_lora_weights=False,
    )  # fmt: skip
    get_peft_model(base, config).save_pretrained(folder)
    return folder
