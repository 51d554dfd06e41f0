"""Trains the tiny diffusion LM: ``python -m examples.tiny_diffusion.train``.

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
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from adapters.transformers.checkpoints import export_llada
from examples.tiny_diffusion.batches import Batch, draw_pool
from examples.tiny_diffusion.muon import Muon
from examples.tiny_diffusion.recipe import Recipe
from examples.tiny_diffusion.tokens import MODEL_DIR, NODES, TASKS, build_tokenizer


def canvas_logits(
    model: LlamaForCausalLM, ids: torch.Tensor, attended: torch.Tensor, canvas: int
) -> torch.Tensor:
    """Return the logits of the last ``canvas`` positions; every position sees every other."""
    # Four dimensions: taken by transformers as it is, instead of a causal mask.
    mask = attended[:, None, None, :].expand(-1, 1, ids.shape[1], -1)
    hidden = model.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    return model.lm_head(hidden[:, -canvas:])


class Trainer:
    """Model, optimizers and place in the recipe."""

    def __init__(self, recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.tokenizer = tokenizer
        eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
        self.model = LlamaForCausalLM(recipe.config(len(tokenizer), eos, pad))
        self._start_embeddings()
        # Muon for the matrices inside the layers, AdamW for embeddings, norms and output layer.
        inside = [p for n, p in self.model.named_parameters() if p.ndim == 2 and "layers" in n]
        others = [p for n, p in self.model.named_parameters() if p.ndim != 2 or "layers" not in n]
        self.optimizers: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.AdamW(others, lr=recipe.lr, betas=(0.9, 0.98), weight_decay=0.01),
            Muon(inside, lr=recipe.muon_lr, momentum=0.95, weight_decay=0.05),
        )
        self.step = self.pool = 0

    def _start_embeddings(self) -> None:
        # Copying is most of what the tasks need, so the output layer starts as the embedding,
        # and an arrow near the letter it leaves and away from it to another place for each letter
        # it reaches. This shortens the plateaus.
        table = self.model.model.embed_tokens.weight.data
        table.normal_(std=0.5)
        names = self.tokenizer.get_vocab()
        for letter in NODES:
            leaving, reaching = table[names[letter]], 0.5 * torch.randn(table.shape[1])
            for other in NODES:
                if other != letter:
                    table[names[f"{letter}>{other}"]] += leaving
                    table[names[f"{other}>{letter}"]] += reaching
        self.model.lm_head.weight.data.copy_(0.2 * table)

    def train_step(self, batch: Batch) -> tuple[float, dict[str, tuple[int, int]]]:
        """Learn one batch; return its loss and (right, all) hidden cells per task."""
        canvas = batch.targets.shape[1]
        logits = canvas_logits(self.model, batch.ids, batch.attended, canvas)[batch.learned]
        targets = batch.targets[batch.learned]
        ends = batch.targets == self.tokenizer.eos_token_id
        ends[:, 1:] &= ends[:, :-1].clone()  # the tail: where an answer ends counts in full
        ends = ends[batch.learned]
        logs = functional.log_softmax(logits, dim=-1)
        losses = -logs.gather(-1, targets[:, None])[:, 0]
        smooth = self.recipe.end_smoothing
        losses = torch.where(ends, (1 - smooth) * losses - smooth * logs.mean(dim=-1), losses)
        alone = (batch.learned.sum(dim=1, keepdim=True) == 1).expand_as(batch.learned)
        weights = torch.where(alone[batch.learned], self.recipe.ahead_weight, 1.0)
        weights = torch.where(ends, self.recipe.end_weight, weights)
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
        tasks = batch.tasks[:, None].expand_as(batch.learned)[batch.learned]
        counts = {"end": (int(right[ends].sum()), int(ends.sum()))}
        for number, task in enumerate(TASKS):
            chosen = (tasks == number) & ~ends
            counts[task] = (int(right[chosen].sum()), int(chosen.sum()))
        return float(loss.detach()), counts

    def run(
        self, checkpoint: Path | None, deadline: float, steps: int | None = None
    ) -> list[float]:
        """Train until the steps or the seconds are used up; return the loss of every step."""
        steps = self.recipe.steps if steps is None else steps
        history: list[float] = []
        started = time.monotonic()
        bar = tqdm(total=steps, initial=self.step, mininterval=5, unit="step")
        while self.step < steps and time.monotonic() - started < deadline:
            tally: dict[str, list[int]] = defaultdict(lambda: [0, 0])
            tokens, since = 0, time.monotonic()
            self.model.train()
            for batch in draw_pool(self.pool, self.recipe, self.tokenizer):
                if self.step >= steps:
                    break
                loss, counts = self.train_step(batch)
                history.append(loss)
                tokens += batch.ids.numel()
                for name, (right, every) in counts.items():
                    tally[name][0] += right
                    tally[name][1] += every
                bar.update()
            shares = {k: right / every for k, (right, every) in tally.items() if every}
            speed = tokens / (time.monotonic() - since)
            shown = " ".join(f"{name} {share:.3f}" for name, share in shares.items())
            bar.set_postfix_str(f"loss {history[-1]:.3f} {shown} {speed:.0f} tok/s")
            self.pool += 1
            if checkpoint is not None and self.pool % 2 == 0:
                self.save(checkpoint)
        bar.close()
        if checkpoint is not None:
            self.save(checkpoint)
        return history

    def save(self, folder: Path) -> None:
        """Save a resumable checkpoint."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        for number, optimizer in enumerate(self.optimizers):
            for index, values in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{number}.{index}.{k}": v for k, v in values.items()}
        save_file(tensors, folder / "checkpoint.safetensors")
        place = {"step": self.step, "pool": self.pool}
        (folder / "place.json").write_text(json.dumps(place), encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint."""
        tensors = load_file(folder / "checkpoint.safetensors")
        model = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
        self.model.load_state_dict(model)
        for number, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, torch.Tensor]] = defaultdict(dict)
            for key, value in tensors.items():
                if key.startswith(f"optimizer.{number}."):
                    _, _, index, name = key.split(".")
                    state[int(index)][name] = value
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": dict(state), "param_groups": groups})
        place = json.loads((folder / "place.json").read_text("utf-8"))
        self.step, self.pool = place["step"], place["pool"]


def export(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the model in LLaDA's format, with its tokenizer and chat template."""
    mask, eos = tokenizer.mask_token_id, tokenizer.eos_token_id
    export_llada(model, folder, mask, eos_token_id=eos)
    (folder / "model.safetensors").chmod(0o644)
    tokenizer.save_pretrained(folder)
    # The name every transformers release knows.
    settings = folder / "tokenizer_config.json"
    text = settings.read_text("utf-8").replace("TokenizersBackend", "PreTrainedTokenizerFast")
    settings.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the tiny diffusion LM.")
    parser.add_argument("--steps", type=int, help="stop after so many, whatever the recipe says")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this long")
    parser.add_argument("--smoke", action="store_true", help="tiny batches, nothing written")
    parser.add_argument("--checkpoint", type=Path, default=Path("runs/tiny_diffusion"))
    parser.add_argument("--out", type=Path, default=MODEL_DIR)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    recipe = Recipe()
    if args.smoke:
        recipe = replace(recipe, batches_per_pool=5, stages=(replace(recipe.stages[0], rows=16),))
    trainer = Trainer(recipe, build_tokenizer())
    if not args.smoke and (args.checkpoint / "place.json").exists():
        trainer.load(args.checkpoint)
    history = trainer.run(None if args.smoke else args.checkpoint, args.seconds, args.steps)
    if history:
        print(f"loss {history[0]:.3f} -> {history[-1]:.3f} in {len(history)} steps")
    if not args.smoke:
        export(trainer.model, trainer.tokenizer, args.out)


if __name__ == "__main__":
    main()
