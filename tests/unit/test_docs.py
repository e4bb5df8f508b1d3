"""Help pages and README against the nodes' contract."""

from __future__ import annotations

import re

import pytest
from fashion_rag.demo.hosts import PACK

from ..host.contract import NODES


@pytest.mark.parametrize("name", NODES)
def test_a_help_page_names_every_input_and_output(name):
    page = (PACK / "web" / "docs" / f"{name}.md").read_text(encoding="utf-8")
    inputs, outputs = page.split("## Inputs")[1].split("## Outputs")
    rows = re.findall(r"^\| `(\w+)`", inputs, re.MULTILINE)
    contract = NODES[name]
    assert rows == [
        slot for kind in ("required", "optional") for slot, _, _ in contract.get(kind, [])
    ]
    rows = re.findall(r"^\| `(\w+)` \| (\w+)", outputs, re.MULTILINE)
    assert rows == [(slot, kind) for slot, kind in contract["outputs"]]


def test_no_help_page_is_left_over():
    assert {path.stem for path in (PACK / "web" / "docs").glob("*.md")} == set(NODES)


def test_the_readme_names_every_workflow_and_its_links_hold():
    readme = (PACK / "README.md").read_text(encoding="utf-8")
    for workflow in (PACK / "workflows").glob("*.json"):
        assert f"`{workflow.stem}`" in readme
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", readme):
        assert (PACK / target).exists(), target
