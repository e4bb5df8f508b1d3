"""What the disk holds counts: an index keeps up with its catalogue, and no node is cached while a
file that it reads has changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fashion_rag.comfyui_server.client import Graph, Node
from fashion_rag.comfyui_server.server import Server
from fashion_rag.miniature import trained
from fashion_rag.retriever.encoders.open_clip import load_encoder
from fashion_rag.retriever.upkeep.update import remove_garments, update_index
from PIL import Image
from safetensors.torch import load_file, save_file

from .contract import NODES
from .graphs import Dress, build

pytestmark = pytest.mark.host
WORDS = "{garments} embedding:watched_word"


def paint(path: Path, colour: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (48, 64), colour).save(path)


def searching(name: str, catalogue: str, **options) -> Graph:
    """Build, and list all garments."""
    graph = build(name, catalogue, **options)
    found = graph.add("TextGarmentRetrieve", index=["1", 0], text="a", category="any", top_k=64)
    graph.add("ProbeText", value=found[2])
    return graph


def run(server: Server, graph: Graph) -> tuple[bool, str, set[str]]:
    """Whether the build was cached, its report, and the files that the search lists."""
    result = server.client.run(graph)
    lines = server.client.text(result, Node("3")).splitlines()
    files = {line.split()[1] for line in lines if not line.startswith("top_k")}
    return "1" in result.cached, server.client.text(result, Node("1")), files


def test_an_index_keeps_up_with_its_catalogue(server):
    catalogue = server.store / "catalogues" / "living"
    for name in ("red", "green", "blue", "black"):
        paint(catalogue / f"{name}.png", name)
    graph = searching("living", "living")
    cached, report, files = run(server, graph)
    assert not cached and report.startswith("4 garments indexed")
    assert "Searched as kind exact: every garment is compared" in report.splitlines()[1]
    assert run(server, graph) == (True, report, files)

    paint(catalogue / "more" / "white.png", "white")
    (catalogue / "red.png").rename(catalogue / "crimson.png")
    paint(catalogue / "green.png", "lime")
    (catalogue / "blue.png").unlink()
    (catalogue / "garments.csv").write_text("file,caption\nblack.png,a black coat\n")
    (catalogue / "bad.jpg").write_bytes(b"no photo")
    cached, report, files = run(server, graph)
    assert not cached
    assert report.startswith(
        "4 garments in the index: 1 added, 1 changed, 1 renamed, 1 described anew, 1 removed, "
        "1 refused"
    )
    assert report.splitlines()[2].strip().startswith("bad.jpg: ")
    assert files == {"crimson.png", "green.png", "black.png", "more/white.png"}
    assert run(server, graph)[0], "nothing has changed"

    (catalogue / "garments.csv").write_text("file,caption\nblack.png,a dark coat\n")
    cached, report, _ = run(server, graph)
    assert not cached and "0 added, 0 changed, 0 renamed, 1 described anew" in report

    shutil.rmtree(server.store / "indexes" / "living")
    cached, report, files = run(server, graph)
    assert not cached and report.startswith("4 garments indexed"), "the index was deleted"
    assert run(server, graph)[0]


def test_what_another_process_does_to_an_index_is_seen(server):
    catalogue = server.store / "catalogues" / "shared"
    for name in ("red", "green", "blue"):
        paint(catalogue / f"{name}.png", name)
    graph = searching("shared", "shared")
    run(server, graph)
    loading = Graph()
    loaded = loading.add("GarmentIndexLoader", index_name="shared")
    found = loading.add("TextGarmentRetrieve", index=loaded, text="a", category="any", top_k=64)
    shown = loading.add("ProbeText", value=found[2])
    assert "3 garments" in server.client.text(server.client.run(loading), shown)
    assert loaded.number in server.client.run(loading).cached

    folder = server.store / "indexes" / "shared"
    remove_garments(folder, ["red.png"])
    assert "2 garments" in server.client.text(server.client.run(loading), shown)
    cached, report, files = run(server, graph)
    assert not cached and files == {"green.png", "blue.png"}
    assert "nothing added, changed or removed" in report and "1 stay out" in report

    paint(catalogue / "white.png", "white")
    update_index(folder, load_encoder(server.store / "encoders" / "standin"), catalogue)
    assert "3 garments" in server.client.text(server.client.run(loading), shown)
    cached, report, files = run(server, graph)
    assert not cached and files == {"green.png", "blue.png", "white.png"}
    assert "nothing added" in report, "it was done already"


def test_no_index_is_replaced_by_mistake(server):
    for name in ("mine", "yours"):
        paint(server.store / "catalogues" / name / f"{name}.png", "red")
    other = server.store / "encoders" / "other"
    shutil.copytree(server.store / "encoders" / "standin", other, dirs_exist_ok=True)
    weights = load_file(other / "open_clip_model.safetensors")
    weights["logit_scale"] += 0.5
    save_file(weights, other / "open_clip_model.safetensors")
    graph = searching("mine", "mine")
    run(server, graph)
    graph["1"]["inputs"]["encoder"] = "other"
    error = server.client.error_of(graph)
    assert "with the encoder 'standin'" in error and "'other'" in error and "overwrite" in error
    graph["1"]["inputs"] |= {"encoder": "standin", "catalogue": "yours"}
    error = server.client.error_of(graph)
    assert "catalogue 'mine'" in error and "of whose 1 garments 0 are in" in error
    graph["1"]["inputs"] |= {"encoder": "other", "overwrite": True}
    assert run(server, graph)[2] == {"yours.png"}


def test_views_of_one_product_are_one_garment(server):
    catalogue = server.store / "catalogues" / "views"
    rows = ["file,item_group_id"]
    for product, colour in (("a", "red"), ("b", "blue"), ("c", "green")):
        for view in range(4):
            paint(catalogue / f"{product}{view}.png", colour)
            with Image.open(catalogue / f"{product}{view}.png") as photo:
                photo.putpixel((view, 0), (255, 255, 255))
                photo.save(catalogue / f"{product}{view}.png")
            rows.append(f"{product}{view}.png,{product}")
    (catalogue / "garments.csv").write_text("\n".join(rows))
    graph = searching("views", "views", overwrite=True)
    graph["2"]["inputs"]["top_k"] = 3
    assert {file[0] for file in run(server, graph)[2]} == {"a", "b", "c"}
    graph["2"]["inputs"]["pinned"] = "b2.png"
    files = run(server, graph)[2]
    assert "b2.png" in files and {file[0] for file in files} == {"a", "b", "c"}


# --- every file that a node reads


@pytest.fixture(scope="module")
def watched(server) -> Path:
    """An index, a person, an adapter and an embedding of their own; the store."""
    store = server.store
    for name in ("red", "green", "blue"):
        paint(store / "catalogues" / "watched" / f"{name}.png", name)
        paint(store / "catalogues" / "watched" / ".cutouts" / f"{name}.png", "white")
    rows = [
        "red.png,r,.cutouts/red.png",
        *(f"{c}.png,,.cutouts/{c}.png" for c in ("green", "blue")),
    ]
    table = "\n".join(["file,id,cutout", *rows])
    (store / "catalogues" / "watched" / "garments.csv").write_text(table)
    server.client.run(build("watched", "watched", overwrite=True))
    paint(store / "people" / "watched" / "photo.png", "grey")
    Image.new("L", (48, 64), 255).save(store / "people" / "watched" / "mask.png")
    standin = store / "models" / "standin"
    shutil.copytree(trained.PARSER, store / "parsers" / "watched")
    (store / "adapters").mkdir(exist_ok=True)
    shutil.copy(
        standin / "inversion_adapter.safetensors", store / "adapters" / "watched.safetensors"
    )
    graph = Dress(index="watched")
    graph.add("GarmentTokensSave", tokens=graph.words[1], name="watched_word", overwrite=True)
    server.client.run(graph)
    return store


def building() -> tuple[Graph, Node]:
    graph = build("watched", "watched")
    return graph, Node("1")


def loading() -> tuple[Graph, Node]:
    graph = Graph()
    node = graph.add("GarmentIndexLoader", index_name="watched")
    found = graph.add("TextGarmentRetrieve", index=node, text="a", category="any", top_k=2)
    graph.add("PreviewImage", images=found[1])
    return graph, node


def retrieving() -> tuple[Graph, Node]:
    graph, _ = loading()
    return graph, Node("2")


def retrieving_an_outfit() -> tuple[Graph, Node]:
    graph, index = loading()
    node = graph.add("OutfitRetrieve", index=index, text="a", top_k=2)
    graph.add("PreviewImage", images=node[1])
    return graph, node


def dressing() -> tuple[Graph, Node]:
    graph = Dress(index="watched", top_k=1)
    words = graph.invert(WORDS, garments=graph.found[0])
    graph.add("ProbeText", value=words[2])
    return graph, graph.models


def inverting() -> tuple[Graph, Node]:
    graph, _ = dressing()
    (number,) = [n for n, node in graph.items() if node["inputs"].get("prompt") == WORDS]
    return graph, Node(number)


def saving() -> tuple[Graph, Node]:
    graph = Dress(index="watched", top_k=1)
    node = graph.add("GarmentTokensSave", tokens=graph.words[1], name="kept", overwrite=True)
    return graph, node


def one(class_type: str, **inputs) -> Callable[[], tuple[Graph, Node]]:
    def made() -> tuple[Graph, Node]:
        graph = Graph()
        node = graph.add(class_type, **inputs)
        graph.add("PreviewAny", source=node)
        return graph, node

    return made


PERSON = one("FashionPersonLoader", person_name="watched")
CASES = {
    "a photo, built": (building, "GarmentIndexBuild", "catalogues/watched/red.png"),
    "the table, built": (building, "GarmentIndexBuild", "catalogues/watched/garments.csv"),
    "the encoder, built": (
        building, "GarmentIndexBuild", "encoders/standin/open_clip_config.json",
    ),
    "the index, built": (building, "GarmentIndexBuild", "indexes/watched/manifest.json"),
    "the index": (loading, "GarmentIndexLoader", "indexes/watched/manifest.json"),
    "the index's encoder": (
        loading, "GarmentIndexLoader", "encoders/standin/open_clip_model.safetensors",
    ),
    "a found photo": (retrieving, "TextGarmentRetrieve", "catalogues/watched/*.png"),
    "an outfit's photo": (retrieving_an_outfit, "OutfitRetrieve", "catalogues/watched/*.png"),
    "a found cut-out": (
        retrieving, "TextGarmentRetrieve", "catalogues/watched/.cutouts/*.png",
    ),
    "an outfit's cut-out": (
        retrieving_an_outfit, "OutfitRetrieve", "catalogues/watched/.cutouts/*.png",
    ),
    "the parser": (
        one("HumanParserLoader", parser_name="watched"),
        "HumanParserLoader",
        "parsers/watched/config.json",
    ),
    "a person's photo": (PERSON, "FashionPersonLoader", "people/watched/photo.png"),
    "a person's mask": (PERSON, "FashionPersonLoader", "people/watched/mask.png"),
    "the adapter": (
        one("InversionAdapterLoader", adapter_name="watched.safetensors"),
        "InversionAdapterLoader",
        "adapters/watched.safetensors",
    ),
    "a model folder": (dressing, "FashionRAGLoader", "models/standin/vae/config.json"),
    "an embedding": (
        inverting, "GarmentTextualInversion", "../embeddings/watched_word.safetensors",
    ),
    "a saved embedding": (saving, "GarmentTokensSave", "../embeddings/kept.safetensors"),
}  # fmt: skip
ELSEWHERE = {"FashionUNetLoader"}  # its files have gigabytes: in_process.py
READ_NOTHING = {
    "FashionInpaintConditioning", "FashionPromptDepth", "FashionComposite", "FashionFrame",
    "GarmentFidelity", "GarmentMask", "GarmentReferences", "HumanParse", "ReferenceLatents",
}  # fmt: skip


def test_every_node_is_looked_at():
    assert {case[1] for case in CASES.values()} | ELSEWHERE | READ_NOTHING == set(NODES)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_changed_file_is_read_again(server, watched, case):
    made, class_type, pattern = case
    graph, node = made()
    assert graph[node.number]["class_type"] == class_type
    server.client.run(graph)
    assert node.number in server.client.run(graph).cached, "nothing has changed"
    folder, name = (watched / pattern).parent, Path(pattern).name
    files = list(folder.glob(name))
    assert files
    for file in files:
        stat = file.stat()
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 2_000_000_000))
    assert node.number not in server.client.run(graph).cached
    assert node.number in server.client.run(graph).cached
