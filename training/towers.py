"""Converting open_clip's CLIP to the two transformers towers of a model folder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..adapter.garment.checkpoints import write_safetensors

_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_TEXT = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
}
_VISION = {
    "class_embedding": "vision_model.embeddings.class_embedding",
    "conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "ln_post.weight": "vision_model.post_layernorm.weight",
    "ln_post.bias": "vision_model.post_layernorm.bias",
}


def check_towers(clip: torch.nn.Module, model_cfg: dict[str, Any]) -> None:
    """Refuse a model that transformers' CLIP towers can't hold, before it is trained.

    Raises:
        ValueError: naming what differs.
    """
    visual = clip.visual
    differs = [
        name
        for name, there in (
            ("no Vision Transformer", not hasattr(visual, "class_embedding")),
            ("attentional pooling", getattr(visual, "attn_pool", None) is not None),
            ("a pooling other than the class token's", getattr(visual, "pool_type", "") != "tok"),
            ("a text tower of another kind", not hasattr(clip, "token_embedding")),
            ("layer scale", any("ls_1.gamma" in name for name, _ in clip.named_parameters())),
        )
        if there
    ]
    if differs:
        raise ValueError(
            f"the CLIP has {', '.join(differs)}: choose a plain one, such as ViT-B-32, ViT-L-14 or "
            "ViT-H-14."
        )


def save_towers(clip: torch.nn.Module, model_cfg: dict[str, Any], folder: Path) -> None:
    """Write `folder/text_encoder` and `folder/image_encoder`, float16, with their projections.

    Args:
        clip: an `open_clip.CLIP` with a Vision Transformer that pools its class token.
        model_cfg: its configuration.
    """
    from open_clip import CLIPTextCfg, CLIPVisionCfg
    from transformers import (
        CLIPTextConfig,
        CLIPTextModelWithProjection,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    # What the configuration leaves out has open_clip's defaults.
    text = asdict(CLIPTextCfg(**model_cfg["text_cfg"]))
    vision = asdict(CLIPVisionCfg(**model_cfg["vision_cfg"]))
    activation = "quick_gelu" if model_cfg.get("quick_gelu") else "gelu"
    text_config = CLIPTextConfig(
        vocab_size=text["vocab_size"],
        hidden_size=text["width"],
        intermediate_size=int(text["width"] * text["mlp_ratio"]),
        num_hidden_layers=text["layers"],
        num_attention_heads=text["heads"],
        max_position_embeddings=text["context_length"],
        hidden_act=activation,
        projection_dim=model_cfg["embed_dim"],
        bos_token_id=49406,
        eos_token_id=49407,
        pad_token_id=0,
    )
    vision_config = CLIPVisionConfig(
        hidden_size=vision["width"],
        intermediate_size=int(vision["width"] * vision["mlp_ratio"]),
        num_hidden_layers=vision["layers"],
        num_attention_heads=vision["width"] // vision["head_width"],
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        hidden_act=activation,
        projection_dim=model_cfg["embed_dim"],
    )
    state = {name: tensor.detach().cpu() for name, tensor in clip.state_dict().items()}
    own = {n: t for n, t in state.items() if not n.startswith("visual.")}
    seen = {n.removeprefix("visual."): t for n, t in state.items() if n.startswith("visual.")}
    text_weights = {to: own[name] for name, to in _TEXT.items()}
    text_weights |= _blocks(own, "text_model")
    text_weights["text_projection.weight"] = own["text_projection"].T
    vision_weights = {to: seen[name] for name, to in _VISION.items()}
    vision_weights |= _blocks(seen, "vision_model")
    vision_weights["visual_projection.weight"] = seen["proj"].T
    for cls, config, weights, name in (
        (CLIPTextModelWithProjection, text_config, text_weights, "text_encoder"),
        (CLIPVisionModelWithProjection, vision_config, vision_weights, "image_encoder"),
    ):
        model = cls(config)
        # Buffers of positions are not in the file.
        missing, unexpected = model.load_state_dict(_named(model, weights), strict=False)
        if unexpected or any(not key.endswith("position_ids") for key in missing):
            raise ValueError(f"{name}: parameters {missing + unexpected} do not match open_clip's.")
        _save(model, config, cls.__name__, weights, folder / name)


def _save(model, config, architecture: str, weights: dict, part: Path) -> None:
    part.mkdir(parents=True, exist_ok=True)
    config.architectures = [architecture]
    config.save_pretrained(part)
    half = {name: tensor.half() for name, tensor in weights.items()}
    write_safetensors(half, part / "model.safetensors")


def _named(model: torch.nn.Module, weights: dict) -> dict:
    """Rename weights as this version of transformers has them: newer ones have fewer prefixes."""
    known = model.state_dict().keys()
    return {
        name if name in known else name.split(".", 1)[1]: tensor for name, tensor in weights.items()
    }


def _blocks(state: dict[str, torch.Tensor], tower: str) -> dict[str, torch.Tensor]:
    """Rename the transformer's layers; open_clip keeps query, key and value in one matrix."""
    renamed = {}
    prefix = "transformer.resblocks."
    for name, tensor in state.items():
        if not name.startswith(prefix):
            continue
        layer, part = name.removeprefix(prefix).split(".", 1)
        base = f"{tower}.encoder.layers.{layer}."
        if part.startswith("attn.in_proj_"):
            kind = part.removeprefix("attn.in_proj_")
            for letter, third in zip("qkv", tensor.chunk(3), strict=True):
                renamed[f"{base}self_attn.{letter}_proj.{kind}"] = third
            continue
        module, kind = part.rsplit(".", 1)
        renamed[f"{base}{_BLOCK[module]}.{kind}"] = tensor
    return renamed
