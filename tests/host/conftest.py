"""Fixtures: one bare server and one with the optional packages for every ComfyUI found."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fashion_rag.comfyui_server.client import Node
from fashion_rag.comfyui_server.installations import (
    HOW_TO_GET_ONE,
    Host,
    find_hosts,
    optional_packages,
)
from fashion_rag.comfyui_server.server import Server
from PIL import Image

from ..cards import match_colour_cards
from .graphs import build

DATA = Path(__file__).parent.parent / "data"
PROBES = Path(__file__).parent / "probe_nodes"
NO_OPENVTO = (
    "the photos of openvto are missing, the main job is skipped: "
    "pip install --no-deps openvto==0.1.7"
)
LINES = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash.setdefault(LINES, [])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "host" in metafunc.fixturenames:
        hosts = find_hosts()
        nothing = [pytest.param(None, marks=pytest.mark.skip(reason=HOW_TO_GET_ONE), id="no host")]
        found = [pytest.param(host, id=host.version) for host in hosts]
        metafunc.parametrize("host", found or nothing, scope="session", indirect=True)
        if not hosts and HOW_TO_GET_ONE not in metafunc.config.stash[LINES]:
            metafunc.config.stash[LINES].append(HOW_TO_GET_ONE)


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    if config.stash[LINES]:
        terminalreporter.section("host tests")
        for line in config.stash[LINES]:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def note(request) -> Callable[[str], None]:
    """Prints a line at the end of the run, whether tests pass or not."""
    return request.config.stash[LINES].append


@pytest.fixture(scope="session")
def host(request) -> Host:
    return request.param


@pytest.fixture(scope="session")
def openvto(note) -> Path:
    """The folder of openvto's pictures: clothes/{jackets,pants,shirts} and people."""
    spec = importlib.util.find_spec("openvto")
    if spec is None:
        note(NO_OPENVTO)
        pytest.skip(NO_OPENVTO)
    return Path(spec.submodule_search_locations[0]) / "assets"


@pytest.fixture(scope="session")
def standin(tmp_path_factory) -> Path:
    """A tiny untrained model folder, with `encoder/` for retrieval."""
    from fashion_rag.miniature.standin import make_standin

    return make_standin(tmp_path_factory.mktemp("standin"))


@pytest.fixture(scope="session")
def pair(standin: Path, tmp_path_factory) -> Path:
    """The stand-in with towers that pass for two halves of one CLIP (see cards.py)."""
    folder = tmp_path_factory.mktemp("pair") / "pair"
    shutil.copytree(standin, folder)
    shutil.rmtree(folder / "encoder")
    match_colour_cards(folder)
    return folder


@pytest.fixture(scope="session")
def bare(host: Host, tmp_path_factory) -> Iterator[Server]:
    """A server without any optional package."""
    server = Server(
        host, tmp_path_factory.mktemp("bare"), flags=("--cache-classic",), other_packs=(PROBES,)
    )
    yield server.start()
    server.stop()


@pytest.fixture(scope="session")
def server(host: Host, tmp_path_factory, standin: Path, openvto: Path) -> Iterator[Server]:
    """A server with the optional packages, the stand-in, openvto's garments and people."""
    base = tmp_path_factory.mktemp("base")
    flags = ("--cache-classic", "--preview-method=latent2rgb")
    server = Server(host, base, optional_packages(host.python), flags, (PROBES,))
    shutil.copytree(standin, server.store / "models" / "standin")
    shutil.copytree(standin / "encoder", server.store / "encoders" / "standin")
    shutil.copytree(openvto / "clothes", server.store / "catalogues" / "openvto")
    shutil.copy(
        DATA / "openvto_garments.csv", server.store / "catalogues" / "openvto" / "garments.csv"
    )
    for number in range(1, 5):
        # As PNG: the host decodes JPEG with another library than the test, a few levels off.
        photo = Image.open(openvto / "people" / f"{number}_posture.jpg")
        photo.convert("RGB").save(base / "input" / f"{number}.png", compress_level=1)
        mask = Image.open(DATA / "masks" / f"person_{number}_upper.png").convert("RGB")
        mask.save(base / "input" / f"{number}_mask.png")
    yield server.start()
    server.stop()


@pytest.fixture(scope="session")
def index(server: Server) -> str:
    """The name of openvto's index, built by the node; the node's own words are its `report`."""
    graph = build("openvto")
    result = server.client.run(graph)
    server.report = server.client.text(result, Node("1"))
    return "openvto"


@pytest.fixture(scope="session")
def poses() -> dict[str, dict]:
    """POSE_KEYPOINT frames of openvto's people, in pixels of their photos."""
    return json.loads((DATA / "masks" / "poses.json").read_text(encoding="utf-8"))
