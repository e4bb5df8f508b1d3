"""The shipped workflows: sound as files, valid in every host, and the main one runs."""

from __future__ import annotations

import json
import urllib.error
from itertools import combinations
from typing import Any
from urllib.parse import urlparse

import numpy as np
import pytest
from comfy_cli.workflow_to_api import convert_ui_to_api
from fashion_rag.comfyui_server.client import Graph, Node
from fashion_rag.comfyui_server.installations import PACK
from PIL import Image
from scipy.ndimage import maximum_filter

from .. import workflows
from .graphs import Dress

LOADERS = {
    "CLIPLoader": ["clip_name"],
    "CLIPVisionLoader": ["clip_name"],
    "CheckpointLoaderSimple": ["ckpt_name"],
    "ControlNetLoader": ["control_net_name"],
    "DualCLIPLoader": ["clip_name1", "clip_name2"],
    "FashionUNetLoader": ["unet_name"],
    "GarmentIndexBuild": ["catalogue", "encoder"],
    "GarmentIndexLoader": ["index_name"],
    "HumanParserLoader": ["parser_name"],
    "InversionAdapterLoader": ["adapter_name"],
    "LoadImage": ["image"],
    "StyleModelLoader": ["style_model_name"],
    "UNETLoader": ["unet_name"],
    "VAELoader": ["vae_name"],
}
"""The inputs that name a user's files: they alone may be missing in a fresh host."""
NOTES = {"MarkdownNote", "Note"}
MINIATURES = ("miniature", "photo_to_outfit_miniature")
"""They need no file of the user's, so a host runs them as they are."""
SHIPPED = PACK / "miniature" / "examples"
TITLE = 30  # pixels of a node's title, which the page draws above its position

every_workflow = pytest.mark.parametrize("name", workflows.NAMES)


def test_there_is_one_for_every_task():
    assert workflows.NAMES == [
        "build_index",
        "edit_flux2_klein",
        "edit_qwen_2511",
        "fashion_rag_controlnet_pose",
        "fashion_rag_dwpose",
        "fashion_rag_paper",
        "inpaint_flux_fill_redux",
        "inpaint_sdxl_ipadapter",
        "miniature",
        "photo_to_outfit",
        "photo_to_outfit_miniature",
        "photo_to_outfit_one_pass",
        "retrieve_only",
        "text_to_outfit_inpainting",
    ]


@every_workflow
def test_links_agree_with_the_slots_at_both_ends(name):
    workflow = workflows.read(name)
    nodes = {node["id"]: node for node in workflow["nodes"]}
    assert workflow["version"] == 0.4
    assert workflow["last_node_id"] == max(nodes)
    assert workflow["last_link_id"] == max(link[0] for link in workflow["links"])
    for number, source, output, target, slot, kind in workflow["links"]:
        assert number in nodes[source]["outputs"][output]["links"]
        assert nodes[source]["outputs"][output]["type"] == kind
        assert nodes[target]["inputs"][slot]["link"] == number
        assert nodes[target]["inputs"][slot]["type"] in (kind, "*")
    ends = [slot["link"] for node in nodes.values() for slot in node["inputs"] if slot["link"]]
    assert sorted(ends) == sorted(link[0] for link in workflow["links"])


@every_workflow
def test_nodes_do_not_overlap_and_groups_hold_theirs(name):
    workflow = workflows.read(name)
    boxes = {}
    for node in workflow["nodes"]:
        (x, y), (width, height) = node["pos"], node["size"]
        boxes[f"{node['id']} {node['type']}"] = (x, y - TITLE, x + width, y + height)
    for (one, a), (other, b) in combinations(boxes.items(), 2):
        apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        assert apart, f"{one} and {other} overlap"
    for node, box in boxes.items():
        inside = 0
        for group in workflow["groups"]:
            x, y, width, height = group["bounding"]
            if box[0] >= x and box[1] >= y and box[2] <= x + width and box[3] <= y + height:
                inside += 1
        assert inside == (node.split()[1] not in NOTES), f"{node} lies in {inside} groups"


@every_workflow
def test_files_have_a_place_a_licence_and_a_link(name):
    """Notes name every file; the missing-model dialog gets a link for every safetensors file."""
    workflow = workflows.read(name)
    notes = "\n".join(n["widgets_values"][0] for n in workflow["nodes"] if n["type"] in NOTES)
    for node in workflow["nodes"]:
        folder = workflows.FOLDERS.get(node["type"])
        if folder is None:
            continue
        models = {model["name"]: model for model in node["properties"].get("models", [])}
        for file in workflows.files_of(node):
            line = next(x for x in notes.splitlines() if x.startswith("|") and file in x)
            assert f"**{folder}**" in line
            if file.endswith(".pth") or node["type"] == "HumanParserLoader":
                # No single safetensors file: the dialog can't fetch it.
                assert "non-commercial" in line and "https://huggingface.co/" in line
                assert not models
                continue
            model = models.pop(file)
            assert model["directory"] == folder
            url = urlparse(model["url"])
            assert (url.scheme, url.netloc) == ("https", "huggingface.co")
            assert url.path.endswith(".safetensors") and model["url"] in line
        assert not models


@every_workflow
def test_nodes_name_their_pack(name):
    """What the Manager goes by to install what is missing."""
    for node in workflows.read(name)["nodes"]:
        if node["type"] in NOTES:
            continue
        pack = workflows.OTHER_PACKS.get(node["type"], node["properties"]["cnr_id"])
        assert node["properties"]["cnr_id"] == pack
        assert node["properties"]["Node name for S&R"] == node["type"]
        assert node["properties"]["ver"]


@every_workflow
def test_thumbnail(name):
    path = workflows.FOLDER / f"{name}.jpg"
    assert path.stat().st_size < 120_000
    with Image.open(path) as picture:
        assert picture.format == "JPEG" and min(picture.size) >= 400


@pytest.mark.parametrize("name", ["photo_to_outfit", "photo_to_outfit_miniature"])
def test_the_form_asks_for_person_and_words_and_shows_the_picture(name):
    """App Mode: inputs are a node's id and one of its widgets, outputs ids of nodes that show."""
    workflow = workflows.read(name)
    nodes = {str(node["id"]): node for node in workflow["nodes"]}
    form = workflow["extra"]["linearData"]
    asked = []
    for number, widget in form["inputs"]:
        assert any(slot.get("widget") == {"name": widget} for slot in nodes[number]["inputs"])
        asked.append((nodes[number]["type"], widget))
    photo = ("LoadImage", "image")
    if name in MINIATURES:
        photo = ("FashionPersonLoader", "person_name")
    assert asked == [photo, ("OutfitRetrieve", "text"), ("KSampler", "seed")]
    assert [nodes[number]["type"] for number in form["outputs"]] == ["SaveImage"]
    assert workflow["extra"]["linearMode"] is False, "it opens as a graph"


@pytest.fixture(scope="module")
def schemas(bare) -> dict[str, Any]:
    return bare.client.json("/object_info")


@pytest.mark.host
@every_workflow
def test_widgets_are_in_the_order_of_the_schema(schemas, name):
    for node in workflows.read(name)["nodes"]:
        if node["type"] in NOTES | set(workflows.OTHER_PACKS):
            continue
        schema, names, values = schemas[node["type"]], [], 0
        for section in ("required", "optional"):
            for key, (kind, *options) in schema["input"].get(section, {}).items():
                if not (isinstance(kind, list) or kind in _WIDGETS):
                    continue
                options = options[0] if options else {}
                if options.get("forceInput"):
                    continue
                names.append(key)
                names += ["upload"] if options.get("image_upload") else []
                extra = ("control_after_generate", "image_upload")
                values += 1 + any(options.get(option) for option in extra)
        assert [slot["name"] for slot in node["inputs"] if "widget" in slot] == names
        assert len(node.get("widgets_values", [])) == values, node["type"]
        ends = [slot["type"] for slot in node["outputs"]][: len(schema["output"])]
        assert ends == schema["output"]


_WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}


@pytest.mark.host
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem if folder == workflows.FOLDER else f"0.1.0-{path.stem}")
        for folder in (workflows.FOLDER, workflows.RELEASED)
        for path in sorted(folder.glob("*.json"))
        if path.stem not in MINIATURES
    ],
)
def test_host_finds_nothing_wrong_but_missing_files(bare, schemas, path):
    """The server's own validation: node classes, required inputs, types, ranges, options."""
    workflow = workflows.read(path.stem, path.parent)
    graph = without(convert_ui_to_api(workflow, schemas), workflows.OTHER_PACKS)
    outputs = [n for n in graph.values() if schemas[n["class_type"]]["output_node"]]
    assert outputs
    with pytest.raises(urllib.error.HTTPError) as refusal:
        bare.client.post("/prompt", {"prompt": graph, "client_id": bare.client.id})
    body = json.loads(refusal.value.read())
    assert body["error"]["type"] == "prompt_outputs_failed_validation", body["error"]
    for number, wrong in body["node_errors"].items():
        kind = graph[number]["class_type"]
        for error in wrong["errors"]:
            assert error["type"] in ("value_not_in_list", "custom_validation_failed"), error
            assert error["extra_info"]["input_name"] in LOADERS.get(kind, []), error


def without(graph: dict[str, Any], classes: dict[str, str]) -> dict[str, Any]:
    """The graph less nodes of these classes, less what can't do without them (previews).

    A model that one of them has changed is taken as it was.
    """
    gone = {number for number, node in graph.items() if node["class_type"] in classes}
    left = {}
    for number, node in graph.items():
        if number in gone:
            continue
        lost = [k for k, v in node["inputs"].items() if isinstance(v, list) and v[0] in gone]
        if lost and node["class_type"] == "PreviewImage":
            continue
        assert set(lost) <= {"pose", "model"}, f"{node['class_type']} needs {lost}"
        inputs = {k: v for k, v in node["inputs"].items() if k not in lost}
        if "model" in lost:
            inputs["model"] = graph[node["inputs"]["model"][0]]["inputs"]["model"]
        left[number] = {**node, "inputs": inputs}
    return left


@pytest.mark.host
def test_main_workflow_runs_on_the_standin(server, index):
    """Read from the shipped file: only the loaders and the files' names are other ones."""
    workflow = workflows.read("text_to_outfit_inpainting")
    workflows.set_widgets(workflow, "GarmentIndexLoader", index_name=index)
    workflows.set_widgets(workflow, "LoadImage", image=painted(server))
    workflows.set_widgets(workflow, "FashionFrame", width=144, height=192)
    workflows.set_widgets(workflow, "KSampler", steps=2)
    workflow = workflows.on_model_folder(workflow, "standin")
    graph = Graph(convert_ui_to_api(workflow, server.client.json("/object_info")))
    result = server.client.run(graph)
    (picture,) = server.client.images(result, graph.node("SaveImage"))
    shown = result.outputs[graph.node("TextGarmentRetrieve").number]
    assert shown["index"] == [index] and len(shown["garments"]) == 3
    photo = np.asarray(Image.open(server.base / "input" / "1.png").convert("RGB"))
    mask = np.asarray(Image.open(server.base / "input" / "1_mask.png").convert("L")) >= 128
    assert picture.shape == photo.shape
    np.testing.assert_array_equal(picture[~mask], photo[~mask])
    assert np.any(picture[mask] != photo[mask])


@pytest.mark.host
def test_the_miniature_runs_as_it_is_shipped(bare, schemas):
    """Without any file of the user's and without any optional package."""
    workflow = workflows.read("miniature")
    workflows.set_widgets(workflow, "KSampler", steps=2)
    graph = Graph(convert_ui_to_api(workflow, schemas))
    result = bare.client.run(graph)
    (picture,) = bare.client.images(result, graph.node("SaveImage"))
    loader = graph[graph.node("FashionPersonLoader").number]
    person = SHIPPED / "people" / loader["inputs"]["person_name"]
    photo = np.asarray(Image.open(person / "photo.jpg").convert("RGB"))
    # The parser's mask is nearly the one that belongs to the drawn person.
    true = np.asarray(Image.open(person / "mask.png").convert("L")) > 127
    changed = (picture != photo).any(axis=2)
    assert changed[true].mean() > 0.85
    assert not changed[~maximum_filter(true, size=61)].any()


@pytest.mark.host
def test_a_top_and_a_bottom_in_miniature(bare, schemas):
    """Both are painted, one after the other, and nothing beside the two masks."""
    workflow = workflows.read("photo_to_outfit_miniature")
    workflows.set_widgets(workflow, "KSampler", steps=2)
    picture, masks, photo = outfit(bare, workflow, schemas)
    person = workflows.of_type(workflow, "FashionPersonLoader")["widgets_values"][0]
    shipped = Image.open(SHIPPED / "people" / person / "photo.jpg").convert("RGB")
    assert picture.shape == np.asarray(shipped).shape
    changed = (picture != photo).any(axis=2)
    top, bottom = masks
    assert changed[top].mean() > 0.9 and changed[bottom].mean() > 0.9
    assert not changed[~(top | bottom)].any()
    assert np.argwhere(top).mean(axis=0)[0] < np.argwhere(bottom).mean(axis=0)[0]


@pytest.mark.host
@pytest.mark.parametrize("name", ["photo_to_outfit", "photo_to_outfit_one_pass"])
def test_a_photo_and_two_lines_on_the_standin(server, index, name):
    """The workflows for full-size models: a large photo with a small person, any index."""
    person = Image.open(SHIPPED / "people" / "drawn_dress" / "photo.jpg").convert("RGB")
    photo = Image.new("RGB", (900, 700), (196, 200, 204))
    photo.paste(person.resize((240, 320)), (500, 300))
    photo.save(server.base / "input" / "anybody.png")
    workflow = workflows.read(name)
    workflows.set_widgets(workflow, "GarmentIndexLoader", index_name=index)
    workflows.set_widgets(workflow, "LoadImage", image="anybody.png")
    workflows.set_widgets(workflow, "HumanParserLoader", parser_name="miniature")
    workflows.set_widgets(workflow, "FashionFrame", width=96, height=128)
    workflows.set_widgets(workflow, "KSampler", steps=2)
    workflow = workflows.on_model_folder(workflow, "standin")
    picture, masks, _ = outfit(server, workflow, server.client.json("/object_info"))
    changed = (picture != np.asarray(photo)).any(axis=2)
    assert not changed[~(masks[0] | masks[1])].any()
    for mask in masks:
        assert mask.any() and changed[mask].mean() > 0.9


def outfit(server, workflow, schemas) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Run it: the picture (H, W, 3), the masks (H, W) of top and bottom, and the photo."""
    graph = Graph(convert_ui_to_api(workflow, schemas))
    masks = [n for n in workflow["nodes"] if n["type"] == "GarmentMask"][:2]
    assert [n["widgets_values"][0] for n in masks] == ["upper_body", "lower_body"]
    numbers = [str(node["id"]) for node in masks]
    for number in numbers:
        made = {"class_type": "MaskToImage", "inputs": {"mask": [number, 0]}}
        graph[f"mask {number}"] = made
    shown = {n: [f"mask {n}", 0] for n in numbers}
    shown["photo"] = graph[numbers[0]]["inputs"]["image"]
    for name, images in shown.items():
        saved = {"images": images, "filename_prefix": f"outfit {name}"}
        graph[f"saved {name}"] = {"class_type": "SaveImage", "inputs": saved}
    result = server.client.run(graph)
    last = workflows.of_type(workflow, "SaveImage")["id"]
    (picture,) = server.client.images(result, Node(str(last)))
    top, bottom, photo = (server.client.images(result, Node(f"saved {n}"))[0] for n in shown)
    return picture, [top[..., 0] > 0, bottom[..., 0] > 0], photo


def painted(server) -> str:
    """A photo with its mask, as the page's mask editor saves it: transparent where painted."""
    photo = Image.open(server.base / "input" / "1.png").convert("RGB")
    mask = Image.open(server.base / "input" / "1_mask.png").convert("L")
    photo.putalpha(mask.point(lambda value: 255 - value))
    photo.save(server.base / "input" / "painted.png")
    return "painted.png"


@pytest.mark.host
@pytest.mark.parametrize("before", [True, False])
def test_controlnet_of_another_width_is_refused_with_both_widths(server, index, before):
    """Before the conditioning, as shipped, by the pack; after it by the host, while sampling."""
    graph = Dress(index=index)
    control = graph.add("ProbeControlNet", model=graph.models, width=96)
    ends: Any = graph.inputs
    if before:
        ends = {0: graph.words[0], 1: graph.empty[0]}
    applied = graph.add(
        "ControlNetApplyAdvanced",
        positive=ends[0],
        negative=ends[1],
        control_net=control,
        image=graph.photo,
        strength=1.0,
        start_percent=0.0,
        end_percent=1.0,
    )
    if before:
        graph[graph.inputs.number]["inputs"].update(positive=applied[0], negative=applied[1])
        graph.finish(graph.sample())
    else:
        latent = graph.inputs[2]
        graph.inputs = Node(applied.number)
        graph.finish(graph.sample(latent_image=latent))
    message = server.client.error_of(graph)
    assert "96" in message and "64" in message
    assert ("The ControlNet reads text of width 96" in message) == before
