"""The nodes that load and patch models: inpainting U-Net, prompt depth, whole model folders."""

from __future__ import annotations

import node_helpers
from comfy_api.latest import io

from ..adapter.headless.depth import parse_levels
from . import sockets
from .host import folders
from .host.model_folder import load_model_folder
from .host.unet import (
    GARMENT_CONTEXT_KEY,
    WEIGHT_DTYPES,
    load_unet_named,
    states_of_unets,
    unet_names,
    with_prompt_depth,
)

CATEGORY = "FashionRAG/models"


class FashionUNetLoader(io.ComfyNode):
    """Loads the 27-channel U-Net of Fashion-RAG, or a 9-channel inpainting one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FashionUNetLoader",
            display_name="Fashion U-Net Loader",
            category=CATEGORY,
            description="Load the 27-channel U-Net of Fashion-RAG, or any 9-channel SD inpainting "
            "U-Net. The official weights are CC BY-NC 4.0 (non-commercial).",
            search_aliases=["load diffusion model", "unet loader", "fashion rag unet"],
            inputs=[
                io.Combo.Input(
                    "unet_name",
                    options=unet_names(),
                    tooltip="A file in models/diffusion_models: .pth or .safetensors, in diffusers "
                    "or LDM names. The official Fashion-RAG U-Net is non-commercial.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(WEIGHT_DTYPES),
                    default="default",
                    advanced=True,
                    tooltip="How weights are kept in memory, as in the stock loader.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="For KSampler.")],
        )

    @classmethod
    def fingerprint_inputs(cls, unet_name=None, weight_dtype=None) -> list:
        return states_of_unets(unet_name)

    @classmethod
    def execute(cls, unet_name, weight_dtype) -> io.NodeOutput:
        return io.NodeOutput(load_unet_named(unet_name, weight_dtype))


class FashionPromptDepth(io.ComfyNode):
    """Gives pseudo-words to chosen depths of the U-Net and the caption to the others."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FashionPromptDepth",
            display_name="Fashion Prompt Depth",
            category=CATEGORY,
            description="Let only chosen depths of the U-Net read the garments' pseudo-words, from "
            "a chosen step on; the others read the caption (the official per-depth mode).",
            search_aliases=["attention layers", "block prompt", "fine levels"],
            inputs=[
                io.Model.Input("model", tooltip="Any SD inpainting model."),
                io.Conditioning.Input(
                    "garment_conditioning",
                    tooltip="From Garment Textual Inversion: read at the chosen depths.",
                ),
                io.Conditioning.Input(
                    "caption_conditioning",
                    tooltip="From CLIP Text Encode: read everywhere else.",
                ),
                io.String.Input(
                    "levels",
                    default="2 3",
                    tooltip="Depths that read the garments, separated by spaces: 3 is the full "
                    "resolution, 2 half, 1 a quarter, 0 the middle block.",
                ),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="From which part of sampling on: 0 is the first step.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="For KSampler."),
                io.Conditioning.Output(
                    display_name="positive", tooltip="For Fashion Inpaint Conditioning."
                ),
            ],
        )

    @classmethod
    def execute(
        cls, model, garment_conditioning, caption_conditioning, levels, start_percent
    ) -> io.NodeOutput:
        if len(garment_conditioning) != 1:
            raise ValueError(
                f"garment_conditioning holds {len(garment_conditioning)} conditionings, expected "
                "one: connect a single Garment Textual Inversion, without Conditioning Combine. "
                "It takes several garments, as a batch of images or from a search."
            )
        ((context, _),) = garment_conditioning
        patched = with_prompt_depth(model, parse_levels(levels), start_percent)
        positive = node_helpers.conditioning_set_values(
            caption_conditioning, {GARMENT_CONTEXT_KEY: context}
        )
        return io.NodeOutput(patched, positive)


class FashionRAGLoader(io.ComfyNode):
    """Loads a whole model folder in diffusers layout."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FashionRAGLoader",
            display_name="Fashion-RAG Loader",
            category=CATEGORY,
            description="Load everything the method needs from one model folder in diffusers "
            "layout, of any size.",
            search_aliases=["diffusers loader", "fashion rag model folder", "miniature"],
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=list(folders.entries("models")),
                    tooltip="A folder in models/fashion_rag/models with model_index.json, unet, "
                    "vae, text_encoder, image_encoder and inversion_adapter.safetensors.",
                )
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="For KSampler."),
                io.Clip.Output(display_name="clip", tooltip="The text encoder."),
                io.Vae.Output(display_name="vae", tooltip="The VAE."),
                io.ClipVision.Output(display_name="clip_vision", tooltip="The vision tower."),
                sockets.Adapter.Output(display_name="adapter", tooltip="The inversion adapter."),
            ],
        )

    @classmethod
    def validate_inputs(cls, model_name=None) -> bool | str:
        return folders.exists_or_message("models", model_name)

    @classmethod
    def fingerprint_inputs(cls, model_name=None) -> list:
        return folders.states("models", model_name)

    @classmethod
    def execute(cls, model_name) -> io.NodeOutput:
        return io.NodeOutput(*load_model_folder(folders.resolve("models", model_name)))
