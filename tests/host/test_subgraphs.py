"""The subgraph blueprints: sound as files, served by every host, valid in it."""

from __future__ import annotations

import json
import urllib.error
from urllib.parse import urlparse

import numpy as np
import pytest
from comfy_cli.workflow_to_api import convert_ui_to_api
from fashion_rag.comfyui_server.client import Graph, Node
from fashion_rag.comfyui_server.installations import PACK
from fashion_rag.comfyui_server.server import PACK_FOLDER
from PIL import Image

from .. import workflows
from .test_workflows import LOADERS, SHIPPED, without

BLUEPRINTS = sorted(path.stem for path in workflows.SUBGRAPHS.glob("*.json"))
every_blueprint = pytest.mark.parametrize("name", BLUEPRINTS)


def test_there_is_one_for_every_model_and_one_for_any():
    assert BLUEPRINTS == [
        "Dress a person",
        "Dress from Catalogue (FLUX.2 klein 4B)",
        "Dress from Catalogue (Qwen-Image-Edit 2511)",
        "Garments from Catalogue",
        "Repaint Clothes from Catalogue (FLUX.1 Fill, Redux)",
        "Repaint Clothes from Catalogue (SDXL, IP-Adapter)",
    ]
    assert workflows.SUBGRAPHS == PACK / "subgraphs"


@every_blueprint
def test_one_node_stands_for_the_whole(name):
    """What the page's store of blueprints asks for, and links that agree at both ends."""
    blueprint = workflows.read_subgraph(name)
    (root,) = blueprint["nodes"]
    (inside,) = blueprint["definitions"]["subgraphs"]
    assert root["type"] == inside["id"] and root["title"] == inside["name"] == name
    assert inside["category"] == "FashionRAG" and "catalogue" in inside["description"]
    assert [slot["name"] for slot in root["inputs"]] == [s["name"] for s in inside["inputs"]]
    assert [slot["name"] for slot in root["outputs"]] == [s["name"] for s in inside["outputs"]]
    nodes = {node["id"]: node for node in inside["nodes"]}
    for number, widget in root["properties"]["proxyWidgets"]:
        slots = nodes[int(number)]["inputs"]
        assert any(slot.get("widget", {}).get("name") == widget for slot in slots)
    for link in inside["links"]:
        source, slot = link["origin_id"], link["origin_slot"]
        ends = inside["inputs"] if source == -10 else nodes[source]["outputs"]
        known = ends[slot]["linkIds" if source == -10 else "links"]
        assert link["id"] in known and ends[slot]["type"] == link["type"]
        target, slot = link["target_id"], link["target_slot"]
        if target == -20:
            assert link["id"] in inside["outputs"][slot]["linkIds"]
        else:
            assert nodes[target]["inputs"][slot]["link"] == link["id"]


@every_blueprint
def test_files_have_links(name):
    (inside,) = workflows.read_subgraph(name)["definitions"]["subgraphs"]
    for node in inside["nodes"]:
        if node["type"] in workflows.FOLDERS:
            models = {model["name"]: model for model in node["properties"].get("models", [])}
            single = [n for n in workflows.files_of(node) if n.endswith(".safetensors")]
            assert set(models) == set(single)
            for model in models.values():
                assert model["directory"] == workflows.FOLDERS[node["type"]]
                assert urlparse(model["url"]).netloc == "huggingface.co"
                assert urlparse(model["url"]).path.endswith(".safetensors")


@pytest.mark.host
def test_the_host_serves_them(bare):
    served = bare.client.json("/global_subgraphs")
    ours = {
        entry["name"]: key
        for key, entry in served.items()
        if entry["info"]["node_pack"] == f"custom_nodes.{PACK_FOLDER}"
    }
    assert sorted(ours) == BLUEPRINTS
    for name, key in ours.items():
        entry = bare.client.json(f"/global_subgraphs/{key}")
        assert json.loads(entry["data"]) == workflows.read_subgraph(name)


@pytest.mark.host
@every_blueprint
def test_host_finds_nothing_wrong_inside_but_what_is_left_to_connect(bare, name):
    """With a preview behind it; files, the person and the mask are the user's."""
    schemas = bare.client.json("/object_info")
    blueprint = workflows.read_subgraph(name)
    graph = convert_ui_to_api(workflows.inside(blueprint), schemas)
    graph = without(graph, workflows.OTHER_PACKS)
    first = blueprint["definitions"]["subgraphs"][0]["outputs"][0]["name"]
    ((number, slot),) = workflows.outside(blueprint, "outputs", first)
    shown = [str(number), slot]
    graph["9999"] = {"class_type": "PreviewImage", "inputs": {"images": shown}}
    with pytest.raises(urllib.error.HTTPError) as refusal:
        bare.client.post("/prompt", {"prompt": graph, "client_id": bare.client.id})
    body = json.loads(refusal.value.read())
    assert body["error"]["type"] == "prompt_outputs_failed_validation", body["error"]
    for number, wrong in body["node_errors"].items():
        kind = graph[number]["class_type"]
        for error in wrong["errors"]:
            if error["type"] == "required_input_missing":
                assert error["extra_info"]["input_name"] in ("image", "original", "mask"), error
                continue
            assert error["type"] in ("value_not_in_list", "custom_validation_failed"), error
            assert error["extra_info"]["input_name"] in LOADERS.get(kind, []), error


@pytest.mark.host
def test_dress_a_person_makes_a_picture(server, index):
    """All that is inside, with a photo connected, on the stand-in and the miniature's parser."""
    Image.open(SHIPPED / "people" / "drawn_dress" / "photo.jpg").save(
        server.base / "input" / "dressed.png"
    )
    blueprint = workflows.read_subgraph("Dress a person")
    workflow = workflows.inside(blueprint)
    workflows.set_widgets(workflow, "GarmentIndexLoader", index_name=index)
    workflows.set_widgets(workflow, "HumanParserLoader", parser_name="miniature")
    workflows.set_widgets(workflow, "FashionFrame", width=96, height=128)
    workflows.set_widgets(workflow, "KSampler", steps=2)
    workflow = workflows.on_model_folder(workflow, "standin")
    graph = Graph(convert_ui_to_api(workflow, server.client.json("/object_info")))
    graph["photo"] = {"class_type": "LoadImage", "inputs": {"image": "dressed.png"}}
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for number, slot in workflows.outside(blueprint, "inputs", "photo"):
        graph[str(number)]["inputs"][nodes[number]["inputs"][slot]["name"]] = ["photo", 0]
    ((number, slot),) = workflows.outside(blueprint, "outputs", "mask")
    graph["mask"] = {"class_type": "MaskToImage", "inputs": {"mask": [str(number), slot]}}
    ((number, slot),) = workflows.outside(blueprint, "outputs", "image")
    for name, source in (("image", [str(number), slot]), ("mask", ["mask", 0])):
        saved = {"images": source, "filename_prefix": name}
        graph[f"saved {name}"] = {"class_type": "SaveImage", "inputs": saved}
    result = server.client.run(graph)
    picture, mask = (
        server.client.images(result, Node(f"saved {name}"))[0] for name in ("image", "mask")
    )
    photo = np.asarray(Image.open(server.base / "input" / "dressed.png").convert("RGB"))
    painted = mask[..., 0] > 0
    assert picture.shape == photo.shape and 0.02 < painted.mean() < 0.5
    changed = (picture != photo).any(axis=2)
    assert changed[painted].mean() > 0.9 and not changed[~painted].any()
