"""The gallery in a real page: see, pin, shut out, more like this, facets; then run and reload."""

from __future__ import annotations

import json
from pathlib import Path

import axe_playwright_python
import pytest
from fashion_rag.comfyui_server.server import PACK_FOLDER
from fashion_rag.retriever.filter_text import read_filter
from fashion_rag.retriever.store.filters import And, Membership, Or

from .driving import CARDS, SECONDS, SIDE_BAR, drop, ids, number, press, run, toggle
from .shops import MARKUP

pytestmark = pytest.mark.browser

AXE = next(Path(axe_playwright_python.__file__).parent.rglob("axe.min.js"))
WIDGETS = """id => Object.fromEntries(
    app.graph.getNodeById(id).widgets.map(({name, value}) => [name, value]))"""

SET = """([id, values]) => {
    const { widgets } = app.graph.getNodeById(id);
    for (const widget of widgets) widget.value = values[widget.name] ?? widget.value;
}"""
LINK = """([id, input, type, value]) => {
    const node = app.graph.getNodeById(id);
    const source = LiteGraph.createNode(type);
    source.pos = [node.pos[0] - 450, node.pos[1]];
    app.graph.add(source);
    source.widgets[0].value = value;
    return Boolean(source.connect(0, node, node.inputs.findIndex(({ name }) => name === input)));
}"""
ONLY_IN_A_RUN = "What is connected counts only in a run: "


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


def test_a_range_of_prices_writes_the_filter(page, server, opened):
    """The shop's prices are 0.50 to 23.50; sizes are whole and few, so they are ticked."""
    identity = number(opened, "TextGarmentRetrieve")
    filter_is = f"([id, text]) => ({WIDGETS})(id).filter === text"
    sizes = page.locator(".fr-facet[data-column=size]")
    sizes.locator("summary").click()
    assert sizes.locator("label").all_text_contents() == ["36 (8)", "38 (8)", "40 (8)"]
    price = page.locator(".fr-facet[data-column=price]")
    price.locator("summary").click()
    low, high = price.get_by_label("from"), price.get_by_label("to")
    assert (low.get_attribute("placeholder"), high.get_attribute("placeholder")) == ("0.5", "23.5")
    before = ids(page)
    low.fill("5")
    low.press("Enter")
    page.wait_for_function(filter_is, arg=[identity, "price >= 5"])
    high.fill("9.5")
    high.press("Tab")
    page.wait_for_function(filter_is, arg=[identity, "price >= 5 and price <= 9.5"])
    page.wait_for_function(f"() => document.querySelectorAll('{CARDS}').length === 5")
    every = json.loads(server.client.get("/fashion_rag/index/shop/garments?count=60"))["garments"]
    prices = {one["id"]: float(one["columns"]["price"]) for one in every}
    assert sorted(prices[one] for one in ids(page)) == [5.5, 6.5, 7.5, 8.5, 9.5]
    assert price.locator("summary").text_content() == "price 5–9.5"
    low.fill("")
    high.click()  # the field is still there after the other has told its change
    page.wait_for_function(filter_is, arg=[identity, "price <= 9.5"])
    page.keyboard.press("Control+A")
    page.keyboard.press("Delete")
    page.keyboard.press("Enter")
    page.wait_for_function(filter_is, arg=[identity, ""])
    page.wait_for_function(f"() => document.querySelectorAll('{CARDS}').length === 6")
    assert ids(page) == before


def test_no_more_is_pinned_than_a_run_takes(page, opened):
    identity = number(opened, "TextGarmentRetrieve")
    before = ids(page)
    most = """([id, most]) => {
        const { options } = app.graph.getNodeById(id).widgets.find(({ name }) => name === 'top_k');
        const former = options.max;
        options.max = most;
        return former;
    }"""
    assert page.evaluate(most, [identity, 3]) == 64
    try:
        pinned = "\n".join(before[:3])
        page.evaluate(SET, [identity, {"pinned": pinned, "top_k": 3}])
        three = changed(page, before)
        page.locator(f'[data-id="{three[0]}"]').get_by_label("More like this").click()
        fourth = next(one for one in changed(page, three) if one not in three)
        page.locator(f'[data-id="{fourth}"] .fr-choose').click()
        page.locator(".fr-error", has_text="No more than 3 garments can be pinned.").wait_for()
        widgets = page.evaluate(WIDGETS, identity)
        assert (widgets["pinned"], widgets["top_k"]) == (pinned, 3)
        assert page.locator(f'[data-id="{fourth}"] [aria-pressed=true]').count() == 0
    finally:
        page.evaluate(most, [identity, 64])


def test_a_pin_raises_what_a_run_needs(page, opened):
    """A run refuses more pinned garments than `top_k`, and a `top_k` above `draw_from`."""
    identity = number(opened, "TextGarmentRetrieve")
    before = ids(page)
    page.evaluate(SET, [identity, {"top_k": 1, "draw_from": 1, "pinned": before[0]}])
    one = changed(page, before)
    page.locator(f'[data-id="{one[0]}"]').get_by_label("More like this").click()
    (second,) = changed(page, one)
    page.locator(f'[data-id="{second}"] .fr-choose').click()
    widgets = page.evaluate(WIDGETS, identity)
    assert widgets["pinned"].split("\n") == [before[0], second]
    assert (widgets["top_k"], widgets["draw_from"]) == (2, 2)


def test_what_a_link_gives_is_not_written(page, opened):
    """Neither by a pin, nor by shutting out, nor by facets; the page says why."""
    identity = number(opened, "TextGarmentRetrieve")
    page.locator(".fr-facet[data-column=brand] summary").click()
    page.locator(".fr-facet[data-column=price] summary").click()
    before, former = ids(page), page.evaluate(WIDGETS, identity)
    for name, value in [("pinned", before[3]), ("excluded", before[4]), ("filter", "price > 1")]:
        assert page.evaluate(LINK, [identity, name, "PrimitiveStringMultiline", value])
    node = page.locator(".fr-gallery", has=page.locator(".fr-facets"))
    node.get_by_text(ONLY_IN_A_RUN + "pinned, excluded, filter").wait_for()

    def refused(name: str) -> None:
        node.locator(".fr-error", has_text=f"{name} is connected").wait_for()
        assert page.evaluate(WIDGETS, identity) == former

    page.locator(f'[data-id="{before[5]}"] .fr-choose').click()
    refused("pinned")
    page.locator(f'[data-id="{before[5]}"]').get_by_label("Shut out").click()
    refused("excluded")
    acme = page.get_by_label("Acme (12)")
    acme.click()
    refused("filter")
    assert not acme.is_checked()
    low = page.locator(".fr-facet[data-column=price]").get_by_label("from")
    low.fill("5")
    low.press("Enter")
    refused("filter")
    assert low.input_value() == ""
    assert ids(page) == before


def test_connected_pictures_are_said_to_count_in_a_run(page, opened):
    """What the run has found stays until something else is asked for, however it is picked from."""
    identity = number(opened, "TextGarmentRetrieve")
    before = ids(page)
    assert page.evaluate(LINK, [identity, "reference_images", "LoadImage", "person.png"])
    page.evaluate(SET, [identity, {"image_weight": 1}])
    note = page.get_by_text(ONLY_IN_A_RUN + "reference_images")
    note.wait_for()
    assert ids(page) == before

    run(page, opened, "SaveImage")
    found = "id => app.nodeOutputs[id].garments.map(({ id }) => id)"
    of_the_run = changed(page, before)
    assert of_the_run == page.evaluate(found, str(identity))
    note.wait_for()
    page.locator(f'[data-id="{of_the_run[1]}"] .fr-choose').click()
    page.locator(f'[data-id="{of_the_run[1]}"] [aria-pressed=true]').wait_for()
    page.locator(f'[data-id="{of_the_run[2]}"]').get_by_label("Shut out").click()
    left = changed(page, of_the_run)
    assert left == [one for one in of_the_run if one != of_the_run[2]]
    page.get_by_text("1 shut out: bring back").click()
    assert changed(page, left) == of_the_run

    # Pictures alone are enough for a run.
    search = page.get_by_label("Search garments").first
    search.fill("")
    assert changed(page, of_the_run) == []
    note.wait_for()
    assert page.get_by_text("Type what the person should wear.").count() == 0
    press(page, "queue-button")
    page.wait_for_selector(CARDS)
    assert ids(page) == page.evaluate(found, str(identity))
    page.wait_for_timeout(SECONDS)
    assert len(ids(page)) == 6
    note.wait_for()
    search.fill("brown trousers")
    changed(page, ids(page))
    note.wait_for()


def test_a_linked_text_is_not_asked_for(page, opened):
    identity = number(opened, "TextGarmentRetrieve")
    assert page.evaluate(LINK, [identity, "text", "PrimitiveStringMultiline", "a red jacket"])
    page.get_by_text(ONLY_IN_A_RUN + "text").wait_for()
    assert page.get_by_text("Type what the person should wear.").count() == 0
    assert page.get_by_label("Search garments").first.is_disabled()


def test_an_index_whose_name_is_linked_is_known_after_a_run_alone(page, opened):
    """The widget keeps its old value beside the link."""
    identity = number(opened, "TextGarmentRetrieve")
    loader = page.evaluate(WIDGETS, number(opened, "GarmentIndexLoader"))
    assert len(ids(page)) == 6
    build = page.evaluate(
        """([id, name]) => {
            const node = app.graph.getNodeById(id);
            const build = LiteGraph.createNode('GarmentIndexBuild');
            app.graph.add(build);
            build.widgets.find((widget) => widget.name === 'index_name').value = name;
            build.connect(0, node, node.inputs.findIndex((input) => input.name === 'index'));
            return build.id;
        }""",
        [identity, loader["index_name"]],
    )
    page.wait_for_timeout(SECONDS)
    assert len(ids(page)) == 6, "by the name in the widget"
    assert page.evaluate(LINK, [build, "index_name", "PrimitiveString", "another"])
    page.wait_for_function("() => !document.querySelector('.fr-gallery .fr-card')")


def test_the_facets_of_another_index_go_with_it(page, opened):
    page.evaluate(SET, [number(opened, "GarmentIndexLoader"), {"index_name": "nowhere"}])
    page.locator(".fr-error", has_text="nowhere").wait_for()
    assert page.locator(".fr-facet").count() == 0
    assert ids(page) == []


def test_the_filter_keeps_its_meaning_between_the_page_and_python(page):
    """What the page reads from a filter and writes again is the same filter to the search."""
    script = f"/extensions/{PACK_FOLDER}/gallery/filter.js"
    again = """async ([script, text]) => {
        const { readFilter, writeFilter } = await import(script);
        const read = readFilter(text);
        return [writeFilter(read), [...read.facets.keys()], [...read.ranges.keys()], read.rest];
    }"""

    def parts(text: str) -> list:
        condition = read_filter(text)
        return list(condition.parts) if isinstance(condition, And) else [condition]

    for text, facets, ranges, rest in [
        ("price >= 10", [], ["price"], ""),
        ("price >= 10 and price <= 2.5e1 and price >= 11", [], ["price"], "price >= 11"),
        (r'brand in ["O\"Neil \\ Sons", "b"] and stock > 3', ["brand"], [], "stock > 3"),
        ('brand in ["a", "b"] and brand in ["b"]', ["brand"], [], 'brand in ["b"]'),
        ('`a``b` in ["x"] and `Größe` >= -1 and `true` in ["y"]', ["a`b", "true"], ["Größe"], ""),
        ("a = 1 or price >= 3", [], [], "(a = 1 or price >= 3)"),
        ('name = " and price >= 3"', [], [], 'name = " and price >= 3"'),
        ("not (price >= 3 and a = 1)", [], [], "not (price >= 3 and a = 1)"),
        # The tooltip's own example, and what people write.
        ("price < 80 and brand in ['Acme', 'Bolt']", ["brand"], [], "price < 80"),
        ("brand IN [ 'a' ,\"b\", ]AND Größe>=3", ["brand"], ["Größe"], ""),
        ("brand in [“Acme”，„Bolt“] and price＞＝3", ["brand"], ["price"], ""),
        ("a = 1\nAnd\tprice >= 3\u2028and b = 2", [], ["price"], "a = 1 and b = 2"),
        ('brand = "a"and price >= 3', [], ["price"], 'brand = "a"'),
        ("stand = 1 and größand >= 3", [], ["größand"], "stand = 1"),
        # Quotes that would swallow what is joined to them.
        ("brand = “O'Neil” and size in [‘a’]", ["size"], [], 'brand = "O\'Neil"'),
    ]:
        written, *read = page.evaluate(again, [script, text])
        assert read == [facets, ranges, rest], text
        assert sorted(map(repr, parts(written))) == sorted(map(repr, parts(text)))


EITHER = [
    'brand = "Acme" or price < 15',
    'brand = "Acme" OR price < 15',
    'brand = "Acme"  oR\tprice < 15',
    'brand = "Acme"\nor price < 15',
    'brand = "Acme"\r\nor\r\nprice < 15',
    'brand = "Acme"\u00a0or\u00a0price < 15',
    '(brand = "Acme")or(price < 15)',
    'brand = "Acme"or price < 15',
    "brand in ['Acme']or`price` < 15",
    "brand = 'Acme' and price >= 1 Or price < 15",
    "brand = ‘Acme and’ OR price < 15",
    "（brand = “Acme”）or price ＜ 15",
    "brand = “O'Neil” or brand = “D Or” or price < 15",
]
NEITHER = [
    'brand = "Acme or price < 15"',
    'brand = "\\" or \\""',
    "brand = “Acme or x”",
    "brand = 'a OR b'",
    "`a or b` = 1",
    "(a = 1 or b = 2)",
    "not (a = 1 OR b = 2)",
    "brand in ['a or b'] and colour != 'x'",
    "orchid = 1 and größor = 2 and _or = 3",
]


@pytest.mark.parametrize("text", [*EITHER, *NEITHER])
def test_a_facet_holds_beside_any_filter_of_a_hand(page, text):
    """What is ticked narrows what the filter finds: it is no part of an "or" in it."""
    script = f"/extensions/{PACK_FOLDER}/gallery/filter.js"
    tick = """async ([script, text]) => {
        const { readFilter, writeFilter } = await import(script);
        const read = readFilter(text);
        read.facets.set('kind', new Set(["O'Neil \\"X\\" or"]));
        const ticked = writeFilter(read);
        const again = readFilter(ticked);
        again.facets.delete('kind');
        return [ticked, writeFilter(again)];
    }"""
    ticked, unticked = page.evaluate(tick, [script, text])

    def parts(text: str) -> set[str]:
        condition = read_filter(text)
        return set(map(repr, condition.parts if isinstance(condition, And) else [condition]))

    assert parts(ticked) == parts(text) | {repr(Membership("kind", ('O\'Neil "X" or',)))}
    assert parts(unticked) == parts(text)
    if text in EITHER:
        assert isinstance(read_filter(text), Or)


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


def test_a_pick_is_one_step_to_undo_and_redo(page, opened):
    identity = number(opened, "TextGarmentRetrieve")
    before = ids(page)
    page.locator(f'[data-id="{before[1]}"] .fr-choose').click()
    pinned = changed(page, before)
    page.locator(f'[data-id="{before[1]}"]').get_by_label("Shut out").click()
    changed(page, pinned)

    def picked() -> tuple[str, str]:
        values = page.evaluate(WIDGETS, identity)
        return values["pinned"], values["excluded"]

    def step(command: str) -> tuple[str, str]:
        page.evaluate("name => app.extensionManager.command.execute(name)", f"Comfy.{command}")
        page.wait_for_timeout(SECONDS)
        return picked()

    assert picked() == ("", before[1])
    assert step("Undo") == (before[1], "")
    assert step("Undo") == ("", "")
    assert step("Redo") == (before[1], "")
    assert step("Redo") == ("", before[1])


def test_a_text_of_several_lines_stays_one(page, opened):
    identity = number(opened, "TextGarmentRetrieve")
    page.evaluate(SET, [identity, {"text": "a white shirt\nblue jeans"}])
    search = page.get_by_label("Search garments").first
    page.wait_for_function(
        "text => document.querySelector('.fr-text').value === text", arg="a white shirt\nblue jeans"
    )
    search.focus()
    page.keyboard.press("End")
    page.keyboard.type("!")
    text = page.evaluate(WIDGETS, identity)["text"]
    assert text.count("\n") == 1 and text.count("!") == 1


def test_shutting_out_by_keyboard_goes_on_with_the_next_garment(page, opened):
    before = ids(page)
    page.locator(f'[data-id="{before[1]}"]').get_by_label("Shut out").focus()
    page.keyboard.press("Enter")
    left = changed(page, before)
    focused = page.evaluate("() => document.activeElement.closest('.fr-card')?.dataset.id")
    assert focused == left[1]


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


# Axe can't tell what stands behind a widget on the canvas: the widgets are looked at in a window of
# their own, on the colours that they stand on.
SEEN = """async (color) => {
    const screen = document.body.appendChild(document.createElement('div'));
    Object.assign(screen.style, { position: 'fixed', inset: 0, zIndex: 1e6, display: 'flex' });
    const moved = [...document.querySelectorAll('.fr-gallery, .fr-details')].map((root) => {
        const place = screen.appendChild(document.createElement('div'));
        const node = root.closest('.dom-widget, [data-node-id]');
        place.className = node?.matches('.dom-widget') ? 'dom-widget' : '';
        if (node?.dataset.nodeId) place.dataset.nodeId = node.dataset.nodeId;
        Object.assign(place.style, {
            position: 'relative', flex: 1, background: node ? color : 'var(--comfy-menu-bg)' });
        const former = [root, root.parentNode ?? document.body];  // moved focus closes the picture
        place.append(root);
        return former;
    });
    // Nor behind lines that are cut off.
    for (const caption of screen.querySelectorAll('.fr-words span')) caption.textContent = 'denim';
    const { violations, passes } = await axe.run(screen);
    const contrast = passes.find(({ id }) => id === 'color-contrast');
    const seen = contrast.nodes.map(({ target }) => document.querySelector(target[0]));
    const parts = ['.fr-facets', '.fr-grid', '.fr-error', '.fr-details'];
    const answer = [
        violations.filter(({ impact }) => ['serious', 'critical'].includes(impact))
            .map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]),
        parts.filter((part) => !seen.some((one) => one.closest(part))),
    ];
    for (const [root, parent] of moved) parent.append(root);
    screen.remove();
    return answer;
}"""
GREY = "() => LiteGraph.NODE_DEFAULT_BGCOLOR"


@pytest.mark.parametrize(("theme", "teal"), [("dark", "#335555"), ("light", "#b2d1d1")])
def test_axe_finds_no_serious_fault(page, opened, theme, teal):
    """In the gallery with open facets and an error, the side bar, and the larger picture."""
    page.evaluate("name => app.extensionManager.setting.set('Comfy.ColorPalette', name)", theme)
    toggle(page, SIDE_BAR)
    side_bar = page.locator(".fr-gallery", has=page.locator(".fr-scroll"))
    side_bar.get_by_label("Index", exact=True).select_option("shop")
    side_bar.locator(".fr-card img").first.wait_for()
    for column in ("brand", "price"):
        page.locator(f".fr-facet[data-column={column}] summary").click()
    page.evaluate(
        "id => { const { widgets } = app.graph.getNodeById(id);"
        " widgets.find((w) => w.name === 'filter').value = 'price <'; }",
        number(opened, "TextGarmentRetrieve"),
    )
    page.locator(".fr-error", has_text="is not understood").wait_for()
    page.locator(f"{CARDS} .fr-choose").first.focus()
    page.keyboard.press("ArrowRight")
    page.locator(".fr-details img").wait_for()
    page.evaluate(AXE.read_text(encoding="utf-8"))
    answers = [page.evaluate(SEEN, color) for color in (page.evaluate(GREY), teal)]
    page.evaluate("() => app.extensionManager.setting.set('Comfy.ColorPalette', 'dark')")
    toggle(page, SIDE_BAR)
    for found, unseen in answers:
        assert found == []
        assert unseen == []
