"""The plan of the house: which package may import which, and one place for each shared thing."""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

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


def test_json_of_others_is_parsed_in_one_place():
    """`json.loads` alone ends in a RecursionError where somebody nests lists deeply."""
    assert not [
        name
        for name, path in modules().items()
        if name.split(".")[0] in ("nodes", "retriever", "adapter", "commands")
        and "json.loads(" in path.read_text("utf-8")
    ]


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


def test_what_benchmarks_and_tests_import_is_there():
    """They import inside of functions too, where a renamed name is missed only when it is run."""
    files = {".".join(path.relative_to(PACK).with_suffix("").parts): path for path in _sources()}
    missing = []
    for name, path in files.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.ImportFrom) or (of := _module(name, node)) is None:
                continue
            of = of if of in files else f"{of}.__init__".lstrip(".")
            known = _top_level(files[of]) if of in files else set()
            inside = (".".join([*of.split(".")[:-1], alias.name]) for alias in node.names)
            missing += [
                f"{name}: {alias.name} of {of}"
                for alias, part in zip(node.names, inside, strict=True)
                if alias.name not in known
                and not (of.endswith("__init__") and {part, f"{part}.__init__"} & files.keys())
            ]
    assert not missing


def _sources():
    tops = {name.split(".")[0] for name in modules()} | {"benchmarks", "tests"}
    for top in tops:
        if (file := PACK / f"{top}.py").is_file():
            yield file
        yield from (PACK / top).rglob("*.py")


def _module(name: str, node: ast.ImportFrom) -> str | None:
    """The module of this pack that is imported from, by its dotted path; None for others."""
    if node.level:
        base = name.split(".")[: -node.level]  # a package's own file is one of its modules
        return ".".join([*base, node.module] if node.module else base)
    first, _, rest = (node.module or "").partition(".")
    return rest if first == "fashion_rag" else None


def _top_level(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names
