"""The catalogue in the side bar of a real page: scrolled, searched, by keys, dragged."""

from __future__ import annotations

import shutil

import pytest
from fashion_rag.retriever.encoders.open_clip import load_encoder
from fashion_rag.retriever.store.manifest import read_manifest
from fashion_rag.retriever.upkeep.update import update_index
from PIL import Image

from .driving import SECONDS, SIDE_BAR, ids, number, toggle
from .shops import MANY

pytestmark = pytest.mark.browser

SCROLL = ".fr-scroll"
SHOWN = """() => {
    const box = document.querySelector('.fr-scroll').getBoundingClientRect();
    return [...document.querySelectorAll('.fr-scroll .fr-card')].filter((card) => {
        const { top, bottom } = card.getBoundingClientRect();
        return bottom > box.top && top < box.bottom;
    }).map((card) => card.dataset.id ?? '');
}"""
FOCUSED = "() => document.activeElement.closest('.fr-card')?.dataset.id"
FREE = """() => {
    for (let y = 160; y < 900; y += 20) for (let x = 1700; x > 500; x -= 20) {
        if (document.elementFromPoint(x, y)?.id !== 'graph-canvas') continue;
        const place = app.canvas.convertEventToCanvasOffset({ clientX: x, clientY: y });
        if (!app.canvas.graph.getNodeOnPos(...place)) return [x, y];
    }
}"""
PINNED = "id => app.graph.getNodeById(id).widgets.find((w) => w.name === 'pinned').value"


@pytest.fixture
def side_bar(page):
    """Open the side bar on an index; it is closed in the end."""

    def open_on(index: str) -> None:
        toggle(page, SIDE_BAR)
        select = page.get_by_label("Index", exact=True)
        select.locator(f"option[value={index}]").wait_for(state="attached")
        select.select_option(index)
        page.wait_for_function(
            "place => document.querySelector('.fr-scroll img')?.src.includes(place)",
            arg=f"/index/{index}/",
        )
        page.wait_for_timeout(SECONDS)  # the list may be drawn twice: as it was left, and anew

    yield open_on
    page.get_by_label("Search garments").last.fill("")
    toggle(page, SIDE_BAR)


def shown(page) -> list[str]:
    """The garments in sight, once all of them are there."""
    page.wait_for_function(
        f"() => {{ const ids = ({SHOWN})(); return ids[0] && !ids.includes(''); }}"
    )
    return page.evaluate(SHOWN)


def scroll_to(page, share: float) -> list[str]:
    page.locator(SCROLL).evaluate(
        "(box, share) => { box.scrollTop = share * (box.scrollHeight - box.clientHeight); }", share
    )
    page.wait_for_timeout(100)
    return shown(page)


def places(garments: list[str]) -> list[int]:
    """Where garments of the large shop stand in it; they are seen without a gap."""
    numbers = [int(one[1:]) for one in garments]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    return numbers


def free_place(page) -> tuple[float, float]:
    """A place of the window where the graph is seen and no node is, whatever panels are open."""
    return tuple(page.evaluate(FREE))


def drag(page, source, place: tuple[float, float]) -> None:
    """Drag an element to a place of the window, as a hand does."""
    box = source.bounding_box()
    page.mouse.move(box["x"] + 40, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 60, box["y"] + 60, steps=4)
    page.mouse.move(*place, steps=6)
    page.mouse.up()


def test_a_hundred_thousand_garments_are_scrolled_and_searched(page, large_shop, side_bar):
    side_bar(large_shop)
    page.get_by_text(f"{MANY:,} garments").wait_for()
    assert places(shown(page))[0] == 0
    middle = places(scroll_to(page, 0.5))
    assert middle[0] < MANY / 2 < middle[-1] + 20
    assert places(scroll_to(page, 1))[-1] == MANY - 1
    assert len(ids(page, SCROLL)) < 60, "what can't be seen is not drawn"

    page.locator(SCROLL).locator("..").get_by_label("category").select_option("dresses")
    page.get_by_text(f"{MANY // 3:,} garments").wait_for()
    assert all(int(one[1:]) % 3 == 2 for one in scroll_to(page, 0.7))
    search = page.locator(SCROLL).locator("..").get_by_label("Search garments")
    search.fill("a blue shirt")
    page.get_by_text("200 garments").wait_for()
    hits = scroll_to(page, 1)
    assert all(int(one[1:]) % 3 == 2 for one in hits)
    search.fill("")
    page.get_by_text(f"{MANY // 3:,} garments").wait_for()
    page.locator(SCROLL).locator("..").get_by_label("category").select_option("")
    page.get_by_text(f"{MANY:,} garments").wait_for()
    assert places(shown(page))[0] == 0


def test_keys_lead_through_the_whole_catalogue(page, large_shop, side_bar):
    side_bar(large_shop)
    shown(page)
    columns = page.locator(SCROLL).evaluate(
        "box => new Set([...box.querySelectorAll('.fr-card')].map((c) => c.offsetLeft)).size"
    )

    def press(key: str, expected: int) -> None:
        page.keyboard.press(key)
        page.wait_for_function(f"id => ({FOCUSED})() === id", arg=f"g{expected:06}")
        assert f"g{expected:06}" in shown(page)

    page.locator(f"{SCROLL} .fr-choose").first.focus()
    press("End", MANY - 1)
    press("ArrowLeft", MANY - 2)
    press("ArrowUp", MANY - 2 - columns)
    press("Home", 0)
    for row in range(1, 12):
        press("ArrowDown", row * columns)
    card = page.locator(f'{SCROLL} [data-id="g{11 * columns:06}"]')
    assert card.get_attribute("aria-posinset") == str(11 * columns + 1)
    assert card.get_attribute("aria-setsize") == str(MANY)


def test_a_long_way_asks_for_one_page_at_a_time(page, large_shop, side_bar):
    side_bar(large_shop)
    shown(page)
    page.evaluate(
        """() => {
            const ask = window.fetch;
            window.asked = { all: 0, now: 0, most: 0, end: () => { window.fetch = ask; } };
            window.fetch = async (...request) => {
                if (!String(request[0]).includes('/garments?')) return ask(...request);
                asked.all += 1;
                asked.now += 1;
                asked.most = Math.max(asked.most, asked.now);
                await new Promise((resolve) => setTimeout(resolve, 150));
                return ask(...request).finally(() => { asked.now -= 1; });
            };
        }"""
    )
    page.locator(SCROLL).evaluate(
        """async (box) => {
            for (let step = 1; step <= 60; step += 1) {
                box.scrollTop = step / 60 * (box.scrollHeight - box.clientHeight);
                await new Promise((resolve) => setTimeout(resolve, 10));
            }
        }"""
    )
    assert places(shown(page))[-1] == MANY - 1
    asked = page.evaluate("() => { asked.end(); return asked; }")
    assert asked["most"] == 1
    assert 1 < asked["all"] < 30


def test_the_tab_is_found_again_as_it_was_left(page, large_shop, side_bar):
    side_bar(large_shop)
    shown(page)
    before = places(scroll_to(page, 0.3))
    toggle(page, SIDE_BAR)
    page.wait_for_selector(SCROLL, state="detached")
    toggle(page, SIDE_BAR)
    page.wait_for_selector(SCROLL)
    page.wait_for_timeout(SECONDS / 2)
    assert abs(places(shown(page))[0] - before[0]) <= 4
    page.set_viewport_size({"width": 1500, "height": 700})
    page.wait_for_timeout(SECONDS / 2)
    assert abs(places(shown(page))[0] - before[0]) <= 8
    page.set_viewport_size({"width": 1800, "height": 1000})


def test_a_tab_that_is_put_back_within_a_frame_is_not_blank(page, large_shop, side_bar):
    """Its size is the same then, and its scroll bar at the top: no observer tells."""
    side_bar(large_shop)
    shown(page)
    before = scroll_to(page, 0.5)
    page.evaluate(
        """() => {
            const box = document.querySelector('.fr-scroll').closest('.fr-gallery');
            const parent = box.parentNode;
            box.remove();
            parent.append(box);
        }"""
    )
    page.wait_for_function("() => document.querySelector('.fr-scroll').scrollTop > 0")
    assert abs(places(shown(page))[0] - places(before)[0]) <= 4


def test_pictures_have_another_address_after_a_change_of_the_index(page, server, opened, side_bar):
    """The browser keeps pictures for some minutes, by their address."""
    folders = [server.store / kind / "renewed" for kind in ("catalogues", "indexes")]
    catalogue, index = folders
    addressed = "of => document.querySelector('.fr-scroll img')?.src.includes(`of=${of}`)"
    try:
        for folder in folders:
            shutil.copytree(folder.with_name("shop"), folder)
        before = read_manifest(index)["generation"]
        side_bar("renewed")
        assert before and page.evaluate(addressed, before)
        Image.new("RGB", (192, 256), "lime").save(next(catalogue.rglob("*.jpg")))
        update_index(index, load_encoder(server.store / "encoders" / "standin"), catalogue)
        after = read_manifest(index)["generation"]
        assert after != before
        toggle(page, SIDE_BAR)
        toggle(page, SIDE_BAR)
        page.wait_for_function(addressed, arg=after)
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def bring_up(page) -> None:
    """Leave the tab and come back to it."""
    toggle(page, SIDE_BAR)
    page.wait_for_selector(SCROLL, state="detached")
    toggle(page, SIDE_BAR)


def choose(root, index: str) -> None:
    root.get_by_label("Index", exact=True).select_option(index)


def test_an_index_that_is_damaged_shows_no_garments(page, server, opened, side_bar):
    """Neither its own from before nor another's; mended, it shows them again."""
    index = server.store / "indexes" / "mended"
    garments = page.locator(f"{SCROLL} .fr-card")
    root = page.locator(".fr-gallery", has=page.locator(SCROLL))
    try:
        shutil.copytree(index.with_name("shop"), index)
        side_bar("mended")
        shown(page)
        manifest = (index / "manifest.json").read_bytes()
        (index / "manifest.json").write_text("{", encoding="utf-8")
        bring_up(page)
        root.locator(".fr-error").wait_for()
        assert garments.count() == 0
        assert not root.get_by_label("category").is_visible()
        choose(root, "shop")
        root.get_by_text("24 garments", exact=True).wait_for()
        assert garments.count()
        choose(root, "mended")
        root.locator(".fr-error").wait_for()
        assert garments.count() == 0
        (index / "manifest.json").write_bytes(manifest)
        bring_up(page)
        root.get_by_text("24 garments", exact=True).wait_for()
    finally:
        shutil.rmtree(index, ignore_errors=True)


def test_that_there_is_no_index_is_said_as_long_as_there_is_none(page, opened, side_bar):
    root = page.locator(".fr-gallery", has=page.locator(SCROLL))
    none = root.get_by_text("There is no index yet")
    side_bar("shop")
    before = shown(page)
    page.route("**/fashion_rag/indexes", lambda route: route.fulfill(json={"indexes": []}))
    try:
        bring_up(page)
        none.wait_for()
        assert ids(page, SCROLL) == []
        assert root.get_by_label("Index", exact=True).locator("option").count() == 0
    finally:
        page.unroute("**/fashion_rag/indexes")
    bring_up(page)
    root.get_by_text("24 garments").wait_for()
    assert none.count() == 0
    assert shown(page) == before


def test_an_error_goes_with_its_cause(page, opened, large_shop, side_bar):
    """Of the list of indexes, of the garments listed first, and of those scrolled to."""
    root = page.locator(".fr-gallery", has=page.locator(SCROLL))
    error = root.locator(".fr-error", has_text="out of order")
    side_bar(large_shop)
    shown(page)

    def while_failing(place: str, act) -> None:
        answer = {"status": 500, "json": {"error": "out of order"}}
        page.route(place, lambda route: route.fulfill(**answer))
        try:
            act()
            error.wait_for()
        finally:
            page.unroute(place)

    while_failing("**/fashion_rag/indexes", lambda: bring_up(page))
    bring_up(page)
    error.wait_for(state="detached")
    root.get_by_text(f"{MANY:,} garments").wait_for()
    scroll = "(box) => { box.scrollTop = box.scrollHeight / 2; }"
    while_failing("**/garments?*", lambda: page.locator(SCROLL).evaluate(scroll))
    scroll_to(page, 0.7)
    error.wait_for(state="detached")
    while_failing("**/garments?*", lambda: choose(root, "shop"))
    assert ids(page, SCROLL) == []
    bring_up(page)
    error.wait_for(state="detached")
    root.get_by_text("24 garments").wait_for()


def test_a_pin_from_the_side_bar_is_one_that_a_run_takes(page, opened, side_bar):
    """Not one that is shut out as well, and none where a link says what is pinned."""
    identity = number(opened, "TextGarmentRetrieve")
    side_bar("shop")
    first, second = shown(page)[:2]
    widget = "([id, name]) => app.graph.getNodeById(id).widgets.find((w) => w.name === name)"
    page.evaluate(
        f"([id, text]) => {{ ({widget})([id, 'excluded']).value = text; }}", [identity, first]
    )
    page.evaluate("id => app.canvas.selectNode(app.graph.getNodeById(id))", identity)
    root = page.locator(".fr-gallery", has=page.locator(SCROLL))
    root.locator(f'[data-id="{first}"] .fr-choose').click()
    root.get_by_text("Pinned: ").wait_for()
    assert page.evaluate(PINNED, identity) == first
    assert page.evaluate(f"id => ({widget})([id, 'excluded']).value", identity) == ""

    page.evaluate(
        """id => {
            const node = app.graph.getNodeById(id);
            const text = LiteGraph.createNode('PrimitiveStringMultiline');
            text.pos = [node.pos[0] - 450, node.pos[1]];
            app.graph.add(text);
            text.connect(0, node, node.inputs.findIndex(({ name }) => name === 'pinned'));
        }""",
        identity,
    )
    root.locator(f'[data-id="{second}"] .fr-choose').click()
    root.get_by_text("pinned is connected").wait_for()
    assert page.evaluate(PINNED, identity) == first


def test_a_garment_is_dragged_onto_the_graph(page, opened, side_bar):
    """Onto the node, or the gallery on it: a pin; onto the free canvas: a Load Image."""
    identity = number(opened, "TextGarmentRetrieve")
    side_bar("shop")
    cards = page.locator(f"{SCROLL} .fr-card")
    first, second = shown(page)[:2]
    gallery = page.locator(".fr-gallery", has=page.locator(".fr-facets")).bounding_box()

    drag(page, cards.nth(0), (gallery["x"] + gallery["width"] / 2, gallery["y"] + 12))
    page.wait_for_function(f"id => ({PINNED})(id)", arg=identity)
    assert page.evaluate(PINNED, identity) == first

    drag(page, cards.nth(1), free_place(page))
    loaded = "() => app.graph.nodes.find((node) => node.type === 'LoadImage')?.imgs?.[0]"
    page.wait_for_function(f"() => ({loaded})()?.naturalWidth")
    name = page.evaluate("() => app.graph.nodes.at(-1).widgets[0].value")
    assert name.startswith(f"fashion_rag/{second}")
    assert page.evaluate(PINNED, identity) == first


def test_a_garment_from_far_down_is_dragged_but_not_to_another_index(
    page, opened, large_shop, side_bar
):
    """The node searches `shop`: a garment of another index would be an unknown id there."""
    identity = number(opened, "TextGarmentRetrieve")
    side_bar(large_shop)
    shown(page)
    seen = scroll_to(page, 0.8)
    garment = seen[len(seen) // 2]  # the first ones may be cut off
    card = page.locator(f'{SCROLL} [data-id="{garment}"]')
    node = page.locator(".fr-gallery", has=page.locator(".fr-facets"))
    box = node.bounding_box()
    drag(page, card, (box["x"] + box["width"] / 2, box["y"] + 12))
    node.get_by_text("the node searches shop").wait_for()
    assert page.evaluate(PINNED, identity) == ""
    drag(page, card, free_place(page))
    page.wait_for_function(
        "() => app.graph.nodes.find((node) => node.type === 'LoadImage')?.imgs?.[0]?.naturalWidth"
    )
    name = page.evaluate("() => app.graph.nodes.at(-1).widgets[0].value")
    assert name.startswith(f"fashion_rag/{garment}")


def test_a_photo_that_is_gone_is_told(page, server, opened, large_shop, side_bar):
    photo = server.store / "catalogues" / "large" / "garment.jpg"
    side_bar(large_shop)
    shown(page)
    seen = scroll_to(page, 0.4)  # the browser may have kept a photo that was dragged before
    card = page.locator(f'{SCROLL} [data-id="{seen[len(seen) // 2]}"]')
    away = photo.rename(photo.with_name("away.jpg"))
    try:
        drag(page, card, free_place(page))
        page.locator(".p-toast", has_text="garment.jpg is gone").wait_for()
    finally:
        away.rename(photo)
    assert not page.evaluate("() => app.graph.nodes.some(({ type }) => type === 'LoadImage')")
