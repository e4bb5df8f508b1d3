"""Set everything up and run the demo or the tests, on a fresh machine with Python 3.10 or newer.

    python quickstart.py demo [--text "..."] [--out FILE] [--no-comfyui]
    python quickstart.py test [pytest arguments]

Standard library only. Packages go into `.venv` beside this file, unless a virtual environment is
active. torch and torchvision are installed only where they are missing.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
EXTRAS = {"demo": "[miniature]", "test": "[test]"}
# 24 garment photos and 4 people for the tests, MIT; what the package itself requires is not needed.
PICTURES = "openvto==0.1.7"
# A whole Milvus server as one executable, 56 MB.
MILVUS = "milvus==2.3.5"


def main(arguments: list[str]) -> int:
    """Set up, then run the demo or the checks and tests; return the exit status."""
    if sys.version_info < (3, 10):  # noqa: UP036
        return stop(f"Python 3.10 or newer is needed; this is {sys.version.split()[0]}.")
    if not arguments or arguments[0] not in EXTRAS:
        return stop(__doc__)
    command, *rest = arguments
    python = environment()
    install(python, command)
    if command == "demo":
        return run(python, "-m", "fashion_rag", "demo", *rest)
    checks = (
        ("ruff", "check"),
        ("ruff", "format", "--check"),
        ("basedpyright", "--pythonpath", python),
    )
    checked = [run(python, "-m", *check, cwd=ROOT) for check in checks]
    tested = run(python, "-m", "pytest", "-rs", "--durations=10", *rest, cwd=ROOT)
    return tested or max(checked)


def environment() -> str:
    """Return the Python to use: the active environment's, or that of `.venv`, made if missing."""
    # conda's base environment is no project's own, and often active unasked.
    conda = os.environ.get("CONDA_DEFAULT_ENV", "base") != "base"
    if sys.prefix != sys.base_prefix or (conda and sys.prefix == os.environ.get("CONDA_PREFIX")):
        return sys.executable
    folder = ROOT / ".venv"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.is_file():
        say(f"making a virtual environment in {folder}")
        need(sys.executable, "-m", "venv", "--without-pip", str(folder))
    return str(python)


def install(python: str, command: str) -> None:
    """Install what the command needs, unless it was done with the same requirements already."""
    prefix = subprocess.run(
        [python, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True
    ).stdout.strip()
    stamp = Path(prefix) / f".fashion-rag-{command}"
    wanted = hashlib.sha256(str(ROOT).encode())
    for name in ("requirements.txt", "pyproject.toml", "quickstart.py"):
        wanted.update((ROOT / name).read_bytes())
    if stamp.is_file() and stamp.read_text() == wanted.hexdigest():
        return
    if not has(python, "pip"):
        if not has(python, "ensurepip"):
            sys.exit(stop("This Python has no pip; on Debian or Ubuntu: apt install python3-venv"))
        need(python, "-m", "ensurepip", "--upgrade")
    pip = (python, "-m", "pip", "install", "--disable-pip-version-check")
    if not (has(python, "torch") and has(python, "torchvision")):
        say("installing torch and torchvision (the largest download, several minutes)")
        # Both at once, so that pip picks two that fit together.
        need(*pip, "torch", "torchvision")
    say("installing the pack and its requirements")
    need(*pip, "--quiet", "--editable", f"{ROOT}{EXTRAS[command]}")
    if command == "test":
        need(*pip, "--quiet", "--no-deps", PICTURES)
        if run(*pip, "--quiet", "--no-deps", MILVUS):
            say(f"{MILVUS} CAN'T BE INSTALLED HERE: nothing is tested on a real Milvus server")
    stamp.write_text(wanted.hexdigest())


def has(python: str, name: str) -> bool:
    """Tell whether a Python has a module."""
    check = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is None)"
    return run(python, "-c", check) == 0


def need(*command: str) -> None:
    """Run a command, and end the program if it fails."""
    code = run(*command)
    if code:
        sys.exit(stop(f"{' '.join(command)} failed; see its message above.", code))


def run(*command: str, cwd: Path | None = None) -> int:
    """Run a command, and return its exit status."""
    return subprocess.run(command, cwd=cwd).returncode


def say(text: str) -> None:
    """Print a line on what is being done."""
    sys.stderr.write(f"quickstart: {text}\n")


def stop(text: str, code: int = 2) -> int:
    """Print a message, and return the exit status `code`."""
    sys.stderr.write(text + "\n")
    return code


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
