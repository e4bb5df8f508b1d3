"""Stages `fashion_rag` (U-Net and adapter together) and `adapter` (the adapter alone).

Section III-B: the U-Net is fine-tuned to inpaint the person from pseudo-words of the retrieved
garments; the adapter is trained first, against a frozen U-Net, as LaDI-VTON does. VAE, text encoder
and vision tower are frozen. One model learns both kinds of prompt, the paper's with garments and
the caption's without, so that k = 0 is a fair baseline.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from PIL import Image
from safetensors.torch import save_file
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from ..adapter.garment.checkpoints import load_adapter
from ..adapter.garment.garment_images import PREPROCESS
from ..adapter.garment.inversion import InversionAdapter, InversionAdapterConfig
from ..adapter.headless.pipeline import (
    CLIP_MEAN,
    CLIP_STD,
    INPAINTING_CHANNELS,
    MODEL_INDEX,
    FashionRAGPipeline,
)
from ..adapter.person.masks import MODES
from ..adapter.person.pose import POSE_CHANNELS
from ..pictures.contact_sheet import contact_sheet
from ..retriever.encoders.towers import is_model_folder
from .clip import square
from .config import Run, check_shares
from .dresscode import DressCode, caption
from .kept import fingerprint, kept
from .loop import Task
from .samples import Prompts, person_inputs, picture, retrieved
from .stream import PairStream

_PREVIEW_STEPS, _PREVIEW_GUIDANCE = 20, 2.5
_FROZEN = ("vae", "text_encoder", "image_encoder")
_PARTS = (*_FROZEN, "tokenizer", "scheduler")


@dataclass(frozen=True)
class FashionRag:
    """Configuration of the stages."""

    run: Run
    model: str
    """Model folder with vae, text_encoder, tokenizer, image_encoder and scheduler; unet and
    inversion_adapter.safetensors too, where they are not given below."""
    encoder: str = ""
    """Encoder folder of the retriever; by default the model folder's own pair."""
    unet: dict[str, Any] = field(default_factory=dict)
    """diffusers' UNet2DConditionModel configuration: an untrained one of these sizes."""
    adapter: dict[str, Any] = field(default_factory=dict)
    """Sizes of an untrained adapter, see InversionAdapterConfig."""
    train_unet: bool = True
    size: tuple[int, ...] = (512, 384)
    """Height and width in pixels."""
    garments: tuple[float, ...] = (0.0, 0.34, 0.33, 0.33)
    """Probability of 0, 1, 2, 3 garments; with none the caption's prompt is used."""
    chunks: tuple[float, ...] = (0.1, 0.1, 0.8)
    """Probability of captions of 1, 2, 3 noun chunks."""
    drop: float = 0.1
    """Probability of the empty prompt and pose, for classifier-free guidance."""
    pool: int = 20
    """How many garments the retriever finds for a caption."""
    masks: dict[str, float] = field(default_factory=lambda: {"bounding_box": 1.0})
    """Share of each kind of inpainting mask."""
    mirror: bool = True
    preprocess: str = "fit"
    adapter_dropout: float = 0.5
    snr_gamma: float = 0.0
    """Min-SNR weighting of the loss (arXiv 2303.09556); 0 for none."""
    outside: float = 1.0
    """Weight of the loss outside the mask."""
    precompute: bool = False
    """Encode everything once before training; needs room for it in memory."""

    def __post_init__(self) -> None:
        if self.preprocess not in PREPROCESS:
            raise ValueError(f"preprocess is {self.preprocess!r}; expected one of {PREPROCESS}.")
        unknown = sorted(set(self.masks) - set(MODES))
        if unknown or not self.masks:
            raise ValueError(f"masks is {self.masks}; expected shares of {', '.join(MODES)}.")
        check_shares("masks", list(self.masks.values()))
        check_shares("garments", self.garments)
        check_shares("chunks", self.chunks, 3)
        if len(self.size) != 2 or any(side <= 0 or side % 8 for side in self.size):
            raise ValueError(f"size is {self.size}; expected height and width, multiples of 8.")
        for name, most in (("drop", 1.0), ("adapter_dropout", 1.0), ("outside", float("inf"))):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 to {most:g}.")
        if self.snr_gamma < 0 or self.pool < len(self.garments) - 1:
            raise ValueError(
                f"snr_gamma is {self.snr_gamma} and pool {self.pool}; expected 0 or more, and at "
                f"least as many as `garments` allows, {len(self.garments) - 1}."
            )


class FashionRagTask(Task):
    """See the module."""

    def __init__(self, config: FashionRag, data: Path, cache: Path, device: torch.device):
        super().__init__()
        self.config = config
        folder = Path(config.model)
        _check_folder(config, folder)
        local = {"local_files_only": True, "use_safetensors": True}
        self.vae = AutoencoderKL.from_pretrained(folder / "vae", **local)
        self.text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", **local)
        self.image_encoder = CLIPVisionModelWithProjection.from_pretrained(
            folder / "image_encoder", **local
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
        self.adapter = _adapter(config, folder).requires_grad_(True)
        for module in self.adapter.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = config.adapter_dropout
        # Says which parts don't fit together.
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
            found = torch.arange(len(pairs))[:, None]
            # A sample's own garment alone needs no retriever.
            if len(config.garments) > 2:
                found = kept(
                    cache / "retrieved.safetensors",
                    fingerprint(pairs, towers, captions=True, pool=config.pool),
                    lambda: {"rows": retrieved(pairs, encoder, config.pool, device)},
                )["rows"]
            self.stream = PairStream(pairs, config, found, self.prompts, self.image_encoder)
            if config.precompute:
                self.stream.encoded = self._encode_all(cache, device)

    def train(self, mode: bool = True) -> FashionRagTask:
        """Frozen models stay as they are used: a folder's own dropout must not act on them."""
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
        """Prompts with pseudo-words through the frozen text encoder, (b, 77, width)."""
        table = self.text_encoder.get_input_embeddings().weight
        vectors = table[batch["ids"]]
        there = batch["garment_there"]
        if there.any():
            words = self.adapter(batch["features"][there].float())
            vectors = vectors.to(words.dtype).masked_scatter(batch["places"][..., None], words)
        else:
            # Keeps the adapter in the graph: alone, it would leave the loss without a gradient.
            vectors = vectors + 0 * sum(p.sum() for p in self.adapter.parameters())
        name = next(n for n, p in self.text_encoder.named_parameters() if p is table)
        places = torch.arange(batch["ids"].numel(), device=vectors.device)
        # The encoder only takes ids: for this call its table holds these very vectors, in order.
        return torch.func.functional_call(
            self.text_encoder,
            {name: vectors.flatten(0, 1)},
            (places.view(batch["ids"].shape),),
        ).last_hidden_state

    @torch.no_grad()
    def _encode(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What precomputing would have given: latents, and the vision tower's features."""
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
            latents = self.vae.encode(pixels.float() / 127.5 - 1).latent_dist.mode()
        return latents.float() * self.vae.config.scaling_factor

    def _features(self, pixels: torch.Tensor) -> torch.Tensor:
        mean, std = (
            torch.tensor(values, device=pixels.device).view(3, 1, 1)
            for values in (CLIP_MEAN, CLIP_STD)
        )
        # Before the tower's own post-layernorm; the adapter has one.
        pixels = (pixels.float() / 255 - mean) / std
        return self.image_encoder(pixel_values=pixels).last_hidden_state

    @torch.no_grad()
    def _encode_all(self, cache: Path, device: torch.device) -> dict[str, torch.Tensor]:
        """Every pair as it is, then mirrored, float16; kept in `cache`, so that it is done once."""
        self.to(device).eval()
        pairs, config = self.stream.data, self.config

        def people() -> dict[str, torch.Tensor]:
            parts: dict[tuple[bool, str], list[torch.Tensor]] = {}
            for start in tqdm(range(0, len(pairs), 32), desc="encoding people"):
                some = [
                    person_inputs(pairs, pairs.pairs[i], config.size, self.stream.mode(i))
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
        return kept(cache / "people.safetensors", person, people) | kept(
            cache / "garments.safetensors", garment, garments
        )

    def pipeline(self) -> FashionRAGPipeline:
        """The models as they are now."""
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
        """Held-out people: as they are, repainted from the caption, and from their own garment."""
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
            garment = square(data.garment(pair), config.preprocess, self.stream.pixels)
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
        table = self.text_encoder.get_input_embeddings().weight
        vectors = table[ids.to(device)].clone()
        if words is not None:
            vectors[places.to(device)] = words.to(vectors)
        name = next(n for n, p in self.text_encoder.named_parameters() if p is table)
        order = torch.arange(len(ids), device=device)[None]
        return torch.func.functional_call(
            self.text_encoder, {name: vectors}, (order,)
        ).last_hidden_state

    def export(self, folder: Path) -> None:
        """The whole model folder, float16, in diffusers' and transformers' formats."""
        source = Path(self.config.model)
        for part in _PARTS:
            shutil.copytree(source / part, folder / part)
        self.unet.half().save_pretrained(folder / "unet")
        self.unet.float()
        sizes = {name: str(value) for name, value in asdict(self.adapter.config).items()}
        weights = {n: t.detach().cpu().half() for n, t in self.adapter.state_dict().items()}
        save_file(
            {name: tensor.contiguous() for name, tensor in weights.items()},
            folder / "inversion_adapter.safetensors",
            metadata={**sizes, "preprocess": self.config.preprocess},
        )
        index = json.dumps(MODEL_INDEX, indent=2)
        (folder / "model_index.json").write_text(index, encoding="utf-8")


def _unet(config: FashionRag, folder: Path) -> UNet2DConditionModel:
    channels = INPAINTING_CHANNELS + POSE_CHANNELS
    if config.unet:
        try:
            return UNet2DConditionModel(**{"in_channels": channels, **config.unet})
        except TypeError as error:
            raise ValueError(f"[unet] is no UNet2DConditionModel configuration: {error}") from error
    unet = UNet2DConditionModel.from_pretrained(
        folder / "unet", local_files_only=True, use_safetensors=True
    ).float()
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


__all__ = ["FashionRag", "FashionRagTask"]
