"""The encoder that is written out sees a photo as it was seen in training."""

from __future__ import annotations

import torch
from fashion_rag.training.clip import Clip, _model, tower_pixels
from fashion_rag.training.config import parse, read_toml
from fashion_rag.training.stages import CONFIGS
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image


def test_photos_are_padded_in_white():
    content = read_toml(CONFIGS / "miniature_clip.toml")
    content.pop("stage")
    settings, clip = _model(parse(Clip, content))
    size = clip.visual.image_size[0]
    cfg = PreprocessCfg(**{**settings["preprocess_cfg"], "size": size})
    photo = Image.new("RGB", (300, 400), (30, 90, 200))
    mean, std = (torch.tensor(values)[:, None, None] for values in (cfg.mean, cfg.std))
    seen = image_transform_v2(cfg, is_train=False)(photo) * std + mean
    assert (seen - tower_pixels(photo, "whole", size) / 255).abs().mean() < 0.01
    assert seen[:, :, 0].min() > 0.98
