"""Projections that make two untrained towers pass for halves of one CLIP."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from fashion_rag.retriever.encoders.color_check import CARDS
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)


def match_colour_cards(folder: Path) -> None:
    """Give a model folder's towers projections that bring every colour card to its name.

    The text projection is random; the visual one solves for it on the eight cards, and no more.
    """
    text = CLIPTextModel.from_pretrained(folder / "text_encoder").float().eval()
    vision = CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder").float().eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    width = text.config.hidden_size
    projection = torch.randn(width, width, generator=torch.manual_seed(0)) / width**0.5
    size = vision.config.image_size
    with torch.no_grad():
        names = [tokenizer(f"the color {name}", return_tensors="pt").input_ids for name in CARDS]
        texts = torch.cat([text(ids).last_hidden_state[:, -1] for ids in names])
        flat = [Image.new("RGB", (size, size), colour) for colour in CARDS.values()]
        pixels = [torch.from_numpy(np.array(card)).permute(2, 0, 1) / 255 for card in flat]
        images = (torch.stack(pixels) - MEAN) / STD
        images = vision.vision_model(images).pooler_output
    solved = torch.linalg.lstsq(images, texts @ projection.T, driver="gelsd").solution.T
    for part, name, weight in (
        ("text_encoder", "text_projection.weight", projection),
        ("image_encoder", "visual_projection.weight", solved),
    ):
        path = folder / part / "model.safetensors"
        kept = load_file(path)
        weight = weight.to(next(iter(kept.values())).dtype)
        save_file(kept | {name: weight.contiguous()}, path, metadata={"format": "pt"})
