"""Retrieval encoders inside ComfyUI: an encoder's folder, or the host's own pair of CLIP towers."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import torch
from PIL import Image

from ...retriever.encoders.batches import is_out_of_memory
from ...retriever.encoders.color_check import check_text_image_pair
from ...retriever.encoders.fingerprint import fingerprint_of_pair
from ...retriever.encoders.open_clip import Encoder, LocalEncoder, load_encoder
from ...retriever.encoders.texts import check_texts
from ...retriever.encoders.towers import PREPROCESSING, square_on_white
from . import folders
from .memory import WholeModule, encoder_dtype
from .text import TextTower
from .vision import ClipVision, encode

_OPTIONAL = ("prepare", "count_tokens", "context_length", "multilingual")
"""The optional attributes and methods of an encoder; see retriever.encoders.Encoder."""


def open_encoder(
    name: str, clip: comfy.sd.CLIP | None = None, clip_vision: ClipVision | None = None
) -> Encoder:
    """Load the encoder `name` of models/fashion_rag/encoders on the host's device.

    `host` is made of the two sockets. So is a name that is no folder there, while both sockets are
    connected: an index that the command line built with a model folder has that folder's name.

    Raises:
        FileNotFoundError: there is no such encoder.
        ValueError: `host`, and a socket is not connected, or its towers are not fit.
    """
    both = clip is not None and clip_vision is not None
    if name == folders.HOST_ENCODER or (both and name not in folders.entries("encoders")):
        return HostEncoder(clip, clip_vision)
    return ManagedEncoder(load_encoder(folders.resolve("encoders", name), dtype=encoder_dtype()))


class ManagedEncoder:
    """An encoder of a folder (see retriever.encoders.Encoder) on the host's device, or the CPU."""

    def __init__(self, encoder: LocalEncoder):
        self._whole = WholeModule(encoder.model)
        self._encoder = encoder
        self.name, self.dim = encoder.name, encoder.dim
        self.fingerprint, self.preprocessing = encoder.fingerprint, encoder.preprocessing
        for name in _OPTIONAL:
            if hasattr(encoder, name):
                setattr(self, name, getattr(encoder, name))

    def encode_prepared(self, pixels: torch.Tensor) -> torch.Tensor:
        """See Encoder; only for an encoder with `prepare`."""
        return self._loaded(lambda encoder: encoder.encode_prepared(pixels))

    def encode_images(self, photos: Sequence[Image.Image]) -> torch.Tensor:
        """See Encoder."""
        return self._loaded(lambda encoder: encoder.encode_images(photos))

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """See Encoder."""
        return self._loaded(lambda encoder: encoder.encode_texts(texts))

    def _loaded(self, encode: Callable[[Any], torch.Tensor]) -> torch.Tensor:
        """Encode on the host's device; on the CPU where not even a single item fits there."""
        try:
            return encode(self._ready())
        except RuntimeError as error:
            if self._encoder.device.type == "cpu" or not is_out_of_memory(error):
                raise
        self._whole.to_cpu()
        return encode(self._ready())

    def _ready(self) -> LocalEncoder:
        self._encoder.device = self._whole.load()
        if self._whole.in_float32:
            self._encoder.dtype = torch.float32
        return self._encoder


class HostEncoder:
    """The host's own pair as a retrieval encoder: SD2's text tower and CLIP ViT-H vision.

    The same weights give the same embeddings and the same fingerprint as TowersEncoder outside.
    """

    name = folders.HOST_ENCODER
    preprocessing: dict[str, Any] = PREPROCESSING

    def __init__(self, clip: comfy.sd.CLIP | None, clip_vision: ClipVision | None):
        if clip is None or clip_vision is None:
            raise ValueError(
                "The encoder 'host' needs both inputs clip and clip_vision: the CLIP of an SD2 "
                "checkpoint and CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors."
            )
        for patcher in (clip.patcher, clip_vision.patcher):
            _take_own_weights(patcher)
        self.text, self.vision = TextTower(clip), clip_vision
        _check_projection(self.text.projection)
        self.dim = self.text.projection.shape[0]
        vision = clip_vision.model.state_dict()
        self.fingerprint = fingerprint_of_pair(self.text.weights(), vision)
        self.prepare = functools.partial(square_on_white, size=clip_vision.image_size)

    @property
    def context_length(self) -> int:
        """The most tokens of a text that count, start and end included."""
        return self.text.length

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a text, start and end included."""
        return len(self.text.tokens(text)) + 2

    def had_fingerprint(self, fingerprint: str) -> bool:
        """Tell whether version 0.1 had this fingerprint for the pair in this precision."""
        vision = self.vision.model.state_dict().values()
        return fingerprint == _former_fingerprint(self.text.projection, self.text.table, *vision)

    def check(self) -> int:
        """Count the colour cards, of 8, that the pair matches to their names.

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
        """See Encoder; transparency is laid on white."""
        return self.encode_prepared(torch.stack([self.prepare(photo) for photo in photos]))

    def encode_prepared(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode (n, 3, size, size) uint8 of `prepare`: (n, dim) float32 unit vectors (CPU)."""
        embeddings = encode(self.vision, pixels.movedim(1, -1).float() / 255, "image_embeds")
        return torch.nn.functional.normalize(embeddings, dim=-1)

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """See Encoder.

        Raises:
            ValueError: a text is empty.
        """
        check_texts(texts)
        embeddings = torch.cat([self.text.pooled(text) for text in texts])
        return torch.nn.functional.normalize(embeddings, dim=-1)


def _take_own_weights(patcher: comfy.model_patcher.ModelPatcher) -> None:
    """Load a model whose weights are at present a clone's, patched by a LoRA, or lack its own."""
    present = patcher.model.current_weight_patches_uuid
    if present != patcher.patches_uuid and (present is not None or patcher.patches):
        comfy.model_management.load_models_gpu([patcher])


def _check_projection(projection: torch.Tensor) -> None:
    spread = projection.std().item()
    if not 0.005 <= spread <= 0.5:  # also catches NaN
        raise ValueError(
            f"The text projection of this CLIP is not a trained one (std {spread:.3g}, "
            f"expected 0.005 to 0.5): the checkpoint lacks it. {_WITH_PROJECTION}"
        )


_WITH_PROJECTION = (
    "Use 512-inpainting-ema.safetensors (SD2 inpainting, single file), whose text tower keeps its "
    "projection, with CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors; or an encoder of its own "
    "(`fashion-rag encoder get`)."
)


def _former_fingerprint(*tensors: torch.Tensor) -> str:
    """Return the fingerprint of version 0.1: SHA-256 over samples in half precision."""
    digest = hashlib.sha256()
    for tensor in tensors:
        flat = tensor.detach().flatten()
        sample = flat[:: max(1, flat.numel() // 256)].to("cpu", torch.float16)
        digest.update(str(tuple(tensor.shape)).encode() + sample.numpy().tobytes())
    return digest.hexdigest()
