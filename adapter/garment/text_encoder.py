"""Loading a text encoder, and encoding token vectors with it though it takes only token ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from ...model_parts import CONFIG, load_part, read_config, told_of, weights_of

_PROJECTION = "text_projection.weight"


def load_text_encoder(folder: Path) -> Any:
    """Load the text encoder of a model folder, in transformers' layout.

    One whose weights hold a projection, as a retriever's do, is loaded with it: transformers would
    warn of a key that it did not expect.

    Raises:
        FileNotFoundError, ValueError: see `load_part`.
    """
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    read_config(folder, "model")
    weights = weights_of(folder, "model")
    with told_of(weights, folder / CONFIG):
        config = CLIPTextConfig.from_pretrained(folder, local_files_only=True)
        with safe_open(weights, "pt") as file:
            shape = file.get_slice(_PROJECTION).get_shape() if _PROJECTION in file.keys() else ()
    projects = list(shape) == [config.projection_dim, config.hidden_size]
    kind = CLIPTextModelWithProjection if projects else CLIPTextModel
    return load_part(kind, folder, "model", config=config)


def token_table(text_encoder: Any) -> torch.nn.Parameter:
    """Return the token embeddings (vocabulary, width) of a transformers text encoder."""
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
