"""Tiny folders of random weights in transformers' layout, one of every architecture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from fashion_rag.model_parts import write_tokenizer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

KINDS = ("clip", "siglip", "siglip2", "metaclip_2")
WORDS = "a red coat blue denim jacket with metal buttons garment the color of white".split()

LENGTH = 32
"""Tokens that the tiny text towers read."""

_VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 16,
}
_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": LENGTH,
}


def write_words_tokenizer(folder: Path, length: int = LENGTH, lower: bool = True) -> None:
    """A tokenizer of WORDS, which ends every text by <eos> and pads to the right."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    vocabulary = {word: number for number, word in enumerate([*special, *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    if lower:
        words.normalizer = normalizers.Lowercase()
    words.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 2), ("<eos>", 1)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        model_max_length=length,
        padding_side="right",
    ).save_pretrained(folder)


def _config(kind: str, image_size: int, **changes: Any) -> Any:
    vision = {**_VISION, "image_size": image_size}
    text = {**_TEXT, "vocab_size": 64, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
    if kind == "clip":
        text |= {"vocab_size": 49408, "bos_token_id": 49406, "eos_token_id": 49407}
        return transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    if kind == "metaclip_2":
        return transformers.MetaClip2Config(
            text_config=text, vision_config=vision, projection_dim=16
        )
    if kind == "siglip2":
        del vision["image_size"]
        vision |= {"num_patches": 16}
        return transformers.Siglip2Config(text_config=text, vision_config={**vision, **changes})
    return transformers.SiglipConfig(text_config=text, vision_config={**vision, **changes})


def _image_processor(kind: str, image_size: int) -> dict[str, Any]:
    """preprocessor_config.json as published folders have it."""
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
    found: dict[str, Any] = {
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": mean,
        "image_std": std,
        "resample": 3,
        "rescale_factor": 1 / 255,
    }
    if kind in ("clip", "metaclip_2"):
        return {
            **found,
            "image_processor_type": "CLIPImageProcessor",
            "do_center_crop": True,
            "do_convert_rgb": True,
            "size": {"shortest_edge": image_size},
            "crop_size": {"height": image_size, "width": image_size},
        }
    if kind == "siglip":
        size = {"height": image_size, "width": image_size}
        return {**found, "image_processor_type": "SiglipImageProcessor", "size": size}
    return {
        **found,
        "image_processor_type": "Siglip2ImageProcessor",
        "resample": 2,
        "patch_size": 16,
        "max_num_patches": 16,
    }


def write_transformers_folder(
    folder: Path, kind: str, seed: int = 0, image_size: int = 32, **changes: Any
) -> Path:
    """A folder as save_pretrained and the hub have it.

    changes: of a SigLIP's image tower, such as another width.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.AutoModel.from_config(_config(kind, image_size, **changes)).eval()
        for parameter in model.parameters():  # as a training leaves them: none is zero
            if parameter.ndim < 2:
                torch.nn.init.normal_(parameter, mean=parameter.mean().item(), std=0.2)
    model.save_pretrained(folder, safe_serialization=True)
    if kind == "clip":
        write_tokenizer(folder)
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        settings["model_max_length"] = LENGTH
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    elif kind == "siglip2" and hasattr(transformers, "Siglip2Tokenizer"):
        letters = ["▁", *"abcdefghijklmnopqrstuvwxyz"]
        vocabulary = {t: n for n, t in enumerate(["<pad>", "<eos>", "<bos>", "<unk>", *letters])}
        transformers.Siglip2Tokenizer(
            vocab=vocabulary, merges=[], model_max_length=LENGTH, padding_side="right"
        ).save_pretrained(folder)
    else:
        write_words_tokenizer(folder)
    preprocessing = _image_processor(kind, image_size)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    return folder


_CHAT = (
    "{%- for m in messages %}<|im_start|>{{ m['role'] }} {% if m['content'] is string %}"
    "{{ m['content'] }}{% else %}{% for c in m['content'] %}{% if c['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif 'text' in c %}{{ c['text'] }}{% endif %}"
    "{% endfor %}{% endif %} <|im_end|> {% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant {% endif %}"
)
PROMPT = "find the garment "
"""What the tiny Qwen3-VL folder puts before a query."""


def write_qwen_folder(folder: Path, seed: int = 0) -> Path:
    """A Qwen3-VL embedder of random weights, as sentence-transformers saves it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    marks = "im_start im_end vision_start vision_end image_pad video_pad".split()
    special = ["<pad>", "<unk>", *(f"<|{mark}|>" for mark in marks)]
    words = [*special, *WORDS, "system", "user", "assistant", "find"]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    patches = {"patch_size": 8, "temporal_patch_size": 2, "merge_size": 2}
    processor = transformers.Qwen3VLProcessor(
        transformers.Qwen2VLImageProcessor(
            size={"shortest_edge": 32 * 32, "longest_edge": 64 * 64}, **patches
        ),
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            pad_token="<pad>",
            unk_token="<unk>",
            eos_token="<|im_end|>",
            additional_special_tokens=special[2:],
            padding_side="left",
        ),
        transformers.Qwen3VLVideoProcessor(**patches),
        chat_template=_CHAT,
    )
    config = transformers.Qwen3VLConfig(
        text_config={
            "vocab_size": len(vocabulary),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "max_position_embeddings": 256,
            "rope_parameters": {
                "rope_type": "default",
                "mrope_section": [2, 3, 3],
                "mrope_interleaved": True,
                "rope_theta": 10000.0,
            },
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "patch_size": 8,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": 32,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=vocabulary["<|image_pad|>"],
        video_token_id=vocabulary["<|video_pad|>"],
        vision_start_token_id=vocabulary["<|vision_start|>"],
        vision_end_token_id=vocabulary["<|vision_end|>"],
    )
    plain = folder.with_name(f"{folder.name} plain")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        transformers.Qwen3VLModel(config).save_pretrained(plain)
    processor.save_pretrained(plain)
    modules = [Transformer(str(plain)), Pooling(32, "lasttoken"), Normalize()]
    prompts = {"query": PROMPT, "document": ""}
    SentenceTransformer(modules=modules, prompts=prompts).save(str(folder))
    return folder
