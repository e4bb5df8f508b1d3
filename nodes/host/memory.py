"""The one file that knows ComfyUI's internals: devices, text and vision towers, the U-Net."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

import comfy.clip_vision
import comfy.conds
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.patcher_extension
import comfy.sd
import comfy.utils
import torch
from PIL import Image

from ...adapter.garment.checkpoints import is_diffusers_unet, load_tensors, unet_diffusers_to_ldm
from ...adapter.garment.checkpoints import unet_in_channels as in_channels_of
from ...adapter.garment.garment_images import garment_pixels, photos_to_batch
from ...adapter.garment.inversion import InversionAdapter
from ...adapter.person.pose import POSE_CHANNELS
from ...retriever.encoders.color_check import check_text_image_pair
from ...retriever.encoders.open_clip import OpenClipEncoder

logger = logging.getLogger(__name__)

POSE_KEY = "fashionrag_pose"
GARMENT_CONTEXT_KEY = "fashionrag_garment_context"
VISION_BATCH = 16

Progress = Callable[[int, int], None]
ClipVision = comfy.clip_vision.ClipVisionModel


def progress_bar() -> Progress:
    """A callback (done, total) for long work: moves the node's bar, raises if cancelled."""
    bar: comfy.utils.ProgressBar | None = None

    def report(done: int, total: int) -> None:
        nonlocal bar
        comfy.model_management.throw_exception_if_processing_interrupted()
        if bar is None:
            bar = comfy.utils.ProgressBar(total)
        bar.update_absolute(done, total)

    return report


class Managed:
    """A plain torch module under ComfyUI's memory management."""

    def __init__(self, module: torch.nn.Module):
        self.module = module
        self.patcher = comfy.model_patcher.ModelPatcher(
            module,
            load_device=comfy.model_management.text_encoder_device(),
            offload_device=comfy.model_management.text_encoder_offload_device(),
        )

    def load(self) -> torch.device:
        """Bring the weights to the compute device and return it."""
        comfy.model_management.load_models_gpu([self.patcher])
        return self.patcher.load_device


class ManagedAdapter(Managed):
    """The inversion adapter, cast and offloaded as any model of the host."""

    module: InversionAdapter

    def pseudo_words(self, features: torch.Tensor) -> torch.Tensor:
        """(n, tokens, width) image features -> (n, words, output_width) float32 on the CPU."""
        device = self.load()
        return self.module(features.to(device, torch.float32)).float().cpu()


class ManagedEncoder(Managed):
    """An open_clip encoder (see retriever.encoders.open_clip.Encoder) on the host's device."""

    def __init__(self, encoder: OpenClipEncoder):
        super().__init__(encoder.model)
        self.encoder = encoder
        self.name, self.dim = encoder.name, encoder.dim
        self.fingerprint, self.preprocessing = encoder.fingerprint, encoder.preprocessing
        self.prepare = encoder.prepare
        self.count_tokens, self.context_length = encoder.count_tokens, encoder.context_length
        self.multilingual = getattr(encoder, "multilingual", False)

    def encode_prepared(self, pixels: torch.Tensor) -> torch.Tensor:
        self.encoder.device = self.load()
        return self.encoder.encode_prepared(pixels)

    def encode_images(self, photos: Sequence[Image.Image]) -> torch.Tensor:
        self.encoder.device = self.load()
        return self.encoder.encode_images(photos)

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        self.encoder.device = self.load()
        return self.encoder.encode_texts(texts)


class TextTower:
    """What the pack needs of a CLIP socket with one CLIP text tower (SD1.x and SD2.x)."""

    def __init__(self, clip: comfy.sd.CLIP):
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
        """Width of the token embeddings: 1024 for SD2, 768 for SD1."""
        return self.transformer.get_input_embeddings().weight.shape[1]

    def tokens(self, text: str) -> list[tuple[Any, float]]:
        """Token ids (or embedding tensors) with weights, without start, end and padding."""
        content = []
        for window in self.clip.tokenize(text)[self.key]:
            for token, weight in window[1:]:
                if not torch.is_tensor(token) and token == self.end:
                    break
                content.append((token, weight))
        return content

    def conditioning(self, windows: list[list[tuple[Any, float]]]) -> list:
        """The CONDITIONING of whole windows, schedules and hooks of the CLIP included."""
        return self.clip.encode_from_tokens_scheduled({self.key: windows})

    def pooled(self, text: str) -> torch.Tensor:
        """The projected text embedding, (1, dim) float32; weights and embeddings are not parsed."""
        tokens = self.clip.tokenize(text, disable_weights=True)
        return self.clip.encode_from_tokens(tokens, return_pooled=True)[1].float().cpu()


def vision_features(
    clip_vision: ClipVision,
    images: torch.Tensor,
    preprocess: str,
    output: str = "last_hidden_state",
) -> torch.Tensor:
    """Garment photos through the vision tower.

    Args:
        images: (n, H, W, 3) float in 0..1.
        preprocess: one of adapter.garment_images.PREPROCESS.
        output: `last_hidden_state` (n, tokens, width), before the post-layernorm, or
            `image_embeds` (n, dim).
    """
    features = []
    report = progress_bar()
    for start in range(0, len(images), VISION_BATCH):
        report(start, len(images))
        pixels = garment_pixels(
            images[start : start + VISION_BATCH], preprocess, clip_vision.image_size
        )
        features.append(clip_vision.encode_image(pixels)[output].float().cpu())
    return torch.cat(features)


class HostEncoder:
    """The host's own pair as a retrieval encoder: SD2's text tower and CLIP ViT-H vision."""

    name = "host"
    preprocessing = {"preprocess": "whole"}

    def __init__(self, clip: comfy.sd.CLIP | None, clip_vision: ClipVision | None):
        if clip is None or clip_vision is None:
            raise ValueError(
                "The encoder 'host' needs both inputs clip and clip_vision: the CLIP of an SD2 "
                "checkpoint and CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors."
            )
        self.text, self.vision = TextTower(clip), clip_vision
        projection = self._projection()
        self.dim = projection.shape[0]
        self.fingerprint = _fingerprint(
            projection,
            self.text.transformer.get_input_embeddings().weight,
            *clip_vision.model.state_dict().values(),
        )

    def _projection(self) -> torch.Tensor:
        weight = self.text.transformer.text_projection.weight.detach().float().cpu()
        spread = weight.std().item()
        if not 0.005 <= spread <= 0.5:  # also catches NaN
            raise ValueError(
                f"The text projection of this CLIP is not a trained one (std {spread:.3g}, "
                f"expected 0.005 to 0.5): the checkpoint lacks it. {_WITH_PROJECTION}"
            )
        return weight

    def check(self) -> int:
        """The number of 8 colour cards that the pair matches to their names.

        Raises:
            ValueError: fewer than 7, the two towers do not belong together.
        """
        right = check_text_image_pair(self)
        if right < 7:
            raise ValueError(
                f"The connected clip and clip_vision match only {right} of 8 colour cards to their "
                f"names (7 expected): they are not two halves of one model. {_WITH_PROJECTION}"
            )
        return right

    def encode_images(self, photos: Sequence[Image.Image]) -> torch.Tensor:
        embeddings = [
            vision_features(self.vision, photos_to_batch([photo]), "whole", "image_embeds")
            for photo in photos
        ]
        return torch.nn.functional.normalize(torch.cat(embeddings), dim=-1)

    @property
    def context_length(self) -> int:
        return self.text.length

    def count_tokens(self, text: str) -> int:
        return len(self.text.tokens(text)) + 2

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        embeddings = torch.cat([self.text.pooled(text) for text in texts])
        return torch.nn.functional.normalize(embeddings, dim=-1)


_WITH_PROJECTION = (
    "Use 512-inpainting-ema.safetensors (SD2 inpainting, single file), whose text tower keeps its "
    "projection, with CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors; or an encoder of its own "
    "(`fashion-rag encoder get`)."
)


def _fingerprint(*tensors: torch.Tensor) -> str:
    # Strided samples in half precision: the same for every load dtype, and quick on a gigabyte.
    digest = hashlib.sha256()
    for tensor in tensors:
        flat = tensor.detach().flatten()
        sample = flat[:: max(1, flat.numel() // 256)].to("cpu", torch.float16)
        digest.update(str(tuple(tensor.shape)).encode() + sample.numpy().tobytes())
    return digest.hexdigest()


def load_unet(path: str, options: dict[str, Any]) -> comfy.model_patcher.ModelPatcher:
    """An inpainting U-Net of 9 or 27 input channels, in diffusers or LDM names.

    Raises:
        ValueError: another width, or an architecture that the host does not know.
    """
    state_dict, _ = load_tensors(path)
    try:
        channels = in_channels_of(state_dict)
        if is_diffusers_unet(state_dict):
            state_dict = unet_diffusers_to_ldm(state_dict)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if channels not in (9, 9 + POSE_CHANNELS):
        raise ValueError(
            f"{path} is a U-Net of {channels} input channels; expected 9 (SD inpainting) or 27 "
            "(Fashion-RAG: the same and 18 pose channels). For a 4-channel model use the stock "
            "loader with Set Latent Noise Mask."
        )
    model = comfy.sd.load_diffusion_model_state_dict(state_dict, model_options=options)
    if model is None:
        raise ValueError(
            f"{path}: ComfyUI does not know this U-Net. Expected Stable Diffusion 1.x or 2.x "
            "sizes; a smaller one is loaded as a model folder by the node Fashion-RAG Loader."
        )
    return with_pose_channels(model) if channels > 9 else model


def check_control_width(conditioning: list) -> None:
    """Compare the text width of every ControlNet on a CONDITIONING with the conditioning's own.

    Raises:
        ValueError: they differ; the host would only fail in a matrix product while sampling.
    """
    for embeddings, values in conditioning:
        control = values.get("control")
        while control is not None:
            reads = _context_width(getattr(control, "control_model", None))
            if reads not in (None, embeddings.shape[-1]):
                raise ValueError(
                    f"The ControlNet reads text of width {reads}, the conditioning has width "
                    f"{embeddings.shape[-1]}: load a ControlNet made for the same model "
                    "(1024: Stable Diffusion 2.1, 768: Stable Diffusion 1.5)."
                )
            control = control.previous_controlnet


def _context_width(control_model: torch.nn.Module | None) -> int | None:
    # None: it reads no text (T2I adapters), or is only made while sampling (control LoRAs).
    if control_model is None:
        return None
    keys = (m for name, m in control_model.named_modules() if name.endswith("attn2.to_k"))
    return next((key.in_features for key in keys), None)


def with_pose_channels(model: comfy.model_patcher.ModelPatcher) -> comfy.model_patcher.ModelPatcher:
    """Let a 27-channel model read the pose map of its conditioning (zero where there is none)."""
    model = model.clone()
    inpaint_channels = model.get_model_object("concat_cond")

    def concat_cond(**kwargs: Any) -> torch.Tensor:
        channels = inpaint_channels(**kwargs)
        batch, _, height, width = channels.shape
        pose = kwargs.get(POSE_KEY)
        if pose is None:
            pose = channels.new_zeros(1, POSE_CHANNELS, height, width)
        pose = pose.to(channels)
        if pose.shape[-2:] != (height, width):
            pose = torch.nn.functional.interpolate(pose, size=(height, width), mode="bilinear")
        # As BaseModel.concat_cond does with the masked photo, so that each keeps its own pose.
        return torch.cat([channels, comfy.utils.resize_to_batch_size(pose, batch)], dim=1)

    model.add_object_patch("concat_cond", concat_cond)
    return model


def with_prompt_depth(
    model: comfy.model_patcher.ModelPatcher, levels: set[int], start_percent: float
) -> comfy.model_patcher.ModelPatcher:
    """Let cross-attention at the chosen depths read the garment context of its conditioning.

    A conditioning without one keeps its own context everywhere. The garment context enters once
    the noise is down to `start_percent` of the schedule.
    """
    model = model.clone()
    blocks = _blocks_of(model.get_model_object("diffusion_model"), levels)
    start_sigma = model.get_model_object("model_sampling").percent_to_sigma(start_percent)
    plain_conds = model.get_model_object("extra_conds")

    def extra_conds(**kwargs: Any) -> dict[str, Any]:
        conds = plain_conds(**kwargs)
        context = kwargs.get(GARMENT_CONTEXT_KEY)
        # Set for every conditioning: the host batches only those that carry the same keys.
        context = kwargs["cross_attn"] if context is None else context
        return {**conds, GARMENT_CONTEXT_KEY: comfy.conds.CONDCrossAttn(context)}

    def apply_model(
        execute,
        x,
        t,
        c_concat=None,
        c_crossattn=None,
        control=None,
        transformer_options=None,
        **kwargs,
    ) -> torch.Tensor:
        options = dict(transformer_options or {})
        garments = kwargs.pop(GARMENT_CONTEXT_KEY)
        if t.max().item() <= start_sigma:
            options[GARMENT_CONTEXT_KEY] = garments
        return execute(x, t, c_concat, c_crossattn, control, options, **kwargs)

    def attention(query, context, value, options):
        garments = options.get(GARMENT_CONTEXT_KEY)
        if garments is None or tuple(options["block"]) not in blocks:
            return query, context, value
        garments = garments.to(context)
        return query, garments, garments

    model.add_object_patch("extra_conds", extra_conds)
    model.add_wrapper_with_key(
        comfy.patcher_extension.WrappersMP.APPLY_MODEL, GARMENT_CONTEXT_KEY, apply_model
    )
    model.set_model_attn2_patch(attention)
    return model


def _blocks_of(unet: torch.nn.Module, levels: set[int]) -> set[tuple[str, int]]:
    # Level numbers as in the official code: 0 = the middle block (and the deepest resolution),
    # counted up to the full resolution, 3 in SD.
    deepest = sum(_resamples(block, "Downsample") for block in unet.input_blocks)
    blocks, depth = {("middle", 0)} if 0 in levels else set(), 0
    for number, block in enumerate(unet.input_blocks):
        depth += _resamples(block, "Downsample")
        if deepest - depth in levels:
            blocks.add(("input", number))
    for number, block in enumerate(unet.output_blocks):
        if deepest - depth in levels:
            blocks.add(("output", number))
        depth -= _resamples(block, "Upsample")
    return blocks


def _resamples(block: torch.nn.Module, kind: str) -> bool:
    return any(type(layer).__name__ == kind for layer in block)
