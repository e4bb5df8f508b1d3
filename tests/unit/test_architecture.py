"""The plan of the house: which package may import which, read from the source with `ast`."""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from fashion_rag.comfyui_server.installations import PACK

SHARED = {"files", "progress", "categories"}
"""Modules at the top that every package may use."""
ARROWS = {
    "": {"nodes", "nodes.host", "commands"},
    "commands": {
        *("adapter", "comfyui_server", "demo", "evaluation", "evaluation.miniature", "miniature"),
        *("pictures", "retriever", "training"),
    },
    "demo": {"adapter", "comfyui_server", "miniature", "pictures", "retriever"},
    "evaluation.miniature": {"adapter", "evaluation", "miniature"},
    "evaluation": {"adapter", "pictures", "retriever", "training"},
    "miniature": {"adapter", "training"},
    "training": {"adapter", "pictures", "retriever"},
    "nodes": {"adapter", "nodes.host", "pictures", "retriever"},
    "nodes.host": {"adapter", "retriever"},
    "retriever": {"pictures"},
    "adapter": {"pictures"},
    "comfyui_server": set(),
    "pictures": set(),
}
"""From each package to those that it may import, beside SHARED; "" is the top itself."""
OUTSIDE = {"benchmarks", "docs", "tests"}
HOST = ("comfy", "comfy_extras", "execution", "folder_paths", "latent_preview", "nodes", "server")
"""Modules of ComfyUI's that are its own affair; `comfy_api` and `node_helpers` are for packs."""


def modules() -> dict[str, Path]:
    """The pack's modules by their dotted names."""
    paths = [path for path in PACK.rglob("*.py") if not path.relative_to(PACK).parts[0][0] == "."]
    named = {".".join(path.relative_to(PACK).with_suffix("").parts): path for path in paths}
    return {name: path for name, path in named.items() if name.split(".")[0] not in OUTSIDE}


MODULES = modules()
REBUILT = ("nodes.host", *(f"retriever.{p}" for p in ("encoders", "store", "upkeep", "vectors")))
"""Packages that are being rebuilt: they come to the one place of each thing with that."""


def package(name: str) -> str:
    """The package of ARROWS that a module is in."""
    parents = [".".join(name.split(".")[:depth]) for depth in range(name.count("."), 0, -1)]
    return next((parent for parent in parents if parent in ARROWS), "")


def imported(name: str) -> list[str]:
    """What a module imports, at whatever place: the pack's modules, and the roots of others."""
    found = []
    parts = name.split(".")
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [f"/{alias.name.split('.')[0]}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.append(f"/{node.module.split('.')[0]}")
        elif isinstance(node, ast.ImportFrom):
            base = [*parts[: -node.level], *(node.module.split(".") if node.module else [])]
            for alias in node.names:
                choices = (".".join([*base, *last]) for last in ([alias.name], [], ["__init__"]))
                found.append(next(choice for choice in choices if choice in MODULES))
    return found


@pytest.fixture(scope="module")
def arrows() -> dict[str, list[str]]:
    return {name: imported(name) for name in MODULES}


def test_packages_import_what_lies_below_them(arrows):
    wrong = [
        f"{name} imports {target}"
        for name, targets in arrows.items()
        for target in targets
        if not target.startswith("/") and target not in SHARED
        if package(target) not in {package(name), *ARROWS[package(name)]}
    ]
    assert not wrong
    upward = [
        f"{name} imports {target}"
        for name in SHARED
        for target in arrows[name]
        if not target.startswith("/") and target not in SHARED
    ]
    assert not upward


def test_every_arrow_is_used(arrows):
    """A list that allows more than there is would hide the next wrong arrow."""
    used = {(package(name), package(t)) for name, found in arrows.items() for t in found}
    unused = [f"{a} -> {b}" for a, below in ARROWS.items() for b in below if (a, b) not in used]
    assert not unused


def test_no_circle_between_files(arrows):
    try:
        TopologicalSorter(
            {n: [t for t in found if t != n and t in MODULES] for n, found in arrows.items()}
        ).prepare()
    except CycleError as error:
        pytest.fail(f"circle: {' -> '.join(error.args[1])}")


def test_imports_inside_the_pack_are_relative(arrows):
    """ComfyUI loads the pack by its path, under another name than `fashion_rag`."""
    assert not [name for name, found in arrows.items() if "/fashion_rag" in found]


def test_only_nodes_know_comfyui(arrows):
    wrong = [
        f"{name} imports {root}"
        for name, found in arrows.items()
        for root in {target.removeprefix("/") for target in found if target.startswith("/")}
        if (root in HOST and package(name) != "nodes.host")
        or (root in ("comfy_api", "node_helpers") and package(name) not in ("nodes", "nodes.host"))
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("pattern", "place"),
    [
        (r"os\.replace\(|mkstemp|NamedTemporaryFile", "files"),
        (r"Callable\[\[int, int\], None\]", "progress"),
        (r"\"dresses\", \"upper_body\"", "categories"),
        (r"0\.4814\d+|0\.2686\d+|OPENAI_DATASET_MEAN", "pictures.clip_pixels"),
        (r"functional_call\(\s*(self\.)?text_encoder", "adapter.garment.text_encoder"),
    ],
)
def test_one_place_each(pattern, place):
    found = {name for name, path in MODULES.items() if re.search(pattern, path.read_text("utf-8"))}
    assert {name for name in found if not name.startswith(REBUILT)} == {place}
