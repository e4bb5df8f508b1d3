"""Help pages, translations and README against the nodes' contract."""

from __future__ import annotations

import ast
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
# Texts of more than a word that read the same in another language.
INTERNATIONAL = {"clip_vision", "upper_body", "lower_body"}
# Words that stand in English sentences and in no other language of ours.
ENGLISH = re.compile(r"\b(?:[Tt]he|of|with|[Ff]rom|its|that|each|where|which|when|is|are|by|For)\b")
SCRIPTS = {"ja": "[ぁ-ヿ一-鿿]", "ko": "[가-힣]", "ru": "[а-яё]", "zh": "[一-鿿]"}
# Headings of a help page's tables, the mark of an optional input, the values of a switch.
HELP = {
    "en": ("## Inputs", "## Outputs", " (optional)", {"on": "on", "off": "off"}),
    "zh": ("## 输入", "## 输出", " (可选)", {"开": "on", "关": "off"}),
}


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


def left_in_english(text: str, original: str, language: str) -> bool:
    """Whether a translation, or a part of it, still is English."""
    words = re.findall(r"[^\W\d_]+", LITERAL.sub("", original))
    if text == original:
        return len(words) > 1 and text not in INTERNATIONAL
    script = SCRIPTS.get(language)
    if script and len(words) > 2 and not re.search(script, text, re.IGNORECASE):
        return True
    return ENGLISH.search(text) is not None


def help_page(name: str, language: str) -> str:
    page = f"{name}.md" if language == "en" else f"{name}/{language}.md"
    return (PACK / "web" / "docs" / page).read_text(encoding="utf-8")


def help_rows(name: str, language: str) -> tuple[list[tuple], list[tuple[str, str]]]:
    """A help page's tables: (input, type, what is literal in its default), (output, type)."""
    to_inputs, to_outputs, _, switches = HELP[language]
    inputs, outputs = help_page(name, language).split(to_inputs)[1].split(to_outputs)
    rows = re.findall(r"^\| `(\w+)`[^|]*\| (\w+) \|([^|]*)\|", inputs, re.MULTILINE)
    found = []
    for slot, kind, default in rows:
        literal = re.findall(r"`[^`]*`|-?[\d.]+", default)
        found.append((slot, kind, literal or switches.get(default.strip(), default.strip())))
    return found, re.findall(r"^\| `(\w+)` \| (\w+) \|", outputs, re.MULTILINE)


@pytest.mark.parametrize("name", NODES)
@pytest.mark.parametrize("language", HELP)
def test_a_help_page_names_every_input_and_output(name, language):
    inputs, outputs = help_rows(name, language)
    contract = NODES[name]
    assert [slot for slot, _, _ in inputs] == slots(contract)
    assert outputs == list(contract["outputs"])
    assert inputs == help_rows(name, "en")[0]


@pytest.mark.parametrize("name", NODES)
@pytest.mark.parametrize("language", HELP)
def test_a_help_page_says_what_the_tooltips_say(name, language):
    node = json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))[name]
    page, mark = help_page(name, language), HELP[language][2]
    for slot in slots(NODES[name]):
        optional = slot in [option for option, _, _ in NODES[name].get("optional", [])]
        row = rf"^\| `{slot}`{re.escape(mark) if optional else ''} \| .* \| (.*) \|$"
        assert node["inputs"][slot]["tooltip"] in re.findall(row, page, re.MULTILINE)
    for number, (slot, kind) in enumerate(NODES[name]["outputs"]):
        tooltip = node["outputs"][str(number)]["tooltip"]
        assert f"| `{slot}` | {kind} | {tooltip} |\n" in page


@pytest.mark.parametrize("name", NODES)
def test_a_help_page_gives_types_defaults_and_ranges(name):
    rows = {slot: (kind, default) for slot, kind, default in help_rows(name, "en")[0]}
    for kind in ("required", "optional"):
        for slot, socket, options in NODES[name].get(kind, []):
            written, shown = rows[slot]
            assert written == socket
            default = options.get("default")
            if isinstance(default, bool):
                assert shown == ("on" if default else "off"), slot
            elif isinstance(default, str):
                assert shown == ([f"`{default}`"] if default else ""), slot
            elif default is not None:
                numbers = [float(number.strip("`")) for number in shown]
                bounds = [options.get("min"), options.get("max")]
                pairs = zip(numbers, [default, *bounds], strict=False)
                assert all(number == value for number, value in pairs if value is not None), slot


@pytest.mark.parametrize("name", NODES)
@pytest.mark.parametrize("language", [language for language in HELP if language != "en"])
def test_a_translated_help_page_says_as_much(name, language):
    page, original = help_page(name, language), help_page(name, "en")
    nodes = json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))
    assert page.startswith(f"# {nodes[name]['display_name']}\n")
    for mark in (r"^#+ ", r"^- ", r"^```"):
        assert len(re.findall(mark, page, re.M)) == len(re.findall(mark, original, re.M)), mark
    for paragraph in page.split("\n\n"):
        code = paragraph.startswith(("|", "```"))
        assert code or re.search(SCRIPTS[language], paragraph), paragraph


def test_no_help_page_is_left_over():
    pages = PACK / "web" / "docs"
    translations = [language for language in HELP if language != "en"]
    expected = {f"{name}.md" for name in NODES}
    expected |= {f"{name}/{language}.md" for name in NODES for language in translations}
    assert {path.relative_to(pages).as_posix() for path in pages.rglob("*.md")} == expected


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


@pytest.mark.parametrize("language", [language for language in LANGUAGES if language != "en"])
def test_a_translation_leaves_nothing_in_english(language):
    english = json.loads((LOCALES / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    nodes = json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))
    left = []
    for name in NODES:
        originals = texts(english[name])
        for place, text in texts(nodes[name]).items():
            if left_in_english(text, originals[place], language):
                left.append(f"{name}.{place}: {text}")
    originals = page_words("en")
    for key, text in page_words(language).items():
        if left_in_english(text, originals[key], language):
            left.append(f"{key}: {text}")
    assert not left


@pytest.mark.parametrize(
    "text, original, language, left",
    [
        ("VAE.", "The VAE.", "fr", False),
        ("Search garments", "Search garments", "fr", True),
        ("image", "image", "fr", False),
        ("models/fashion_rag/people", "models/fashion_rag/people", "ru", False),
        ("Masque of the garment", "The garment's mask", "fr", True),
        ("Máscara de prenda", "Garment mask", "ko", False),
        ("Máscara de la prenda", "Mask of the garment", "ko", True),
        ("옷의 마스크", "Mask of the garment", "ko", False),
    ],
)
def test_english_in_a_translation_is_seen(text, original, language, left):
    assert left_in_english(text, original, language) is left


def page_words(language: str) -> dict[str, str]:
    content = json.loads((LOCALES / language / "main.json").read_text(encoding="utf-8"))
    assert list(content) == ["fashionRag"]
    return content["fashionRag"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_translation_has_every_word_of_the_page(language):
    english, found = page_words("en"), page_words(language)
    assert list(found) == list(english)
    for key, text in found.items():
        assert text.strip(), key
        # What stands in braces is filled in by the page.
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", english[key]))
        assert not set(re.sub(r"\{\w+\}", "", text)) & set("{}@|"), f"{key}: {text}"


def test_the_words_that_the_page_asks_for_are_those_of_the_translations():
    asked = set()
    for script in (PACK / "web").rglob("*.js"):
        for call in re.findall(r"\bwords\(([^()]*)", script.read_text(encoding="utf-8")):
            # The key, or both of a choice; what follows a comma are the values.
            asked |= set(re.findall(r'"(\w+)"', call.split(",")[0]))
    assert asked == set(page_words("en"))


def says(code: ast.AST, by: set[str]) -> bool:
    """Whether code gives the page a text: by one of these names, or as `text` of what it shows."""
    shown = [
        one.value for one in ast.walk(code) if isinstance(one, ast.keyword) and one.arg == "ui"
    ]
    keys = [key for one in shown for key in ast.walk(one) if isinstance(key, ast.Constant)]
    names = {getattr(one, "attr", getattr(one, "id", None)) for one in ast.walk(code)}
    return bool(names & by) or any(key.value == "text" for key in keys)


def nodes_that_say_something() -> set[str]:
    """The nodes whose code, or a function that it calls, gives the page a text to show."""
    parts = [
        part
        for path in (PACK / "nodes").rglob("*.py")
        for part in ast.parse(path.read_text(encoding="utf-8")).body
    ]
    functions = [part for part in parts if isinstance(part, ast.FunctionDef)]
    by = {"PreviewText"}
    while more := {one.name for one in functions if says(one, by)} - by:
        by |= more
    return {
        keyword.value.value
        for part in parts
        if isinstance(part, ast.ClassDef) and says(part, by)
        for keyword in ast.walk(part)
        if isinstance(keyword, ast.keyword) and keyword.arg == "node_id"
    }


def test_the_page_shows_the_text_of_every_node_that_returns_one():
    script = (PACK / "web" / "report.js").read_text(encoding="utf-8")
    listed = re.search(r"const NODES = \{(.*?)\};", script, re.DOTALL)[1]
    found = nodes_that_say_something()
    assert {"GarmentIndexBuild", "HumanParse"} <= found <= set(NODES)
    assert sorted(re.findall(r"(\w+): [1-9]\d*,", listed)) == sorted(found)


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
