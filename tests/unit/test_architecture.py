"""The plan of the house: which package may import which, and one place for each shared thing."""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter

import pytest

from ..architecture import (
    ARROWS,
    DRAWING,
    PACK,
    SHARED,
    draw,
    imports,
    modules,
    package,
    used_arrows,
)

HOST = {"comfy", "comfy_extras", "execution", "folder_paths", "latent_preview", "nodes", "server"}
"""ComfyUI's own modules; `comfy_api` and `node_helpers` are made for packs."""


def test_packages_import_what_lies_below_them():
    used = used_arrows()
    assert not {name: used[name] - allowed for name, allowed in ARROWS.items()
                if used[name] - allowed}  # fmt: skip
    assert not {name: own for name in SHARED if (own := set(imports(name)[0]) - set(SHARED))}


def test_every_arrow_is_used():
    """A list that allows more than there is would hide the next wrong arrow."""
    used = used_arrows()
    assert not {name: rest for name, allowed in ARROWS.items() if (rest := allowed - used[name])}


def test_the_retriever_and_the_adapter_do_not_know_each_other():
    assert "adapter" not in ARROWS["retriever"] and "retriever" not in ARROWS["adapter"]


def test_no_circle_between_files():
    try:
        TopologicalSorter({name: set(imports(name)[0]) - {name} for name in modules()}).prepare()
    except CycleError as error:
        pytest.fail(f"circle: {' -> '.join(error.args[1])}")


def test_imports_inside_the_pack_are_relative():
    """ComfyUI loads the pack by its path, under another name than `fashion_rag`."""
    assert not [name for name in modules() if "fashion_rag" in imports(name)[1]]


def test_only_nodes_host_knows_comfyui():
    wrong = {}
    for name in modules():
        allowed = {"nodes": {"comfy_api", "node_helpers"}, "nodes.host": {*HOST, "comfy_api"}}
        known = set(imports(name)[1]) & {*HOST, "comfy_api", "node_helpers"}
        if known - allowed.get(package(name), set()):
            wrong[name] = known
    assert not wrong


@pytest.mark.parametrize(
    ("pattern", "place"),
    [
        (r"os\.replace\(|mkstemp\(dir|NamedTemporaryFile", "files"),
        (r"Callable\[\[int, int\], None\]", "progress"),
        (r"\"dresses\", \"upper_body\"", "categories"),
        (r"0\.4814\d+|0\.2686\d+|OPENAI_DATASET_MEAN", "pictures.clip_pixels"),
        (r"functional_call\(\s*(self\.)?text_encoder", "adapter.garment.text_encoder"),
    ],
)
def test_one_place_each(pattern, place):
    found = {
        name for name, path in modules().items() if re.search(pattern, path.read_text("utf-8"))
    }
    assert found == {place}


@pytest.mark.parametrize("name", sorted({m.rpartition(".")[0] for m in modules()} - {""}))
def test_every_package_says_what_it_is_for(name):
    text = PACK.joinpath(*name.split("."), "__init__.py").read_text(encoding="utf-8")
    assert len(ast.get_docstring(ast.parse(text)) or "") > 30


@pytest.mark.parametrize("name", sorted(modules()))
def test_public_names_have_a_docstring(name):
    """Functions, classes, and methods of classes without a base; properties may go without."""
    found = []
    for node in ast.parse(modules()[name].read_text(encoding="utf-8")).body:
        found.append((node, getattr(node, "name", "_")))
        if isinstance(node, ast.ClassDef) and not node.bases and not node.name.startswith("_"):
            found += [
                (method, f"{node.name}.{method.name}")
                for method in node.body
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_")
                if not any("property" in ast.unparse(d) or "setter" in ast.unparse(d)
                           for d in method.decorator_list)
            ]  # fmt: skip
    assert not [
        called for node, called in found if called[0] != "_" and not ast.get_docstring(node)
    ]


def test_the_drawing_is_of_today():
    assert DRAWING.read_text(encoding="utf-8") == draw(), "run `python tests/architecture.py`"
