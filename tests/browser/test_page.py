"""The shipped workflows in a real page: opened, read back, and run, in both kinds of nodes."""

from __future__ import annotations

import pytest
from comfy_cli.workflow_to_api import convert_ui_to_api
from fashion_rag.comfyui_server.installations import PACK
from fashion_rag.comfyui_server.server import PACK_FOLDER
from PIL import Image

from .. import workflows
from .driving import (
    SECONDS,
    drop,
    number,
    pictures,
    press,
    run,
    show,
    wait_for_photos,
    wait_until_open,
)

pytestmark = pytest.mark.browser
PEOPLE = PACK / "miniature" / "examples" / "people"


BLUEPRINTS = sorted(path.stem for path in workflows.SUBGRAPHS.glob("*.json"))


@pytest.mark.parametrize("name", workflows.NAMES)
def test_workflow_opens_without_a_red_node(page, server, name):
    """Every class is known, or the page tells what is missing and all else is as it was; it makes
    the same prompt of it as comfy-cli."""
    workflow = workflows.read(name)
    drop(page, workflow, name)
    unknown = page.evaluate(
        """() => app.graph.nodes.map((node) => node.type)
            .filter((type) => !LiteGraph.registered_node_types[type])"""
    )
    there = {node["type"] for node in workflow["nodes"]}
    assert set(unknown) == there & set(workflows.OTHER_PACKS)
    page.wait_for_timeout(SECONDS / 2)
    overlay = page.get_by_test_id("error-overlay")
    assert overlay.count() == bool(unknown)
    if len(unknown) == 1:
        assert unknown[0] in overlay.inner_text()
    elif unknown:  # of several it says that packs are missing
        assert "missing" in overlay.inner_text().casefold()

    ours = page.evaluate("async () => (await app.graphToPrompt()).output")
    theirs = convert_ui_to_api(workflow, server.client.json("/object_info"))
    assert ours.keys() == theirs.keys()
    for node, mine in ours.items():
        # The page knows no class of a node that is missing.
        if theirs[node]["class_type"] in workflows.OTHER_PACKS:
            continue
        assert mine["class_type"] == theirs[node]["class_type"]
        # comfy-cli gives an unconnected box its default; the page leaves it out.
        boxes = {"bboxes": theirs[node]["inputs"].get("bboxes")}
        assert theirs[node]["inputs"] in (mine["inputs"], mine["inputs"] | boxes)


def test_help_page_of_a_node(page):
    workflow = workflows.read("retrieve_only")
    drop(page, workflow)
    page.evaluate(
        "id => app.canvas.selectNode(app.graph.getNodeById(id))",
        number(workflow, "TextGarmentRetrieve"),
    )
    press(page, "info-button")
    text = (PACK / "web" / "docs" / "TextGarmentRetrieve.md").read_text(encoding="utf-8")
    sentence = text.split("\n\n")[1].split(".")[0].replace("\n", " ")
    page.get_by_text(sentence).wait_for()


def test_the_plain_search_is_three_widgets(page):
    """Advanced inputs are hidden until asked for, and have their defaults in older workflows."""
    workflow = workflows.read("retrieve_only")
    identity = number(workflow, "TextGarmentRetrieve")
    (node,) = [node for node in workflow["nodes"] if node["id"] == identity]
    plain = ["text", "category", "top_k"]
    new = node["widgets_values"]
    node["widgets_values"] = new[:3]
    node["inputs"] = [slot for slot in node["inputs"] if slot["name"] in ["index", *plain]]
    drop(page, workflow)
    visible = """id => {
        const node = app.graph.getNodeById(id);
        return node.widgets.filter((widget) => node.isWidgetVisible(widget)).map(({name}) => name);
    }"""
    assert page.evaluate(visible, identity) == [*plain, "gallery"]
    values = "id => app.graph.getNodeById(id).serialize().widgets_values"
    assert page.evaluate(values, identity) == new
    page.evaluate("id => { app.graph.getNodeById(id).showAdvanced = true; }", identity)
    assert len(page.evaluate(visible, identity)) == len(new) + 1


@pytest.mark.parametrize("name", BLUEPRINTS)
def test_a_blueprint_is_found_and_placed(page, name):
    """By the page's own search; it becomes one node with the widgets of those inside."""
    page.evaluate("() => app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
    page.wait_for_function("() => app.graph.nodes.length === 0")
    page.evaluate("() => app.extensionManager.command.execute('Workspace.SearchBox.Toggle')")
    dialog = page.get_by_role("dialog")
    # Long words with signs are more than the page's fuzzy search takes.
    dialog.locator("input").first.fill(name.split(" (")[0])
    dialog.get_by_text(name, exact=True).first.click()
    page.wait_for_function("() => app.graph.nodes.length === 1")
    (inside,) = workflows.read_subgraph(name)["definitions"]["subgraphs"]
    node = page.evaluate(
        """() => {
            const [node] = app.graph.nodes;
            const names = (slots) => slots.map((slot) => slot.name);
            const widgets = Object.fromEntries(node.widgets.map((w) => [w.name, w.value]));
            return [node.title, names(node.inputs), names(node.outputs), widgets];
        }"""
    )
    inputs, outputs = ([slot["name"] for slot in inside[end]] for end in ("inputs", "outputs"))
    assert node[:3] == [name, inputs, outputs]
    assert node[3]["text"] == "blue denim jacket with metal buttons"
    assert node[3]["index_name"] == "my_garments"
    opened = """() => {
        const [node] = app.graph.nodes;
        app.canvas.openSubgraph(node.subgraph, node);
        return app.canvas.graph.nodes.map((node) => node.type).sort();
    }"""
    assert page.evaluate(opened) == sorted(node["type"] for node in inside["nodes"])
    page.evaluate("() => app.canvas.setGraph(app.graph)")
    page.keyboard.press("Escape")


def test_template_browser_offers_the_workflows(page):
    page.evaluate("() => app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    page.get_by_text(PACK_FOLDER).first.dispatch_event("click")
    for name in workflows.NAMES:
        heading = page.get_by_role("heading", name=name, exact=True)
        # The page holds the pictures of those cards alone that can be seen, above their headings.
        heading.evaluate("heading => heading.scrollIntoView({ block: 'center' })")
        thumbnail = f'img[alt="{name}"]'
        page.wait_for_function("at => document.querySelector(at)?.naturalWidth", arg=thumbnail)
    page.get_by_role("heading", name="retrieve_only", exact=True).dispatch_event("click")
    wait_until_open(page, workflows.read("retrieve_only"))


def test_build_an_index_and_dress_a_person(page, request):
    """What a new user does: build_index, then the main workflow, both by the button Run."""
    index = request.node.callspec.id.replace(" ", "_")
    building = workflows.read("build_index")
    workflows.set_widgets(
        building, "GarmentIndexBuild", catalogue="openvto", encoder="standin", index_name=index
    )
    drop(page, building)
    run(page, building, "PreviewImage")
    report = page.locator(".fashion-rag-report")
    lines = report.locator(":scope > div").all_text_contents()
    assert len(lines) == 2 and lines[0].startswith("24 garments indexed")
    assert lines[1].startswith("Searched as kind exact")
    assert not report.locator("details").evaluate("fold => fold.open")
    report.locator("summary").dispatch_event("click")
    assert report.locator("details").evaluate("fold => fold.open")
    assert "Files in the folder 25: garment photos 24" in report.locator("details").text_content()

    dressing = workflows.read("text_to_outfit_inpainting")
    workflows.set_widgets(dressing, "GarmentIndexLoader", index_name=index)
    workflows.set_widgets(dressing, "LoadImage", image="person.png")
    workflows.set_widgets(dressing, "FashionFrame", width=144, height=192)
    workflows.set_widgets(dressing, "KSampler", steps=2)
    dressing = workflows.on_model_folder(dressing, "standin")
    drop(page, dressing)
    run(page, dressing, "SaveImage")
    assert [768, 1024] in pictures(page, dressing, "SaveImage"), "the size of the photo"
    show(page, number(dressing, "TextGarmentRetrieve"))
    wait_for_photos(page, 3)
    frame = str(number(dressing, "FashionFrame"))
    said = page.evaluate("id => app.nodeOutputs[id].text.join('')", frame)
    assert said
    assert report.first.text_content() == said


def test_a_photo_and_two_lines_to_a_picture(page):
    """Dropped in, run, a picture: nothing is prepared, and the result is the photo's size."""
    workflow = workflows.read("photo_to_outfit_miniature")
    workflows.set_widgets(workflow, "KSampler", steps=1)
    drop(page, workflow)
    run(page, workflow, "SaveImage")
    person = workflows.of_type(workflow, "FashionPersonLoader")["widgets_values"][0]
    with Image.open(PEOPLE / person / "photo.jpg") as photo:
        assert list(photo.size) in pictures(page, workflow, "SaveImage")


def test_the_form_of_a_photo_and_two_lines(page):
    """App Mode asks for the photo, the words and the seed, and for nothing else."""
    drop(page, workflows.read("photo_to_outfit"))
    page.evaluate("() => app.extensionManager.command.execute('Comfy.ToggleLinear')")
    try:
        words = page.locator("textarea:visible")
        words.first.wait_for()
        assert [box.input_value() for box in words.all()] == [
            "upper_body: white linen shirt\nlower_body: dark blue jeans"
        ]
    finally:
        page.evaluate("() => app.extensionManager.command.execute('Comfy.ToggleLinear')")
