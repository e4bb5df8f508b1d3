"""The optional inputs of Text Garment Retrieve, and an index that lies in Milvus."""

from __future__ import annotations

import csv
import json
import os
import shutil
import urllib.request
from pathlib import Path

import pytest
from fashion_rag.comfyui_server.client import Graph, Node
from PIL import Image

from .graphs import TEXT, build

pytestmark = pytest.mark.host
DATA = Path(__file__).parent.parent / "data"


class Search(Graph):
    """One search of openvto; `photos` is its IMAGE output."""

    def __init__(self, index: str, text: str = TEXT, top_k: int = 3, **options):
        super().__init__()
        self.loaded = self.add("GarmentIndexLoader", index_name=index)
        self.found = self.search(text, top_k, **options)

    def search(self, text: str = TEXT, top_k: int = 3, **options) -> Node:
        inputs = {"text": text, "category": "any", "top_k": top_k, **options}
        node = self.add("TextGarmentRetrieve", index=self.loaded, **inputs)
        self.add("ProbeText", value=node[2])
        return node


def lines(server, graph: Graph) -> list[str]:
    """What `scores` says; of the last search, where there are several."""
    result = server.client.run(graph)
    return server.client.text(result, Node(list(graph)[-1])).splitlines()


def files(server, graph: Graph) -> list[str]:
    return [line.split()[1] for line in lines(server, graph)]


def test_a_reference_image_finds_its_own_garment(server, index):
    graph = Search(index, "a shirt", top_k=1)
    (expected,) = files(server, graph)
    graph.search("", top_k=1, reference_images=graph.found[1])
    ((score, found),) = [line.split()[:2] for line in lines(server, graph)]
    assert found == expected and abs(float(score) - 1) < 0.01
    graph.search("a shirt", top_k=1, reference_images=graph.found[1], image_weight=0.0)
    assert files(server, graph) == [expected]


def test_filter_pins_and_exclusions(server, index):
    plain = files(server, Search(index, top_k=24))
    assert len(plain) == 24
    jackets = [file for file in plain if file.startswith("jackets")]
    graph = Search(index, top_k=4, filter="not file < 'jackets/' and file < 'jackets0'")
    assert files(server, graph) == jackets[:4]
    with open(DATA / "openvto_garments.csv", encoding="utf-8") as table:
        ids = {row["file"]: row["id"] for row in csv.DictReader(table)}
    options = {"pinned": f"{ids[plain[-1]]}\n\n", "excluded": f" {ids[plain[0]]} \n"}
    assert files(server, Search(index, **options)) == [plain[-1], plain[1], plain[2]]


def test_ids_with_white_space(server):
    """File names are ids; a line is one of them as it stands, or with white space around it."""
    names = [" lead.png", "line\u2028sep.png", "tab\x0b.png", "embedding:x.png", "plain.png"]
    if os.name == "nt":
        names = names[1:2] + names[4:]
    catalogue = server.store / "catalogues" / "spaces"
    catalogue.mkdir()
    for number, name in enumerate(names):
        Image.new("RGB", (48, 64), (40 * number, 90, 90)).save(catalogue / "new.png")
        (catalogue / "new.png").rename(catalogue / name)
    server.client.run(build("spaces", "spaces"))
    graph = Search("spaces", top_k=len(names), pinned="\n".join([*names[:-1], " plain.png \r", ""]))
    result = server.client.run(graph)
    shown = [one["id"] for one in result.outputs[graph.found.number]["garments"]]
    assert shown == names
    for name in names:
        body = json.dumps({"query": {"k": 2, "chunks": "singly"}, "like": name}).encode()
        url = f"http://{server.client.address}/fashion_rag/index/spaces/search"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            hits = json.loads(answer.read())["hits"]
        assert len(hits) == 1 + (len(names) > 2) and name not in [hit["id"] for hit in hits]


def test_typographic_quotes_in_a_filter(server, index):
    """A word processor writes them; the other node that searches takes them as well."""
    options = {"top_k": 2, "filter": "file < “jackets0”"}
    graph = Search(index, **options)
    found = files(server, graph)
    assert len(found) == 2 and all(file < "jackets0" for file in found)
    outfit = graph.add("OutfitRetrieve", index=graph.loaded, text=TEXT, **options)
    graph.add("ProbeText", value=outfit[2])
    assert [line.split()[-1] for line in lines(server, graph)] == found


def test_minimum_score_and_why_there_are_fewer(server, index):
    plain = lines(server, Search(index, top_k=24))
    bound = float(plain[1].split()[0]) - 0.00005
    *found, note = lines(server, Search(index, top_k=24, min_score=bound))
    assert found == plain[:2] and "top_k is 24, but only 2 garments" in note


def test_words_count(server, index):
    plain = files(server, Search(index, "red shirt, blue denim", top_k=24))
    for options in ({"chunks": "singly"}, {"negative_text": "trousers"}, {"diversity": 0.9}):
        options = {"top_k": 12, **options} if "diversity" in options else {"top_k": 24, **options}
        found = files(server, Search(index, "red shirt, blue denim", **options))
        assert found != plain[: len(found)], options


def test_a_draw_is_the_same_until_its_seed_changes(server, index):
    def queue(seed: int):
        graph = Search(index, draw_from=24, temperature=1.0, draw_seed=seed)
        return files(server, graph), server.client.run(graph), graph

    first, result, graph = queue(0)
    assert graph.found.number in result.cached
    draws = {tuple(queue(seed)[0]) for seed in range(5)}
    assert tuple(first) in draws and len(draws) > 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"filter": "price <"}, ["price <", "not understood", "price < 80"]),
        ({"filter": "colour = 'red'"}, ["'colour'", "category"]),
        ({"pinned": "nothing"}, ["'nothing' is pinned", "no garment"]),
        ({"draw_from": 2}, ["draw_from is 2", "top_k is 3"]),
        ({"min_score": 0.99}, ["Nothing is found", "minimum score 0.99", "best"]),
        ({"text": "a", "negative_text": "a", "negative_weight": 1.0}, ["cancel out"]),
        ({"text": ",", "chunks": "singly"}, ["noun chunk"]),
    ],
)
def test_what_can_not_be_answered(server, index, options, words):
    error = server.client.error_of(Search(index, **options))
    assert [word for word in words if word not in error] == [], error


def test_an_index_in_milvus_is_offered_and_says_what_it_lacks(server, index):
    folder = server.store / "indexes" / "far away"
    folder.mkdir(exist_ok=True)
    (folder / "milvus.json").write_text('{"uri": "vectors.db", "collection": "far"}')
    try:
        info = server.client.json("/object_info/GarmentIndexLoader")["GarmentIndexLoader"]
        assert "far away" in info["input"]["required"]["index_name"][1]["options"]
        error = server.client.error_of(Search("far away"))
        assert "pip install pymilvus" in error or "push an index" in error
    finally:
        shutil.rmtree(folder)
