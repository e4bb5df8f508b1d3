"""The gallery in a real page: see, pin, shut out, more like this, facets; then run and reload."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import axe_playwright_python
import pytest
from fashion_rag.retriever.encoders.open_clip import load_encoder
from fashion_rag.retriever.upkeep.build import build_index

from .. import workflows
from .driving import SECONDS, drop, number, run

pytestmark = pytest.mark.browser

AXE = next(Path(axe_playwright_python.__file__).parent.rglob("axe.min.js"))
MARKUP = '<img src=x onerror="document.title=1">'
CARDS = ".fr-gallery .fr-card"
WIDGETS = """id => Object.fromEntries(
    app.graph.getNodeById(id).widgets.map(({name, value}) => [name, value]))"""


@pytest.fixture(scope="module")
def shop(server) -> str:
    """openvto's photos with columns for facets, and a caption that holds markup."""
    catalogue = server.store / "catalogues" / "shop"
    if not catalogue.is_dir():
        shutil.copytree(server.store / "catalogues" / "openvto", catalogue)
        with open(catalogue / "garments.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        for place, row in enumerate(rows):
            row |= {"brand": ["Acme", 'O"Neil & Sons'][place % 2], "price": str(place)}
        rows[0]["caption"] = MARKUP
        with open(catalogue / "garments.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        encoder = load_encoder(server.store / "encoders" / "standin")
        build_index(catalogue, server.store / "indexes" / "shop", encoder)
    return "shop"


@pytest.fixture
def opened(page, shop):
    """retrieve_only on the index `shop`, seen at its real size; the workflow as it was dropped."""
    workflow = workflows.read("retrieve_only")
    workflows.set_widgets(workflow, "GarmentIndexLoader", index_name=shop)
    workflows.set_widgets(workflow, "TextGarmentRetrieve", text="a blue shirt")
    node = next(one for one in workflow["nodes"] if one["type"] == "TextGarmentRetrieve")
    node["size"] = [560, 860]
    drop(page, workflow)
    page.evaluate(
        """id => {
            const { pos } = app.graph.getNodeById(id);
            app.canvas.ds.scale = 1;
            app.canvas.ds.offset = [500 - pos[0], 60 - pos[1]];
            app.graph.setDirtyCanvas(true, true);
        }""",
        node["id"],
    )
    page.wait_for_selector(CARDS)
    return workflow


def ids(page, within: str = ".fr-gallery") -> list[str]:
    return page.eval_on_selector_all(f"{within} .fr-card", "all => all.map((c) => c.dataset.id)")


def changed(page, before: list[str]) -> list[str]:
    page.wait_for_function(
        "before => JSON.stringify([...document.querySelectorAll('.fr-gallery .fr-card')]"
        ".map((c) => c.dataset.id)) !== JSON.stringify(before)",
        arg=before,
    )
    return ids(page)


def test_what_is_picked_by_eye_is_what_the_graph_uses(page, server, opened):
    identity = number(opened, "TextGarmentRetrieve")
    widgets = lambda: page.evaluate(WIDGETS, identity)  # noqa: E731
    before = ids(page)
    assert len(before) == 6

    page.get_by_label("Search garments").first.fill("brown trousers")
    typed = changed(page, before)
    assert widgets()["text"] == "brown trousers"

    page.locator(f'[data-id="{typed[1]}"] .fr-choose').click()
    pinned = changed(page, typed)
    assert pinned[0] == typed[1]
    assert widgets()["pinned"] == typed[1]

    page.locator(f'[data-id="{typed[2]}"]').get_by_label("Shut out").click()
    left = changed(page, pinned)
    assert typed[2] not in left
    assert widgets()["excluded"] == typed[2]

    page.get_by_label("Search garments").first.fill("a red jacket")
    again = changed(page, left)
    assert again[0] == typed[1], "a pinned garment stays when the text changes"

    run(page, opened, "SaveImage")
    page.wait_for_timeout(SECONDS / 2)
    assert ids(page) == again
    prompt = page.evaluate("async () => (await app.graphToPrompt()).output")
    node = next(n for n in prompt.values() if n["class_type"] == "TextGarmentRetrieve")
    assert node["inputs"]["pinned"] == typed[1]
    assert node["inputs"]["excluded"] == typed[2]

    saved = page.evaluate("() => app.graph.serialize()")
    drop(page, saved)
    page.wait_for_selector(CARDS)
    page.wait_for_timeout(SECONDS)
    assert ids(page) == again, "and after saving and opening again"
    page.locator(f'[data-id="{typed[1]}"] .fr-choose').click()
    assert changed(page, again)[0] != typed[1] or widgets()["pinned"] == ""


def test_more_like_this_and_back(page, opened):
    before = ids(page)
    page.locator(f'[data-id="{before[0]}"]').get_by_label("More like this").click()
    like = changed(page, before)
    assert before[0] not in like
    page.get_by_label("Back to the text").click()
    assert changed(page, like) == before


def test_facets_write_the_filter(page, server, opened):
    identity = number(opened, "TextGarmentRetrieve")
    page.locator(".fr-facet summary", has_text="brand").click()
    before = ids(page)
    page.get_by_label('O"Neil & Sons').check()
    page.wait_for_function(
        "([id]) => app.graph.getNodeById(id).widgets.find((w) => w.name === 'filter').value",
        arg=[identity],
    )
    assert page.evaluate(WIDGETS, identity)["filter"] == r'brand in ["O\"Neil & Sons"]'
    page.wait_for_timeout(SECONDS)
    every = json.loads(server.client.get("/fashion_rag/index/shop/garments?count=60"))["garments"]
    brands = {one["id"]: one["columns"]["brand"] for one in every}
    assert {brands[one] for one in ids(page)} == {'O"Neil & Sons'}
    page.get_by_label('O"Neil & Sons').uncheck()
    assert changed(page, ids(page)) == before
    assert page.evaluate(WIDGETS, identity)["filter"] == ""


def test_the_details_show_the_row_and_markup_is_text(page, opened):
    page.get_by_label("Search garments").first.fill("shirt")
    page.evaluate(
        "id => { app.graph.getNodeById(id).widgets.find((w) => w.name === 'top_k').value = 24; }",
        number(opened, "TextGarmentRetrieve"),
    )
    card = page.locator(".fr-card", has_text=MARKUP).first
    card.wait_for()
    card.scroll_into_view_if_needed()
    card.hover()
    details = page.locator(".fr-details")
    details.wait_for()
    assert MARKUP in details.locator("dd").all_text_contents()
    assert page.title() != "1"
    page.keyboard.press("Escape")
    details.wait_for(state="detached")


def test_arrow_keys_and_enter_pick_a_garment(page, opened):
    identity = number(opened, "TextGarmentRetrieve")
    before = ids(page)
    page.locator(f"{CARDS} .fr-choose").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert changed(page, before)[0] == before[1]
    assert page.evaluate(WIDGETS, identity)["pinned"] == before[1]
    focused = page.evaluate("() => document.activeElement.closest('.fr-card')?.dataset.id")
    assert focused == before[1], "the focus stays on the garment"


def test_the_side_bar_shows_the_catalogue(page, opened):
    tab = "Workspace.ToggleSidebarTab.fashion-rag-catalogue"
    page.evaluate("tab => app.extensionManager.command.execute(tab)", tab)
    page.get_by_label("Index", exact=True).select_option("shop")
    page.locator(".fr-scroll .fr-card").first.wait_for()
    page.get_by_text("24 garments").first.wait_for()
    shown = ids(page, ".fr-scroll")
    page.locator(".fr-scroll").evaluate("box => { box.scrollTop = box.scrollHeight; }")
    page.wait_for_timeout(SECONDS / 2)
    assert ids(page, ".fr-scroll")[-1] not in shown[:1]
    page.evaluate("tab => app.extensionManager.command.execute(tab)", tab)


def drag(page, source, place: tuple[float, float]) -> None:
    """Drag an element to a place of the window, as a hand does."""
    box = source.bounding_box()
    page.mouse.move(box["x"] + 40, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 60, box["y"] + 60, steps=4)
    page.mouse.move(*place, steps=6)
    page.mouse.up()


def test_a_garment_is_dragged_onto_the_graph(page, opened):
    """Onto the node, or the gallery on it: a pin; onto the free canvas: a Load Image."""
    identity = number(opened, "TextGarmentRetrieve")
    tab = "Workspace.ToggleSidebarTab.fashion-rag-catalogue"
    page.evaluate("tab => app.extensionManager.command.execute(tab)", tab)
    page.get_by_label("Index", exact=True).select_option("shop")
    cards = page.locator(".fr-scroll .fr-card")
    cards.first.wait_for()
    first, second = (cards.nth(place).get_attribute("data-id") for place in (0, 1))
    gallery = page.locator(".fr-gallery", has=page.locator(".fr-facets")).bounding_box()

    drag(page, cards.nth(0), (gallery["x"] + gallery["width"] / 2, gallery["y"] + 12))
    pinned = "id => app.graph.getNodeById(id).widgets.find((w) => w.name === 'pinned').value"
    page.wait_for_function(f"id => ({pinned})(id)", arg=identity)
    assert page.evaluate(pinned, identity) == first

    drag(page, cards.nth(1), (1640, 300))
    loaded = "() => app.graph.nodes.find((node) => node.type === 'LoadImage')?.imgs?.[0]"
    page.wait_for_function(f"() => ({loaded})()?.naturalWidth")
    name = page.evaluate("() => app.graph.nodes.at(-1).widgets[0].value")
    assert name.startswith(f"fashion_rag/{second}")
    assert page.evaluate(pinned, identity) == first
    page.evaluate("tab => app.extensionManager.command.execute(tab)", tab)


def test_two_galleries_search_side_by_side(page, opened):
    """Neither takes the other's search for an older one of its own."""
    page.evaluate(
        """id => {
            const { pos, graph } = app.graph.getNodeById(id);
            const second = LiteGraph.createNode('TextGarmentRetrieve');
            second.pos = [pos[0] + 600, pos[1]];
            graph.add(second);
            graph.nodes.find((node) => node.type === 'GarmentIndexLoader').connect(0, second, 0);
        }""",
        number(opened, "TextGarmentRetrieve"),
    )
    page.wait_for_function(
        "() => [...document.querySelectorAll('.fr-gallery')]"
        ".filter((one) => one.querySelector('.fr-card')).length === 2"
    )


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_axe_finds_no_serious_fault(page, opened, theme):
    page.evaluate("name => app.extensionManager.setting.set('Comfy.ColorPalette', name)", theme)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate(
        """async () => (await axe.run({ include: [['.fr-gallery']] })).violations
            .filter(({ impact }) => ['serious', 'critical'].includes(impact))
            .map(({ id, nodes }) => [id, nodes[0].html])"""
    )
    page.evaluate("() => app.extensionManager.setting.set('Comfy.ColorPalette', 'dark')")
    assert found == []
