"""A real page: the newest ComfyUI found, with stand-in models, in a headless Chromium."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fashion_rag.comfyui_server.installations import (
    HOW_TO_GET_ONE,
    Host,
    find_hosts,
    optional_packages,
)
from fashion_rag.comfyui_server.server import Server
from PIL import Image

from .. import workflows
from .driving import CARDS, READY, SECONDS, drop, show
from .shops import make_large_shop, make_shop

DATA = Path(__file__).parent.parent / "data"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")
NO_CHROMIUM = f"no Chromium found, page tests skipped: install one, named {' or '.join(CHROMIUM)}"
NO_OPENVTO = "the photos of openvto are missing: pip install --no-deps openvto==0.1.7"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MASK = ".p-blockui-mask.p-overlay-mask-leave { pointer-events: none !important; }"
"""The host's loading mask can stay, faded out, over the whole page (primefaces/primevue#7817)."""
SKIPPED = pytest.StashKey[set[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SKIPPED] = set()


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    for reason in sorted(config.stash[SKIPPED]):
        terminalreporter.section("page tests")
        terminalreporter.write_line(reason)


@pytest.fixture(scope="session")
def chromium(request) -> str:
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        request.config.stash[SKIPPED].add(NO_CHROMIUM)
        pytest.skip(NO_CHROMIUM)
    return found


@pytest.fixture(scope="session")
def host(request) -> Host:
    """The newest of the ComfyUIs found."""
    hosts = find_hosts()
    if not hosts:
        request.config.stash[SKIPPED].add(HOW_TO_GET_ONE)
        pytest.skip(HOW_TO_GET_ONE)
    return max(hosts, key=lambda host: [int(part) for part in host.version.split(".")])


@pytest.fixture(scope="session")
def server(request, chromium, host: Host, tmp_path_factory) -> Iterator[Server]:
    """A server with the stand-in model, openvto's photos, and every file that a workflow names."""
    from fashion_rag.miniature.standin import make_standin

    spec = importlib.util.find_spec("openvto")
    if spec is None:
        request.config.stash[SKIPPED].add(NO_OPENVTO)
        pytest.skip(NO_OPENVTO)
    photos = Path(spec.submodule_search_locations[0]) / "assets"
    server = Server(host, tmp_path_factory.mktemp("page"), optional_packages(host.python))
    standin = make_standin(server.store / "models" / "standin")
    shutil.copytree(standin / "encoder", server.store / "encoders" / "standin")
    catalogue = server.store / "catalogues" / "openvto"
    shutil.copytree(photos / "clothes", catalogue)
    shutil.copy(DATA / "openvto_garments.csv", catalogue / "garments.csv")
    person = Image.open(photos / "people" / "1_posture.jpg").convert("RGB")
    mask = Image.open(DATA / "masks" / "person_1_upper.png").convert("L")
    person.putalpha(mask.point(lambda value: 255 - value))
    person.save(server.base / "input" / "person.png")
    shutil.copy(host.root / "input" / "example.png", server.base / "input")
    make_named_files(server)
    settings = server.base / "user" / "default" / "comfy.settings.json"
    settings.parent.mkdir()
    settings.write_text('{"Comfy.TutorialCompleted": true}', encoding="utf-8")
    yield server.start()
    server.stop()


def make_named_files(server: Server) -> None:
    """Empty files under the names in the workflows, so that the page misses none of them."""
    for name in workflows.NAMES:
        for node in workflows.read(name)["nodes"]:
            folder = workflows.FOLDERS.get(node["type"])
            for file in workflows.files_of(node) if folder else ():
                path = server.base / "models" / folder / file
                if node["type"] == "HumanParserLoader":
                    path = path / "config.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
    for folder, file in (
        ("indexes/my_garments", "manifest.json"),
        ("encoders/ViT-L-14-laion2b_s32b_b82k", "open_clip_config.json"),
        ("catalogues/my_photos", "photo.png"),
    ):
        (server.store / folder).mkdir(parents=True)
        (server.store / folder / file).touch()


@pytest.fixture(scope="session")
def browser(chromium, server) -> Iterator:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module", params=["nodes 1.0", "nodes 2.0"])
def page(browser, server, request) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": 1800, "height": 1000})
    page.set_default_timeout(120 * SECONDS)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"http://{server.client.address}/", wait_until="domcontentloaded")
    page.add_style_tag(content=MASK)
    page.wait_for_function(READY)
    page.evaluate(
        "on => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)",
        request.param == "nodes 2.0",
    )
    yield page
    page.close()
    assert not errors


@pytest.fixture(scope="session")
def shop(server) -> str:
    return make_shop(server)


@pytest.fixture(scope="session")
def large_shop(server) -> str:
    return make_large_shop(server)


@pytest.fixture
def opened(page, shop) -> dict[str, Any]:
    """retrieve_only on the index `shop`, seen at its real size; the workflow as it was dropped."""
    workflow = workflows.read("retrieve_only")
    workflows.set_widgets(workflow, "GarmentIndexLoader", index_name=shop)
    workflows.set_widgets(workflow, "TextGarmentRetrieve", text="a blue shirt")
    node = next(one for one in workflow["nodes"] if one["type"] == "TextGarmentRetrieve")
    node["size"] = [560, 860]
    drop(page, workflow)
    show(page, node["id"])
    page.wait_for_selector(CARDS)
    return workflow
