"""The samples of the stages `fashion_rag` and `adapter`, each a function of its position."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection

import torch
from torch.utils.data import Dataset

from .clip import epoch_order, tower_pixels
from .dresscode import DressCode, Pair, caption
from .fashion_rag_config import FashionRag
from .retrieval import Retrieval
from .samples import Prompts, as_retrieved, own_first, person_inputs, sample_mask_mode


class PairStream(Dataset):
    """Samples by position: a person, garments picked at random for them, and the prompt."""

    def __init__(
        self,
        data: DressCode,
        config: FashionRag,
        found: Retrieval | None,
        prompts: Prompts,
        tower,
    ):
        self.data, self.config, self.found, self.prompts = data, config, found, prompts
        self._focus = data.positions(config.focus) if config.focus else []
        sizes = Counter(pair.category for pair in data.pairs)
        self._in_catalogue = {
            category: min(1.0, config.catalogue / size) if config.catalogue else 1.0
            for category, size in sizes.items()
        }
        self.pixels = tower.config.image_size
        self.encoded: dict[str, torch.Tensor] | None = None
        self.most = len(config.garments) - 1

    def mask_mode(self, index: int) -> str:
        """Pick the mask mode of the pair at `index`, the same in every epoch."""
        return sample_mask_mode(random.Random(f"mask {index}"), self.config.masks)

    def garment(self, index: int) -> torch.Tensor:
        """Open the in-shop photo of the pair at `index` for the vision tower, (3, s, s) uint8."""
        return tower_pixels(
            self.data.garment(self.data.pairs[index]), self.config.preprocess, self.pixels
        )

    def __getitem__(self, position: int) -> dict[str, torch.Tensor]:
        config, count = self.config, len(self.data)
        epoch, place = divmod(position, count)
        index = int(epoch_order(config.run.seed, epoch, count)[place])
        rng = random.Random(f"{config.run.seed} {position}")
        counts, captioned = config.garments, config.captioned
        if self._focus and rng.random() < config.focus_share:
            index = rng.choice(self._focus)
            counts, captioned = (0.0, *counts[1:]), 0.0
        pair = self.data.pairs[index]
        mirror = config.mirror and rng.random() < 0.5
        garments = rng.choices(range(self.most + 1), counts)[0]
        dropped = rng.random() < config.drop
        if dropped:
            rows, (ids, places) = [], self.prompts.empty()
        else:
            rows, (ids, places) = self._asked(rng, index, pair, garments, captioned)
        sample = {
            "ids": ids,
            "places": places,
            "garment_there": torch.arange(self.most) < len(rows),
            "dropped": torch.tensor(dropped),
        }
        if self.encoded is not None:
            row = index + mirror * count
            people = ("latents", "masked", "latent_mask", "pose")
            sample |= {name: self.encoded[name][row] for name in people}
            features = self.encoded["features"]
            sample["features"] = features.new_zeros(self.most, *features.shape[1:])
            for slot, garment in enumerate(rows):
                sample["features"][slot] = features[garment]
            return sample
        person = person_inputs(self.data, pair, config.size, self.mask_mode(index))[mirror]
        sample |= {name: person[name] for name in ("pixels", "masked", "latent_mask", "pose")}
        photos = torch.zeros(self.most, 3, self.pixels, self.pixels, dtype=torch.uint8)
        for slot, garment in enumerate(rows):
            photos[slot] = self.garment(garment)
        return sample | {"garment_pixels": photos}

    def _asked(
        self, rng: random.Random, index: int, pair: Pair, count: int, captioned: float
    ) -> tuple[list[int], tuple[torch.Tensor, torch.Tensor]]:
        """Choose up to `count` garments, as positions in the data, and a prompt: ids and places.

        captioned: probability that a caption stands before garments.
        """
        config = self.config
        if count and not (captioned and rng.random() < captioned):
            rows = own_first(index, self._found(pair, pair.chunks, count), count)
            return rows, self.prompts.garments(pair.category, len(rows))
        some = rng.choices((1, 2, 3), config.chunks)[0]
        chunks = rng.sample(pair.chunks, min(some, len(pair.chunks)))
        found = self._found(pair, chunks, count)
        if config.order == "own_first":
            rows = own_first(index, found, count)
        else:
            rows = as_retrieved(
                rng,
                index,
                found,
                count,
                own_left_out=config.own_left_out,
                in_catalogue=self._in_catalogue[pair.category],
                keep=config.keep,
            )
        text = caption(chunks)
        if rows:
            return rows, self.prompts.captioned(text, len(rows))
        return rows, self.prompts.caption(pair.category, text)

    def _found(self, pair: Pair, chunks: Collection[str], count: int) -> list[int]:
        if self.found is None or not count:
            return []
        return self.found(pair.category, caption(chunks))
