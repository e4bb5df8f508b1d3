"""The node that scores how similar a painted garment is to the photo it was painted from."""

from __future__ import annotations

from comfy_api.latest import io, ui
from PIL import Image

from ..adapter.garment.fidelity import best_picture, fidelity_line
from ..adapter.person.inpainting import THRESHOLD, fit_mask
from ..pictures.tensors import to_pictures
from . import sockets
from .references import check_garments
from .retrieve import CATEGORY


class GarmentFidelity(io.ComfyNode):
    """Scores pictures by how similar the painted garment is to the garments' photos."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="GarmentFidelity",
            display_name="Garment Fidelity",
            category=CATEGORY,
            description="Tell how near what was painted is to the garment's photo, and choose the "
            "best of several pictures, such as those of a batch of seeds.",
            search_aliases=["score", "best of", "compare", "similarity", "quality"],
            is_output_node=True,
            inputs=[
                io.Image.Input("images", tooltip="Painted pictures of one person: the candidates."),
                io.Mask.Input(
                    "mask",
                    tooltip="Where the garment is: best Garment Mask's garment of the painted "
                    "picture, else the inpainting mask. One a picture, or one for all.",
                ),
                sockets.Garments.Input(
                    "garments",
                    tooltip="What it should be. Of several, the nearest to a picture counts.",
                ),
                sockets.Index.Input("index", tooltip="Its encoder compares the pictures."),
            ],
            outputs=[
                io.Image.Output(display_name="best", tooltip="The picture of the highest score."),
                io.Float.Output(
                    display_name="score",
                    tooltip="Of the best picture, 0 to 1; the report has its parts.",
                ),
                io.String.Output(
                    display_name="report", tooltip="A line a picture with the parts of its score."
                ),
            ],
        )

    @classmethod
    def execute(cls, images, mask, garments, index) -> io.NodeOutput:
        check_garments(garments)
        pictures = to_pictures(images)
        masks = fit_mask(mask, (images.shape[1], images.shape[2])).cpu().numpy()
        if len(masks) not in (1, len(pictures)):
            raise ValueError(
                f"There are {len(pictures)} pictures and {len(masks)} masks: connect one mask for "
                "all, or one a picture."
            )
        empty = [number for number, one in enumerate(masks, 1) if not (one >= THRESHOLD).any()]
        if empty:
            raise ValueError(
                f"mask {empty[0]} of {len(masks)} is empty: it has to show where the garment is in "
                "the picture. See what the node that makes it found there."
            )
        photos = [
            photo if cut is None else _cut(photo, cut)
            for photo, cut in zip(garments.photos, garments.masks, strict=True)
        ]
        best, found = best_picture(
            pictures,
            list(masks) if len(masks) > 1 else [masks[0]] * len(pictures),
            photos,
            lambda some: index.encoder.encode_images(some).numpy(),
        )
        text = "\n".join(
            fidelity_line(f"picture {number + 1}", one, number == best)
            for number, one in enumerate(found)
        )
        return io.NodeOutput(
            images[best : best + 1], found[best].score, text, ui=ui.PreviewText(text)
        )


def _cut(photo: Image.Image, mask: Image.Image) -> Image.Image:
    photo = photo.convert("RGB")
    photo.putalpha(mask)
    return photo
