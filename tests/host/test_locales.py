"""The translations as the page gets them, and the English ones against the nodes themselves."""

from __future__ import annotations

import pytest
from fashion_rag.comfyui_server.installations import PACK

from .contract import NODES

pytestmark = pytest.mark.host


def test_english_is_what_the_nodes_say(bare):
    english = bare.client.json("/i18n")["en"]["nodeDefs"]
    for name in NODES:
        info = bare.client.json(f"/object_info/{name}")[name]
        inputs = info["input"]["required"] | info["input"].get("optional", {})
        outputs = zip(info["output_name"], info["output_tooltips"], strict=True)
        assert english[name] == {
            "display_name": info["display_name"],
            "description": info["description"],
            "inputs": {
                slot: {"name": slot, "tooltip": spec[1]["tooltip"]} for slot, spec in inputs.items()
            },
            "outputs": {
                str(i): {"name": slot, "tooltip": tip} for i, (slot, tip) in enumerate(outputs)
            },
        }


def test_every_language_is_served(bare):
    served = bare.client.json("/i18n")
    for folder in (PACK / "locales").iterdir():
        assert set(NODES) <= set(served[folder.name]["nodeDefs"])
        assert served[folder.name]["fashionRag"]
