"""Bad input comes back as an error that names it and the remedy, and the server lives on."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import sys
import zlib
from pathlib import Path

import pytest
import torch
from fashion_rag.comfyui_server.client import Graph
from fashion_rag.retriever.store.manifest import write_manifest
from PIL import Image
from safetensors.torch import load_file, save_file

from .graphs import TEXT, Dress, build

pytestmark = pytest.mark.host
DATA = Path(__file__).parent.parent / "data"


@pytest.fixture
def broken(server, index, request) -> Path:
    """A copy of the index, to be broken by the test."""
    folder = server.store / "indexes" / f"broken {request.node.originalname}"
    shutil.copytree(server.store / "indexes" / index, folder, dirs_exist_ok=True)
    return folder


def search(index: str, **changes) -> Graph:
    graph = Graph()
    loaded = graph.add("GarmentIndexLoader", index_name=index)
    inputs = {"text": TEXT, "category": "any", "top_k": 3} | changes
    found = graph.add("TextGarmentRetrieve", index=loaded, **inputs)
    graph.add("PreviewImage", images=found[1])
    return graph


def says(error: str, *words: str) -> None:
    missing = [word for word in words if word.casefold() not in error.casefold()]
    assert not missing, f"{missing} not in: {error}"


# --- index and search


def test_index_missing(server, index):
    error = server.client.error_of(search("nowhere"))
    says(error, "'nowhere'", "models/fashion_rag/indexes", "Garment Index Build")


def test_index_truncated(server, broken):
    files = sorted(broken.rglob("*.safetensors"), key=lambda path: path.stat().st_size)
    with files[-1].open("r+b") as file:
        file.truncate(files[-1].stat().st_size // 2)
    says(server.client.error_of(search(broken.name)), files[-1].name, "build")


def test_index_of_another_schema(server, broken):
    path = broken / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(manifest | {"schema": 999}), "utf-8")
    says(server.client.error_of(search(broken.name)), "999", "schema", broken.name)


def test_index_of_another_encoder(server, index):
    """The folder of the index's encoder was given other weights."""
    encoder = server.store / "encoders" / "changing"
    shutil.copytree(server.store / "encoders" / "standin", encoder, dirs_exist_ok=True)
    graph = build("of changing")
    graph["1"]["inputs"]["encoder"] = "changing"
    server.client.run(graph)
    weights = encoder / "open_clip_model.safetensors"
    state = load_file(weights)
    save_file({name: tensor + 0.01 for name, tensor in state.items()}, weights)
    says(server.client.error_of(search("of changing")), "changing", "build")


def test_index_whose_catalogue_is_gone(server, index):
    catalogue = server.store / "catalogues" / "gone"
    catalogue.mkdir()
    Image.new("RGB", (32, 32), "red").save(catalogue / "red.png")
    server.client.run(build("of gone", "gone"))
    shutil.rmtree(catalogue)
    says(server.client.error_of(search("of gone")), "'gone'", "catalogues")


def test_index_that_names_a_folder_outside(server, broken):
    """An index from elsewhere reads no file but those of a registered catalogue."""
    path = broken / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    manifest["catalogue"] |= {"name": "../../../input", "path": str(server.base / "input")}
    write_manifest(broken, manifest)  # with a checksum that fits
    says(server.client.error_of(search(broken.name)), "'../../../input'", "catalogues")


@pytest.mark.parametrize("name", ["../evil", "a/b", "a\\b", "", ".hidden", "x" * 200])
def test_index_name_that_leaves_its_folder(server, index, name):
    says(server.client.error_of(build(name)), "index_name", repr(name)[1:20])
    assert not (server.store / "evil").exists()


@pytest.mark.parametrize("name", ["../catalogues/openvto", "/etc", "absent"])
def test_catalogue_or_index_outside_the_list(server, index, name):
    says(server.client.error_of(build("x", name)), repr(name), "models/fashion_rag/catalogues")
    says(server.client.error_of(search(name)), repr(name), "models/fashion_rag/indexes")


def test_catalogue_empty(server):
    (server.store / "catalogues" / "empty").mkdir(exist_ok=True)
    says(server.client.error_of(build("of empty", "empty")), "empty", "jpg")


def test_catalogue_with_bad_files_is_built_without_them(server):
    """A corrupt file, a text and a decompression bomb are skipped and listed."""
    catalogue = server.store / "catalogues" / "mixed"
    catalogue.mkdir(exist_ok=True)
    for name, colour in (("red", "#f00"), ("grey", "#888")):
        Image.new("RGB", (64, 96), colour).save(catalogue / f"{name}.png")
    (catalogue / "corrupt.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a photo")
    (catalogue / "text.png").write_text("a text")
    (catalogue / "bomb.png").write_bytes(bomb_png(60_000, 60_000))
    result = server.client.run(build("of mixed", "mixed", overwrite=True))
    report = "".join(result.outputs["1"]["text"])
    says(report, "corrupt.jpg", "text.png", "bomb.png", "2")
    graph = search("of mixed", top_k=64)
    shown = graph.add("ProbeText", value=graph.node("TextGarmentRetrieve")[2])
    scores = server.client.text(server.client.run(graph), shown)
    says(scores, "red.png", "grey.png", "top_k is 64", "2 garments")
    assert len(scores.splitlines()) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names of any bytes")
def test_names_that_are_no_utf_8(server):
    """Of a photo that is gone the error can be sent; an index so named costs nobody the page."""
    catalogue = server.store / "catalogues" / "odd"
    catalogue.mkdir()
    photo = Path(os.fsdecode(os.fsencode(catalogue) + b"/\xff.jpg"))
    Image.new("RGB", (64, 96), "red").save(catalogue / "red.jpg")
    (catalogue / "red.jpg").rename(photo)
    server.client.run(build("of odd", "odd"))
    photo.unlink()
    says(server.client.error_of(search("of odd")), r"\udcff.jpg")
    graph = Graph()
    graph.add("ProbeText", value="the next one")
    server.client.run(graph)
    odd = Path(os.fsdecode(os.fsencode(server.store / "indexes") + b"/\xff\xfe"))
    odd.mkdir()
    (odd / "manifest.json").write_text("{")
    assert server.client.json("/object_info/GarmentIndexLoader")
    odd.rename(server.store / "indexes" / "now a name")
    shutil.rmtree(server.store / "indexes" / "now a name")


def bomb_png(width: int, height: int) -> bytes:
    """A PNG header that claims more pixels than any photo has."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("text", ["", "  \n"])
def test_text_empty(server, index, text):
    says(server.client.error_of(search(index, text=text)), "text is empty", "wear")


def test_category_without_garments(server, index):
    error = server.client.error_of(search(index, category="dresses"))
    says(error, "dresses", "upper_body", "lower_body")


# --- encoders


def test_encoder_absent(server, index):
    graph = build("x")
    graph["1"]["inputs"]["encoder"] = "absent"
    says(server.client.error_of(graph), "'absent'", "models/fashion_rag/encoders", "encoder get")


def test_host_encoder_without_its_pair(server, index):
    graph = build("x")
    graph["1"]["inputs"]["encoder"] = "host"
    says(server.client.error_of(graph), "clip", "clip_vision", "ViT-H")


def test_host_encoder_untrained(server, index):
    """Two towers that do not belong together fail the check of the colour cards."""
    graph = build("of host")
    models = graph.add("FashionRAGLoader", model_name="standin")
    graph["1"]["inputs"] |= {"encoder": "host", "clip": models[1], "clip_vision": models[3]}
    says(server.client.error_of(graph), "512-inpainting-ema.safetensors")
    assert not (server.store / "indexes" / "of host" / "manifest.json").exists()


def test_optional_packages_missing(bare, standin):
    """Without open_clip the nodes are there and say what to install."""
    shutil.copytree(standin / "encoder", bare.store / "encoders" / "standin", dirs_exist_ok=True)
    catalogue = bare.store / "catalogues" / "one"
    catalogue.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), "red").save(catalogue / "red.png")
    says(bare.client.error_of(build("x", "one")), "open_clip_torch", "pip install")


# --- adapters and U-Nets


def invert_with(adapter: str) -> Graph:
    graph = Dress()
    loaded = graph.add("InversionAdapterLoader", adapter_name=adapter)
    graph[graph.words.number]["inputs"]["adapter"] = loaded[0]
    graph.add("ProbeText", value=graph.words[2])
    return graph


def test_adapter_of_another_width(server, index):
    folder = server.store / "adapters"
    folder.mkdir(exist_ok=True)
    sizes = {"heads": "4", "words": "4", "output_width": "32"}
    save_file(load_file(DATA / "adapter_tiny.safetensors"), folder / "width 32.safetensors", sizes)
    error = server.client.error_of(invert_with("width 32.safetensors"))
    says(error, "32", "64", "width")


class Payload:
    """Unpickling it makes a folder."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("zipped", [True, False], ids=["torch", "pickle"])
def test_adapter_that_holds_more_than_tensors(server, index, zipped, tmp_path):
    folder = server.store / "adapters"
    folder.mkdir(exist_ok=True)
    payload = {"layers.0.weight": torch.zeros(2), "more": Payload(tmp_path / "trace")}
    if zipped:
        torch.save(payload, folder / "more.pth")
    else:
        (folder / "more.pth").write_bytes(pickle.dumps(payload))
    error = server.client.error_of(invert_with("more.pth"))
    says(error, "more.pth", "tensors")
    assert not (tmp_path / "trace").exists()


def test_adapter_that_is_none(server, index):
    folder = server.store / "adapters"
    folder.mkdir(exist_ok=True)
    save_file({"weight": torch.zeros(2, 2)}, folder / "none.safetensors")
    says(server.client.error_of(invert_with("none.safetensors")), "none.safetensors", "adapter")


def unet_file(server, standin: Path, name: str, channels: int) -> Graph:
    """A graph that loads a U-Net of so many input channels."""
    folder = server.base / "models" / "diffusion_models"
    folder.mkdir(exist_ok=True)
    (source,) = (standin / "unet").glob("*.safetensors")
    state = load_file(source)
    conv_in = state["conv_in.weight"]
    state["conv_in.weight"] = torch.zeros(conv_in.shape[0], channels, *conv_in.shape[2:])
    save_file(state, folder / name)
    graph = Graph()
    model = graph.add("FashionUNetLoader", unet_name=name, weight_dtype="default")
    graph.add("ModelSave", model=model, filename_prefix="unet")
    return graph


@pytest.mark.parametrize("channels", [4, 8, 31])
def test_unet_of_another_number_of_channels(server, standin, channels):
    name = f"unet {channels}.safetensors"
    error = server.client.error_of(unet_file(server, standin, name, channels))
    says(error, name, str(channels), "9", "27")


def test_unet_of_an_unknown_size(server, standin):
    name = "unet tiny.safetensors"
    error = server.client.error_of(unet_file(server, standin, name, 27))
    says(error, name, "Fashion-RAG Loader")


def test_unet_that_is_none(server):
    folder = server.base / "models" / "diffusion_models"
    folder.mkdir(exist_ok=True)
    (folder / "text.safetensors").write_text("a text")
    save_file({"weight": torch.zeros(2, 2)}, folder / "no unet.safetensors")
    for name in ("text.safetensors", "no unet.safetensors"):
        graph = Graph()
        model = graph.add("FashionUNetLoader", unet_name=name, weight_dtype="default")
        graph.add("ModelSave", model=model, filename_prefix="unet")
        says(server.client.error_of(graph), name)


# --- mask, pose, prompt, tokens


def test_mask_empty(server, index):
    graph = Dress(index=index)
    empty = graph.add("SolidMask", value=0.0, width=192, height=256)
    inputs = graph.inpaint(graph.photo, empty)
    graph.add("ProbeSave", value=inputs[2], name="never")
    says(server.client.error_of(graph), "mask", "empty")


def test_pose_of_another_batch(server, index, poses):
    graph = Dress(index=index, pose=json.dumps([poses["1"]] * 3))
    photos = graph.add("RepeatImageBatch", image=graph.photo, amount=2)
    graph.add("ProbeSave", value=graph.inpaint(photos, graph.mask)[0], name="never")
    says(server.client.error_of(graph), "3 frames", "2 images")


def test_inversion_without_garments(server, index):
    graph = Dress(index=index)
    words = graph.invert()
    graph.add("ProbeText", value=words[2])
    says(server.client.error_of(graph), "garments", "images")


def test_tokens_are_not_overwritten(server, index):
    def save(strength: float, overwrite: bool) -> Graph:
        graph = Dress(index=index)
        words = graph.invert(strength=strength, garments=graph.found[0])
        graph.add("GarmentTokensSave", tokens=words[1], name="once", overwrite=overwrite)
        return graph

    server.client.run(save(1.0, overwrite=False))
    path = server.base / "models" / "embeddings" / "once.safetensors"
    before = path.read_bytes()
    says(server.client.error_of(save(0.5, overwrite=False)), "once", "overwrite")
    assert path.read_bytes() == before
    server.client.run(save(0.5, overwrite=True))
    assert path.read_bytes() != before


@pytest.mark.parametrize("name", ["../evil", "a/b", ""])
def test_tokens_name_that_leaves_its_folder(server, index, name):
    graph = Dress(index=index)
    graph.add("GarmentTokensSave", tokens=graph.words[1], name=name, overwrite=False)
    says(server.client.error_of(graph), "file name")
    assert not list(server.base.rglob("evil*"))


@pytest.mark.parametrize("levels", ["", "4", "2;3", "two"])
def test_levels(server, index, levels):
    graph = Dress(index=index)
    depth = graph.add(
        "FashionPromptDepth",
        model=graph.models,
        garment_conditioning=graph.words,
        caption_conditioning=graph.empty,
        levels=levels,
        start_percent=0.0,
    )
    graph.add("ProbeSave", value=depth[1], name="never")
    says(server.client.error_of(graph), "levels", repr(levels), "2 3")


def test_garment_strength_in_the_catalogue(server):
    catalogue = server.store / "catalogues" / "strong"
    catalogue.mkdir(exist_ok=True)
    Image.new("RGB", (64, 64), "red").save(catalogue / "red.png")
    (catalogue / "garments.csv").write_text(
        "file,id,category,caption,strength\nred.png,r,,,heavy\n"
    )
    server.client.run(build("of strong", "strong", overwrite=True))
    assert server.client.run(search("of strong")).status == "execution_success"
    assert "'heavy'" in server.log, "it counts as 1, and the log says so"


def test_nothing_was_lost(server, index):
    """After all of the above the first index still answers, in the same process."""
    assert server.client.run(search(index, text="a white shirt")).status == "execution_success"
