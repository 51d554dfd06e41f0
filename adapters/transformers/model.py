"""A masked diffusion language model: what the sampler asks of any of them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch

from probes.provenance import ModelFingerprint
from stopper.errors import InputError


class DiffusionLM:
    """A transformers decoder that attends in both directions and fills in masks.

    Parameters
    ----------
    network
        A ``LlamaForCausalLM`` or ``Qwen2ForCausalLM``, or whatever has its ``model`` (hidden states
        from ``input_ids``, a 4D ``attention_mask`` and ``position_ids``) and its ``lm_head``.
        It is put into evaluation mode.
    mask_token_id
        The token that stands where nothing has been decided. It is never predicted.
    end_ids
        Tokens that end an answer; the rest of the canvas is padding. May be empty.
    shifted
        True where the hidden state of position p predicts position p + 1, as in Dream; the
        logits that `logits` returns are at the position itself either way.
    name
        Where the model came from, for messages.
    fingerprint
        Its identity, which recorded decodes and artifacts are tied to; None where unknown.

    Raises
    ------
    InputError
        If the mask or an end token is outside the vocabulary, or nothing is left to predict.

    """

    def __init__(
        self,
        network: Any,
        *,
        mask_token_id: int,
        end_ids: Collection[int] = (),
        shifted: bool = False,
        name: str = "",
        fingerprint: ModelFingerprint | None = None,
    ) -> None:
        self.network = network.eval()
        self.mask_token_id = mask_token_id
        self.end_ids = tuple(sorted(set(end_ids)))
        self.shifted = shifted
        self.name = name
        self.fingerprint = fingerprint
        self.vocab_size = int(network.config.vocab_size)
        self.max_positions: int | None = getattr(network.config, "max_position_embeddings", None)
        for token in (mask_token_id, *self.end_ids):
            if not 0 <= token < self.vocab_size:
                raise InputError(
                    f"{name or 'diffusion model'}: token {token} is outside the vocabulary of "
                    f"{self.vocab_size}; correct mask_token_id or eos_token_id in its config.json"
                )
        if self.vocab_size < 2:
            raise InputError(
                f"{name or 'diffusion model'}: a vocabulary of one token, the mask itself, leaves "
                "nothing to predict"
            )

    @property
    def device(self) -> torch.device:
        """Where the weights lie, and where tokens must."""
        device: torch.device = self.network.lm_head.weight.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights and the logits."""
        dtype: torch.dtype = self.network.lm_head.weight.dtype
        return dtype

    def logits(
        self, tokens: torch.Tensor, valid: torch.Tensor, at: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Predict what belongs at positions, seeing the whole sequence.

        Parameters
        ----------
        tokens
            int64 [rows, positions]; padding may hold any token of the vocabulary.
        valid
            bool [rows, positions], False at padding, which nothing attends to. Every row needs a
            True. Positions are counted over valid ones alone, so that padding on the left moves
            nothing.
        at
            int64 [rows, wanted]: positions to predict; all of them where None. The last layer
            (over the vocabulary) is computed for these alone.

        Returns
        -------
        [rows, wanted, vocab]
            In the model's dtype, at the positions themselves; -inf for the mask token.

        """
        with torch.no_grad():
            return self._logits(tokens, valid, at)

    def _logits(
        self, tokens: torch.Tensor, valid: torch.Tensor, at: torch.Tensor | None
    ) -> torch.Tensor:
        rows, length = tokens.shape
        hidden = self.network.model(
            input_ids=tokens,
            attention_mask=valid[:, None, None, :].expand(rows, 1, length, length),
            position_ids=(valid.long().cumsum(1) - 1).clamp_(min=0),
            use_cache=False,
        ).last_hidden_state
        if at is not None or self.shifted:
            wanted = torch.arange(length, device=tokens.device).expand(rows, -1)
            wanted = wanted if at is None else at
            if self.shifted:  # the very first position has no state before it, and keeps its own
                first = valid.int().argmax(1, keepdim=True)
                wanted = torch.where(wanted > first, wanted - 1, wanted)
            hidden = hidden.gather(1, wanted[..., None].expand(-1, -1, hidden.shape[-1]))
        logits: torch.Tensor = self.network.lm_head(hidden)
        logits[..., self.mask_token_id] = -torch.inf
        return logits
