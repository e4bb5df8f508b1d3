"""The set-up script: what it installs, when, where, and what it hands on."""

from __future__ import annotations

import ast
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fashion_rag.comfyui_server.installations import PACK

from .milvus_server import PACKAGE as MILVUS

SCRIPT = PACK / "quickstart.py"
PIP = ("-m", "pip", "install", "--disable-pip-version-check")


@pytest.fixture
def quickstart(tmp_path, monkeypatch):
    """The script as a module, in a folder of its own."""
    for name in ("quickstart.py", "requirements.txt", "pyproject.toml"):
        shutil.copy(PACK / name, tmp_path)
    spec = importlib.util.spec_from_file_location("quickstart", tmp_path / "quickstart.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("CONDA_DEFAULT_ENV", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    return module


@pytest.fixture
def commands(quickstart, tmp_path, monkeypatch):
    """Records what would be run; `codes` gives exit codes by a word of the command."""
    recorded = []

    def run(*command, cwd=None):
        recorded.append((command[1:], cwd))
        return next((code for word, code in run.codes.items() if word in command), 0)

    run.codes = {}
    run.missing = {"torch", "torchvision"}
    run.recorded = recorded
    monkeypatch.setattr(quickstart, "run", run)
    monkeypatch.setattr(quickstart, "has", lambda python, name: name not in run.missing)
    # Stamps go into the environment's folder: not into that of this very run.
    prefix = subprocess.CompletedProcess([], 0, stdout=f"{tmp_path}\n")
    monkeypatch.setattr(quickstart.subprocess, "run", lambda *a, **k: prefix)
    return run


def test_only_the_standard_library():
    # It must also parse on a Python that is too old, to say so.
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 7))
    imported = {
        a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names
    }
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= sys.stdlib_module_names


def test_an_old_python_is_told(quickstart, monkeypatch, capsys):
    monkeypatch.setattr(quickstart.sys, "version_info", (3, 9, 18))
    assert quickstart.main(["test"]) == 2
    assert "Python 3.10 or newer is needed" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--help"], ["dance"]])
def test_usage(quickstart, commands, capsys, arguments):
    assert quickstart.main(arguments) == 2
    assert "python quickstart.py demo" in capsys.readouterr().err
    assert commands.recorded == []


def test_an_active_environment_is_used(quickstart, monkeypatch):
    monkeypatch.setattr(sys, "base_prefix", "/elsewhere")
    assert quickstart.environment() == sys.executable
    assert not (quickstart.ROOT / ".venv").exists()


def test_conda_counts_unless_it_is_the_base(quickstart, monkeypatch):
    monkeypatch.setattr(sys, "base_prefix", sys.prefix)
    monkeypatch.setattr(quickstart, "run", lambda *command, cwd=None: 0)
    monkeypatch.setenv("CONDA_PREFIX", sys.prefix)
    monkeypatch.setenv("CONDA_DEFAULT_ENV", "fashion")
    assert quickstart.environment() == sys.executable
    monkeypatch.setenv("CONDA_DEFAULT_ENV", "base")
    assert Path(quickstart.environment()).is_relative_to(quickstart.ROOT)


def test_an_environment_is_made_once(quickstart, monkeypatch):
    monkeypatch.setattr(sys, "base_prefix", sys.prefix)
    python = quickstart.environment()
    assert Path(python).is_relative_to(quickstart.ROOT / ".venv")
    prefix = subprocess.run([python, "-c", "import sys; print(sys.prefix)"], capture_output=True)
    assert Path(prefix.stdout.decode().strip()) == quickstart.ROOT / ".venv"
    monkeypatch.setattr(quickstart, "run", pytest.fail)
    assert quickstart.environment() == python


def test_installs_once_and_again_when_the_requirements_change(quickstart, commands):
    quickstart.install("python", "test")
    assert [command for command, _ in commands.recorded] == [
        (*PIP, "torch", "torchvision"),
        (*PIP, "--quiet", "--editable", f"{quickstart.ROOT}[test]"),
        (*PIP, "--quiet", "--no-deps", "openvto==0.1.7"),
        (*PIP, "--quiet", "--no-deps", MILVUS),
    ]
    commands.recorded.clear()
    commands.missing = set()
    quickstart.install("python", "test")
    assert commands.recorded == []
    with (quickstart.ROOT / "requirements.txt").open("a") as file:
        file.write("einops\n")
    quickstart.install("python", "test")
    assert len(commands.recorded) == 3


def test_the_demo_needs_no_test_tools(quickstart, commands):
    quickstart.install("python", "demo")
    ran = [command for command, _ in commands.recorded]
    assert (*PIP, "--quiet", "--editable", f"{quickstart.ROOT}[miniature]") in ran
    assert not any("openvto" in word for command in ran for word in command)


def test_a_torch_without_torchvision_is_completed(quickstart, commands):
    commands.missing = {"torchvision"}
    quickstart.install("python", "demo")
    assert commands.recorded[0][0] == (*PIP, "torch", "torchvision")


def test_pip_is_brought_where_the_environment_lacks_it(quickstart, commands, capsys):
    commands.missing = {"pip"}
    quickstart.install("python", "demo")
    assert commands.recorded[0][0] == ("-m", "ensurepip", "--upgrade")
    (quickstart.ROOT / ".fashion-rag-demo").unlink()
    commands.missing = {"pip", "ensurepip"}
    with pytest.raises(SystemExit):
        quickstart.install("python", "demo")
    assert "apt install python3-venv" in capsys.readouterr().err


def test_a_failed_installation_stops_and_is_tried_again(quickstart, commands, capsys):
    commands.codes = {"--editable": 7}
    for _ in range(2):
        with pytest.raises(SystemExit, match="7"):
            quickstart.install("python", "demo")
    assert "failed; see its message above" in capsys.readouterr().err


def test_without_a_milvus_server_the_tests_run_and_it_is_said(quickstart, commands, capsys):
    commands.codes = {MILVUS: 1}
    assert quickstart.MILVUS == MILVUS
    assert quickstart.main(["test"]) == 0
    assert f"{MILVUS} CAN'T BE INSTALLED HERE" in capsys.readouterr().err


def test_the_demo_runs_where_the_user_is(quickstart, commands):
    commands.codes = {"fashion_rag": 3}
    assert quickstart.main(["demo", "--text", "a red dress"]) == 3
    assert commands.recorded[-1] == (("-m", "fashion_rag", "demo", "--text", "a red dress"), None)


@pytest.mark.parametrize(
    ("failing", "code"),
    [
        *[({}, 0), ({"pytest": 5}, 5), ({"check": 1}, 1), ({"--check": 1}, 1)],
        *[({"basedpyright": 1}, 1), ({"ruff": 1, "pytest": 5}, 5)],
    ],
)
def test_tests_end_with_the_code_of_pytest_or_of_a_check(quickstart, commands, failing, code):
    commands.codes = failing
    assert quickstart.main(["test", "-k", "prompts"]) == code
    command, cwd = commands.recorded[-1]
    assert command[:3] == ("-m", "pytest", "-rs") and command[-2:] == ("-k", "prompts")
    assert cwd == quickstart.ROOT
