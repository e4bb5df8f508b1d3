"""The shipped workflows, and how tests run one on a stand-in model."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from fashion_rag.comfyui_server.installations import PACK

FOLDER = PACK / "workflows"
SUBGRAPHS = PACK / "subgraphs"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
RELEASED = Path(__file__).parent / "data" / "released_0_1_0" / "workflows"
"""The workflows of version 0.1.0, as it had them."""
FOLDERS = {
    "CLIPLoader": "text_encoders",
    "CLIPVisionLoader": "clip_vision",
    "CheckpointLoaderSimple": "checkpoints",
    "ControlNetLoader": "controlnet",
    "DualCLIPLoader": "text_encoders",
    "FashionUNetLoader": "diffusion_models",
    "HumanParserLoader": "fashion_rag/parsers",
    "IPAdapterModelLoader": "ipadapter",
    "InversionAdapterLoader": "fashion_rag/adapters",
    "StyleModelLoader": "style_models",
    "UNETLoader": "diffusion_models",
    "VAELoader": "vae",
}
"""Where a loader's files lie, under `models`; their names are its first widgets."""
SHIPPED = "miniature"
"""The name of what comes with the pack, which nobody has to fetch."""
OTHER_PACKS = {
    "DWPreprocessor": "comfyui_controlnet_aux",
    "IPAdapterAdvanced": "comfyui_ipadapter_plus",
    "IPAdapterModelLoader": "comfyui_ipadapter_plus",
}
"""Nodes that are neither ours nor the host's, and the pack that each belongs to."""

_LOADED = {
    ("CheckpointLoaderSimple", 0): 0,
    ("CheckpointLoaderSimple", 1): 1,
    ("CheckpointLoaderSimple", 2): 2,
    ("CLIPVisionLoader", 0): 3,
    ("InversionAdapterLoader", 0): 4,
}
"""Outputs of loaders, and the one of Fashion-RAG Loader that stands in for each."""
_OUTPUTS = {
    "model": "MODEL",
    "clip": "CLIP",
    "vae": "VAE",
    "clip_vision": "CLIP_VISION",
    "adapter": "FASHIONRAG_ADAPTER",
}


def read(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """A shipped workflow in the format of the page."""
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def read_subgraph(name: str) -> dict[str, Any]:
    """A shipped subgraph blueprint in the format of the page."""
    return json.loads((SUBGRAPHS / f"{name}.json").read_text(encoding="utf-8"))


def inside(blueprint: dict[str, Any]) -> dict[str, Any]:
    """The nodes of a blueprint as a workflow of its own; what comes from outside is not linked."""
    (subgraph,) = blueprint["definitions"]["subgraphs"]
    flat = {
        **blueprint,
        "nodes": copy.deepcopy(subgraph["nodes"]),
        "definitions": {},
        "links": [
            [link["id"], *(link[k] for k in ("origin_id", "origin_slot", "target_id")), slot, kind]
            for link in subgraph["links"]
            for slot, kind in [(link["target_slot"], link["type"])]
            if link["origin_id"] != -10 and link["target_id"] != -20
        ],
    }
    kept = {link[0] for link in flat["links"]}
    for node in flat["nodes"]:
        for slot in node["inputs"]:
            slot["link"] = slot["link"] if slot["link"] in kept else None
    return flat


def outside(blueprint: dict[str, Any], side: str, name: str) -> list[tuple[int, int]]:
    """Nodes inside a blueprint, with their slots, that its input or output of this name is linked
    to; side: `inputs` or `outputs`."""
    (subgraph,) = blueprint["definitions"]["subgraphs"]
    (end,) = [end for end in subgraph[side] if end["name"] == name]
    node, slot = ("target_id", "target_slot") if side == "inputs" else ("origin_id", "origin_slot")
    return [(k[node], k[slot]) for k in subgraph["links"] if k["id"] in end["linkIds"]]


def files_of(node: dict[str, Any]) -> list[str]:
    """The names of the files, or of the folder, that a loader loads and a user has to fetch."""
    names = node["widgets_values"][: 2 if node["type"] == "DualCLIPLoader" else 1]
    return [name for name in names if name != SHIPPED]


def of_type(workflow: dict[str, Any], node_type: str) -> dict[str, Any]:
    """The one node of this type."""
    (node,) = [node for node in workflow["nodes"] if node["type"] == node_type]
    return node


def set_widgets(workflow: dict[str, Any], node_type: str, **values: Any) -> None:
    """Set widgets of all nodes of this type, by their names."""
    nodes = [node for node in workflow["nodes"] if node["type"] == node_type]
    assert nodes, f"no {node_type}"
    for node in nodes:
        names = [slot["name"] for slot in node["inputs"] if "widget" in slot]
        if node_type == "KSampler":
            names.insert(1, "control_after_generate")
        for name, value in values.items():
            node["widgets_values"][names.index(name)] = value


def on_model_folder(workflow: dict[str, Any], name: str) -> dict[str, Any]:
    """The workflow with the model folder `name` in place of its three loaders."""
    workflow = copy.deepcopy(workflow)
    types = {node["id"]: node["type"] for node in workflow["nodes"]}
    outputs = [{"name": n, "type": t, "links": []} for n, t in _OUTPUTS.items()]
    number = workflow["last_node_id"] = workflow["last_node_id"] + 1
    for link in workflow["links"]:
        slot = _LOADED.get((types[link[1]], link[2]))
        if slot is not None:
            link[1:3] = number, slot
            outputs[slot]["links"].append(link[0])
    replaced = {node_type for node_type, _ in _LOADED}
    workflow["nodes"] = [node for node in workflow["nodes"] if node["type"] not in replaced]
    workflow["nodes"].append(
        {
            "id": number,
            "type": "FashionRAGLoader",
            "pos": [0, 0],
            "size": [460, 200],
            "flags": {},
            "order": 0,
            "mode": 0,
            "inputs": [
                {
                    "name": "model_name",
                    "type": "COMBO",
                    "widget": {"name": "model_name"},
                    "link": None,
                }
            ],
            "outputs": outputs,
            "properties": {"Node name for S&R": "FashionRAGLoader"},
            "widgets_values": [name],
        }
    )
    return workflow
