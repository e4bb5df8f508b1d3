"""Finding ComfyUI installations."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from fashion_rag.comfyui_server import installations as hosts


def comfyui(folder: Path, version: str = "0.28.0") -> Path:
    (folder / "comfy").mkdir(parents=True)
    (folder / "main.py").touch()
    (folder / "comfyui_version.py").write_text(f'__version__ = "{version}"\n')
    (folder / "comfy" / "cli_args.py").write_text('parser.add_argument("--cpu")\n')
    return folder


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty home folder, no COMFYUI_PATH, and a pack that lies in no ComfyUI."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setattr(Path, "home", lambda: home)
    monkeypatch.setattr(hosts, "PACK", tmp_path / "somewhere" / "pack")
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    return home


def test_none(home):
    assert hosts.find_hosts() == []


def test_all_places_in_order_and_once(home, tmp_path, monkeypatch):
    first, second = comfyui(tmp_path / "a"), comfyui(tmp_path / "b", "0.33.0")
    documents = home if sys.platform.startswith("linux") else home / "Documents"
    default = comfyui(documents / "comfy" / "ComfyUI")
    around = comfyui(tmp_path / "c")
    monkeypatch.setattr(hosts, "PACK", around / "custom_nodes" / "pack")
    monkeypatch.setenv("COMFYUI_PATH", os.pathsep.join(map(str, (first, second, first))))
    found = hosts.find_hosts()
    assert [host.root for host in found] == [p.resolve() for p in (first, second, around, default)]
    assert [host.version for host in found[:2]] == ["0.28.0", "0.33.0"]


def test_wrong_path_is_said(home, tmp_path, monkeypatch):
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"COMFYUI_PATH names .* no main\.py"):
        hosts.find_hosts()


@pytest.mark.parametrize(
    "name",
    [".venv/bin/python", "venv/Scripts/python.exe", "../python_embeded/python.exe"],
)
def test_python_of_the_host(tmp_path, name):
    host = hosts.Host(comfyui(tmp_path / "portable" / "ComfyUI"))
    assert host.python == Path(sys.executable)
    python = host.root / name
    python.parent.mkdir(parents=True)
    python.touch()
    assert host.python.samefile(python)


def test_flags(tmp_path):
    host = hosts.Host(comfyui(tmp_path / "a"))
    assert host.has_flag("--cpu") and not host.has_flag("--cache-classic")
