"""Token vectors through a text encoder that takes nothing but token ids."""

from __future__ import annotations

from typing import Any

import torch


def token_table(text_encoder: Any) -> torch.nn.Parameter:
    """The token embeddings (vocabulary, width) of a transformers text encoder."""
    return text_encoder.get_input_embeddings().weight


def encode_vectors(text_encoder: Any, vectors: torch.Tensor) -> torch.Tensor:
    """Encode prompts that are given as input embeddings; gradients flow back to them.

    transformers' CLIPTextModel takes ids alone: for this one call its table of token embeddings
    holds the given vectors, in order. The module itself stays as it is.

    Args:
        vectors: (prompts, tokens, width), a row of `token_table` or a pseudo-word each.

    Returns:
        The last hidden state, (prompts, tokens, width).
    """
    table = token_table(text_encoder)
    name = next(n for n, parameter in text_encoder.named_parameters() if parameter is table)
    ids = torch.arange(vectors.shape[0] * vectors.shape[1], device=vectors.device)
    return torch.func.functional_call(
        text_encoder, {name: vectors.flatten(0, 1)}, (ids.view(vectors.shape[:2]),)
    ).last_hidden_state
