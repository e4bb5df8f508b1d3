"""Stages `fashion_rag` (U-Net and adapter together) and `adapter` (the adapter alone).

Section III-B: the U-Net is fine-tuned to inpaint the person from pseudo-words of the retrieved
garments; the adapter is trained first, against a frozen U-Net, as LaDI-VTON does. VAE, text encoder
and vision tower are frozen. One model learns both kinds of prompt, the paper's with garments and
the caption's without, so that k = 0 is a fair baseline.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import PartialState
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image
from tqdm import tqdm
from transformers import CLIPTokenizer, CLIPVisionModelWithProjection

from ..adapter.garment.checkpoints import load_adapter, write_safetensors
from ..adapter.garment.inversion import InversionAdapter, InversionAdapterConfig
from ..adapter.garment.text_encoder import encode_vectors, load_text_encoder, token_table
from ..adapter.headless.pipeline import (
    INPAINTING_CHANNELS,
    MODEL_INDEX,
    UNREAD_OF_VISION,
    FashionRAGPipeline,
    vae_parts,
)
from ..adapter.person.pose import POSE_CHANNELS
from ..files import write_text
from ..model_parts import load_part
from ..pictures.clip_pixels import clip_pixels
from ..pictures.contact_sheet import contact_sheet
from ..retriever.encoders.towers import is_model_folder
from .cached_tensors import cached_tensors, fingerprint
from .clip import tower_pixels
from .dresscode import DressCode, caption
from .fashion_rag_config import FashionRag
from .loop import Task
from .retrieval import Retrieval, retrieve_garments, searched_captions
from .samples import Prompts, person_inputs, picture
from .stream import PairStream

_PREVIEW_STEPS, _PREVIEW_GUIDANCE = 20, 2.5
_FROZEN = ("vae", "text_encoder", "image_encoder")
_PARTS = (*_FROZEN, "tokenizer", "scheduler")


class FashionRagTask(Task):
    """Trains U-Net and adapter, or the adapter alone, on the pairs of a Dress Code folder."""

    compiled = ("unet", "adapter")

    def __init__(self, config: FashionRag, data: Path, cache: Path, device: torch.device):
        super().__init__()
        self.config = config
        folder = Path(config.model)
        _check_folder(config, folder)
        self.vae = load_part(AutoencoderKL, folder / "vae", "diffusion_pytorch_model")
        self.text_encoder = load_text_encoder(folder / "text_encoder")
        self.image_encoder = load_part(
            CLIPVisionModelWithProjection, folder / "image_encoder", "model", UNREAD_OF_VISION
        )
        self.tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        self.scheduler = DDIMScheduler.from_pretrained(folder / "scheduler", local_files_only=True)
        if self.scheduler.config.prediction_type != "epsilon":
            raise ValueError(
                f"{folder / 'scheduler'} is of a model that predicts "
                f"{self.scheduler.config.prediction_type!r}; expected one that predicts the noise "
                "('epsilon'), as SD2 inpainting does."
            )
        for name in _FROZEN:
            getattr(self, name).float().requires_grad_(False)
        self.unet = _unet(config, folder).requires_grad_(config.train_unet)
        if device.type == "cpu":
            self.vae.to(memory_format=torch.channels_last)
            # The backward pass of torch's fused attention takes a third of a step there, in bf16.
            self.unet.set_attn_processor(AttnProcessor())
        self.adapter = _adapter(config, folder).requires_grad_(True)
        for module in self.adapter.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = config.adapter_dropout
        # Raises where parts don't fit together, before anything is trained.
        self.pipeline()
        if config.run.gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
        self.register_buffer(
            "alphas", self.scheduler.alphas_cumprod.clone().float(), persistent=False
        )
        self.prompts = Prompts(self.tokenizer, self.adapter.config.words)
        pairs = DressCode(data)
        self.held_out = DressCode(data, "paired")
        encoder = Path(config.encoder or folder)
        towers = [encoder / part for part in ("text_encoder", "image_encoder", "tokenizer")]
        towers = towers if is_model_folder(encoder) else [encoder]
        # One process of a machine encodes, the others read what it kept.
        with PartialState().local_main_process_first():
            found = None
            # A sample's own garment alone needs no retriever.
            if len(config.garments) > 2 or config.captioned and config.order == "retrieved":
                counts = [n for n, share in enumerate(config.chunks, 1) if share]
                captions = searched_captions(pairs, counts if config.captioned else ())
                rows = cached_tensors(
                    cache / "retrieved.safetensors",
                    fingerprint(
                        pairs, towers, captions=True, pool=config.pool, texts=len(captions)
                    ),
                    lambda: {
                        "rows": retrieve_garments(pairs, captions, encoder, config.pool, device)
                    },
                )["rows"]
                found = Retrieval(captions, rows)
            self.stream = PairStream(pairs, config, found, self.prompts, self.image_encoder)
            if config.precompute:
                self.stream.encoded = self._encode_all(cache, device)

    def train(self, mode: bool = True) -> FashionRagTask:
        """Switch modes; frozen models stay in eval mode, so that no dropout of theirs acts."""
        super().train(mode)
        for name in _FROZEN:
            getattr(self, name).eval()
        return self

    def forward(self, batch):
        if "latents" not in batch:
            batch = {**batch, **self._encode(batch)}
        latents = batch["latents"].float()
        count = len(latents)
        # One timestep from each of `count` equal parts: less noise in the loss.
        parts = (torch.randperm(count) + torch.rand(count)) / count
        steps = (parts * len(self.alphas)).long().clamp(max=len(self.alphas) - 1)
        steps = steps.to(latents.device)
        # The same numbers whatever layout a convolution left the latents in.
        noise = torch.randn_like(latents, memory_format=torch.contiguous_format)
        if self.config.noise_offset:
            shared = torch.randn(*latents.shape[:2], 1, 1, device=latents.device)
            noise = noise + self.config.noise_offset * shared
        alpha = self.alphas[steps].view(-1, 1, 1, 1)
        noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
        mask = batch["latent_mask"].float()
        inputs = torch.cat([noisy, mask, batch["masked"].float()], dim=1)
        if self.unet.config.in_channels > INPAINTING_CHANNELS:
            pose = batch["pose"].float() * (1 - batch["dropped"].float()).view(-1, 1, 1, 1)
            inputs = torch.cat([inputs, pose], dim=1)
        context = self.context(batch)
        found = self.unet(inputs, steps, encoder_hidden_states=context).sample.float()
        error = (found - noise).square()
        weight = torch.where(mask > 0, 1.0, self.config.outside)
        each = (error * weight).mean(dim=(1, 2, 3)) / weight.mean(dim=(1, 2, 3))
        if self.config.snr_gamma:
            snr = (alpha / (1 - alpha)).flatten()
            each = each * snr.clamp(max=self.config.snr_gamma) / snr
        inside = (error.detach() * mask).sum() / (4 * mask.sum())
        return each.mean(), {"inside": inside}

    def context(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Encode prompts with pseudo-words by the frozen text encoder: (b, 77, width)."""
        vectors = token_table(self.text_encoder)[batch["ids"]]
        there = batch["garment_there"]
        if there.any():
            words = self.adapter(batch["features"][there].float())
            vectors = vectors.to(words.dtype).masked_scatter(batch["places"][..., None], words)
        else:
            # Keeps the adapter in the graph: alone, it would leave the loss without a gradient.
            vectors = vectors + 0 * sum(p.sum() for p in self.adapter.parameters())
        return encode_vectors(self.text_encoder, vectors)

    @torch.no_grad()
    def _encode(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Encode a batch of pixels to latents and vision features, as `_encode_all` does ahead."""
        there = batch["garment_there"]
        encoded = {
            "latents": self._latents(batch["pixels"]),
            "masked": self._latents(batch["masked"]),
        }
        if there.any():
            found = self._features(batch["garment_pixels"][there])
            features = found.new_zeros(*there.shape, *found.shape[1:])
            features[there] = found
            encoded["features"] = features
        return encoded

    def _latents(self, pixels: torch.Tensor) -> torch.Tensor:
        half = self.config.run.mixed_precision == "bf16"
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=half):
            found = [
                self.vae.encode(part.float() / 127.5 - 1).latent_dist.mode()
                for part in vae_parts(pixels)
            ]
        return torch.cat(found).float().contiguous() * self.vae.config.scaling_factor

    def _features(self, pixels: torch.Tensor) -> torch.Tensor:
        # Before the tower's own post-layernorm; the adapter has one.
        pixels = clip_pixels(pixels.movedim(1, -1).float() / 255).movedim(-1, 1).contiguous()
        return self.image_encoder(pixel_values=pixels).last_hidden_state

    @torch.no_grad()
    def _encode_all(self, cache: Path, device: torch.device) -> dict[str, torch.Tensor]:
        """Encode every pair, as it is and then mirrored, as float16; once, kept in `cache`."""
        self.to(device).eval()
        pairs, config = self.stream.data, self.config

        def people() -> dict[str, torch.Tensor]:
            parts: dict[tuple[bool, str], list[torch.Tensor]] = {}
            for start in tqdm(range(0, len(pairs), 32), desc="encoding people"):
                some = [
                    person_inputs(pairs, pairs.pairs[i], config.size, self.stream.mask_mode(i))
                    for i in range(start, min(start + 32, len(pairs)))
                ]
                for mirror in (False, True) if config.mirror else (False,):
                    batch = {n: torch.stack([s[mirror][n] for s in some]) for n in some[0][mirror]}
                    encoded = {
                        "latent_mask": batch["latent_mask"],
                        "pose": batch["pose"],
                        "latents": self._latents(batch["pixels"].to(device)).half().cpu(),
                        "masked": self._latents(batch["masked"].to(device)).half().cpu(),
                    }
                    for name, tensor in encoded.items():
                        parts.setdefault((mirror, name), []).append(tensor)
            whole = {key: torch.cat(tensors) for key, tensors in parts.items()}
            names = {name for _, name in whole}
            return {n: torch.cat([whole[k] for k in sorted(whole) if k[1] == n]) for n in names}

        def garments() -> dict[str, torch.Tensor]:
            features = []
            for start in tqdm(range(0, len(pairs), 32), desc="encoding garments"):
                some = [self.stream.garment(i) for i in range(start, min(start + 32, len(pairs)))]
                features.append(self._features(torch.stack(some).to(device)).half().cpu())
            return {"features": torch.cat(features)}

        folder = Path(config.model)
        person = fingerprint(
            pairs,
            [folder / "vae"],
            size=config.size,
            masks=config.masks,
            mirror=config.mirror,
            precision=config.run.mixed_precision == "bf16",
        )
        garment = fingerprint(pairs, [folder / "image_encoder"], preprocess=config.preprocess)
        return cached_tensors(cache / "people.safetensors", person, people) | cached_tensors(
            cache / "garments.safetensors", garment, garments
        )

    def pipeline(self) -> FashionRAGPipeline:
        """Make a pipeline of the models being trained, with their present weights."""
        return FashionRAGPipeline(
            self.unet,
            self.vae,
            self.text_encoder,
            self.tokenizer,
            self.image_encoder,
            self.adapter,
            self.scheduler,
        )

    def preview(self) -> Image.Image:
        """Paint held-out people from their caption and their own garment, beside their photos."""
        pipe, config, data = self.pipeline(), self.config, self.held_out
        mode = max(config.masks, key=config.masks.get)
        pairs = data.pairs[:: max(1, len(data) // 8)][:8]
        tiles: list[tuple[Image.Image, str]] = []
        for number, pair in enumerate(pairs):
            person, _ = person_inputs(data, pair, config.size, mode)
            image = person["pixels"].movedim(0, -1)[None].float() / 255
            channels = pipe.inpainting_channels(image, person["mask"].float())
            pose = person["pose"][None].to(channels)
            pose = pose[:, : self.unet.config.in_channels - INPAINTING_CHANNELS]
            garment = tower_pixels(data.garment(pair), config.preprocess, self.stream.pixels)
            words = self.adapter(self._features(garment[None].to(channels.device)))
            noise = torch.Generator().manual_seed(number)
            noise = torch.randn(1, 4, *channels.shape[-2:], generator=noise).to(channels)
            words_of_it = caption(pair.chunks[:3])
            batch = [self._prompt(*self.prompts.caption(pair.category, words_of_it), None)]
            batch.append(self._prompt(*self.prompts.garments(pair.category, 1), words[0]))
            painted = [
                pipe.decode(
                    pipe.denoise(
                        noise,
                        channels,
                        pose,
                        context,
                        steps=_PREVIEW_STEPS,
                        guidance_scale=_PREVIEW_GUIDANCE,
                    )
                )
                for context in batch
            ]
            shown = [(p[0] * 255).round().byte().movedim(-1, 0) for p in painted]
            names = ("photo", "from the caption", "from its own garment", "garment")
            row = (person["pixels"], *shown, garment)
            tiles += [(picture(p).resize((192, 256)), n) for p, n in zip(row, names, strict=True)]
        return contact_sheet(tiles, columns=8, title="Held-out people")

    def _prompt(self, ids: torch.Tensor, places: torch.Tensor, words) -> torch.Tensor:
        device = self.alphas.device
        vectors = token_table(self.text_encoder)[ids.to(device)].clone()
        if words is not None:
            vectors[places.to(device)] = words.to(vectors)
        return encode_vectors(self.text_encoder, vectors[None])

    def export(self, folder: Path) -> None:
        """Write the whole model folder, float16, in diffusers' and transformers' formats."""
        source = Path(self.config.model)
        for part in _PARTS:
            shutil.copytree(source / part, folder / part)
        self.unet.half().save_pretrained(folder / "unet")
        self.unet.float()
        sizes = {name: str(value) for name, value in asdict(self.adapter.config).items()}
        write_safetensors(
            {
                name: tensor.detach().cpu().half()
                for name, tensor in self.adapter.state_dict().items()
            },
            folder / "inversion_adapter.safetensors",
            {**sizes, "preprocess": self.config.preprocess},
        )
        write_text(folder / "model_index.json", json.dumps(MODEL_INDEX, indent=2))


def _unet(config: FashionRag, folder: Path) -> UNet2DConditionModel:
    channels = INPAINTING_CHANNELS + POSE_CHANNELS
    if config.unet:
        try:
            return UNet2DConditionModel(**{"in_channels": channels, **config.unet})
        except TypeError as error:
            raise ValueError(f"[unet] is no UNet2DConditionModel configuration: {error}") from error
    unet = load_part(UNet2DConditionModel, folder / "unet", "diffusion_pytorch_model").float()
    if unet.config.in_channels == INPAINTING_CHANNELS and config.train_unet:
        # The pose enters with zero weight, so that training begins at the inpainting model.
        old = unet.conv_in
        unet.conv_in = torch.nn.Conv2d(channels, old.out_channels, 3, padding=1)
        with torch.no_grad():
            unet.conv_in.weight.zero_()[:, :INPAINTING_CHANNELS] = old.weight
            unet.conv_in.bias.copy_(old.bias)
        unet.register_to_config(in_channels=channels)
    return unet


def _adapter(config: FashionRag, folder: Path) -> InversionAdapter:
    if config.adapter:
        try:
            return InversionAdapter(InversionAdapterConfig(**config.adapter))
        except TypeError as error:
            raise ValueError(f"[adapter] does not name an adapter's sizes: {error}") from error
    return load_adapter(folder / "inversion_adapter.safetensors").float()


def _check_folder(config: FashionRag, folder: Path) -> None:
    """Name what a model folder lacks, before anything of it is loaded."""
    needed = [*_PARTS, *([] if config.unet else ["unet"])]
    needed += [] if config.adapter else ["inversion_adapter.safetensors"]
    missing = [name for name in needed if not (folder / name).exists()]
    if missing:
        raise FileNotFoundError(
            f"model {folder} lacks {', '.join(missing)}. Expected SD2 inpainting in diffusers "
            "layout with image_encoder (CLIP ViT-H), and unet and inversion_adapter.safetensors "
            "where [unet] and [adapter] give no sizes to begin from nothing."
        )


__all__ = ["FashionRagTask"]
