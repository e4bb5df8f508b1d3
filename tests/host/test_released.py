"""What version 0.1.0 wrote, in a host of today. Its workflows are also in test_workflows.py, its
index in tests/unit/test_retriever_index.py."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from comfy_cli.workflow_to_api import convert_ui_to_api
from fashion_rag.comfyui_server.client import Graph
from safetensors.numpy import load_file

from .. import workflows

pytestmark = pytest.mark.host
RELEASED = Path(__file__).parent.parent / "data" / "released_0_1_0"


def test_its_seven_workflows_are_kept():
    assert len(list(workflows.RELEASED.glob("*.json"))) == 7


def test_its_miniature_paints(bare):
    """The graph as it was saved: inputs that came later have their defaults."""
    workflow = workflows.read("miniature", workflows.RELEASED)
    workflows.set_widgets(workflow, "KSampler", steps=2)
    graph = Graph(convert_ui_to_api(workflow, bare.client.json("/object_info")))
    result = bare.client.run(graph)
    (picture,) = bare.client.images(result, graph.node("SaveImage"))
    assert picture.shape[2] == 3 and picture.std() > 10


def test_its_adapter_and_its_embedding(bare):
    (bare.store / "adapters").mkdir(parents=True, exist_ok=True)
    shutil.copy(RELEASED / "adapter.safetensors", bare.store / "adapters" / "released.safetensors")
    embeddings = bare.base / "models" / "embeddings"
    embeddings.mkdir(parents=True, exist_ok=True)
    shutil.copy(RELEASED / "embedding.safetensors", embeddings / "released.safetensors")
    graph = Graph()
    models = graph.add("FashionRAGLoader", model_name="miniature")
    adapter = graph.add("InversionAdapterLoader", adapter_name="released.safetensors")
    picture = graph.add("EmptyImage", width=96, height=128, batch_size=2, color=0x803020)
    words = graph.add(
        "GarmentTextualInversion",
        clip=models[1],
        clip_vision=models[3],
        adapter=adapter,
        prompt="a model wearing {garments}",
        strength=1.0,
        preprocess="from adapter",
        images=picture,
    )
    graph.add("ProbeSave", value=words[1], name="released words")
    for name in ("released", "nothing"):
        text = graph.add("CLIPTextEncode", clip=models[1], text=f"a jacket of embedding:{name}")
        graph.add("ProbeSave", value=text, name=f"by {name}")
    bare.client.run(graph)
    output = bare.base / "output"
    (found,) = load_file(output / "released words.safetensors").values()
    assert found.shape == (2 * 2, 64) and found.std() > 0
    with_it, without = (
        load_file(output / f"by {name}.safetensors")["0.0"] for name in ("released", "nothing")
    )
    assert np.isfinite(with_it).all() and np.abs(with_it - without).max() > 0.1
