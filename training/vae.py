"""Stage `vae`: an autoencoder, diffusers' AutoencoderKL, from nothing or from a model folder's.

It is trained on crops of model photos by L1, the squares of the error and of its differences
between neighbours (edges and prints; an absolute error would rather leave small ones out), and a
small KL term. The miniature's own is made so; the real method uses Stable Diffusion's, untouched.
Its decoder can be trained on alone: latents stay what they are, and so does a U-Net that was
trained on them.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from PIL import Image
from torch import nn
from torch.utils.data import Dataset

from ..model_parts import load_part
from .clip import epoch_order
from .config import Run
from .dresscode import DressCode
from .loop import Task

SCALE = 0.18215
"""The factor of Stable Diffusion's latents, which is fixed in ComfyUI."""


@dataclass(frozen=True)
class Vae:
    """The configuration of the stage `vae`."""

    run: Run
    model: dict[str, Any] = field(default_factory=dict)
    """diffusers' AutoencoderKL configuration: an untrained one of these sizes."""
    start: str = ""
    """Model folder whose vae is trained on, instead of an untrained one."""
    decoder_only: bool = False
    """Keep the encoder of `start` as it is."""
    size: tuple[int, ...] = (512, 384)
    """Height and width of the photos in pixels."""
    crop: int = 64
    square_weight: float = 3.0
    colour_weight: float = 2.0
    """Weight of errors in colour against those in lightness, which are larger and learned first."""
    edge_weight: float = 3.0
    kl_weight: float = 1e-6

    def __post_init__(self) -> None:
        if bool(self.model) == bool(self.start):
            given = "[model] and start are both" if self.model else "neither [model] nor start is"
            raise ValueError(
                f"{given} given; expected [model], the sizes of an "
                "untrained autoencoder, or start, a model folder whose vae is trained on."
            )
        if self.decoder_only and not self.start:
            raise ValueError(
                "decoder_only is true, and start is not given: a decoder learns to read "
                "a trained encoder's latents. Set start to the model folder of that."
            )
        sides = (*self.size, self.crop)
        if len(self.size) != 2 or any(side <= 0 or side % 8 for side in sides):
            raise ValueError(
                f"size is {list(self.size)} and crop {self.crop}; expected height and width, and "
                "the crop's side, multiples of 8."
            )
        if self.crop > min(self.size):
            raise ValueError(f"crop is {self.crop}; expected at most {min(self.size)}.")


class VaeTask(Task):
    """Trains an AutoencoderKL on crops of model photos."""

    compiled = ("vae.encoder", "vae.decoder")

    def __init__(self, config: Vae, data: Path):
        super().__init__()
        self.config = config
        self.vae = _vae(config)
        if config.decoder_only:
            for part in (self.vae.encoder, self.vae.quant_conv):
                if part is not None:
                    part.requires_grad_(False)
        if config.run.gradient_checkpointing:
            self.vae.enable_gradient_checkpointing()
        self.stream = CropStream(DressCode(data, need=("photos",)), config)
        self.held_out = DressCode(data, "paired", need=("photos",))

    def forward(self, batch):
        pixels = batch["pixels"].float() / 127.5 - 1
        with torch.set_grad_enabled(not self.config.decoder_only):
            posterior = self.vae.encode(pixels).latent_dist
        noise = torch.randn_like(posterior.mean) * posterior.std
        painted = self.vae.decode(posterior.mean + noise).sample.float()
        difference = painted - pixels
        grey = difference.mean(dim=1, keepdim=True)
        difference = grey + self.config.colour_weight * (difference - grey)
        near, square = difference.abs().mean(), difference.square().mean()
        edges = difference.diff(dim=2).square().mean() + difference.diff(dim=3).square().mean()
        kl = posterior.kl().mean()
        loss = near + self.config.square_weight * square + self.config.edge_weight * edges
        loss = loss + self.config.kl_weight * kl
        return loss, {"l1": near.detach(), "edges": edges.detach(), "kl": kl.detach()}

    def preview(self) -> Image.Image:
        """Draw twelve held-out photos above what comes back."""
        pairs = self.held_out.pairs
        pairs = pairs[:: max(1, len(pairs) // 12)][:12]
        pixels = torch.stack([photo(self.held_out, p, self.config.size) for p in pairs])
        device = next(self.parameters()).device
        painted = self.vae(pixels.to(device).float() / 127.5 - 1).sample
        rows = (pixels, ((painted + 1) * 127.5).round().clamp(0, 255).byte().cpu())
        sheet = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)
        picture = Image.fromarray(sheet.permute(1, 2, 0).numpy())
        return picture.resize((picture.width * 2, picture.height * 2), Image.Resampling.NEAREST)

    def export(self, folder: Path) -> None:
        """Write `vae/`, float16; latents of a trained encoder get Stable Diffusion's spread."""
        if not self.config.decoder_only:
            self._fold_spread()
        self.vae.half().save_pretrained(folder / "vae")
        self.vae.float()

    @torch.no_grad()
    def _fold_spread(self) -> None:
        """Scale the latents to a std of 1 / 0.18215, in the convolutions on both sides of them."""
        data = self.stream.data
        pairs = data.pairs[:: max(1, len(data) // 128)][:128]
        device = next(self.parameters()).device
        latents = [
            self.vae.encode(photo(data, p, self.config.size)[None].to(device).float() / 127.5 - 1)
            for p in pairs
        ]
        spread = torch.cat([found.latent_dist.mode() for found in latents]).std().item()
        factor = 1 / (SCALE * spread)
        channels = self.vae.config.latent_channels
        quant, post = self.vae.quant_conv, self.vae.post_quant_conv
        quant.weight[:channels] *= factor
        quant.bias[:channels] *= factor
        quant.bias[channels:] += 2 * math.log(factor)
        post.weight /= factor


def _vae(config: Vae) -> AutoencoderKL:
    if config.start:
        part = Path(config.start) / "vae"
        vae = load_part(AutoencoderKL, part, "diffusion_pytorch_model").float()
        factor = vae.config.scaling_factor
        if not config.decoder_only and (factor != SCALE or vae.quant_conv is None):
            raise ValueError(
                f"{part}: its scaling_factor is {factor}; expected {SCALE}, Stable Diffusion's, to "
                "which the latents of a trained encoder are brought. With decoder_only = true any "
                "autoencoder can be trained on."
            )
        return vae
    try:
        vae = AutoencoderKL(**config.model, scaling_factor=SCALE)
    except TypeError as error:
        raise ValueError(f"[model] is no AutoencoderKL configuration: {error}") from error
    _start_plain(vae)
    return vae


def _start_plain(vae: AutoencoderKL) -> None:
    """Begin with residual branches that add nothing, and with little noise on the latents.

    Noise as large as the latents themselves would hide the picture for hundreds of steps.
    """
    nn.init.constant_(vae.quant_conv.bias[vae.config.latent_channels :], -6)
    for module in vae.modules():
        if isinstance(module, ResnetBlock2D):
            nn.init.zeros_(module.conv2.weight)
            nn.init.zeros_(module.conv2.bias)
        elif isinstance(module, Attention):
            nn.init.zeros_(module.to_out[0].weight)


class CropStream(Dataset):
    """Crops of model photos, uint8 (3, crop, crop), mirrored every second time.

    Photos are kept in the memory of each process that reads them, where all fit into KEPT bytes.
    """

    KEPT = 2 << 30

    def __init__(self, data: DressCode, config: Vae):
        self.data, self.config = data, config
        self._kept: dict[int, torch.Tensor] = {}
        whole = len(data) * 3 * config.size[0] * config.size[1] * max(1, config.run.workers)
        self._keeps = whole <= self.KEPT

    def __getitem__(self, position: int) -> dict[str, torch.Tensor]:
        epoch, place = divmod(position, len(self.data))
        index = int(epoch_order(self.config.run.seed, epoch, len(self.data))[place])
        pixels, crop = self._kept.get(index), self.config.crop
        if pixels is None:
            pixels = photo(self.data, self.data.pairs[index], self.config.size)
            if self._keeps:
                self._kept[index] = pixels
        rng = random.Random(f"{self.config.run.seed} {position}")
        top = rng.randint(0, pixels.shape[1] - crop)
        left = rng.randint(0, pixels.shape[2] - crop)
        pixels = pixels[:, top : top + crop, left : left + crop]
        return {"pixels": pixels.flip(2) if rng.random() < 0.5 else pixels.clone()}


def photo(data: DressCode, pair, size: tuple[int, ...]) -> torch.Tensor:
    """Read a model photo at (height, width), uint8 (3, height, width)."""
    picture = data.photo(pair)
    picture = picture.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()
