"""Help pages, translations and README against the nodes' contract."""

from __future__ import annotations

import json
import re
import shlex

import pytest
from fashion_rag.comfyui_server.installations import PACK
from fashion_rag.commands.main import build_parser

from ..host.contract import NODES

LOCALES = PACK / "locales"
LANGUAGES = sorted(path.name for path in LOCALES.iterdir())
# What a translation must leave as it is: places in prompts, weights, files and folders.
LITERAL = re.compile(
    r"\(?\{\w+\}(?::[\d.]+\))?|models/[\w/]+|[\w.-]+\.(?:safetensors|jsonl?|csv|pth)"
)


def slots(node: dict) -> list[str]:
    return [slot for kind in ("required", "optional") for slot, _, _ in node.get(kind, [])]


def texts(node: dict) -> dict[str, str]:
    """Every text of a node's translation, by its place."""
    found = {key: node[key] for key in ("display_name", "description")}
    for kind in ("inputs", "outputs"):
        for slot, entry in node[kind].items():
            assert set(entry) == {"name", "tooltip"}
            found |= {f"{kind}.{slot}.{key}": text for key, text in entry.items()}
    return found


@pytest.mark.parametrize("name", NODES)
def test_a_help_page_names_every_input_and_output(name):
    page = (PACK / "web" / "docs" / f"{name}.md").read_text(encoding="utf-8")
    inputs, outputs = page.split("## Inputs")[1].split("## Outputs")
    rows = re.findall(r"^\| `(\w+)`", inputs, re.MULTILINE)
    contract = NODES[name]
    assert rows == slots(contract)
    rows = re.findall(r"^\| `(\w+)` \| (\w+)", outputs, re.MULTILINE)
    assert rows == [(slot, kind) for slot, kind in contract["outputs"]]


def test_no_help_page_is_left_over():
    assert {path.stem for path in (PACK / "web" / "docs").glob("*.md")} == set(NODES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_translation_has_every_node_input_and_output(language):
    nodes = json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))
    english = json.loads((LOCALES / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    assert list(nodes) == list(NODES)
    for name, contract in NODES.items():
        assert list(nodes[name]["inputs"]) == slots(contract)
        assert list(nodes[name]["outputs"]) == [str(i) for i in range(len(contract["outputs"]))]
        original = texts(english[name])
        for place, text in texts(nodes[name]).items():
            assert text.strip(), f"{name}.{place} is empty"
            assert set(LITERAL.findall(text)) == set(LITERAL.findall(original[place])), text
            if not place.endswith("tooltip"):
                # The page reads tooltips as they are, all else as vue-i18n messages.
                assert not set(text) & set("{}@|"), f"{name}.{place}: {text}"


PAGES = [PACK / name for name in ("README.md", "CONTRIBUTING.md", "AGENTS.md")]
PAGES = [page for page in [*PAGES, *sorted((PACK / "docs").glob("*.md"))] if page.is_file()]


def test_the_readme_names_every_workflow():
    readme = (PACK / "README.md").read_text(encoding="utf-8")
    for workflow in (PACK / "workflows").glob("*.json"):
        assert f"`{workflow.stem}`" in readme
    assert len(readme.splitlines()) <= 140


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_of_a_page_hold(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)\s]*)\)", text):
        path, _, place = target.partition("#")
        found = page.parent / path if path else page
        assert found.exists(), target
        if place:
            headings = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
            assert place in anchors, target


def test_the_handbook_lists_every_page():
    index = (PACK / "docs" / "index.md").read_text(encoding="utf-8")
    for page in (PACK / "docs").glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in index, page.name


def test_the_handbook_names_every_node():
    english = json.loads((LOCALES / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    page = (PACK / "docs" / "nodes.md").read_text(encoding="utf-8")
    rows = page.split("## Nodes")[1].split("\n## ")[0]
    named = re.findall(r"^\| ([^|]+?) \|", rows, re.MULTILINE)
    assert named[1:] == [english[name]["display_name"] for name in NODES]


def test_the_commands_of_every_page_are_understood():
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    text = re.sub(r" *\\\n *", " ", text)
    commands = re.findall(r"^fashion-rag (.+)$", text, re.MULTILINE)
    assert len(commands) >= 20
    for command in commands:
        build_parser().parse_args(shlex.split(command))


@pytest.mark.parametrize("page", ["AGENTS.md", "CONTRIBUTING.md", "docs/architecture.md"])
def test_files_that_the_guides_name_are_there(page):
    path = PACK / page
    text = path.read_text(encoding="utf-8")
    # Places in capitals stand for any.
    for named in re.findall(r"`((?:[a-z_.]+/)+[a-z_.]*|[a-z_]+\.(?:py|toml))`", text):
        assert (PACK / named).exists(), named
