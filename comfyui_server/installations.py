"""Finding ComfyUI installations and their Pythons; optional packages for them (stdlib only)."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PACK = Path(__file__).absolute().parent.parent
HOW_TO_GET_ONE = (
    "no ComfyUI found, host tests skipped: set COMFYUI_PATH to one (several with "
    f"{os.pathsep!r} between), or run `pip install comfy-cli && comfy install --cpu`"
)
OPTIONAL_PACKAGES = ("open_clip_torch", "faiss-cpu", "ftfy", "wcwidth", "timm")


@dataclass(frozen=True)
class Host:
    """A ComfyUI folder and the Python that runs it."""

    root: Path

    @property
    def version(self) -> str:
        """The version of ComfyUI, such as `0.28.0`."""
        text = (self.root / "comfyui_version.py").read_text(encoding="utf-8")
        return re.search(r'__version__ = "([^"]+)"', text)[1]

    @property
    def python(self) -> Path:
        """The host's own Python; the running one where it has none."""
        for folder in ("", ".."):  # the Windows portable build has it beside the ComfyUI folder
            for name in (
                ".venv/bin/python",
                ".venv/Scripts/python.exe",
                "venv/bin/python",
                "venv/Scripts/python.exe",
                "python_embeded/python.exe",
            ):
                candidate = self.root / folder / name
                if candidate.is_file():
                    return candidate
        return Path(sys.executable)

    def has_flag(self, flag: str) -> bool:
        """Tell whether this ComfyUI has a command line flag."""
        return f'"{flag}"' in (self.root / "comfy" / "cli_args.py").read_text(encoding="utf-8")


def find_hosts() -> list[Host]:
    """Find every ComfyUI at COMFYUI_PATH, around the pack, and in comfy-cli's default workspace.

    Raises:
        FileNotFoundError: an entry of COMFYUI_PATH is no ComfyUI.
    """
    named = [
        Path(p).expanduser() for p in os.environ.get("COMFYUI_PATH", "").split(os.pathsep) if p
    ]
    for path in named:
        if not _is_comfyui(path):
            raise FileNotFoundError(
                f"COMFYUI_PATH names {path}, which has no main.py and comfyui_version.py: "
                "give the folder that holds ComfyUI's main.py."
            )
    documents = Path.home() if sys.platform.startswith("linux") else Path.home() / "Documents"
    guesses = [documents / "comfy" / "ComfyUI"]
    if PACK.parent.name == "custom_nodes":
        guesses.insert(0, PACK.parent.parent)
    found = [path.resolve() for path in [*named, *filter(_is_comfyui, guesses)]]
    return [Host(root) for root in dict.fromkeys(found)]


def _is_comfyui(path: Path) -> bool:
    return (path / "main.py").is_file() and (path / "comfyui_version.py").is_file()


def cache_folder() -> Path:
    """Return where tests keep files for later: FASHION_RAG_CACHE, or ~/.cache/fashion-rag/tests."""
    named = os.environ.get("FASHION_RAG_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "fashion-rag" / "tests"


def optional_packages(python: Path) -> Path:
    """Install the pack's optional packages, once a Python version; return their folder.

    The folder is for PYTHONPATH. Their dependencies (torch, numpy, transformers) are the host's.

    Raises:
        RuntimeError: pip failed; the message holds its output.
    """
    tag = subprocess.run(
        [
            python,
            "-c",
            "import sys, sysconfig; print(sys.version_info[:2], sysconfig.get_platform())",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    digest = hashlib.sha256(json.dumps([tag, OPTIONAL_PACKAGES]).encode()).hexdigest()[:12]
    folder = cache_folder() / f"optional-{digest}"
    if not folder.is_dir():
        partial = folder.with_name(f"{folder.name}.{os.getpid()}")
        command = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--target", partial]
        done = subprocess.run([*command, *OPTIONAL_PACKAGES], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
        if (partial / "torch").exists():
            raise RuntimeError(f"{partial} holds a torch of its own; the host's must be used.")
        partial.rename(folder)
    return folder


def has_gpu(python: Path) -> bool:
    """Tell whether the PyTorch of a Python finds a GPU that it can compute on."""
    test = "import torch as t; print(t.cuda.is_available() or t.backends.mps.is_available())"
    try:
        found = subprocess.run([python, "-c", test], capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return found.stdout.strip() == "True"
