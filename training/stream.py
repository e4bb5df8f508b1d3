"""The samples of the stages `fashion_rag` and `adapter`, each a function of its position."""

from __future__ import annotations

import random

import torch
from torch.utils.data import Dataset

from .clip import epoch_order, tower_pixels
from .dresscode import DressCode, caption
from .fashion_rag_config import FashionRag
from .samples import Prompts, person_inputs, sample_garments, sample_mask_mode


class PairStream(Dataset):
    """Samples by position: a person, garments picked at random for them, and the prompt."""

    def __init__(self, data: DressCode, config: FashionRag, found, prompts: Prompts, tower):
        self.data, self.config, self.found, self.prompts = data, config, found, prompts
        self.pixels = tower.config.image_size
        self.encoded: dict[str, torch.Tensor] | None = None
        self.most = len(config.garments) - 1

    def mask_mode(self, index: int) -> str:
        """The mask mode of the pair at `index`, the same in every epoch."""
        return sample_mask_mode(random.Random(f"mask {index}"), self.config.masks)

    def garment(self, index: int) -> torch.Tensor:
        """The in-shop photo of the pair at `index` for the vision tower, (3, s, s) uint8."""
        return tower_pixels(
            self.data.garment(self.data.pairs[index]), self.config.preprocess, self.pixels
        )

    def __getitem__(self, position: int) -> dict[str, torch.Tensor]:
        config, count = self.config, len(self.data)
        epoch, place = divmod(position, count)
        index = int(epoch_order(config.run.seed, epoch, count)[place])
        rng = random.Random(f"{config.run.seed} {position}")
        pair = self.data.pairs[index]
        mirror = config.mirror and rng.random() < 0.5
        rows = sample_garments(rng, index, self.found[index].tolist(), config.garments)
        dropped = rng.random() < config.drop
        if dropped:
            rows = []
            ids, places = self.prompts.empty()
        elif rows:
            ids, places = self.prompts.garments(pair.category, len(rows))
        else:
            some = rng.choices((1, 2, 3), config.chunks)[0]
            chunks = rng.sample(pair.chunks, min(some, len(pair.chunks)))
            ids, places = self.prompts.caption(pair.category, caption(chunks))
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
