"""A parser's folder: its table by names, its weights, what is refused; labels at any size."""

from __future__ import annotations

import json
import logging
import shutil

import pytest
import torch

transformers = pytest.importorskip("transformers")

from fashion_rag.adapter.person.masks import LABELS  # noqa: E402
from fashion_rag.adapter.person.parsing import (  # noqa: E402
    LONGEST,
    Preprocessing,
    coloured,
    describe_labels,
    label_table,
    load_parser,
    read_preprocessing,
)

ATR = (
    "Background Hat Hair Sunglasses Upper-clothes Skirt Pants Dress Belt Left-shoe Right-shoe Face "
    "Left-leg Right-leg Left-arm Right-arm Bag Scarf"
).split()
OF_24 = (
    "background hat hair glove glasses upper_only_torso_region dresses_only_torso_region "
    "coat_only_torso_region socks left_pants right_patns skin_around_neck_region scarf skirt face "
    "left_arm right_arm left_leg right_leg left_shoe right_shoe left_sleeve_for_upper "
    "right_sleeve_for_upper bag"
).split()
FASHN = (
    "background face hair top dress skirt pants belt bag hat scarf glasses arms hands legs feet "
    "torso jewelry"
).split()


def table(names: list[str]) -> list[str]:
    known = {number: name for name, number in LABELS.items()}
    return [known[number] for number in label_table(dict(enumerate(names)))]


def test_the_published_tables(caplog):
    assert table(ATR) == list(LABELS)
    assert " ".join(table(OF_24)) == (
        "background hat hair left_arm sunglasses upper_clothes dress upper_clothes left_leg pants "
        "pants face scarf skirt face left_arm right_arm left_leg right_leg left_shoe right_shoe "
        "upper_clothes upper_clothes bag"
    )
    assert " ".join(table(FASHN)) == (
        "background face hair upper_clothes dress skirt pants belt bag hat scarf sunglasses "
        "left_arm left_arm left_leg left_shoe face sunglasses"
    )
    assert not caplog.records


def test_an_unknown_label_is_background_and_named_once(caplog):
    assert table(["Background", "Upper clothes", "Umbrella", "Cat"]) == [
        "background", "upper_clothes", "background", "background",
    ]  # fmt: skip
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and "Umbrella, Cat" in record.getMessage()


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({0: "road", 1: "sky", 2: "face"}, "no label of a garment"),
        ({0: "background", 2: "dress"}, "not 0, 1"),
        ({}, "not 0, 1"),
    ],
)
def test_a_table_that_is_none(numbers, message):
    with pytest.raises(ValueError, match=message):
        label_table(numbers)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    config = transformers.SegformerConfig(
        hidden_sizes=(8, 8, 16, 16), depths=(1, 1, 1, 1), num_attention_heads=(1, 1, 2, 2),
        decoder_hidden_size=16, id2label=dict(enumerate(ATR)),
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("parsers") / "tiny"
    transformers.SegformerForSemanticSegmentation(config).save_pretrained(folder)
    settings = {"size": {"height": 64, "width": 48}, "image_mean": [0.5] * 3, "do_resize": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize("size", [(40, 30), (64, 48), (1, 3), (37, 211)])
def test_labels_have_the_photos_size(folder, size):
    parser = load_parser(folder)
    assert parser.preprocessing.size == (64, 48) and parser.preprocessing.mean == (0.5,) * 3
    said = []
    photos = torch.rand(3, *size, 4)
    labels = parser.labels(photos, lambda *state: said.append(state))
    assert labels.shape == (3, *size) and labels.dtype == torch.uint8
    assert said == [(0, 3), (1, 3), (2, 3), (3, 3)]
    # A batch is nothing but its photos.
    assert torch.equal(parser.labels(photos[1:2])[0], labels[1])


def test_labels_are_where_the_network_sees_them(folder):
    parser = load_parser(folder)

    class Halves(torch.nn.Module):
        """Upper clothes on the left half, pants on the right one."""

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, pixels):
            logits = torch.zeros(1, 18, 16, 12)
            logits[:, 4, :, :6] = logits[:, 6, :, 6:] = 5
            return type("Output", (), {"logits": logits})

    parser = type(parser)("halves", Halves(), parser.table, parser.preprocessing)
    for size in ((80, 60), (3 * LONGEST, 40)):
        labels = parser.labels(torch.zeros(1, *size, 3))[0]
        middle = size[1] // 2
        assert (labels[:, : middle - 2] == 4).all() and (labels[:, middle + 2 :] == 6).all()


def test_half_precision_sees_nearly_the_same(folder):
    photos = torch.rand(1, 64, 48, 3)
    same = load_parser(folder).labels(photos) == load_parser(folder, torch.float16).labels(photos)
    assert same.float().mean() > 0.95


def test_a_photo_of_the_wrong_shape(folder):
    with pytest.raises(ValueError, match="expected .batch, height, width"):
        load_parser(folder).labels(torch.zeros(4, 4, 3))


def copied(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "parser")


def test_a_folder_without_config(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no config.json"):
        load_parser(tmp_path)


def test_code_in_the_folder_never_runs(folder, tmp_path):
    broken = copied(folder, tmp_path)
    config = json.loads((broken / "config.json").read_text())
    config["auto_map"] = {"AutoModelForSemanticSegmentation": "evil.Model"}
    (broken / "config.json").write_text(json.dumps(config))
    (broken / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Model: pass\n")
    with pytest.raises(ValueError, match="auto_map.*never run"):
        load_parser(broken)
    assert not (tmp_path / "ran").exists()


def test_a_pickle_is_never_read(folder, tmp_path):
    broken = copied(folder, tmp_path)
    (broken / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no model.safetensors"):
        load_parser(broken)
    (broken / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(FileNotFoundError, match="pickle only .pytorch_model.bin."):
        load_parser(broken)


def test_a_backbone_from_elsewhere_is_never_fetched(folder, tmp_path):
    broken = copied(folder, tmp_path)
    config = json.loads((broken / "config.json").read_text())
    config["backbone_config"] = {"use_pretrained_backbone": True}
    (broken / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="backbone from elsewhere"):
        load_parser(broken)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", "{", "config.json is damaged"),
        ("config.json", "[]", "config.json is damaged"),
        ("config.json", '{"model_type": "segformer"}', "no id2label"),
        (
            "config.json",
            '{"model_type": "x9", "id2label": {"0": "dress"}}',
            "can't be loaded as a semantic segmentation model",
        ),
        (  # a class of transformers' own, for values of the wrong type
            "config.json",
            '{"model_type": "beit", "id2label": {"0": "dress"}, "num_attention_heads": [1, 2]}',
            "can't be loaded .*'beit' in config.json .*num_attention_heads",
        ),
        ("model.safetensors", "abc", "can't be loaded"),
        ("preprocessor_config.json", "{", "preprocessor_config.json is damaged"),
        ("preprocessor_config.json", '{"size": 0}', "size is"),
        ("preprocessor_config.json", '{"image_std": [1, 0, 1]}', "three numbers"),
        ("preprocessor_config.json", '{"image_std": [1, 1e999, 1]}', "three numbers"),
        ("preprocessor_config.json", '{"image_mean": [0, NaN, 0]}', "three numbers"),
        ("preprocessor_config.json", '{"size": 1e999}', "preprocessor_config.json is damaged"),
        (
            "preprocessor_config.json",
            f'{{"image_mean": [0, {10**400}, 0]}}',
            "preprocessor_config.json is damaged",
        ),
    ],
)
def test_a_damaged_folder(folder, tmp_path, file, content, message):
    broken = copied(folder, tmp_path)
    (broken / file).write_text(content)
    with pytest.raises(ValueError, match=message):
        load_parser(broken)


def test_weights_of_another_model(folder, tmp_path):
    broken = copied(folder, tmp_path)
    config = json.loads((broken / "config.json").read_text())
    config["depths"] = [1, 1, 1, 2]
    (broken / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="lacks .* weights"):
        load_parser(broken)


def test_preprocessing_without_a_file(tmp_path):
    assert read_preprocessing(tmp_path) == Preprocessing()
    whole = Preprocessing(None)(torch.zeros(1, 70, 33, 3))
    assert whole.shape == (1, 3, 64, 32)


def test_colours_and_words():
    labels = torch.zeros(10, 10, dtype=torch.uint8)
    labels[:5] = LABELS["dress"]
    labels[0] = LABELS["hair"]
    assert describe_labels(labels) == "dress 40.0%, hair 10.0%"
    assert describe_labels(labels * 0) == ""
    picture = coloured(labels)
    assert picture.shape == (10, 10, 3) and len(picture.view(-1, 3).unique(dim=0)) == 3
