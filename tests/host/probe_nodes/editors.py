"""Tiny random editors for the tests, made of the host's own classes, and what reaches them.

FLUX.2 and FLUX.1 Fill are found out by the host from a state dict of a single head. The width of
Qwen-Image's transformer is not read from its weights (24 heads of 128, one block is 340 million
parameters), so that one is built by its class with a single head. The host tells text encoders
apart by their full widths: they are built by their classes as well, with their own tokenizers.
"""

from __future__ import annotations

from dataclasses import fields, replace

import comfy.clip_vision
import comfy.ldm.flux.model
import comfy.ldm.flux.redux
import comfy.ldm.wan.vae
import comfy.ops
import comfy.patcher_extension
import comfy.sd
import comfy.supported_models
import comfy.supported_models_base
import comfy.taesd.taesd
import comfy.text_encoders.flux
import comfy.text_encoders.llama
import comfy.text_encoders.qwen_image
import comfy.text_encoders.qwen_vl
import torch
from comfy_api.latest import io

CATEGORY = "tests"
WIDTH = 64  # of the text encoders
KLEIN_WIDTH = 3 * WIDTH  # three layers side by side

_FLUX2 = {
    "in_channels": 128,
    "out_channels": 128,
    "vec_in_dim": None,
    "context_in_dim": KLEIN_WIDTH,
    "mlp_ratio": 3.0,
    "axes_dim": [32, 32, 32, 32],
    "theta": 2000,
    "patch_size": 1,
    "qkv_bias": False,
    "guidance_embed": False,
    "txt_ids_dims": [3],
    "global_modulation": True,
    "mlp_silu_act": True,
    "ops_bias": False,
}
_FILL = {
    "in_channels": 96,
    "out_channels": 16,
    "vec_in_dim": 32,
    "context_in_dim": WIDTH,
    "mlp_ratio": 4.0,
    "axes_dim": [16, 56, 56],
    "theta": 10000,
    "patch_size": 2,
    "qkv_bias": True,
    "guidance_embed": True,
    "txt_ids_dims": [],
}
_ONE_HEAD = {"hidden_size": 128, "num_heads": 1, "depth": 1, "depth_single_blocks": 1}
_TEXT = {
    "hidden_size": WIDTH,
    "intermediate_size": WIDTH,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
}


def randomise(module: torch.nn.Module) -> torch.nn.Module:
    """Fill every parameter with the same random numbers each time, of a size that keeps activity.

    Matrices get the variance 1 / inputs; the vectors of norms stay near 1, those of biases near 0.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            values = torch.randn(parameter.shape, generator=generator)
            if sum(size > 1 for size in parameter.shape) > 1:
                values /= (parameter.numel() / len(parameter)) ** 0.5
            else:
                values = values * 0.05 + (not name.endswith("bias"))
            parameter.copy_(values)
            parameter.requires_grad_(False)
    return module


def flux(config: dict):
    """A model of FLUX's family, by the host's detection."""
    network = comfy.ldm.flux.model.Flux(
        **config, **_ONE_HEAD, dtype=torch.float32, operations=comfy.ops.disable_weight_init
    )
    return comfy.sd.load_diffusion_model_state_dict(randomise(network).state_dict())


def qwen():
    """Qwen-Image's transformer with one head and one block, by its classes."""
    config = comfy.supported_models.QwenImage(
        {
            "image_model": "qwen_image",
            "in_channels": 64,
            "num_layers": 1,
            "num_attention_heads": 1,
            "joint_attention_dim": WIDTH,
            "default_ref_method": "index_timestep_zero",
        }
    )
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "")
    randomise(model.diffusion_model)
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)


class TinyQwenVL(comfy.text_encoders.llama.Qwen25_7BVLI):
    """The host's class with a small vision tower in place of its fixed one."""

    def __init__(self, config_dict, dtype, device, operations):
        torch.nn.Module.__init__(self)
        config = comfy.text_encoders.llama.Qwen25_7BVLI_Config(**config_dict)
        self.num_layers = config.num_hidden_layers
        options = {"device": device, "dtype": dtype, "ops": operations}
        self.model = comfy.text_encoders.llama.Llama2_(config, **options)
        self.visual = comfy.text_encoders.qwen_vl.Qwen2VLVisionTransformer(
            hidden_size=32,
            output_hidden_size=config.hidden_size,
            intermediate_size=64,
            num_heads=2,
            num_layers=2,
            **options,
        )
        self.dtype = dtype


class TinyQwenVLModel(comfy.text_encoders.qwen_image.Qwen25_7BVLIModel):
    def __init__(self, **options):
        host = comfy.text_encoders.llama.Qwen25_7BVLI
        comfy.text_encoders.llama.Qwen25_7BVLI = TinyQwenVL
        try:
            super().__init__(**options)
        finally:
            comfy.text_encoders.llama.Qwen25_7BVLI = host


class TinyQwenTE(comfy.text_encoders.qwen_image.QwenImageTEModel):
    def __init__(self, device="cpu", dtype=None, model_options=None):
        super(comfy.text_encoders.qwen_image.QwenImageTEModel, self).__init__(
            device=device,
            dtype=dtype,
            name="qwen25_7b",
            clip_model=TinyQwenVLModel,
            model_options=model_options or {},
        )


class TinyKleinModel(comfy.text_encoders.flux.Qwen3_4BModel):
    """Reads the layers 0, 1 and 2 in place of 9, 18 and 27."""

    def __init__(self, **options):
        super().__init__(layer=[0, 1, 2], **options)


class TinyKleinTE(comfy.text_encoders.flux.Flux2TEModel):
    def __init__(self, device="cpu", dtype=None, model_options=None):
        super().__init__(
            device=device,
            dtype=dtype,
            name="qwen3_4b",
            clip_model=TinyKleinModel,
            model_options=model_options or {},
        )


def text_encoder(kind: str):
    """A CLIP of few and narrow layers with the tokenizer of its kind."""
    if kind == "klein":
        clip, tokenizer = TinyKleinTE, comfy.text_encoders.flux.KleinTokenizer
        name, layers = "qwen3_4b", 3
    else:
        clip, tokenizer = TinyQwenTE, comfy.text_encoders.qwen_image.QwenImageTokenizer
        name, layers = "qwen25_7b", 2
    options = {f"{name}_model_config": {**_TEXT, "num_hidden_layers": layers}}
    target = comfy.supported_models_base.ClipTarget(tokenizer, clip)
    found = comfy.sd.CLIP(
        target,
        embedding_directory=None,
        model_options={**options, "dtype": torch.float32},
        disable_dynamic=True,
    )
    randomise(found.cond_stage_model)
    return found


class SmallPictures(comfy.sd.VAE):
    """Encodes large pictures at an eighth of their sides.

    Qwen's text encoder brings every reference to a megapixel, minutes of work for two cores.
    """

    def encode(self, pixels):
        if pixels.shape[1] * pixels.shape[2] > 512 * 512:
            pixels = torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), 8).movedim(1, -1)
        return super().encode(pixels)


def vae(kind: str):
    """FLUX's tiny autoencoders (8 or 16 pixels a latent), or Qwen's video VAE with 8 channels."""
    if kind == "qwen":
        network = comfy.ldm.wan.vae.WanVAE(
            dim=8,
            z_dim=16,
            dim_mult=[1, 2, 4, 4],
            num_res_blocks=2,
            attn_scales=[],
            temperal_downsample=[False, True, True],
        )
        return SmallPictures(sd=randomise(network).state_dict())
    channels = {"flux": 16, "flux2": 128}[kind]
    network = randomise(comfy.taesd.taesd.TAESD(latent_channels=channels))
    found = comfy.sd.VAE(sd=network.state_dict(), metadata={"tae_latent_channels": channels})
    if kind == "flux2":  # as its full autoencoder says
        found.downscale_ratio = found.upscale_ratio = 16
    return found


def _probe(name: str, kinds: list[str], output, make) -> type[io.ComfyNode]:
    class Probe(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            return io.Schema(
                node_id=name,
                category=CATEGORY,
                inputs=[io.Combo.Input("kind", options=kinds)],
                outputs=[output.Output()],
            )

        @classmethod
        def execute(cls, kind):
            return io.NodeOutput(make(kind))

    return Probe


def editor(kind: str):
    return {"flux2": lambda: flux(_FLUX2), "fill": lambda: flux(_FILL), "qwen": qwen}[kind]()


ProbeEditor = _probe("ProbeEditor", ["flux2", "fill", "qwen"], io.Model, editor)
ProbeTextEncoder = _probe("ProbeTextEncoder", ["klein", "qwen"], io.Clip, text_encoder)
ProbeEditorVAE = _probe("ProbeEditorVAE", ["flux2", "flux", "qwen"], io.Vae, vae)


class ProbeRedux(io.ComfyNode):
    """A vision tower of SigLIP's kind (2 x 2 patches) and a Redux model that reads it."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeRedux",
            category=CATEGORY,
            inputs=[],
            outputs=[io.ClipVision.Output(), io.StyleModel.Output()],
        )

    @classmethod
    def execute(cls):
        tower = comfy.clip_vision.ClipVisionModel(
            {
                "model_type": "siglip_vision_model",
                "num_channels": 3,
                "hidden_act": "gelu_pytorch_tanh",
                "hidden_size": 32,
                "image_size": 28,
                "intermediate_size": 64,
                "num_attention_heads": 2,
                "num_hidden_layers": 2,
                "patch_size": 14,
                "image_mean": [0.5, 0.5, 0.5],
                "image_std": [0.5, 0.5, 0.5],
            }
        )
        randomise(tower.model)
        redux = comfy.ldm.flux.redux.ReduxImageEncoder(32, WIDTH, dtype=torch.float32)
        return io.NodeOutput(tower, comfy.sd.StyleModel(randomise(redux)))


class ProbeTake(io.ComfyNode):
    """The first `count` of the garments."""

    @classmethod
    def define_schema(cls):
        garments = io.Custom("FASHIONRAG_GARMENTS")
        return io.Schema(
            node_id="ProbeTake",
            category=CATEGORY,
            inputs=[garments.Input("garments"), io.Int.Input("count", min=0)],
            outputs=[garments.Output()],
        )

    @classmethod
    def execute(cls, garments, count):
        parts = {field.name: getattr(garments, field.name) for field in fields(garments)}
        return io.NodeOutput(replace(garments, **{k: v[:count] for k, v in parts.items()}))


class ProbeWords(io.ComfyNode):
    """A conditioning of random numbers; the tiny Fill model reads 64, FLUX.2 192."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeWords",
            category=CATEGORY,
            inputs=[
                io.Int.Input("length", default=5),
                io.Int.Input("width", default=WIDTH, optional=True),
            ],
            outputs=[io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, length, width=WIDTH):
        generator = torch.Generator().manual_seed(0)
        words = torch.randn(1, length, width, generator=generator)
        return io.NodeOutput([[words, {"pooled_output": torch.zeros(1, 32)}]])


class ProbePictureTokens(io.ComfyNode):
    """A text encoder that writes the pictures among its tokens to NAME_0, NAME_1 and so on."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbePictureTokens",
            category=CATEGORY,
            not_idempotent=True,
            inputs=[io.Clip.Input("clip"), io.String.Input("name")],
            outputs=[io.Clip.Output()],
        )

    @classmethod
    def execute(cls, clip, name):
        from . import write

        clip, calls = clip.clone(), []
        tokenize = clip.tokenize

        def record(text, *arguments, **options):
            tokens = tokenize(text, *arguments, **options)
            (row,) = next(iter(tokens.values()))
            found = [token[0]["data"] for token in row if isinstance(token[0], dict)]
            write(f"{name}_{len(calls)}", {str(i): t.cpu().clone() for i, t in enumerate(found)})
            calls.append(None)
            return tokens

        clip.tokenize = record
        return io.NodeOutput(clip)


class ProbeReferences(io.ComfyNode):
    """Writes the reference latents of every model call to NAME_0, NAME_1 and so on."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeReferences",
            category=CATEGORY,
            not_idempotent=True,
            inputs=[io.Model.Input("model"), io.String.Input("name")],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, model, name):
        from . import write

        model, calls = model.clone(), []

        def record(execute, x, *arguments, **options):
            given = options.get("ref_latents") or []
            write(
                f"{name}_{len(calls)}",
                {"x": x.cpu().contiguous().clone()}
                | {f"reference_{i}": t.cpu().contiguous().clone() for i, t in enumerate(given)},
            )
            calls.append(None)
            return execute(x, *arguments, **options)

        kind = comfy.patcher_extension.WrappersMP.APPLY_MODEL
        model.add_wrapper_with_key(kind, "references", record)
        return io.NodeOutput(model)


NODES = [
    ProbeEditor,
    ProbeTextEncoder,
    ProbeEditorVAE,
    ProbeRedux,
    ProbeTake,
    ProbeWords,
    ProbePictureTokens,
    ProbeReferences,
]
