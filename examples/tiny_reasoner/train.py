"""Trains the tiny reasoner: ``python -m examples.tiny_reasoner.train``.

One core is enough. The checkpoint folder is resumable: the same command goes on from it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from tqdm import tqdm
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from examples.tiny_reasoner.batches import Batch, Encoder, draw_pool
from examples.tiny_reasoner.recipe import LOSS_WEIGHTS, TEMPERATURE, TOP_P, Recipe
from examples.tiny_reasoner.tokens import MODEL_DIR, build_tokenizer
from examples.tiny_reasoner.traces import Kind

_WEIGHTS = torch.tensor([LOSS_WEIGHTS[kind] for kind in Kind])
SHOWN = (Kind.COPY, Kind.FINE, Kind.LEAP, Kind.DOUBT, Kind.ANSWER)


class Trainer:
    """Model, optimizers and place in the curriculum."""

    def __init__(self, recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.encoder = Encoder(tokenizer)
        eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
        self.model = LlamaForCausalLM(recipe.config(len(tokenizer), eos, pad))
        self._circle_digits(tokenizer)
        # Muon for the matrices inside the layers, AdamW for embeddings, norms and biases.
        inside = [p for n, p in self.model.named_parameters() if p.ndim == 2 and "layers" in n]
        others = [p for n, p in self.model.named_parameters() if p.ndim != 2 or "layers" not in n]
        self.optimizers: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.AdamW(others, lr=recipe.lr, betas=(0.9, 0.98), weight_decay=0.01),
            torch.optim.Muon(inside, lr=recipe.muon_lr, momentum=0.95, weight_decay=0.05),
        )
        self.step = self.pool = self.stage = self.stage_pools = 0

    def _circle_digits(self, tokenizer: PreTrainedTokenizerFast) -> None:
        # Digits start on circles, as counting in a circle wants them: this shortens by minutes
        # the plateau before modular sums are learned. Everything else starts at random.
        table = self.model.model.embed_tokens.weight.data
        for digit in range(10):
            turns = 2 * torch.pi * digit * torch.arange(1, 6) / 10
            waves = torch.cat([turns.cos(), turns.sin()])
            for text in (f" {digit}", f"{digit}"):
                (token,) = tokenizer.encode(text, add_special_tokens=False)
                table[token, : len(waves)] = 0.1 * waves

    def train_step(self, batch: Batch) -> tuple[float, dict[Kind, tuple[int, int]]]:
        """Learn one batch; return its loss and (right, all) per token class."""
        kinds = batch.kinds[:, 1:]
        weights = _WEIGHTS[kinds]
        chosen = weights > 0
        targets, kinds, weights = batch.ids[:, 1:][chosen], kinds[chosen], weights[chosen]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = self.model.model(input_ids=batch.ids[:, :-1], use_cache=False)
            logits = self.model.lm_head(hidden.last_hidden_state[chosen]).float()
        losses = functional.cross_entropy(logits, targets, reduction="none")
        loss = (losses * weights).sum() / weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        factor = self.recipe.learning_rate(self.step)
        rates = (self.recipe.lr, self.recipe.muon_lr)
        for optimizer, rate in zip(self.optimizers, rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        right = logits.argmax(dim=-1) == targets
        counts = {
            kind: (int(right[kinds == kind].sum()), int((kinds == kind).sum())) for kind in SHOWN
        }
        return float(loss.detach()), counts

    def run(self, checkpoint: Path | None, deadline: float) -> list[float]:
        """Train until the steps or the seconds are used up; return the loss of every step."""
        history: list[float] = []
        started = time.monotonic()
        bar = tqdm(total=self.recipe.steps, initial=self.step, mininterval=5, unit="step")
        while self.step < self.recipe.steps and time.monotonic() - started < deadline:
            stage = self.recipe.stages[self.stage]
            tally: dict[Kind, list[int]] = defaultdict(lambda: [0, 0])
            tokens, since = 0, time.monotonic()
            self.model.train()
            for batch in draw_pool(self.pool, stage, self.recipe, self.encoder, self.model):
                if self.step >= self.recipe.steps:
                    break
                loss, counts = self.train_step(batch)
                history.append(loss)
                tokens += batch.ids.numel()
                for kind, (right, every) in counts.items():
                    tally[kind][0] += right
                    tally[kind][1] += every
                bar.update()
            shares = {k: right / every for k, (right, every) in tally.items() if every}
            speed = tokens / (time.monotonic() - since)
            shown = " ".join(f"{kind.name.lower()} {share:.3f}" for kind, share in shares.items())
            bar.set_postfix_str(f"{stage.name}: loss {history[-1]:.3f} {shown} {speed:.0f} tok/s")
            self._advance(shares, bar)
            if checkpoint is not None and self.pool % 10 == 0:
                self.save(checkpoint)
        bar.close()
        if checkpoint is not None:
            self.save(checkpoint)
        return history

    def _advance(self, shares: dict[Kind, float], bar: tqdm[object]) -> None:
        self.pool += 1
        self.stage_pools += 1
        stage = self.recipe.stages[self.stage]
        passed = bool(stage.gates) and all(shares.get(k, 0) >= g for k, g in stage.gates.items())
        last = self.stage + 1 == len(self.recipe.stages)
        if not last and (passed or self.stage_pools >= stage.pools):
            self.stage, self.stage_pools = self.stage + 1, 0
            bar.write(f"step {self.step}: {stage.name} done ({shares})")

    def save(self, folder: Path) -> None:
        """Save a resumable checkpoint."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"model.{k}": v for k, v in self._weights().items()}
        for number, optimizer in enumerate(self.optimizers):
            for index, values in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{number}.{index}.{k}": v for k, v in values.items()}
        save_file(tensors, folder / "checkpoint.safetensors")
        place = {k: getattr(self, k) for k in ("step", "pool", "stage", "stage_pools")}
        (folder / "place.json").write_text(json.dumps(place), encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint."""
        tensors = load_file(folder / "checkpoint.safetensors")
        model = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
        self.model.load_state_dict(model, strict=False)
        self.model.tie_weights()
        for number, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, torch.Tensor]] = defaultdict(dict)
            for key, value in tensors.items():
                if key.startswith(f"optimizer.{number}."):
                    _, _, index, name = key.split(".")
                    state[int(index)][name] = value
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": dict(state), "param_groups": groups})
        for key, value in json.loads((folder / "place.json").read_text("utf-8")).items():
            setattr(self, key, value)

    def _weights(self) -> dict[str, torch.Tensor]:
        # The output layer is the embedding: stored once.
        state = self.model.state_dict()
        return {k: v.contiguous() for k, v in state.items() if k != "lm_head.weight"}


def export(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write model, tokenizer, chat template and sampling settings as vLLM and HF load them."""
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=TEMPERATURE,
        top_p=TOP_P,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    tokenizer.save_pretrained(folder)
    # The name every transformers release knows.
    settings = folder / "tokenizer_config.json"
    text = settings.read_text("utf-8").replace("TokenizersBackend", "PreTrainedTokenizerFast")
    settings.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the tiny reasoner.")
    parser.add_argument("--steps", type=int, default=Recipe().steps)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this long")
    parser.add_argument("--smoke", action="store_true", help="tiny batches, nothing written")
    parser.add_argument("--checkpoint", type=Path, default=Path("runs/tiny_reasoner"))
    parser.add_argument("--out", type=Path, default=MODEL_DIR)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    recipe = replace(Recipe(), steps=args.steps)
    if args.smoke:
        recipe = replace(recipe, batch_tokens=1024)
    tokenizer = build_tokenizer()
    trainer = Trainer(recipe, tokenizer)
    if not args.smoke and (args.checkpoint / "place.json").exists():
        trainer.load(args.checkpoint)
    history = trainer.run(None if args.smoke else args.checkpoint, args.seconds)
    print(f"loss {history[0]:.3f} -> {history[-1]:.3f} in {len(history)} steps")
    if not args.smoke:
        export(trainer.model, tokenizer, args.out)


if __name__ == "__main__":
    main()
