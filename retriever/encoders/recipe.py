"""Recipes: ways to use an encoder that make its vectors more robust, without any training.

The recipe `views` is the one that MODA published for FashionSigLIP (hopit-ai/Moda,
FSL_203M_SYSTEM_ARCHITECTURE.md), with one vector a photo:

    photo   d_whole + 0.25 d_padded + 0.25 d_cropped, normalised: the photo as the encoder sees it,
            padded to a square on grey, and its middle square
    text    q + 0.25 q_prompt, normalised, with the prompt "a fashion product photo of TEXT"

MODA's second step searches the three views apart and lets their best score count a tenth. It is
left out: it takes three vectors a photo.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from PIL import Image, ImageOps
from torch.nn import functional

from ...pictures.photos import to_rgb_on_white
from .texts import check_texts

PLAIN, VIEWS = "plain", "views"
RECIPES = (PLAIN, VIEWS)

WEIGHTS = (1.0, 0.25, 0.25)
"""Weights of the whole photo, the padded and the cropped view."""
PROMPT_WEIGHT = 0.25
PROMPT = "a fashion product photo of {}"

_GREY = (128, 128, 128)
_PASSED_ON = ("count_tokens", "context_length", "multilingual")

Prepare = Callable[[Image.Image], torch.Tensor]


class ViewsEncoder:
    """An encoder used by the recipe `views`: an Encoder too, with a fingerprint of its own."""

    recipe = VIEWS

    def __init__(self, encoder: Any):
        self._encoder = encoder
        self.name: str = encoder.name
        self.dim: int = encoder.dim
        self.preprocessing: dict[str, Any] = {**encoder.preprocessing, "recipe": VIEWS}
        self.fingerprint: str = fingerprint_of(encoder.fingerprint, VIEWS)
        if hasattr(encoder, "prepare"):
            self.prepare: Prepare = functools.partial(_prepare_views, encoder.prepare)
        for name in _PASSED_ON:
            if hasattr(encoder, name):
                setattr(self, name, getattr(encoder, name))

    def encode_prepared(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode (n, 3, ...) of `prepare`, three views a photo: (n, dim) float32 unit vectors."""
        return _mixed(self._encoder.encode_prepared(pixels.flatten(0, 1)), WEIGHTS)

    def encode_images(self, photos: Sequence[Image.Image]) -> torch.Tensor:
        """See Encoder; transparency is laid on white."""
        views = [view for photo in photos for view in views_of(photo)]
        return _mixed(self._encoder.encode_images(views), WEIGHTS)

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """See Encoder.

        Raises:
            ValueError: a text is empty.
        """
        check_texts(texts)
        both = [said for text in texts for said in (text, PROMPT.format(text))]
        return _mixed(self._encoder.encode_texts(both), (1.0, PROMPT_WEIGHT))


def with_recipe(encoder: Any, recipe: str) -> Any:
    """Return the encoder, used by a recipe.

    Raises:
        ValueError: there is no such recipe, or the encoder is used by another one already.
    """
    if recipe not in RECIPES:
        raise ValueError(
            f"The recipe {recipe!r} is none of {', '.join(RECIPES)}: it may be one of a newer "
            "version of the pack."
        )
    if recipe_of(encoder) not in (PLAIN, recipe):
        raise ValueError(
            f"The encoder {display_name(encoder)} can't be used by the recipe {recipe!r}: "
            "take the plain encoder."
        )
    return encoder if recipe == recipe_of(encoder) else ViewsEncoder(encoder)


def as_built(encoder: Any, built: Mapping[str, Any]) -> Any:
    """Return the encoder, used by the recipe of an index unless it is used by one already.

    Args:
        built: the `encoder` of the index's manifest.

    Raises:
        ValueError: the index's recipe is not known.
    """
    if recipe_of(encoder) != PLAIN:
        return encoder
    return with_recipe(encoder, recipe_of(built))


def fingerprint_of(fingerprint: str, recipe: str) -> str:
    """Return the fingerprint of an encoder, whose plain one is given, used by a recipe."""
    if recipe == PLAIN:
        return fingerprint
    return hashlib.sha256(f"{recipe} {fingerprint}".encode()).hexdigest()


def recipe_of(encoder: Any) -> str:
    """Return the recipe of an encoder, or of the `encoder` in a manifest."""
    if isinstance(encoder, Mapping):
        return encoder.get("recipe", PLAIN)
    return getattr(encoder, "recipe", PLAIN)


def display_name(encoder: Any) -> str:
    """Return an encoder's name for messages, with its recipe; of a manifest's `encoder` too."""
    name = encoder["name"] if isinstance(encoder, Mapping) else encoder.name
    recipe = recipe_of(encoder)
    return repr(name) if recipe == PLAIN else f"{name!r} with the recipe {recipe!r}"


def views_of(photo: Image.Image) -> tuple[Image.Image, Image.Image, Image.Image]:
    """Return a photo's views: itself as RGB, padded to a square on grey, and its middle square.

    Nothing is scaled.
    """
    photo = photo if photo.mode == "RGB" else to_rgb_on_white(photo)
    side, short = max(photo.size), min(photo.size)
    left, top = (photo.width - short) // 2, (photo.height - short) // 2
    padded = ImageOps.pad(photo, (side, side), Image.Resampling.NEAREST, color=_GREY)
    return photo, padded, photo.crop((left, top, left + short, top + short))


def _prepare_views(prepare: Prepare, photo: Image.Image) -> torch.Tensor:
    return torch.stack([prepare(view) for view in views_of(photo)])


def _mixed(vectors: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
    """Average every k of (n k, dim) unit vectors with k weights, normalised: (n, dim)."""
    each = vectors.unflatten(0, (-1, len(weights)))
    return functional.normalize((each * torch.tensor(weights)[:, None]).sum(dim=1), dim=-1)
