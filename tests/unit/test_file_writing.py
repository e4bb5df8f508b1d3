"""Writing in one step, and hashes that are worked out once."""

from __future__ import annotations

import hashlib
import os
import stat

import pytest
import torch
from fashion_rag import files
from fashion_rag.adapter.garment.checkpoints import write_safetensors


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FASHION_RAG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(files, "_remembered", {})


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
def test_files_have_the_permissions_of_the_umask(tmp_path, umask, mode):
    """safetensors' own writer gives 0600, which locks out a ComfyUI of another user."""
    before = os.umask(umask)
    try:
        files.write_text(tmp_path / "new" / "a.json", "{}")
        write_safetensors({"a": torch.zeros(2)}, tmp_path / "new" / "a.safetensors")
    finally:
        os.umask(before)
    for path in (tmp_path / "new").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == mode, path.name


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "before\n")
    with pytest.raises(RuntimeError), files.atomic_file(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert path.read_bytes() == b"before\n"
    assert [found.name for found in tmp_path.glob("*")] == ["a.txt"]


def test_a_target_that_is_held_for_a_moment_is_replaced(tmp_path, monkeypatch):
    replace, calls = os.replace, []

    def held(source, target):
        calls.append(target)
        if len(calls) < 3:
            raise PermissionError(13, "in use")
        replace(source, target)

    monkeypatch.setattr(files, "_PAUSE", 0)
    monkeypatch.setattr(os, "replace", held)
    files.write_bytes(tmp_path / "a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x" and len(calls) == 3
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(PermissionError()))
    with pytest.raises(PermissionError):
        files.write_bytes(tmp_path / "a", b"y")
    assert (tmp_path / "a").read_bytes() == b"x"


def test_a_large_file_is_hashed_once_until_it_changes(tmp_path, monkeypatch):
    path, hashed = tmp_path / "weights", []
    path.write_bytes(b"weights")
    compute = files._sha256
    monkeypatch.setattr(files, "_REMEMBERED_FROM", 1)
    monkeypatch.setattr(files, "_sha256", lambda path: hashed.append(path) or compute(path))
    for _ in range(2):
        assert files.sha256_of_file(path) == hashlib.sha256(b"weights").hexdigest()
        files._remembered.clear()  # as in another process: the cache folder knows it still
    assert len(hashed) == 1
    path.write_bytes(b"others!")
    os.utime(path, ns=(1, 1))
    assert files.sha256_of_file(path) == hashlib.sha256(b"others!").hexdigest()
    assert files.sha256_of_file(path, read_anew=True) and len(hashed) == 3
