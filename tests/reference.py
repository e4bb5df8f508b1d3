"""The method once more, from its published description, on stock diffusers and transformers.

What the product is tested against: it shares no code with it and is written the other way round
where it can be (placeholders in the text and a forward hook instead of token lists, one forward
pass a guidance half instead of a batch, DDIM by its formula). One picture, up to one window of
text, no error handling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from safetensors import safe_open
from torch import nn
from transformers import (
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)
from transformers.models.clip.modeling_clip import CLIPEncoder

WORDS = {
    "dresses": "a dress",
    "upper_body": "an upper body garment",
    "lower_body": "a lower body garment",
}
PLACEHOLDER = "$"
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)


class Adapter(nn.Module):
    """The inversion adapter around transformers' own CLIP layer, by its published keys."""

    def __init__(self, path: Path, heads: int):
        super().__init__()
        with safe_open(path, "pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        layers = 1 + max(int(n.split(".")[1]) for n in weights if n.startswith("encoder_layers"))
        mlp_width, width = weights["encoder_layers.0.mlp.fc1.weight"].shape
        hidden, out = weights["layers.0.weight"].shape[0], weights["layers.6.weight"].shape[0]
        config = CLIPVisionConfig(
            hidden_size=width,
            intermediate_size=mlp_width,
            num_attention_heads=heads,
            num_hidden_layers=layers,
            hidden_act="gelu",
            attn_implementation="eager",
        )
        self.encoder = CLIPEncoder(config)
        self.post_layernorm = nn.LayerNorm(width)
        self.layers = nn.Sequential(
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Dropout(0.5),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Dropout(0.5),
            nn.Linear(hidden, out),
        )
        self.load_state_dict(
            {n.replace("encoder_layers.", "encoder.layers."): t for n, t in weights.items()},
            assign=True,
        )
        self.eval()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features (n, tokens, width) to (n, words * output width)."""
        states = self.encoder(inputs_embeds=features).last_hidden_state
        return self.layers(self.post_layernorm(states[:, 0]))


@dataclass
class Reference:
    """The models of one folder; the big ones may be those of the product, being stock classes."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    image_encoder: CLIPVisionModelWithProjection
    adapter: Adapter

    def token_ids(self, category: str, placeholders: int) -> torch.Tensor:
        """(1, 77) ids of the paper's prompt with so many placeholders; category "" is no prompt."""
        text = ""
        if category:
            text = f"a photo of a model wearing {WORDS[category]} made of "
            text += f" {PLACEHOLDER} " * placeholders
        return self.tokenizer(
            text, max_length=77, padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids

    def vision(self, photos: Sequence[Image.Image]) -> torch.Tensor:
        """Photos of 384x512 to features (n, tokens, width), as CLIP's processor sees them."""
        size = self.image_encoder.config.image_size
        rows = []
        for photo in photos:
            small = photo.resize((size, int(size * photo.height / photo.width)), Image.BICUBIC)
            top = (small.height - size) // 2
            cropped = np.array(small.crop((0, top, size, top + size)))
            rows.append(torch.from_numpy(cropped).permute(2, 0, 1) / 255)
        return self.image_encoder((torch.stack(rows) - MEAN) / STD).last_hidden_state

    def text(self, category: str, words: torch.Tensor | None = None) -> torch.Tensor:
        """Context (1, 77, width); `words` (n, width) replace the placeholders' embeddings."""
        ids = self.token_ids(category, 0 if words is None else len(words))
        if words is None:
            return self.text_encoder(ids).last_hidden_state
        first = ids[0].tolist().index(self.tokenizer.convert_tokens_to_ids(PLACEHOLDER + "</w>"))

        def replace(_, __, embeddings):
            embeddings = embeddings.clone()
            embeddings[0, first : first + len(words)] = words
            return embeddings

        hook = self.text_encoder.get_input_embeddings().register_forward_hook(replace)
        try:
            return self.text_encoder(ids).last_hidden_state
        finally:
            hook.remove()

    def garment_words(self, photos: Sequence[Image.Image]) -> torch.Tensor:
        """Pseudo-words of all photos in a row, (n * words, width)."""
        return self.adapter(self.vision(photos)).reshape(-1, self.text_encoder.config.hidden_size)

    def inpainting(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Image (1, 3, H, W) in -1..1 and mask (1, 1, H, W) to the U-Net's channels 4 to 8."""
        mask = (mask >= 0.5).float()
        latents = self.vae.encode(image * (mask < 0.5)).latent_dist.mean * 0.18215
        return torch.cat([nn.functional.interpolate(mask, size=latents.shape[2:]), latents], 1)

    def predict(self, latents, step, inpainting, pose, context) -> torch.Tensor:
        """One prediction of the noise (1, 4, h, w)."""
        channels = torch.cat([latents, inpainting, pose], 1)
        return self.unet(channels, torch.tensor([step]), encoder_hidden_states=context)[0]

    def sample(self, noise, inpainting, pose, context, steps: int, scale: float) -> torch.Tensor:
        """DDIM with eta 0 and classifier-free guidance, from `noise` to final latents."""
        alphas = training_alphas()
        latents, nothing, stride = noise, self.text(""), 1000 // steps
        for index in reversed(range(steps)):
            step = index * stride + 1
            without = self.predict(latents, step, inpainting, torch.zeros_like(pose), nothing)
            conditioned = self.predict(latents, step, inpainting, pose, context)
            noise = without + scale * (conditioned - without)
            now = alphas[step]
            then = alphas[step - stride] if step >= stride else alphas[0]
            clean = (latents - (1 - now).sqrt() * noise) / now.sqrt()
            latents = then.sqrt() * clean + (1 - then).sqrt() * noise
        return latents

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents to a picture (1, 3, H, W) around -1..1."""
        return self.vae.decode(latents / 0.18215)[0]


def training_alphas() -> torch.Tensor:
    """Cumulative products (1000,) of the scaled-linear schedule from 0.00085 to 0.012."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    return torch.cumprod(1 - betas, 0)


def pose_map(keypoints: np.ndarray, height: int, width: int, sigma: float) -> torch.Tensor:
    """Keypoints (18, 2+) in pixels of the picture to (1, 18, height/8, width/8), all present."""
    maps = np.zeros((18, height, width))
    for joint, (x, y) in enumerate(keypoints[:, :2]):
        for row in range(height):
            for column in range(width):
                distance = (column - x) ** 2 + (row - y) ** 2
                maps[joint, row, column] = math.exp(-distance / sigma**2)
        maps[joint] /= maps[joint].max() + np.finfo(np.float32).eps
    maps = torch.from_numpy(maps).float()[None]
    return nn.functional.interpolate(maps, size=(height // 8, width // 8), mode="bilinear")
