"""The graphs that the tests post: the main job, and parts of it."""

from __future__ import annotations

from fashion_rag.comfyui_server.client import Graph, Node

from .contract import PAPER_PROMPT

TEXT = "blue denim jacket with metal buttons"


class Dress(Graph):
    """From words to a dressed person; every stage is an attribute.

    Args:
        size: (width, height) the photo and its mask are scaled to; None keeps the photo's own.
        pose: POSE_KEYPOINT frames as JSON text.
    """

    def __init__(
        self,
        *,
        index: str = "openvto",
        model: str = "standin",
        text: str = TEXT,
        category: str = "any",
        top_k: int = 3,
        person: str = "1",
        size: tuple[int, int] | None = (192, 256),
        pose: str | None = None,
        noise_mask: bool = True,
    ):
        super().__init__()
        self.models = self.add("FashionRAGLoader", model_name=model)
        self.index = self.add("GarmentIndexLoader", index_name=index)
        self.found = self.retrieve(self.index, text, category, top_k)
        self.words = self.invert(garments=self.found[0])
        self.empty = self.add("CLIPTextEncode", clip=self.models[1], text="")
        self.photo = self.add("LoadImage", image=f"{person}.png")
        self.mask = self.add("LoadImageMask", image=f"{person}_mask.png", channel="red")
        if size:
            self.photo, self.mask = self.scaled(self.photo, self.mask, size)
        self.pose = self.add("ProbePose", frames=pose) if pose else None
        self.inputs = self.inpaint(self.photo, self.mask, noise_mask=noise_mask)

    def retrieve(self, index: Node, text: str, category: str = "any", top_k: int = 3) -> Node:
        return self.add(
            "TextGarmentRetrieve", index=index, text=text, category=category, top_k=top_k
        )

    def invert(self, prompt: str = PAPER_PROMPT, strength: float = 1.0, **optional) -> Node:
        return self.add(
            "GarmentTextualInversion",
            clip=self.models[1],
            clip_vision=self.models[3],
            adapter=self.models[4],
            prompt=prompt,
            strength=strength,
            preprocess="from adapter",
            **optional,
        )

    def scaled(self, photo: Node, mask: Node, size: tuple[int, int]) -> tuple[Node, Node]:
        width, height = size
        to = {"upscale_method": "area", "width": width, "height": height, "crop": "disabled"}
        picture = self.add("MaskToImage", mask=mask)
        picture = self.add("ImageScale", image=picture, **{**to, "upscale_method": "nearest-exact"})
        return (
            self.add("ImageScale", image=photo, **to),
            self.add("ImageToMask", image=picture, channel="red"),
        )

    def inpaint(self, photo: Node, mask: Node, noise_mask: bool = True, person: int = 0) -> Node:
        pose = {"pose": self.pose} if self.pose else {}
        return self.add(
            "FashionInpaintConditioning",
            positive=self.words,
            negative=self.empty,
            vae=self.models[2],
            image=photo,
            mask=mask,
            noise_mask=noise_mask,
            person=person,
            **pose,
        )

    def sample(self, seed: int = 1, steps: int = 1, model: Node | None = None, **changes) -> Node:
        inputs = {
            "model": model or self.models,
            "positive": self.inputs[0],
            "negative": self.inputs[1],
            "latent_image": self.inputs[2],
            "seed": seed,
            "steps": steps,
            "cfg": 7.5,
            "sampler_name": "ddim",
            "scheduler": "ddim_uniform",
            "denoise": 1.0,
        }
        return self.add("KSampler", **(inputs | changes))

    def finish(self, sampled: Node, feather: int = 8, prefix: str = "dressed") -> Node:
        """Decode, paste back and save; returns the node that saves."""
        decoded = self.add("VAEDecode", samples=sampled, vae=self.models[2])
        self.composite = self.add(
            "FashionComposite",
            original=self.photo,
            generated=decoded,
            mask=self.mask,
            feather=feather,
        )
        return self.add("SaveImage", images=self.composite, filename_prefix=prefix)


def build(
    index_name: str, catalogue: str = "openvto", overwrite: bool = False, batch_size: int = 32
) -> Graph:
    """A graph that builds an index with the stand-in's encoder."""
    graph = Graph()
    graph.add(
        "GarmentIndexBuild",
        catalogue=catalogue,
        encoder="standin",
        index_name=index_name,
        overwrite=overwrite,
        batch_size=batch_size,
    )
    return graph
