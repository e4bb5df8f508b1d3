"""What of the garments reaches an image editor: pictures, reference latents, words, in real graphs.

The editors are tiny and random, made of the host's own classes (probe_nodes/editors.py).
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comfy_cli.workflow_to_api import convert_ui_to_api
from fashion_rag.comfyui_server.client import Graph, Node, PromptError
from PIL import Image, ImageDraw
from safetensors.torch import load_file

from .. import workflows
from .graphs import build

pytestmark = pytest.mark.host

MEGAPIXEL = 1024 * 1024
NAME = "references"
SIZES = {  # width and height; only the dress's 94 is no multiple of 16, the coat is too large
    "jacket": (80, 112),
    "skirt": (112, 80),
    "dress": (64, 94),
    "shirt": (48, 48),
    "coat": (1800, 1200),
}
TABLE = {
    "jacket": ("upper_body", "A blue denim jacket.", ""),
    "skirt": ("lower_body", "Red skirt, knee length", ""),
    "dress": ("dresses", "", ".cutouts/dress.png"),
    "coat": ("upper_body", "Long grey coat", ""),
}


def draw(folder: Path) -> None:
    """Five photos: a skirt on a transparent ground, a dress with a cut-out beside it."""
    (folder / ".cutouts").mkdir(parents=True)
    for number, (name, size) in enumerate(SIZES.items()):
        ground = (0, 0, 0, 0) if name == "skirt" else (200, 220, 240, 255)
        photo = Image.new("RGBA", size, ground)
        box = (size[0] // 4, size[1] // 8, size[0] * 3 // 4, size[1] * 7 // 8)
        colours = [(30, 60, 160), (190, 30, 40), (60, 140, 70), (230, 200, 40), (120, 120, 120)]
        ImageDraw.Draw(photo).rectangle(box, (*colours[number], 255))
        (photo if name == "skirt" else photo.convert("RGB")).save(folder / f"{name}.png")
        if name == "dress":
            mask = Image.new("L", size, 0)
            ImageDraw.Draw(mask).rectangle(box, 255)
            mask.save(folder / ".cutouts" / "dress.png")
    with (folder / "garments.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "id", "category", "caption", "cutout"])
        table.writerow(["shirt.png", "shirt", "", "", ""])
        for name, row in TABLE.items():
            table.writerow([f"{name}.png", name, *row])


@dataclass
class Session:
    """A server with an index of the five garments."""

    server: Any
    catalogue: Path

    def graph(self, *names: str, **options: Any) -> Editing:
        return Editing(names or ("jacket", "skirt", "dress"), **options)

    def run(self, graph: Graph):
        return self.server.client.run(graph)

    def saved(self, name: str) -> dict[str, torch.Tensor]:
        return load_file(self.server.base / "output" / f"{name}.safetensors")


class Editing(Graph):
    """Index, text and references, with these garments pinned in this order."""

    def __init__(self, names, dialect="qwen", megapixels=1.0, empty_slots="stop"):
        super().__init__()
        self.index = self.add("GarmentIndexLoader", index_name=NAME)
        self.found = self.add(
            "TextGarmentRetrieve",
            index=self.index,
            text="a garment",
            category="any",
            top_k=len(names),
            pinned="\n".join(names),
        )
        self.references = self.add(
            "GarmentReferences",
            garments=self.found,
            dialect=dialect,
            megapixels=megapixels,
            empty_slots=empty_slots,
        )

    def save(self, value: list | Node, name: str) -> Node:
        return self.add("ProbeSave", value=value, name=name)

    def picture(self, value: list | Node, prefix: str) -> Node:
        return self.add("SaveImage", images=value, filename_prefix=prefix)


@pytest.fixture(scope="module")
def session(server) -> Session:
    catalogue = server.store / "catalogues" / NAME
    draw(catalogue)
    server.client.run(build(NAME, NAME))
    return Session(server, catalogue)


def photo(session: Session, name: str) -> np.ndarray:
    """A photo as an editor should get it: on white, cut out where the catalogue has a cut-out."""
    image = Image.open(session.catalogue / f"{name}.png").convert("RGBA")
    if name == "dress":
        image.putalpha(Image.open(session.catalogue / ".cutouts" / "dress.png"))
    white = Image.new("RGBA", image.size, "white")
    return np.asarray(Image.alpha_composite(white, image).convert("RGB"))


def test_every_garment_has_an_output_at_its_own_size(session):
    graph = session.graph("jacket", "skirt", "dress", "coat")
    for slot in range(4):
        graph.save(graph.references[slot], f"slot_{slot}")
    every = graph.picture(graph.references[4], "every")
    board = graph.picture(graph.references[5], "board")
    masks = graph.picture(graph.add("MaskToImage", mask=graph.references[6]), "masks")
    captions = graph.add("ProbeText", value=graph.references[7])
    prompt = graph.add("ProbeText", value=graph.references[8])
    prompts = graph.add("ProbeText", value=graph.references[9])
    result = session.run(graph)
    client = session.server.client

    for slot, name in enumerate(["jacket", "skirt", "dress"]):
        (image,) = session.saved(f"slot_{slot}")["value"]
        np.testing.assert_array_equal((image * 255).round().byte().numpy(), photo(session, name))
    (coat,) = session.saved("slot_3")["value"]
    height, width = coat.shape[:2]
    assert 0.99 * MEGAPIXEL < height * width <= MEGAPIXEL
    assert width / height == pytest.approx(1.5, rel=0.005)

    pictures = client.images(result, every)
    assert [p.shape for p in pictures[:3]] == [(h, w, 3) for w, h in list(SIZES.values())[:3]]
    np.testing.assert_array_equal(pictures[1], photo(session, "skirt"))
    (sheet,) = client.images(result, board)
    assert sheet.shape[0] * sheet.shape[1] == pytest.approx(MEGAPIXEL, rel=0.05)
    for colour in [(30, 60, 160), (190, 30, 40), (60, 140, 70), (120, 120, 120)]:
        assert np.any(np.all(sheet == colour, axis=-1)), f"{colour} is not on the board"

    jacket, skirt, dress, _ = client.images(result, masks)
    assert jacket.min() == 255
    assert skirt.shape == pictures[1].shape
    inside = (photo(session, "skirt") != 255).any(axis=-1)
    np.testing.assert_array_equal(skirt[..., 0] == 255, inside)
    cutout = np.asarray(Image.open(session.catalogue / ".cutouts" / "dress.png"))
    np.testing.assert_array_equal(dress[..., 0], cutout)

    lines = client.text(result, captions).split("\n")
    assert lines == ["blue denim jacket", "red skirt, knee length", "dress", "long grey coat"]
    text = client.text(result, prompt)
    assert "blue denim jacket of Picture 2" in text and "knee length of Picture 3" in text
    assert "Picture 4" not in text, "the editor takes three pictures"
    assert client.text(result, prompts).count("of Picture 2") == 4
    report = "".join(result.outputs[graph.references.number]["text"])
    assert "image_3  64x94  dress" in report and "names 2 of 4 garments" in report


def test_more_garments_than_slots(session):
    graph = session.graph(*SIZES, dialect="flux2")
    every = graph.picture(graph.references[4], "five")
    prompt = graph.add("ProbeText", value=graph.references[8])
    result = session.run(graph)
    assert len(session.server.client.images(result, every)) == 5
    text = session.server.client.text(result, prompt)
    assert "the garment of image 5" in text, "one without caption and category"
    assert "long grey coat of image 6" in text
    report = "".join(result.outputs[graph.references.number]["text"])
    assert "5 garments for 4 slots" in report and "no slot  " in report


def test_an_empty_slot_leaves_out_what_is_behind_it_and_says_so(session):
    client = session.server.client
    graph = session.graph("jacket", "skirt")
    there = graph.picture(graph.references[1], "there")
    behind = graph.add("ImageInvert", image=graph.references[2])
    missing = graph.picture(behind, "missing")
    socket = client.listen()
    try:
        result = client.run(graph)
        said = []
        while True:
            message = socket.recv()
            if isinstance(message, str):
                event = json.loads(message)
                said += [event["data"]] if event["type"] == "execution_error" else []
                if event["type"] == "execution_success":
                    break
    finally:
        socket.close()
    assert len(client.images(result, there)) == 1
    assert missing.number not in result.outputs
    (error,) = said
    assert error["node_id"] == behind.number
    assert "image_3 is empty: 2 garments are found" in error["exception_message"]


def test_an_empty_slot_can_be_as_if_unplugged(session):
    graph = session.graph("jacket", empty_slots="leave open")
    clip = graph.add("ProbeTextEncoder", kind="qwen")
    clip = graph.add("ProbePictureTokens", clip=clip, name="open")
    encoded = graph.add(
        "TextEncodeQwenImageEditPlus",
        clip=clip,
        prompt="x",
        image1=graph.references[0],
        image2=graph.references[1],
        image3=graph.references[2],
    )
    graph.save(encoded, "open_conditioning")
    session.run(graph)
    assert len(session.saved("open_0")) == 1


def test_no_garments_at_all(session):
    for node, inputs in (
        ("GarmentReferences", {"dialect": "qwen", "megapixels": 1.0, "empty_slots": "stop"}),
        ("ReferenceLatents", {"megapixels": 1.0}),
    ):
        graph = session.graph()
        none = graph.add("ProbeTake", garments=graph.found, count=0)
        if node == "ReferenceLatents":
            words = graph.add("ProbeWords", length=5)
            vae = graph.add("ProbeEditorVAE", kind="flux")
            inputs |= {"positive": words, "negative": words, "vae": vae}
        graph.save(graph.add(node, garments=none, **inputs), "nothing")
        assert "No garments arrive" in session.server.client.error_of(graph)


def references(conditioning: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    found = {key: t for key, t in conditioning.items() if "reference_latents" in key}
    return [found[key] for key in sorted(found)]


def test_reference_latents_are_those_of_a_chain_by_hand(session):
    """One for each garment and of its size, in positive and negative, person first."""
    graph = session.graph("jacket", "skirt", "dress")
    vae = graph.add("ProbeEditorVAE", kind="flux2")
    positive = graph.add("ProbeWords", length=5)
    negative = graph.add("ConditioningZeroOut", conditioning=positive)
    person = graph.add("LoadImage", image="1.png")
    person = graph.add(
        "ImageScaleToTotalPixels",
        image=person,
        upscale_method="lanczos",
        megapixels=0.03,
        resolution_steps=16,
    )
    ours = graph.add(
        "ReferenceLatents",
        positive=positive,
        negative=negative,
        vae=vae,
        garments=graph.found,
        megapixels=1.0,
        person=person,
    )
    chain = positive
    for picture in (person, graph.references[0], graph.references[1]):
        latent = graph.add("VAEEncode", pixels=picture, vae=vae)
        chain = graph.add("ReferenceLatent", conditioning=chain, latent=latent)
    for name, value in {"ours": ours[0], "ours_negative": ours[1], "chain": chain}.items():
        graph.save(value, name)
    session.run(graph)
    found = references(session.saved("ours"))
    assert len(found) == 4
    # The dress's 94 rows are no multiple of 16: white is added, nothing is cut.
    sizes = [(112, 80), (80, 112), (96, 64)]
    assert [t.shape for t in found[1:]] == [(1, 128, h // 16, w // 16) for h, w in sizes]
    for mine, theirs in zip(found, references(session.saved("chain")), strict=False):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    for mine, negative in zip(found, references(session.saved("ours_negative")), strict=True):
        torch.testing.assert_close(mine, negative, rtol=0, atol=0)


def test_a_batch_of_persons_is_refused(session):
    graph = session.graph("jacket", "coat")
    words = graph.add("ProbeWords", length=5)
    inputs = {"positive": words, "negative": words, "garments": graph.found, "megapixels": 1.0}
    vae = graph.add("ProbeEditorVAE", kind="flux")
    graph.save(graph.add("ReferenceLatents", vae=vae, person=graph.found[1], **inputs), "persons")
    assert "person is a batch of 2 pictures" in session.server.client.error_of(graph)


def sampled(graph: Editing, positive, negative, name: str) -> None:
    """One step of the tiny FLUX.2, with what reaches the model written to NAME_0."""
    model = graph.add("ProbeEditor", kind="flux2")
    model = graph.add("ProbeReferences", model=model, name=name)
    latent = graph.add("EmptyFlux2LatentImage", width=64, height=64, batch_size=1)
    sampling = {"seed": 1, "steps": 1, "cfg": 4.0, "sampler_name": "euler", "scheduler": "simple"}
    samples = graph.add(
        "KSampler",
        model=model,
        positive=positive,
        negative=negative,
        latent_image=latent,
        denoise=1.0,
        **sampling,
    )
    graph.save(samples, f"{name}_samples")


def test_the_model_sees_every_garment_and_of_a_batch_only_the_first(session):
    """The old way is shown to lose two of three, or this test would mean nothing."""
    names = ("jacket", "skirt", "dress")
    graph = session.graph(*names, dialect="flux2")
    vae = graph.add("ProbeEditorVAE", kind="flux2")
    positive = graph.add("ProbeWords", length=5, width=192)
    negative = graph.add("ConditioningZeroOut", conditioning=positive)
    inputs = {"vae": vae, "garments": graph.found, "megapixels": 1.0}
    ours = graph.add("ReferenceLatents", positive=positive, negative=negative, **inputs)
    sampled(graph, ours[0], ours[1], "ours")
    small = {"upscale_method": "area", "width": 96, "height": 128, "crop": "disabled"}
    photos = graph.add("ImageScale", image=graph.found[1], **small)
    batch = graph.add("VAEEncode", pixels=photos, vae=vae)
    first = graph.add("ImageFromBatch", image=photos, batch_index=0, length=1)
    first = graph.add("VAEEncode", pixels=first, vae=vae)
    for name, latent in {"batch": batch, "first": first}.items():
        ends = [
            graph.add("ReferenceLatent", conditioning=words, latent=latent)
            for words in (positive, negative)
        ]
        sampled(graph, *ends, name)
    graph.save(batch, "batch_latent")
    session.run(graph)

    seen = session.saved("ours_0")
    assert seen["x"].shape[0] == 2, "positive and negative in one call"
    sizes = [(112, 80), (80, 112), (96, 64)]
    found = [seen[key].shape for key in sorted(seen) if key.startswith("reference")]
    assert found == [(2, 128, h // 16, w // 16) for h, w in sizes]
    assert session.saved("batch_latent")["samples"].shape[0] == 3
    assert session.saved("batch_0").keys() == {"x", "reference_0"}
    assert len(session.saved("batch_0")["reference_0"]) == 2, "the first, for both conditionings"
    lost = session.saved("batch_samples")["samples"]
    alone = session.saved("first_samples")["samples"]
    torch.testing.assert_close(lost, alone, rtol=0, atol=1e-4)
    assert (lost - session.saved("ours_samples")["samples"]).abs().max() > 1e-2


def test_qwens_encoder_sees_every_garment_and_of_a_batch_only_the_first(session):
    graph = session.graph("jacket", "skirt", "dress")
    clip = graph.add("ProbeTextEncoder", kind="qwen")
    first = graph.add("ImageFromBatch", image=graph.found[1], batch_index=0, length=1)
    ways = {
        "slots": {f"image{n}": graph.references[n - 1] for n in (1, 2, 3)},
        "batch": {"image1": graph.found[1]},
        "first": {"image1": first},
    }
    for name, images in ways.items():
        probe = graph.add("ProbePictureTokens", clip=clip, name=name)
        encoded = graph.add(
            "TextEncodeQwenImageEditPlus", clip=probe, prompt=graph.references[8], **images
        )
        graph.save(encoded, f"qwen_{name}")
    session.run(graph)
    pictures = session.saved("slots_0")
    aspects = [pictures[key].shape[2] / pictures[key].shape[1] for key in sorted(pictures)]
    assert aspects == pytest.approx([80 / 112, 112 / 80, 64 / 94], rel=0.01)
    words = {name: session.saved(f"qwen_{name}")["0.0"] for name in ways}
    # 384 x 384 pixels a picture: 28 x 28 of them make a token.
    assert words["slots"].shape[1] - words["first"].shape[1] > 2 * 150
    torch.testing.assert_close(words["batch"], words["first"], rtol=0, atol=0)


def test_redux_reads_a_whole_batch(session):
    graph = session.graph("jacket", "skirt", "dress")
    redux = graph.add("ProbeRedux")
    words = graph.add("ProbeWords", length=5)
    square = graph.add(
        "ResizeAndPadImage",
        image=graph.found[1],
        target_width=384,
        target_height=384,
        padding_color="white",
        interpolation="lanczos",
    )
    seen = graph.add("CLIPVisionEncode", clip_vision=redux[0], image=square, crop="none")
    applied = graph.add(
        "StyleModelApply",
        conditioning=words,
        style_model=redux[1],
        clip_vision_output=seen,
        strength=1.0,
        strength_type="multiply",
    )
    graph.save(applied, "redux")
    session.run(graph)
    found = session.saved("redux")["0.0"][0, 5:].reshape(-1, 4, 64)
    assert len(found) == 3, "four words a garment"
    assert len({tuple(garment.flatten().tolist()) for garment in found}) == 3


TINY = {
    "edit_flux2_klein": {
        "UNETLoader": ("ProbeEditor", "flux2"),
        "CLIPLoader": ("ProbeTextEncoder", "klein"),
        "VAELoader": ("ProbeEditorVAE", "flux2"),
    },
    "edit_qwen_2511": {
        "UNETLoader": ("ProbeEditor", "qwen"),
        "CLIPLoader": ("ProbeTextEncoder", "qwen"),
        "VAELoader": ("ProbeEditorVAE", "qwen"),
    },
    "inpaint_flux_fill_redux": {
        "UNETLoader": ("ProbeEditor", "fill"),
        "VAELoader": ("ProbeEditorVAE", "flux"),
    },
}


@pytest.mark.parametrize("name", TINY)
def test_a_shipped_workflow_paints_a_picture(session, name):
    """Read from the file; the loaders are those of tiny models, sizes and steps small."""
    workflow = workflows.read(name)
    workflows.set_widgets(workflow, "GarmentIndexLoader", index_name=NAME)
    workflows.set_widgets(workflow, "LoadImage", image="1.png")
    graph = Graph(convert_ui_to_api(workflow, session.server.client.json("/object_info")))
    redux = None
    for node in graph.values():
        kind, inputs = node["class_type"], node["inputs"]
        if kind in TINY[name]:
            node["class_type"], inputs = TINY[name][kind][0], {"kind": TINY[name][kind][1]}
        elif kind == "ImageScaleToTotalPixels":
            inputs["megapixels"] = 0.02
        elif kind == "FluxKontextImageScale":
            small = {"upscale_method": "area", "megapixels": 0.02, "resolution_steps": 16}
            node["class_type"], inputs = "ImageScaleToTotalPixels", {**inputs, **small}
        elif kind == "CLIPTextEncode" and name == "inpaint_flux_fill_redux":
            node["class_type"], inputs = "ProbeWords", {"length": 5}
        elif kind == "StyleModelLoader":
            node["class_type"], inputs = "ProbeRedux", {}
        elif kind == "CLIPVisionEncode":
            redux = inputs
        elif "steps" in inputs:
            inputs["steps"] = 2
        node["inputs"] = inputs
    if redux is not None:
        redux["clip_vision"] = [graph.node("ProbeRedux").number, 0]
        applied = graph[graph.node("StyleModelApply").number]["inputs"]
        applied["style_model"] = [graph.node("ProbeRedux").number, 1]
        graph.pop(graph.node("CLIPVisionLoader").number)
        graph.pop(graph.node("DualCLIPLoader").number)
    result = session.run(graph)
    (picture,) = session.server.client.images(result, graph.node("SaveImage"))
    assert picture.std() > 1
    if name.startswith("inpaint"):
        original = np.asarray(Image.open(session.server.base / "input" / "1.png").convert("RGB"))
        assert picture.shape == original.shape


def test_bad_cut_outs_are_said(session):
    """A cut-out that is missing, or leads out of the catalogue."""
    table = session.catalogue / "garments.csv"
    before = table.read_text(encoding="utf-8")
    try:
        for wrong, message in (
            (".cutouts/gone.png", "names the cut-out '.cutouts/gone.png'"),
            ("../../../input/1.png", "is not a path inside"),
        ):
            table.write_text(before.replace(".cutouts/dress.png", wrong), encoding="utf-8")
            name = f"{NAME}_{len(message)}"
            session.run(build(name, NAME))
            graph = session.graph("dress")
            graph[graph.index.number]["inputs"]["index_name"] = name
            graph.save(graph.references[0], "wrong")
            with pytest.raises(PromptError, match=message):
                session.run(graph)
    finally:
        table.write_text(before, encoding="utf-8")
