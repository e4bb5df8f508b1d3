"""Stage `clip`: the retrieval CLIP, and with it the text encoder and the vision tower.

It trains open_clip's model by its own loss on (in-shop photo, caption). Beside it, through heads
that are dropped afterwards: with `worn_weight`, the same loss on (in-shop photo, worn garment)
(SLIP, arXiv 2112.12750), which makes the vision tower keep what captions leave out; with
`words_weight`, the caption's words as classes (SuperClass, arXiv 2411.03313), which shows a tower
that begins from nothing what to look at, in far fewer steps than small batches of negatives do.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from accelerate import PartialState
from open_clip.loss import ClipLoss
from PIL import Image, ImageColor, ImageOps
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset
from tqdm import tqdm

from ..adapter.garment.checkpoints import write_safetensors
from ..adapter.garment.garment_images import garment_pixels
from ..files import write_text
from ..pictures.clip_pixels import CLIP_MEAN, CLIP_STD
from ..pictures.contact_sheet import contact_sheet
from ..retriever.encoders.open_clip import CONFIG, WEIGHTS, load_encoder
from .config import Run, check_shares
from .dresscode import DressCode, Pair, caption
from .loop import Task
from .towers import check_towers, save_towers

VIEWS = ("whole", "fit")


@dataclass(frozen=True)
class Clip:
    """The configuration of the stage `clip`."""

    run: Run
    model: dict[str, Any] = field(default_factory=dict)
    """open_clip's `model_cfg`: an untrained model of these sizes."""
    encoder: str = ""
    """An encoder folder to go on from, instead of `model`."""
    worn_weight: float = 0.5
    worn_share: float = 1.0
    """Part of each batch whose worn garment is seen: it costs twice as much as the photo."""
    recolour: bool = False
    """Show photo and worn garment in changed colours, so that pattern and cut must be learned."""
    words_weight: float = 0.0
    by_category: bool = False
    """Make batches of one category each, as an index is searched: negatives are harder."""
    chunks: tuple[float, ...] = (0.2, 0.2, 0.6)
    """Probability of captions of 1, 2, 3 noun chunks."""
    locked: bool = False
    """Train the text tower and the projections alone, against the vision tower as it is (LiT,
    arXiv 2111.07991): far cheaper, since every photo is encoded once."""
    cards: dict[str, str] = field(default_factory=dict)
    """Names and colours of flat cards that are seen beside garments."""
    cards_share: float = 0.0
    cache: bool = False
    """Keep decoded photos in memory, of each process that loads data."""

    @property
    def worn_count(self) -> int:
        """How many samples at the head of each batch have their worn garment seen."""
        return math.ceil(self.worn_share * self.run.batch_size) if self.worn_weight else 0

    def __post_init__(self) -> None:
        if bool(self.model) == bool(self.encoder):
            raise ValueError("give either [model], open_clip's model_cfg, or `encoder`, a folder.")
        check_shares("chunks", self.chunks, 3)
        if not 0 <= self.worn_share <= 1:
            raise ValueError(f"worn_share is {self.worn_share}; expected 0 to 1.")
        if not 0 <= self.cards_share <= 1 or (self.cards_share and not self.cards):
            raise ValueError(
                f"cards_share is {self.cards_share} with {len(self.cards)} cards; expected 0 to 1, "
                "and 0 without [cards]."
            )


class ClipTask(Task):
    """Trains an open_clip CLIP on in-shop photos and captions, with the losses named above."""

    def __init__(self, config: Clip, data: Path, device: torch.device | str = "cpu"):
        super().__init__()
        self.config = config
        self.settings, self.clip = _model(config)
        if config.run.gradient_checkpointing:
            self.clip.set_grad_checkpointing()
        preprocess = self.settings["preprocess_cfg"]
        self.register_buffer("mean", torch.tensor(preprocess["mean"]).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(preprocess["std"]).view(3, 1, 1))
        self.size = self.clip.visual.image_size
        self.size = self.size if isinstance(self.size, int) else self.size[0]
        width = self.clip.visual.ln_post.normalized_shape[0]
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 128))
        self.worn_scale = nn.Parameter(torch.tensor(2.6593))
        processes = PartialState()
        # Each process's own samples, against those of all.
        self.clip_loss = ClipLoss(
            local_loss=True,
            gather_with_grad=True,
            cache_labels=True,
            rank=processes.process_index,
            world_size=processes.num_processes,
        )
        need = ("photos", "garments", "labels")
        longest = self.clip.positional_embedding.shape[0]
        self.stream = ClipStream(DressCode(data, need=need), config, self.size, longest)
        self.held_out = DressCode(data, "paired", need=("garments",))
        rarity = self.stream.rarity(self.clip.vocab_size)
        self.register_buffer("rarity", rarity, persistent=False)
        # Only tokens that captions have are classes.
        self.register_buffer("classes", torch.cumsum(rarity > 0, 0) - 1, persistent=False)
        self.words_head = nn.Linear(width, int((rarity > 0).sum()))
        self._pooled = None
        self.clip.visual.ln_post.register_forward_hook(self._keep)
        if config.locked:
            self.to(device)
            self._lock()

    def _keep(self, module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        self._pooled = output if output.ndim == 2 else output[:, 0]

    def _lock(self) -> None:
        """Freeze the vision tower, and encode all photos in all views, as they are and moved."""
        self.clip.visual.requires_grad_(False)
        self.clip.visual.proj.requires_grad_(True)
        self.head.requires_grad_(False)
        self.words_head.requires_grad_(False)
        self.worn_scale.requires_grad_(False)
        pairs = self.stream.data.pairs
        pooled = []
        for start in tqdm(range(0, len(pairs), 64), desc="encoding garments"):
            photos = [self.stream.data.garment(pair) for pair in pairs[start : start + 64]]
            views = []
            for view in VIEWS:
                pixels = torch.stack([tower_pixels(photo, view, self.size) for photo in photos])
                for moved in (False, True):
                    self.train(moved)
                    with torch.no_grad():
                        self.clip.encode_image(self._pixels(pixels.to(self.mean.device)))
                    views.append(self._pooled.half().cpu())
            pooled.append(torch.stack(views, dim=1))
        self.stream.pooled = torch.cat(pooled)

    def forward(self, batch):
        if "pooled" in batch:
            images = functional.normalize(batch["pooled"].float() @ self.clip.visual.proj, dim=-1)
            texts = self._texts(batch["tokens"])
            loss = self.clip_loss(images, texts, self.clip.logit_scale.exp().clamp(max=100))
            return loss, {"words": loss.detach()}
        photos = self._pixels(batch["garment"])
        images = functional.normalize(self.clip.encode_image(photos), dim=-1)
        pooled = self._pooled
        texts = self._texts(batch["tokens"])
        loss = words = self.clip_loss(images, texts, self.clip.logit_scale.exp().clamp(max=100))
        figures = {"words": words.detach()}
        if self.config.words_weight:
            named = self._words_loss(pooled, batch["tokens"])
            loss = loss + self.config.words_weight * named
            figures["named"] = named.detach()
        if count := self.config.worn_count:
            views = torch.cat([batch["garment"][:count], batch["worn"][:count]])
            if self.config.recolour and self.training:
                views = recoloured(views)
            self.clip.encode_image(self._pixels(views))
            own, worn = functional.normalize(self.head(self._pooled), dim=-1).chunk(2)
            seen = self.clip_loss(own, worn, self.worn_scale.exp().clamp(max=100))
            loss = loss + self.config.worn_weight * seen
            figures["worn"] = seen.detach()
        return loss, figures

    def _words_loss(self, pooled: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Compute cross entropy with the caption's words, a word weighing more the rarer it is."""
        logits = self.words_head(pooled).float()
        weights = self.rarity[tokens]
        target = torch.zeros_like(logits).scatter_reduce(
            1, self.classes[tokens].clamp(min=0), weights, "amax"
        )
        target = target / target.sum(dim=1, keepdim=True).clamp(min=1e-6)
        return -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()

    def _texts(self, tokens: torch.Tensor) -> torch.Tensor:
        """Encode tokens (n, t) to unit embeddings, t as short as the longest caption allows."""
        length = tokens.shape[1]
        short = {
            "positional_embedding": self.clip.positional_embedding[:length],
            "attn_mask": self.clip.attn_mask[:length, :length],
        }
        return torch.func.functional_call(self.clip, short, (None, tokens))[1]

    def _pixels(self, images: torch.Tensor) -> torch.Tensor:
        """Normalise uint8 (n, 3, s, s), a little moved, scaled and mirrored."""
        pixels = images.float() / 255
        if self.training:
            count = len(pixels)
            scale = torch.empty(count).uniform_(0.85, 1.1)
            mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
            matrix = torch.zeros(count, 2, 3)
            matrix[:, 0, 0], matrix[:, 1, 1] = scale * mirror, scale
            matrix[:, :, 2].uniform_(-0.1, 0.1)
            grid = functional.affine_grid(matrix.to(pixels.device), pixels.shape, False)
            pixels = functional.grid_sample(
                pixels, grid, padding_mode="border", align_corners=False
            )
        return (pixels - self.mean) / self.std

    @torch.no_grad()
    def embed(self, data: DressCode, pairs: list[Pair]) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute unit embeddings of in-shop photos and of their whole captions."""
        images, texts = [], []
        for start in range(0, len(pairs), 64):
            some = pairs[start : start + 64]
            photos = torch.stack(
                [tower_pixels(data.garment(pair), "whole", self.size) for pair in some]
            )
            images.append(self.clip.encode_image(self._pixels(photos.to(self.mean.device))))
            words = self.stream.tokenize([caption(pair.chunks) for pair in some])
            texts.append(self._texts(words.to(self.mean.device)))
        return tuple(
            functional.normalize(torch.cat(part).float(), dim=-1) for part in (images, texts)
        )

    def recall(self, k: int = 1) -> dict[str, float]:
        """Compute recall@k of the held-out garments' captions, in the index of their category."""
        found = {}
        for category in sorted({pair.category for pair in self.held_out.pairs}):
            pairs = [pair for pair in self.held_out.pairs if pair.category == category]
            images, texts = self.embed(self.held_out, pairs)
            ranks = (texts @ images.T).topk(min(k, len(pairs))).indices
            own = torch.arange(len(pairs), device=ranks.device)[:, None]
            found[category] = (ranks == own).any(dim=1).float().mean().item()
        return found

    def preview(self) -> Image.Image:
        """Draw the garments found for eight held-out captions, with the recall in the title."""
        recall = self.recall()
        category = self.held_out.pairs[0].category
        pairs = [pair for pair in self.held_out.pairs if pair.category == category]
        images, texts = self.embed(self.held_out, pairs)
        tiles = []
        for row in range(0, min(8, len(pairs))):
            for found in (texts[row] @ images.T).topk(min(3, len(pairs))).indices.tolist():
                words = caption(pairs[row].chunks) + (" (own)" if found == row else "")
                tiles.append((self.held_out.garment(pairs[found]), words))
        title = ", ".join(f"{name} recall@1 {value:.3f}" for name, value in recall.items())
        return contact_sheet(tiles, columns=6, title=title)

    def export(self, folder: Path) -> None:
        """Write `encoder/` in open_clip's format, and both towers in transformers'."""

        encoder = folder / "encoder"
        encoder.mkdir(parents=True, exist_ok=True)
        weights = {n: t.detach().cpu().half() for n, t in self.clip.state_dict().items()}
        write_safetensors(weights, encoder / WEIGHTS)
        write_text(encoder / CONFIG, json.dumps(self.settings, indent=2))
        save_towers(self.clip, self.settings["model_cfg"], folder)
        figures = {f"recall@{k}": self.recall(k) for k in (1, 3, 5, 10)}
        write_text(folder / "recall.json", json.dumps(figures, indent=2))


def _model(config: Clip) -> tuple[dict[str, Any], open_clip.CLIP]:
    """Return the encoder folder's configuration, as it is written out again, and its model."""
    if config.encoder:
        folder = Path(config.encoder)
        # Says what is missing or doesn't fit; on the CPU, in float32.
        clip = load_encoder(folder).model.requires_grad_(True)
        if not isinstance(clip, open_clip.CLIP):
            raise ValueError(
                f"encoder {folder} holds a {type(clip).__name__}; only CLIP models with a Vision "
                "Transformer and open_clip's own text tower can be trained here."
            )
        settings = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    else:
        cfg = {
            "mean": CLIP_MEAN,
            "std": CLIP_STD,
            "interpolation": "bicubic",
            "resize_mode": "longest",
        }
        cfg["fill_color"] = 255  # as in training; open_clip's own is black
        settings = {"model_cfg": config.model, "preprocess_cfg": cfg}
        try:
            clip = open_clip.CLIP(**config.model)
        except (TypeError, KeyError, AssertionError) as error:
            raise ValueError(f"[model] is no model_cfg of open_clip's: {error}") from error
    check_towers(clip, settings["model_cfg"])
    return settings, clip


class ClipStream(Dataset):
    """Samples by position: in-shop photo, worn garment, and tokens of a caption.

    Photos are uint8 (3, s, s), tokens int64 (t,).
    """

    def __init__(self, data: DressCode, config: Clip, size: int, longest: int):
        self.data, self.config, self.size = data, config, size
        self._batches: dict[int, np.ndarray] = {}
        self._categories = np.array([pair.category for pair in data.pairs])
        self._tokenizer = open_clip.SimpleTokenizer()
        text = max((caption(pair.chunks) for pair in data.pairs), key=len)
        # Padding costs as much as words do; the causal mask makes it invisible.
        self.length = min(int((self._tokenizer([text])[0] != 0).sum()) + 8, longest)
        # One block: thousands of small tensors would keep the heap from being reused.
        kept = len(data) if config.cache else 0
        self._kept = torch.empty(kept, len(VIEWS) + 1, 3, size, size, dtype=torch.uint8)
        self._known = torch.zeros(kept, len(VIEWS) + 1, dtype=torch.bool)
        self.pooled: torch.Tensor | None = None

    def __getitem__(self, position: int) -> dict[str, torch.Tensor]:
        rng = random.Random(f"{self.config.run.seed} {position}")
        worn = position % self.config.run.batch_size < self.config.worn_count
        if self.pooled is None and rng.random() < self.config.cards_share:
            name, colour = rng.choice(sorted(self.config.cards.items()))
            shift = np.array([rng.uniform(-20, 20) for _ in range(3)])
            flat = np.clip(np.array(ImageColor.getrgb(colour)) + shift, 0, 255).astype(np.uint8)
            card = torch.from_numpy(flat).view(3, 1, 1).expand(3, self.size, self.size)
            text = rng.choice(("the color {}", "{}")).format(name)
            return {"garment": card, "worn": card, "tokens": self.tokenize([text])[0]}
        index = self._index(position)
        pair = self.data.pairs[index]
        count = rng.choices((1, 2, 3), self.config.chunks)[0]
        chunks = rng.sample(pair.chunks, min(count, len(pair.chunks)))
        tokens = self.tokenize([caption(chunks)])[0]
        if self.pooled is not None:
            view = rng.randrange(self.pooled.shape[1])
            return {"pooled": self.pooled[index, view], "tokens": tokens}
        garment = self._view(index, rng.randrange(len(VIEWS)))
        seen = self._view(index, len(VIEWS)) if worn else torch.zeros_like(garment)
        return {"garment": garment, "worn": seen, "tokens": tokens}

    def _index(self, position: int) -> int:
        """Return the pair at a position of the endless stream."""
        size, seed = self.config.run.batch_size, self.config.run.seed
        if not self.config.by_category or len(self.data) < size:
            epoch, place = divmod(position, len(self.data))
            return int(epoch_order(seed, epoch, len(self.data))[place])
        # Whole batches only, so that each one is cut from a single category's.
        batch, place = divmod(position, size)
        epoch, batch = divmod(batch, len(self.data) // size)
        if epoch not in self._batches:
            order = epoch_order(seed, epoch, len(self.data))
            order = order[np.argsort(self._categories[order], kind="stable")]
            whole = order[: len(order) // size * size].reshape(-1, size)
            self._batches = {epoch: np.random.default_rng((seed, epoch, 1)).permutation(whole)}
        return int(self._batches[epoch][batch, place])

    def rarity(self, vocabulary: int) -> torch.Tensor:
        """Compute the log of (captions / those with the token) by token, float32; 0 for none."""
        counts: Counter[int] = Counter()
        for pair in self.data.pairs:
            counts.update(set(self._tokenizer.encode(caption(pair.chunks))))
        rarity = torch.zeros(vocabulary)
        for token, count in counts.items():
            rarity[token] = math.log(len(self.data) / count)
        return rarity

    def tokenize(self, texts: list[str]) -> torch.Tensor:
        """Tokenize texts to int64 (n, t)."""
        return self._tokenizer(texts, context_length=self.length)

    def _view(self, index: int, number: int) -> torch.Tensor:
        """Read the in-shop photo in one of `VIEWS`, or after these the worn garment."""
        if self.config.cache and self._known[index, number]:
            return self._kept[index, number]
        pair = self.data.pairs[index]
        if number == len(VIEWS):
            found = tower_pixels(worn_garment(self.data, pair), "whole", self.size)
        else:
            found = tower_pixels(self.data.garment(pair), VIEWS[number], self.size)
        if self.config.cache:
            self._kept[index, number] = found
            self._known[index, number] = True
        return found


_orders: dict[tuple[int, int, int], np.ndarray] = {}


def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """Draw the order of the samples in an epoch, (count,); the same for a seed everywhere."""
    key = (seed, epoch, count)
    if key not in _orders:
        _orders.clear()
        _orders[key] = np.random.default_rng((seed, epoch)).permutation(count)
    return _orders[key]


def tower_pixels(photo: Image.Image, view: str, size: int) -> torch.Tensor:
    """Fit a photo into the vision tower's square, in one of `VIEWS`; uint8 (3, size, size)."""
    pixels = torch.from_numpy(np.array(photo.convert("RGB"))).float()[None] / 255
    return (garment_pixels(pixels, view, size)[0] * 255).round().byte().permute(2, 0, 1)


def recoloured(images: torch.Tensor) -> torch.Tensor:
    """Change the colours of uint8 (n, 3, h, w): channels permuted and bent; white stays white."""
    count = len(images)
    order = torch.rand(count, 3).argsort(dim=1)
    bend = torch.empty(count, 3, 1, 1).uniform_(-0.7, 0.7).exp()
    rows = torch.arange(count)[:, None].to(images.device)
    mixed = images[rows, order.to(images.device)].float() / 255
    return (mixed ** bend.to(images.device) * 255).round().byte()


def worn_garment(data: DressCode, pair: Pair) -> Image.Image:
    """Cut the garment's own pixels out of the model photo, on white."""
    photo, labels = data.photo(pair), data.labels(pair)
    mask = Image.fromarray(255 * data.mask(pair, labels, None, "mask"))
    mask = mask.resize(photo.size, Image.Resampling.NEAREST)
    cut = Image.composite(photo, Image.new("RGB", photo.size, "white"), mask)
    return ImageOps.expand(cut.crop(mask.getbbox()), 4, "white")
