"""Memory, dynamic models and the host's pair, inside ComfyUI's own process (see in_process.py)."""

from __future__ import annotations

import ast
import json
import os
import subprocess
from pathlib import Path

import pytest
from fashion_rag.comfyui_server.installations import PACK, optional_packages

from ..unit.transformers_fakes import write_transformers_folder

pytestmark = pytest.mark.host
SCRIPT = Path(__file__).with_name("in_process.py")
CHECKS = [
    node.name
    for node in ast.parse(SCRIPT.read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")
]


@pytest.fixture(scope="module")
def results(host, pair, standin, tmp_path_factory) -> dict[str, str]:
    packages = optional_packages(host.python)
    siglip = write_transformers_folder(tmp_path_factory.mktemp("siglip") / "siglip", "siglip")
    folders = (host.root, PACK, pair, standin / "encoder", siglip)
    done = subprocess.run(
        [str(word) for word in (host.python, SCRIPT, *folders)],
        cwd=tmp_path_factory.mktemp("process"),
        env={**os.environ, "PYTHONPATH": str(packages)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("check", CHECKS)
def test_in_process(results, check):
    assert not results[check], results[check]
