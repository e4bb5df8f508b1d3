"""The two painters of the demo: the headless pipeline, and a ComfyUI server."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..adapter.garment.prompts import PAPER_PROMPT
from ..adapter.headless.pipeline import FashionRAGPipeline
from ..adapter.person.cut_out import CONTEXT
from ..adapter.person.garment_mask import masks_from_labels
from ..adapter.person.mask_files import read_mask
from ..adapter.person.masks import GROWTH
from ..adapter.person.parsing import load_parser
from ..adapter.person.pose import photo_keypoints
from ..comfyui_server.client import RUN_SECONDS, Graph, Node
from ..comfyui_server.installations import Host, has_gpu, optional_packages
from ..comfyui_server.server import Server, link_or_copy
from ..miniature.trained import PARSER
from ..pictures.photos import open_photo
from ..retriever.encoders.open_clip import load_encoder
from ..retriever.photos.catalogue import Garment, read_catalogue
from ..retriever.search import search
from ..retriever.store.index import GarmentIndex
from ..retriever.upkeep.build import build_index
from .scene import Models, photo_of

NAME = "demo"
"""The name of the catalogue, its index, the models and the person inside ComfyUI."""
SEED, FEATHER, MASK_MODE = 0, 8, "mask"


@dataclass(frozen=True)
class Found:
    """A garment that was found.

    file: in the catalogue. score: cosine similarity.
    """

    file: str
    category: str
    caption: str
    score: float


class Headless:
    """Finds garments and paints in this process, with the retriever and the headless pipeline."""

    title = "without ComfyUI"

    def __init__(self, models: Models, catalogue: Path, folder: Path, say: Callable[[str], None]):
        self.models, self.catalogue, self.folder, self.say = models, catalogue, folder, say
        # The miniature takes a second on any machine, and looks the same everywhere on the CPU.
        gpu = torch.cuda.is_available() and models.full_size
        mps = torch.backends.mps.is_available() and models.full_size
        self.device = torch.device("cuda" if gpu else "mps" if mps else "cpu")
        self.dtype = torch.float16 if gpu else torch.float32

    def __enter__(self) -> Headless:
        return self

    def __exit__(self, *_) -> None:
        pass

    def find(self, text: str, category: str | None, count: int) -> list[Found]:
        """Build the index, and find the `count` best garments for a text."""
        folder = self.models.encoder or self.models.folder
        encoder = load_encoder(folder, self.device, self.dtype)
        report = build_index(self.catalogue, self.folder / "index", encoder)
        self.say(report.summary())
        index = GarmentIndex.open(self.folder / "index")
        (hits,) = search(index, encoder.encode_texts([text]), count, category)
        return [_found(hit.garment, hit.score) for hit in hits]

    def paint(
        self, text: str, worn: list[Found], person: Path, category: str
    ) -> tuple[Image.Image, Image.Image]:
        """Paint the person in the garments, best first; return picture and mask.

        The mask of what was repainted is a prepared person's own, or what the parser finds for the
        category.
        """
        models, photo = self.models, photo_of(person)
        categories = {garment.category for garment in worn}
        mask, pose = _mask(photo, person, category), person / "pose.json"
        pipeline = FashionRAGPipeline.from_pretrained(
            models.folder, device=self.device, dtype=self.dtype
        )
        picture = pipeline(
            photo,
            mask,
            [open_photo(self.catalogue / garment.file) for garment in worn],
            category=categories.pop() if len(categories) == 1 else "",
            caption=text,
            keypoints=photo_keypoints(pose, 0, photo.size) if pose.is_file() else None,
            steps=models.steps,
            guidance_scale=models.guidance,
            width=models.size[0],
            height=models.size[1],
            seed=SEED,
            feather=FEATHER,
        )
        return picture, mask


class InComfyUI:
    """Finds garments and paints with the pack's nodes, in a temporary ComfyUI server."""

    def __init__(
        self,
        host: Host,
        models: Models,
        catalogue: Path,
        folder: Path,
        say: Callable[[str], None],
        flags: tuple[str, ...] = (),
    ):
        self.title = f"in ComfyUI {host.version}"
        self.models, self.catalogue, self.say = models, catalogue, say
        # The pair of the models' own towers needs no package beside the host's.
        packages = optional_packages(host.python) if models.encoder else None
        gpu = models.full_size and has_gpu(host.python)
        self.server = Server(host, folder / "comfyui", packages, flags, gpu=gpu)
        # On a CPU, full-size models may take an hour.
        self.seconds = None if models.full_size else RUN_SECONDS
        given = {
            "models": models.folder,
            "encoders": models.encoder,
            "parsers": PARSER,
            "catalogues": catalogue,
        }
        for kind, source in given.items():
            if source is not None:
                (self.server.store / kind).mkdir(parents=True)
                link_or_copy(source.resolve(), self.server.store / kind / NAME)

    def __enter__(self) -> InComfyUI:
        self.client = self.server.start().client
        return self

    def __exit__(self, *_) -> None:
        self.server.stop()

    def find(self, text: str, category: str | None, count: int) -> list[Found]:
        """Build the index inside ComfyUI, and find the `count` best garments for a text."""
        graph = DemoGraph(self.models, text, category, count)
        shown = graph.add("PreviewAny", source=graph.found[2])
        result = self.client.run(graph, self.seconds)
        self.say(self.client.text(result, graph.index))
        known = {garment.file: garment for garment in read_catalogue(self.catalogue).garments}
        found = []
        for line in self.client.text(result, shown).splitlines():
            # "0.4321  FILE  CAPTION"; a note on what was searched may follow.
            score, _, rest = line.partition("  ")
            file = next((f for f in known if rest == f or rest.startswith(f"{f}  ")), None)
            if file is not None:
                found.append(_found(known[file], float(score)))
        return found

    def paint(
        self, text: str, worn: list[Found], person: Path, category: str
    ) -> tuple[Image.Image, Image.Image]:
        """Paint the person in the garments, best first; return picture and mask.

        The mask of what was repainted is a prepared person's own, or what the parser finds for the
        category.
        """
        prepared = (person / "mask.png").is_file()
        if prepared:
            shutil.copytree(person, self.server.store / "people" / NAME, dirs_exist_ok=True)
        else:
            photo_of(person).save(self.server.base / "input" / f"{NAME}.png")
        categories = {garment.category for garment in worn}
        searched = categories.pop() if len(categories) == 1 else None
        graph = DemoGraph(self.models, text, searched, len(worn))
        saved, masked = graph.paint(None if prepared else category)
        result = self.client.run(graph, self.seconds)
        (picture,), (mask,) = (self.client.images(result, node) for node in (saved, masked))
        return Image.fromarray(picture), Image.fromarray(mask).convert("L")


class DemoGraph(Graph):
    """The demo's graph in API form: index and search; `paint` adds the rest."""

    def __init__(self, models: Models, text: str, category: str | None, count: int):
        super().__init__()
        self.sampling = models
        self.models = self.add("FashionRAGLoader", model_name=NAME)
        towers = {"clip": self.models[1], "clip_vision": self.models[3]}
        self.index = self.add(
            "GarmentIndexBuild",
            catalogue=NAME,
            encoder=NAME if models.encoder else "host",
            index_name=NAME,
            overwrite=True,
            batch_size=32,
            **({} if models.encoder else towers),
        )
        self.found = self.add(
            "TextGarmentRetrieve",
            index=self.index,
            text=text,
            category=category or "any",
            top_k=count,
        )

    def paint(self, parsed: str | None) -> tuple[Node, Node]:
        """Add all after the search; return the nodes that save the picture and show the mask.

        Args:
            parsed: the category that the parser is to find the mask of; None for a person who was
                prepared, with mask and pose.
        """
        models = self.models
        words = self.add(
            "GarmentTextualInversion",
            clip=models[1],
            clip_vision=models[3],
            adapter=models[4],
            prompt=PAPER_PROMPT,
            strength=1.0,
            preprocess="from adapter",
            garments=self.found[0],
        )
        if parsed is None:
            person = self.add("FashionPersonLoader", person_name=NAME)
            photo, mask, pose = person[0], person[1], {"pose": person[2]}
        else:
            photo, pose = self.add("LoadImage", image=f"{NAME}.png")[0], {}
            mask = self.garment_mask(photo, parsed)
        width, height = self.sampling.size
        framed = self.add(
            "FashionFrame",
            image=photo,
            mask=mask,
            width=width,
            height=height,
            context=CONTEXT,
            person=0,
            **pose,
        )
        inputs = self.add(
            "FashionInpaintConditioning",
            positive=words[0],
            negative=self.add("CLIPTextEncode", clip=models[1], text=""),
            vae=models[2],
            image=framed[0],
            mask=framed[1],
            noise_mask=False,
            person=0,
            **({"pose": framed[2]} if pose else {}),
        )
        latents = self.add(
            "KSampler",
            model=models[0],
            positive=inputs[0],
            negative=inputs[1],
            latent_image=inputs[2],
            seed=SEED,
            steps=self.sampling.steps,
            cfg=self.sampling.guidance,
            sampler_name="ddim",
            scheduler="ddim_uniform",
            denoise=1.0,
        )
        picture = self.add(
            "FashionComposite",
            original=photo,
            generated=self.add("VAEDecode", samples=latents, vae=models[2]),
            mask=mask,
            feather=FEATHER,
            frame=framed[3],
        )
        shown = self.add("PreviewImage", images=self.add("MaskToImage", mask=mask))
        return self.add("SaveImage", images=picture, filename_prefix=NAME), shown

    def garment_mask(self, photo: list, category: str) -> list:
        """Add the nodes that find a category's mask on a photo, and return the last one."""
        parser = self.add("HumanParserLoader", parser_name=NAME)
        labels = self.add("HumanParse", parser=parser, image=photo)
        masks = self.add(
            "GarmentMask",
            image=photo,
            category=category,
            mode=MASK_MODE,
            grow=GROWTH,
            person=0,
            labels=labels,
        )
        return masks[0]


def _mask(photo: Image.Image, person: Path, category: str) -> Image.Image:
    """Return a prepared person's own mask, or what the parser finds on the photo."""
    own = person / "mask.png"
    if own.is_file():
        values = read_mask(own, photo.size)
        return Image.fromarray((values * 255).round().astype(np.uint8))
    masks = masks_from_labels(load_parser(PARSER).labels_of(photo), category, MASK_MODE)
    if not masks.mask.any():
        raise ValueError(f"The parser finds nothing to repaint: {'; '.join(masks.notes)}.")
    return Image.fromarray(masks.mask).convert("L")


def _found(garment: Garment, score: float) -> Found:
    return Found(garment.file, garment.category, garment.caption, score)
