"""The headless pipeline: Fashion-RAG (arXiv 2504.14011) on diffusers, without ComfyUI.

Everything up to the U-Net's inputs is the code that the ComfyUI nodes run; what differs is the
model call and the sampler, here the official one: DDIM from pure noise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ...model_parts import (
    CONFIG,
    check_shapes,
    load_part,
    read_config,
    shapes_of,
    tokenizer_of,
    told_of,
    weights_of,
)
from ...pictures.clip_pixels import clip_pixels
from ...progress import Progress
from ..garment.checkpoints import (
    is_diffusers_unet,
    load_adapter,
    load_tensors,
    unet_diffusers_to_ldm,
)
from ..garment.garment_images import garment_pixels, photos_to_batch
from ..garment.prompts import (
    DEPTH_PROMPT,
    PAPER_PROMPT,
    Token,
    category_words,
    refuse_embeddings,
    scale_garments,
    split_prompt,
    weighted_parts,
    windows,
)
from ..garment.text_encoder import encode_vectors, load_text_encoder, token_table
from ..person.cut_out import CONTEXT, CutOut, cut_out
from ..person.framing import Framed, frame, to_picture, unframe
from ..person.inpainting import CELL, prepare_inpainting
from ..person.pose import pose_map
from .depth import context_at, cross_attentions

logger = logging.getLogger(__name__)

POSE_CHANNELS = 18
# Channels of the U-Net's input: latents 4, mask 1, masked-image latents 4, and the pose map.
INPAINTING_CHANNELS = 9
UNREAD_OF_VISION = ("visual_projection.weight",)
"""Weights of the image encoder that pseudo-words don't need; published folders may lack them."""
PARTS = ("unet", "vae", "text_encoder", "image_encoder", "scheduler")
"""Folders of a model folder that must be there; `tokenizer` may be left out where it is CLIP's."""
MODEL_INDEX = {
    "_class_name": "FashionRAGPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
    "scheduler": ["diffusers", "DDIMScheduler"],
}
"""The content of a model folder's `model_index.json`."""


class FashionRAGPipeline:
    """A pipeline that paints the person of a photo in given garments.

    The U-Net has 27 input channels (Fashion-RAG's own) or 9 (any SD inpainting model, which knows
    nothing of the pose).
    """

    def __init__(
        self,
        unet: torch.nn.Module,
        vae: torch.nn.Module,
        text_encoder: torch.nn.Module,
        tokenizer: Callable,
        image_encoder: torch.nn.Module,
        adapter: torch.nn.Module,
        scheduler: Any,
    ):
        self.unet, self.vae, self.scheduler = unet, vae, scheduler
        self.text_encoder, self.tokenizer = text_encoder, tokenizer
        self.image_encoder, self.adapter = image_encoder, adapter
        channels = unet.config.in_channels
        if channels not in (INPAINTING_CHANNELS, INPAINTING_CHANNELS + POSE_CHANNELS):
            raise ValueError(
                f"the U-Net has {channels} input channels, expected 27 (Fashion-RAG) or 9 (SD "
                "inpainting); choose one of these with unet=."
            )
        for name, size, part, wanted in (
            ("output", adapter.config.output_width, "text encoder", text_encoder.config),
            ("input", adapter.config.width, "image encoder", image_encoder.config),
        ):
            if size != wanted.hidden_size:
                raise ValueError(
                    f"the inversion adapter's {name} width is {size}, the {part}'s "
                    f"{wanted.hidden_size}; they must be equal: choose an adapter trained with it."
                )

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        unet: str | Path | None = None,
        adapter: str | Path | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> FashionRAGPipeline:
        """Load a model folder in diffusers layout with its `inversion_adapter.safetensors`.

        Args:
            folder: unet, vae, text_encoder, image_encoder and scheduler; tokenizer unless it is
                CLIP's.
            unet: a U-Net file of the folder's architecture to use instead, with 9 or 27 input
                channels, in diffusers or LDM names, `.pth` or safetensors.
            adapter: an inversion adapter file to use instead of the folder's.
            dtype: float16 is meant for CUDA.

        Raises:
            FileNotFoundError: a part is missing.
            ValueError: parts that do not fit together.
            ImportError: diffusers is missing.
        """
        try:
            from diffusers import AutoencoderKL, DDIMScheduler
            from transformers import CLIPTokenizer, CLIPVisionModelWithProjection
        except ImportError as error:
            raise ImportError(
                "the headless pipeline needs diffusers and transformers: "
                "pip install diffusers transformers"
            ) from error

        folder = Path(folder)
        adapter = Path(adapter or folder / "inversion_adapter.safetensors")
        missing = [part for part in PARTS if not (folder / part).is_dir()]
        if missing or not adapter.is_file():
            raise FileNotFoundError(
                f"{folder} is no model folder: {', '.join(missing) or adapter} is missing. "
                "Expected SD2 inpainting in diffusers layout, with image_encoder (CLIP ViT-H) and "
                "inversion_adapter.safetensors beside it (or given with adapter=)."
            )
        network = _load_unet(
            Path(unet) if unet else weights_of(folder / "unet", "diffusion_pytorch_model"),
            folder / "unet",
            dtype,
        )
        vae = load_part(
            AutoencoderKL,
            folder / "vae",
            "diffusion_pytorch_model",
            torch_dtype=dtype,
            low_cpu_mem_usage=False,
        )
        text_encoder = load_text_encoder(folder / "text_encoder")
        image_encoder = load_part(
            CLIPVisionModelWithProjection, folder / "image_encoder", "model", UNREAD_OF_VISION
        )
        with told_of(folder / "scheduler", folder / "scheduler" / "scheduler_config.json"):
            scheduler = DDIMScheduler.from_pretrained(folder / "scheduler", local_files_only=True)
        return cls(
            unet=network.to(device),
            vae=vae.to(device),
            text_encoder=text_encoder.to(device, dtype),
            tokenizer=CLIPTokenizer.from_pretrained(tokenizer_of(folder), local_files_only=True),
            image_encoder=image_encoder.to(device, dtype),
            adapter=load_adapter(adapter).to(device, dtype),
            scheduler=scheduler,
        )

    @property
    def device(self) -> torch.device:
        """The device of the U-Net; the other models are taken to be there too."""
        return self.unet.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the U-Net, and so of the latents."""
        return self.unet.dtype

    @torch.no_grad()
    def __call__(
        self,
        person: Image.Image,
        mask: Image.Image | np.ndarray,
        garments: Sequence[Image.Image],
        *,
        category: str = "",
        caption: str = "",
        prompt: str = PAPER_PROMPT,
        keypoints: np.ndarray | None = None,
        strength: float = 1.0,
        preprocess: str | None = None,
        levels: Collection[int] | None = None,
        steps: int = 50,
        guidance_scale: float = 7.5,
        height: int = 512,
        width: int = 384,
        context: float | None = CONTEXT,
        seed: int = 0,
        feather: int | None = 8,
        callback: Progress | None = None,
        output: str = "pil",
    ) -> Image.Image | torch.Tensor:
        """Dress the person in the garments; the defaults are the official sampling.

        Args:
            person: a photo of any size; the person is cut out of it, painted and put back.
            mask: white (1) is repainted; see `frame`.
            garments: photos on white, best first.
            category: of all garments, a catalogue category; "" for mixed or unknown ones.
            caption: the words for {caption}.
            prompt: template with {category}, {caption}, {garments}; weights as in ComfyUI.
            keypoints: (18, 3), x and y in pixels of the photo, confidence; None: no pose.
            strength: of the pseudo-words; 0 leaves the garments out.
            preprocess: how garment photos are fitted (see `garment_pixels`); None: as the adapter
                file says, else "fit".
            levels: the official per-depth mode: only these depths of the U-Net (0 to 3) read the
                pseudo-words, the others the paper's caption prompt. None: all read them.
            guidance_scale: of classifier-free guidance; 1 or less turns it off.
            height, width: of the canvas in pixels, multiples of 8.
            context: the canvas holds the mask with this margin, a fraction of its size on each side
                (see `find_frames`); None: the whole photo, scaled to fit, as the official code.
            seed: of the starting noise, drawn on the CPU and so the same on every device.
            feather: width of the inward transition where the picture is pasted into the photo;
                None returns the model's whole picture (height x width), as the official code does.
            callback: called with (steps done, steps); it may raise to stop.
            output: "pil" for a picture, "latent" for the final latents (1, 4, h/8, w/8).

        Raises:
            ValueError: an empty mask, a size that is no multiple of 8, an unknown `output`, an
                `embedding:NAME` in the prompt.
        """
        check_size(height, width)
        if output not in ("pil", "latent"):
            raise ValueError(f"output is {output!r}, expected 'pil' or 'latent'.")
        refuse_embeddings(prompt, caption if "{caption}" in prompt else "")
        words = category_words([category])
        pseudo_words = self.pseudo_words(garments, preprocess) if garments else []
        positive = self.encode_prompt(
            split_prompt(prompt, words, caption), scale_garments(pseudo_words, strength)
        )
        plain = None
        if levels is not None:
            plain = self.encode_prompt(split_prompt(DEPTH_PROMPT, words, caption))

        if context is None:
            framed: Framed | CutOut = frame(person, mask, keypoints, (height, width))
        else:
            framed = cut_out(person, mask, keypoints, (height, width), context)
        noise = torch.randn(
            (1, self.vae.config.latent_channels, height // CELL, width // CELL),
            generator=torch.Generator().manual_seed(seed),
        )
        latents = self.denoise(
            noise.to(self.device, self.dtype),
            self.inpainting_channels(framed.image, framed.mask),
            self.pose_channels(framed.keypoints, (height, width)),
            positive,
            plain=plain,
            levels=levels,
            steps=steps,
            guidance_scale=guidance_scale,
            callback=callback,
        )
        if output == "latent":
            return latents
        picture = self.decode(latents)
        if feather is None:
            return to_picture(picture)
        if isinstance(framed, CutOut):
            return framed.paste(picture[0], feather)
        return unframe(picture, framed.box, person, mask, feather)

    def pseudo_words(
        self, garments: Sequence[Image.Image], preprocess: str | None = None
    ) -> torch.Tensor:
        """Encode garment photos to pseudo-words (n, words, width) by vision tower and adapter."""
        mode = preprocess or self.adapter.metadata.get("preprocess", "fit")
        pixels = garment_pixels(
            photos_to_batch(garments), mode, self.image_encoder.config.image_size
        )
        pixels = clip_pixels(pixels).movedim(-1, 1).to(self.device, self.dtype)
        # Before the tower's own post-layernorm; the adapter has one.
        return self.adapter(self.image_encoder(pixel_values=pixels).last_hidden_state)

    def encode_prompt(
        self, parts: Sequence[str], garments: Sequence[torch.Tensor] = ()
    ) -> torch.Tensor:
        """Encode text around pseudo-words to a context (1, 77 * windows, width); `[""]` is empty.

        A token's weight scales how far its vector lies from that of the empty prompt at its place,
        as in ComfyUI.
        """
        tokenizer = self.tokenizer
        tokens = windows(
            parts,
            garments,
            self._tokenize,
            start=tokenizer.bos_token_id,
            end=tokenizer.eos_token_id,
            pad=tokenizer.pad_token_id,
            length=self.text_encoder.config.max_position_embeddings,
        )
        table = token_table(self.text_encoder)
        vectors = [
            token.to(table) if torch.is_tensor(token) else table[token]
            for window in tokens
            for token, _ in window
        ]
        context = encode_vectors(
            self.text_encoder, torch.stack(vectors).unflatten(0, (len(tokens), -1))
        )
        weights = torch.tensor([[weight for _, weight in window] for window in tokens])
        if (weights != 1).any():
            empty = self.encode_prompt([""])
            context = empty + (context - empty) * weights.to(context)[..., None]
        return context.reshape(1, -1, context.shape[-1])

    def inpainting_channels(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Encode the inputs of `prepare_inpainting` to mask and image latents (b, 5, h/8, w/8).

        The latents are the mean of the VAE's posterior, so that a seed gives the same picture.
        """
        inputs = prepare_inpainting(image, mask)
        # Contiguous: group norm on the CPU loses digits with the channels last.
        pixels = inputs.masked_image.movedim(-1, 1).contiguous().to(self.device, self.dtype)
        parts = vae_parts(pixels * 2 - 1)
        latents = torch.cat([self.vae.encode(part).latent_dist.mode() for part in parts])
        latents = latents * self.vae.config.scaling_factor
        return torch.cat([inputs.latent_mask.to(latents), latents], dim=1)

    def pose_channels(self, keypoints: np.ndarray | None, size: tuple[int, int]) -> torch.Tensor:
        """Draw the pose map (1, 18, h/8, w/8); (1, 0, h/8, w/8) for a U-Net that reads none."""
        count = self.unet.config.in_channels - INPAINTING_CHANNELS
        shape = (1, count, size[0] // CELL, size[1] // CELL)
        if count == 0 or keypoints is None:
            if count:
                _tell_no_pose()
            return torch.zeros(shape, device=self.device, dtype=self.dtype)
        return pose_map(keypoints, size, size)[None].to(self.device, self.dtype)

    def denoise(
        self,
        latents: torch.Tensor,
        inpainting: torch.Tensor,
        pose: torch.Tensor,
        positive: torch.Tensor,
        *,
        plain: torch.Tensor | None = None,
        levels: Collection[int] | None = None,
        regions: torch.Tensor | None = None,
        steps: int = 50,
        guidance_scale: float = 7.5,
        callback: Progress | None = None,
    ) -> torch.Tensor:
        """Sample latents (b, 4, h, w) from noise by DDIM with eta 0; section III-C.

        Args:
            latents: (b, 4, h, w), standard normal.
            inpainting: (b, 5, h, w), see `inpainting_channels`.
            pose: (b, 18 or 0, h, w) in 0..1; the unconditional half gets zeros instead.
            positive: (b, 77 * k, width), see `encode_prompt`.
            plain: (b, 77 * m, width): what the depths outside `levels` read.
            regions: (n, h, w) weights that sum to 1 at every place: of a single latent (b = 1),
                `positive` then holds n contexts, and each one's prediction counts in its region,
                as ComfyUI's conditioning masks do it. Not together with `plain`.
        """
        if regions is not None:
            return self._denoise_regions(
                latents, inpainting, pose, positive, regions, steps, guidance_scale, callback
            )
        guided = guidance_scale > 1
        channels = torch.cat([inpainting, pose], dim=1)
        if guided:
            channels = torch.cat([torch.cat([inpainting, 0 * pose], dim=1), channels])
            empty = self.encode_prompt([""]).expand(len(latents), -1, -1)
            positive = _beside(empty, positive)
            plain = plain if plain is None else _beside(empty, plain)
        layers = [] if plain is None else cross_attentions(self.unet, levels)
        context = positive if plain is None else plain

        self.scheduler.set_timesteps(steps)
        for done, step in enumerate(self.scheduler.timesteps, start=1):
            batch = torch.cat([latents, latents]) if guided else latents
            with context_at(layers, positive) if layers else nullcontext():
                noise = self.unet(
                    torch.cat([batch, channels], dim=1), step, encoder_hidden_states=context
                ).sample
            if guided:
                without, conditioned = noise.chunk(2)
                noise = without + guidance_scale * (conditioned - without)
            latents = self.scheduler.step(noise, step, latents, eta=0.0).prev_sample
            if callback is not None:
                callback(done, steps)
        return latents

    def _denoise_regions(
        self, latents, inpainting, pose, positive, regions, steps, guidance_scale, callback
    ) -> torch.Tensor:
        count = len(positive)
        weights = regions.to(self.device, self.dtype)[:, None]
        channels = torch.cat([inpainting, pose], dim=1).expand(count, -1, -1, -1)
        context = positive
        guided = guidance_scale > 1
        if guided:
            channels = torch.cat([torch.cat([inpainting, 0 * pose], dim=1), channels])
            context = _beside(self.encode_prompt([""]), positive)
        self.scheduler.set_timesteps(steps)
        for done, step in enumerate(self.scheduler.timesteps, start=1):
            batch = torch.cat([latents.expand(len(channels), -1, -1, -1), channels], dim=1)
            noise = self.unet(batch, step, encoder_hidden_states=context).sample
            conditioned = (noise[-count:] * weights).sum(dim=0, keepdim=True)
            if guided:
                conditioned = noise[:1] + guidance_scale * (conditioned - noise[:1])
            latents = self.scheduler.step(conditioned, step, latents, eta=0.0).prev_sample
            if callback is not None:
                callback(done, steps)
        return latents

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode latents to pictures (b, H, W, 3) float32 in 0..1 on the CPU."""
        latents = latents / self.vae.config.scaling_factor
        pixels = torch.cat([self.vae.decode(part).sample for part in vae_parts(latents)])
        return (pixels.float() / 2 + 0.5).clamp(0, 1).movedim(1, -1).cpu()

    def _tokenize(self, text: str) -> list[Token]:
        return [
            (token, weight)
            for part, weight in weighted_parts(text)
            for token in self.tokenizer(part, add_special_tokens=False).input_ids
        ]


def check_size(height: int, width: int) -> None:
    """Raise ValueError unless height and width are multiples of 8."""
    if height % CELL or width % CELL:
        raise ValueError(f"height x width is {height}x{width}, expected multiples of {CELL}.")


def vae_parts(batch: torch.Tensor) -> Sequence[torch.Tensor]:
    """Split a batch (b, ...) for a VAE: on a CPU, whose caches hold one picture, into single ones.

    Many at once take twice as long there, and as many times the memory.
    """
    return batch.split(1) if batch.device.type == "cpu" else (batch,)


def _beside(empty: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    """Put the unconditional rows before the conditional ones.

    The empty prompt's one window is repeated to the same length, which attention does not notice.
    """
    return torch.cat([empty.repeat(1, context.shape[1] // empty.shape[1], 1), context])


def _load_unet(path: Path, part: Path, dtype: torch.dtype) -> torch.nn.Module:
    """Load a U-Net file in the architecture of a folder `unet`, but with its own input channels."""
    from diffusers import UNet2DConditionModel

    config = read_config(part, "diffusion_pytorch_model")
    weights, _ = load_tensors(path)
    first = weights.get("conv_in.weight", weights.get("input_blocks.0.0.weight"))
    if first is None:
        raise ValueError(
            f"{path} is no U-Net: it has neither conv_in.weight (diffusers) nor "
            "input_blocks.0.0.weight (LDM). Give the file of a Stable Diffusion U-Net."
        )
    with told_of(path, part / CONFIG):
        # Built without memory of its own, the U-Net takes over the file's tensors.
        with torch.device("meta"):
            unet = UNet2DConditionModel.from_config({**config, "in_channels": first.shape[1]})
    expected = unet.state_dict(keep_vars=True)
    if not is_diffusers_unet(weights):
        names = {id(tensor): name for name, tensor in expected.items()}
        renamed = unet_diffusers_to_ldm(expected)
        names = {ldm: names[id(tensor)] for ldm, tensor in renamed.items()}
        weights = {names.get(name, name): tensor for name, tensor in weights.items()}
    check_shapes(path, shapes_of(expected), shapes_of(weights))
    try:
        unet.load_state_dict({n: t.to(dtype) for n, t in weights.items()}, assign=True)
    except RuntimeError as error:
        raise ValueError(
            f"{path} does not fit the architecture in the model folder's unet/config.json: {error}"
        ) from error
    return unet.eval().requires_grad_(False)


@cache
def _tell_no_pose() -> None:
    """Log, once, that a U-Net with pose channels paints without a pose."""
    logger.warning("No pose is given: the U-Net gets an empty pose map.")
