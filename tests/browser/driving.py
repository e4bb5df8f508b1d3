"""Driving a ComfyUI page as a user does: opening workflows, pressing Run, looking at pictures."""

from __future__ import annotations

import json
from typing import Any

from playwright.sync_api import TimeoutError

READY = """() => window.app?.extensionManager && app.canvas
    && LiteGraph.registered_node_types['FashionComposite']"""
DROPPED = """([text, name]) => {
    const dropped = new DataTransfer();
    dropped.items.add(new File([text], name, { type: 'application/json' }));
    return dropped;
}"""
OPEN = """([id, count]) => app.graph.id === id && app.graph.nodes.length === count
    && app.extensionManager.workflow.activeWorkflow?.activeState?.id === id
    && location.hash === '#' + id"""
PICTURES = """id => {
    const drawn = app.graph.getNodeById(id).imgs ?? [];
    const shown = document.querySelectorAll(`[data-node-id="${id}"] img`);
    const loaded = [...drawn, ...shown].filter((image) => image.naturalWidth);
    return loaded.map((image) => [image.naturalWidth, image.naturalHeight]);
}"""
CARDS = ".fr-gallery .fr-card"
PHOTOS = f"""() => [...document.querySelectorAll('{CARDS} img')]
    .filter((photo) => photo.offsetParent)
    .map((photo) => [photo.src, photo.complete, photo.naturalWidth])"""
SIDE_BAR = "Workspace.ToggleSidebarTab.fashion-rag-catalogue"
SECONDS = 1000


def drop(page, workflow: dict[str, Any], name: str = "workflow") -> None:
    """Drop the file onto the canvas, as a user does, and wait until it is there."""
    dropped = page.evaluate_handle(DROPPED, [json.dumps(workflow), f"{name}.json"])
    page.dispatch_event("#graph-canvas", "drop", {"dataTransfer": dropped})
    wait_until_open(page, workflow)
    page.evaluate("() => app.extensionManager.command.execute('Comfy.Canvas.FitView')")


def wait_until_open(page, workflow: dict[str, Any]) -> None:
    """The graph comes first, the tab and the address later: the page is ready after all of them."""
    page.wait_for_function(OPEN, arg=[workflow["id"], len(workflow["nodes"])])


def show(page, identity: int) -> None:
    """Go to a node at its real size: far out, or off the canvas, its pictures are not loaded."""
    page.evaluate(
        """id => {
            const { pos } = app.graph.getNodeById(id);
            app.canvas.ds.scale = 1;
            app.canvas.ds.offset = [500 - pos[0], 60 - pos[1]];
            app.graph.setDirtyCanvas(true, true);
        }""",
        identity,
    )


def number(workflow: dict[str, Any], node_type: str) -> int:
    (node,) = [node for node in workflow["nodes"] if node["type"] == node_type]
    return node["id"]


def press(page, button: str) -> None:
    """Press a button by its test id, even while the page fades out its loading mask."""
    page.get_by_test_id(button).dispatch_event("click")


def run(page, workflow: dict[str, Any], last: str) -> None:
    """Press Run and wait until the node of this type has shown something."""
    press(page, "queue-button")
    page.wait_for_function(
        "id => (app.nodeOutputs[id]?.images ?? []).length", arg=str(number(workflow, last))
    )


def pictures(page, workflow: dict[str, Any], node_type: str) -> list[list[int]]:
    """Width and height of the pictures that a node shows."""
    identity = number(workflow, node_type)
    page.wait_for_function(f"id => ({PICTURES})(id).length", arg=identity)
    return page.evaluate(PICTURES, identity)


def wait_for_photos(page, count: int) -> None:
    """Wait until the galleries in sight show this many photos, all of them loaded."""
    loaded = f"({PHOTOS})().filter(([, , width]) => width).length"
    try:
        page.wait_for_function(f"() => ({PHOTOS})().length === {count} && {loaded} === {count}")
    except TimeoutError as error:
        said = page.locator(".fr-gallery .fr-status").all_text_contents()
        raise AssertionError(f"photos {page.evaluate(PHOTOS)}, said {said}") from error


def toggle(page, tab: str) -> None:
    """Open a tab of the side bar, or close it."""
    page.evaluate("tab => app.extensionManager.command.execute(tab)", tab)


def ids(page, within: str = ".fr-gallery") -> list[str]:
    """The garments whose cards are drawn."""
    return page.eval_on_selector_all(f"{within} .fr-card", "all => all.map((c) => c.dataset.id)")
