"""Building an index: progress, the user's cancel, kill -9; nothing that was done is lost."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from fashion_rag.comfyui_server.client import Client, Graph

from .graphs import build

pytestmark = pytest.mark.host
COPIES = 6


@pytest.fixture(scope="module")
def many(openvto, tmp_path_factory) -> Path:
    """A catalogue of 144 photos."""
    folder = tmp_path_factory.mktemp("many")
    for copy in range(COPIES):
        for photo in sorted((openvto / "clothes").rglob("*.jpg")):
            shutil.copy(photo, folder / f"{copy:03}_{photo.parent.name}_{photo.name}")
    return folder


def queue_until(client: Client, graph: Graph, encoded: int, total: int) -> str:
    """Queue a build and return its prompt id once so many of its photos are encoded."""
    socket = client.listen()
    try:
        prompt = client.submit(graph)
        while True:
            frame = socket.recv()
            message = json.loads(frame) if isinstance(frame, str) else {"type": "preview"}
            if message["type"] == "progress":
                assert message["data"]["max"] == total
                if message["data"]["value"] >= encoded:
                    return prompt
    finally:
        socket.close()


def resumed(report: str) -> int:
    """How many garments the report says were taken over from the interrupted build."""
    found = re.search(r"(\d+)[^.,;]*(?:resumed|taken over|interrupted)", report)
    assert found, report
    return int(found[1])


def test_cancel_and_go_on(server, many):
    shutil.copytree(many, server.store / "catalogues" / "many", dirs_exist_ok=True)
    graph = build("of many", "many", batch_size=8)
    prompt = queue_until(server.client, graph, 24, 24 * COPIES)
    server.client.post("/interrupt", {})
    assert server.client.wait(prompt).status == "execution_interrupted"
    assert not (server.store / "indexes" / "of many" / "manifest.json").exists()
    report = server.client.text(server.client.run(graph), graph.node("GarmentIndexBuild"))
    assert 24 <= resumed(report) < 24 * COPIES


def test_kill_and_go_on(server, openvto, many):
    """Killed in the middle of replacing an index: the former one loads, the build goes on."""
    catalogue = server.store / "catalogues" / "growing"
    shutil.copytree(openvto / "clothes", catalogue, dirs_exist_ok=True)
    server.client.run(build("growing", "growing"))
    shutil.copytree(many, catalogue / "more", dirs_exist_ok=True)
    graph = build("growing", "growing", overwrite=True, batch_size=8)
    queue_until(server.client, graph, 48, 24 * (COPIES + 1))
    server.stop(force=True)
    server.start()
    search = Graph()
    index = search.add("GarmentIndexLoader", index_name="growing")
    found = search.add("TextGarmentRetrieve", index=index, text="a", category="any", top_k=64)
    shown = search.add("ProbeText", value=found[2])
    assert "only 24 garments" in server.client.text(server.client.run(search), shown)
    report = server.client.text(server.client.run(graph), graph.node("GarmentIndexBuild"))
    assert 40 <= resumed(report) < 24 * (COPIES + 1)
    assert "only" not in server.client.text(server.client.run(search), shown)
