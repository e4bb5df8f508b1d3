"""Set everything up and run the demo or the tests, on a fresh machine with Python 3.10 or newer.

    python quickstart.py demo [--text "..."] [--out FILE]
    python quickstart.py test [pytest arguments]

Standard library only. Packages go into `.venv` beside this file, unless a virtual environment is
active. torch and torchvision are installed only where they are missing.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
COMMANDS = {"demo": "", "test": "[test]"}  # and the extra that each needs
# 24 garment photos and 4 people, MIT; what the package itself requires is not needed.
PICTURES = "openvto==0.1.7"


def main() -> int:
    if sys.version_info < (3, 10):  # noqa: UP036
        return stop(f"Python 3.10 or newer is needed; this is {sys.version.split()[0]}.")
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        return stop(__doc__)
    command, arguments = sys.argv[1], sys.argv[2:]
    python = environment()
    install(python, command)
    if command == "demo":
        return run(python, "-m", "fashion_rag", "demo", *arguments)
    checked = run(python, "-m", "ruff", "check", str(ROOT))
    tested = run(python, "-m", "pytest", "-rs", "--durations=10", *arguments)
    return tested or checked


def environment() -> str:
    """The Python to use: the active virtual environment's, or that of `.venv`, made if need be."""
    if sys.prefix != sys.base_prefix or "CONDA_PREFIX" in os.environ:
        return sys.executable
    folder = ROOT / ".venv"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.is_file():
        say(f"making a virtual environment in {folder}")
        venv.create(folder, with_pip=True)
    return str(python)


def install(python: str, command: str) -> None:
    """Install what the command needs, unless that was done with these very requirements."""
    prefix = output(python, "-c", "import sys; print(sys.prefix)")
    stamp = Path(prefix) / f".fashion-rag-{command}"
    wanted = hashlib.sha256()
    for part in (ROOT / "requirements.txt", ROOT / "pyproject.toml", Path(__file__)):
        wanted.update(part.read_bytes())
    wanted.update(str(ROOT).encode())
    if stamp.is_file() and stamp.read_text() == wanted.hexdigest():
        return
    missing = [name for name in ("torch", "torchvision") if not has(python, name)]
    if missing:
        say("installing " + " and ".join(missing) + " (the largest download, several minutes)")
        # Both, so that pip picks two that fit together.
        pip(python, "torch", "torchvision")
    say("installing the pack and its requirements")
    pip(python, "--editable", f"{ROOT}{COMMANDS[command]}")
    pip(python, "--no-deps", PICTURES)
    stamp.write_text(wanted.hexdigest())


def pip(python: str, *arguments: str) -> None:
    code = run(python, "-m", "pip", "install", "--quiet", *arguments)
    if code:
        sys.exit(stop(f"pip install {' '.join(arguments)} failed; see its message above.", code))


def has(python: str, name: str) -> bool:
    check = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is None)"
    return run(python, "-c", check) == 0


def run(*command: str) -> int:
    return subprocess.run(command, cwd=ROOT).returncode


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def say(text: str) -> None:
    sys.stderr.write(f"quickstart: {text}\n")


def stop(text: str, code: int = 2) -> int:
    sys.stderr.write(text + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
