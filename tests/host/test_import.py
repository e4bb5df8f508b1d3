"""The pack in a ComfyUI that has none of its optional packages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fashion_rag.comfyui_server.server import PACK_FOLDER

from .contract import NODES

pytestmark = pytest.mark.host

# Of the release itself, as its /object_info gave it. A later release adds a file.
RELEASED = json.loads(
    (Path(__file__).parent.parent / "data" / "nodes_0_1_0.json").read_text(encoding="utf-8")
)


@pytest.fixture(scope="module")
def info(bare) -> dict:
    return bare.client.json("/object_info")


def test_imports_without_optional_packages(bare):
    assert "IMPORT FAILED" not in bare.log
    (line,) = [line for line in bare.log.splitlines() if line.rstrip().endswith(PACK_FOLDER)]
    assert "seconds" in line


def test_every_node_is_there_and_no_other(info):
    ours = {name for name, node in info.items() if PACK_FOLDER in node["python_module"]}
    assert ours == set(NODES)


@pytest.mark.parametrize("name", NODES)
def test_inputs_and_outputs_keep_the_contract(info, name):
    node, contract = info[name], NODES[name]
    for kind in ("required", "optional"):
        inputs = contract.get(kind, [])
        assert node["input_order"].get(kind, []) == [input_name for input_name, _, _ in inputs]
        for input_name, input_type, options in inputs:
            found_type, found = node["input"][kind][input_name]
            assert found_type == input_type, input_name
            assert {key: found.get(key) for key in options} == options, input_name
    assert list(zip(node["output_name"], node["output"], strict=True)) == contract["outputs"]
    assert node["output_node"] == contract.get("output_node", False)


@pytest.mark.parametrize("name", RELEASED)
def test_what_was_released_is_kept(info, name):
    """Saved workflows hold widgets by their order and links by their slot's number: inputs and
    outputs keep name, type, order and default, and new ones stand after them."""
    node, released = info[name], RELEASED[name]
    for kind in ("required", "optional"):
        present = [
            {"name": slot, "type": found if isinstance(found, str) else "COMBO"}
            | ({"default": options["default"]} if "default" in options else {})
            for slot in node["input_order"].get(kind, [])
            for found, options in [node["input"][kind][slot]]
        ]
        if kind == "required":
            assert present == released[kind]
        else:
            assert present[: len(released[kind])] == released[kind]
    outputs = zip(node["output_name"], node["output"], strict=True)
    outputs = [{"name": slot, "type": found} for slot, found in outputs]
    assert outputs[: len(released["outputs"])] == released["outputs"]


@pytest.mark.parametrize("name", NODES)
def test_everything_is_explained(info, name):
    node = info[name]
    assert node["description"] and node["display_name"] and node["search_aliases"]
    assert node["category"].startswith("FashionRAG")
    inputs = {
        k: v for kind in ("required", "optional") for k, v in node["input"].get(kind, {}).items()
    }
    assert [k for k, (_, options) in inputs.items() if not options.get("tooltip")] == []
    assert all(node["output_tooltips"])


def test_choices(info):
    def choices(node: str, name: str) -> list:
        return info[node]["input"]["required"][name][1]["options"]

    stock = info["UNETLoader"]["input"]["required"]["weight_dtype"][0]
    assert choices("FashionUNetLoader", "weight_dtype") == stock
    assert choices("GarmentIndexBuild", "encoder")[-1] == "host"
    assert choices("TextGarmentRetrieve", "category")[0] == "any"
    modes = ["from adapter", "fit", "whole", "paper_stretch"]
    assert choices("GarmentTextualInversion", "preprocess") == modes


def test_licences_are_said_where_weights_are_chosen(info):
    for node, name in (
        ("FashionUNetLoader", "unet_name"),
        ("InversionAdapterLoader", "adapter_name"),
    ):
        assert "non-commercial" in info[node]["input"]["required"][name][1]["tooltip"]


def test_noise_mask_says_that_denoise_needs_it(info):
    tooltip = info["FashionInpaintConditioning"]["input"]["required"]["noise_mask"][1]["tooltip"]
    assert "denoise" in tooltip
