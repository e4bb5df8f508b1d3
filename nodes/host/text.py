"""The CLIP socket: tokens, windows and embeddings of the text encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.sd
import torch


class TextTower:
    """A CLIP socket's text encoder, as far as the pack needs it: one CLIP tower (SD1.x, SD2.x)."""

    def __init__(self, clip: comfy.sd.CLIP):
        if clip is None:
            raise ValueError(
                "clip is empty: the checkpoint that it comes from holds no text encoder. Connect "
                "the CLIP of an SD2 inpainting checkpoint."
            )
        self.clip = clip
        empty = clip.tokenize("")
        if len(empty) != 1 or not hasattr(clip.cond_stage_model, "clip"):
            raise ValueError(
                "Pseudo-words need a text encoder with one CLIP tower (SD1.x or SD2.x); this CLIP "
                f"has {', '.join(sorted(empty))}. Connect the CLIP of an SD2 inpainting checkpoint."
            )
        self.key, (window,) = next(iter(empty.items()))
        self.length = len(window)
        self.start, self.end, self.padding = window[0][0], window[1][0], window[-1][0]
        self.transformer = getattr(clip.cond_stage_model, clip.cond_stage_model.clip).transformer

    @property
    def width(self) -> int:
        """The width of the token embeddings: 1024 for SD2, 768 for SD1."""
        return self.table.shape[1]

    @property
    def table(self) -> torch.Tensor:
        """The token embeddings, (vocabulary, width)."""
        return self.transformer.get_input_embeddings().weight

    @property
    def projection(self) -> torch.Tensor:
        """The projection of the pooled text, (dim, width) float32 on the CPU."""
        return self.transformer.text_projection.weight.detach().float().cpu()

    def weights(self) -> Mapping[str, torch.Tensor]:
        """Return the tower's state dict in transformers' names, its projection included."""
        return self.transformer.state_dict()

    def tokens(self, text: str) -> list[tuple[Any, float]]:
        """Tokenize a text to (token id or embedding, weight) without start, end and padding."""
        content = []
        for window in self.clip.tokenize(text)[self.key]:
            for token, weight in window[1:]:
                if not torch.is_tensor(token) and token == self.end:
                    break
                content.append((token, weight))
        return content

    def conditioning(self, windows: list[list[tuple[Any, float]]]) -> list:
        """Encode whole windows to CONDITIONING, with the CLIP's schedules and hooks."""
        return self.clip.encode_from_tokens_scheduled({self.key: windows})

    def pooled(self, text: str) -> torch.Tensor:
        """Encode a text to (1, dim) float32, projected; weights and embeddings are not parsed."""
        tokens = self.clip.tokenize(text, disable_weights=True)
        return self.clip.encode_from_tokens(tokens, return_pooled=True)[1].float().cpu()
