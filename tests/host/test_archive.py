"""What the registry gets: small, without developers' files, and whole in a bare ComfyUI."""

from __future__ import annotations

import ast
import zipfile
from pathlib import Path

import pytest
from comfy_cli.file_utils import zip_files
from fashion_rag.comfyui_server.installations import PACK
from fashion_rag.comfyui_server.server import PACK_FOLDER, Server

from .contract import NODES

# What the registry's scanner looks for.
SUSPECT = {"subprocess", "pickle", "marshal", "ctypes"}
DEVELOPERS = ("tests", "benchmarks", "docs", "demo", "comfyui_server", ".ci", ".github")


@pytest.fixture(scope="session")
def archive(tmp_path_factory) -> Path:
    """The archive as comfy-cli makes it, unpacked."""
    folder = tmp_path_factory.mktemp("archive")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(PACK)
        zip_files(str(folder / "node.zip"))
    with zipfile.ZipFile(folder / "node.zip") as file:
        file.extractall(folder / PACK_FOLDER)
    return folder / PACK_FOLDER


def test_no_developers_files(archive):
    names = {path.name for path in archive.iterdir()}
    assert not names & {*DEVELOPERS, "quickstart.py", "CONTRIBUTING.md", "AGENTS.md"}
    assert {"__init__.py", "nodes", "web", "locales", "workflows", "LICENSE"} <= names
    size = sum(path.stat().st_size for path in archive.rglob("*") if path.is_file())
    assert size < 64 << 20


def test_nothing_that_a_scanner_refuses(archive):
    found: dict[str, set[str]] = {}
    for path in archive.rglob("*.py"):
        names = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                names |= {node.func.id} & {"eval", "exec", "compile", "__import__"}
        if suspect := names & {*SUSPECT, "eval", "exec", "compile", "__import__"}:
            found[path.relative_to(archive).as_posix()] = suspect
    assert not found


@pytest.mark.host
def test_the_archive_works_in_a_bare_host(host, archive, tmp_path):
    server = Server(host, tmp_path / "host", pack=archive)
    try:
        schemas = server.start().client.json("/object_info")
    finally:
        server.stop()
    assert set(NODES) <= set(schemas)
    assert "IMPORT FAILED" not in server.log
    assert "Traceback" not in server.log
