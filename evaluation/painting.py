"""Paint every column's pictures, in batches, each sample's inputs encoded once.

A picture depends on its sample, its condition and the seed alone, not on the batch: columns that
give a sample the same condition share one picture, and an interrupted run goes on with what is
missing.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from PIL import Image

from ..adapter.garment.prompts import category_words, split_prompt
from ..adapter.headless.pipeline import FashionRAGPipeline, vae_parts
from ..adapter.person.framing import to_picture
from ..adapter.person.inpainting import CELL
from ..adapter.person.masks import MODES
from ..adapter.person.parsing import HumanParser
from ..files import atomic_file
from .dresscode import Sample, load_scene


@dataclass(frozen=True)
class Condition:
    """What a sample is painted from: a prompt with its caption filled in, garment photos, and
    whether a human parser makes the mask."""

    prompt: tuple[str, ...]
    garments: tuple[Path, ...]
    parsed: bool = False

    @classmethod
    def of(
        cls,
        template: str,
        category: str,
        caption: str,
        garments: Sequence[Path],
        parsed: bool = False,
    ) -> Condition:
        """Fill a template (see adapter/garment/prompts.py) in for a sample."""
        words = category_words([category])
        return cls(tuple(split_prompt(template, words, caption)), tuple(garments), parsed)


@dataclass(frozen=True)
class Sampling:
    """How pictures are sampled. size: height and width in pixels, multiples of 8. mask: the mode
    of the inpainting masks."""

    size: tuple[int, int]
    mask: str = MODES[0]
    steps: int = 50
    guidance_scale: float = 7.5
    seed: int = 0
    batch_size: int = 8


@dataclass(frozen=True)
class _Job:
    """A picture to paint and the files to write it to."""

    channels: torch.Tensor
    pose: torch.Tensor
    noise: torch.Tensor
    context: torch.Tensor
    files: tuple[Path, ...]


class Painter:
    """Paints samples with a pipeline; garment photos and prompts are encoded once."""

    def __init__(
        self,
        pipeline: FashionRAGPipeline,
        sampling: Sampling,
        open_photo: Callable[[Path], Image.Image],
        parser: HumanParser | None = None,
    ):
        height, width = sampling.size
        if height % CELL or width % CELL:
            raise ValueError(f"height x width is {height}x{width}, expected multiples of {CELL}.")
        self.pipeline, self.sampling, self._open_photo = pipeline, sampling, open_photo
        self.parser = parser
        self._words = lru_cache(maxsize=8192)(self._pseudo_words)

    @torch.no_grad()
    def paint(
        self,
        samples: Sequence[Sample],
        wanted: Callable[[Sample], Mapping[Condition, Sequence[Path]]],
        advance: Callable[[int], None] = lambda count: None,
    ) -> None:
        """Write the pictures that `wanted` names and that are not there yet.

        Args:
            wanted: for a sample its conditions, and the files that a condition's picture goes to.
            advance: called with how many more files are ready; it may raise to stop.
        """
        for jobs in _batched(self._jobs(samples, wanted, advance), self.sampling.batch_size):
            pictures = self._paint(jobs)
            for job, picture in zip(jobs, pictures, strict=True):
                _save(to_picture(picture[None]), job.files)
                advance(len(job.files))

    @torch.no_grad()
    def round_trips(
        self,
        samples: Sequence[Sample],
        file_of: Callable[[Sample], Path],
        advance: Callable[[int], None] = lambda count: None,
    ) -> None:
        """Write the samples' photos as the VAE gives them back, where they are not there yet."""
        missing = [sample for sample in samples if not file_of(sample).is_file()]
        for start in range(0, len(missing), self.sampling.batch_size):
            part = missing[start : start + self.sampling.batch_size]
            photos = torch.stack([load_scene(s, self.sampling.size).photo for s in part])
            for sample, picture in zip(part, round_trip(self.pipeline.vae, photos), strict=True):
                _save(to_picture(picture[None]), [file_of(sample)])
            advance(len(part))

    def _jobs(self, samples, wanted, advance) -> Iterator[_Job]:
        for sample in samples:
            missing = {}
            for condition, files in wanted(sample).items():
                there = [file for file in files if file.is_file()]
                left = tuple(file for file in files if not file.is_file())
                if there and left:
                    with Image.open(there[0]) as picture:
                        _save(picture, left)
                    advance(len(left))
                elif left:
                    missing[condition] = left
            if missing:
                yield from self._encoded(sample, missing)

    def _encoded(self, sample: Sample, missing: Mapping[Condition, tuple[Path, ...]]):
        pipeline, size = self.pipeline, self.sampling.size
        scene = load_scene(sample, size, self.sampling.mask)
        scenes = {False: scene}
        if any(condition.parsed for condition in missing):
            scenes[True] = load_scene(sample, size, self.sampling.mask, self.parser)
        channels = {
            parsed: pipeline.inpainting_channels(one.photo[None], one.mask[None])
            for parsed, one in scenes.items()
        }
        pose = pipeline.pose_channels(scene.keypoints, size)
        seed = zlib.crc32(f"{self.sampling.seed} {sample.category} {sample.person}".encode())
        noise = torch.randn(
            (1, pipeline.vae.config.latent_channels, size[0] // CELL, size[1] // CELL),
            generator=torch.Generator().manual_seed(seed),
        ).to(pipeline.device, pipeline.dtype)
        for condition, files in missing.items():
            garments = [self._words(path) for path in condition.garments]
            context = pipeline.encode_prompt(condition.prompt, garments)
            yield _Job(channels[condition.parsed], pose, noise, context, files)

    def _pseudo_words(self, path: Path) -> torch.Tensor:
        return self.pipeline.pseudo_words([self._open_photo(path)])[0]

    def _paint(self, jobs: Sequence[_Job]) -> torch.Tensor:
        """Paint pictures (b, H, W, 3) float32 in 0..1."""
        latents = self.pipeline.denoise(
            *(
                torch.cat([getattr(job, name) for job in jobs])
                for name in ("noise", "channels", "pose", "context")
            ),
            steps=self.sampling.steps,
            guidance_scale=self.sampling.guidance_scale,
        )
        return self.pipeline.decode(latents)


@torch.no_grad()
def round_trip(vae: torch.nn.Module, photos: torch.Tensor) -> torch.Tensor:
    """Encode photos (b, H, W, 3) in 0..1 by a VAE and decode them; float32 on the CPU."""
    pixels = photos.movedim(-1, 1).contiguous().to(vae.device, vae.dtype)
    parts = [vae.encode(part).latent_dist.mode() for part in vae_parts(pixels * 2 - 1)]
    decoded = torch.cat([vae.decode(part).sample for part in parts])
    return (decoded.float() / 2 + 0.5).clamp(0, 1).movedim(1, -1).cpu()


def _batched(jobs: Iterable[_Job], size: int) -> Iterator[list[_Job]]:
    """Collect jobs whose contexts are equally long in batches."""
    waiting: dict[int, list[_Job]] = {}
    for job in jobs:
        batch = waiting.setdefault(job.context.shape[1], [])
        batch.append(job)
        if len(batch) == size:
            yield batch
            waiting[job.context.shape[1]] = []
    yield from (batch for batch in waiting.values() if batch)


def _save(picture: Image.Image, files: Sequence[Path]) -> None:
    for file in files:
        with atomic_file(file) as part:
            picture.save(part, format="PNG")
