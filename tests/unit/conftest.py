"""Shared by unit tests: milvus-lite, and a real Milvus server, started once."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fashion_rag.retriever.milvus.connection import CollectionPlace

from .milvus_server import PACKAGE, MilvusServer, places, unpack


@pytest.fixture(scope="session")
def milvus_binaries(request) -> Path:
    """The folder of Milvus's executable, kept in pytest's cache; skips where there is none."""
    missing = "NOTHING IS TESTED ON A REAL MILVUS SERVER: "
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip(missing + "its executable is one of Linux on x86-64")
    try:
        return unpack(request.config.cache.mkdir(PACKAGE.replace("==", "-")))
    except ImportError:
        pytest.skip(missing + f"its package is not installed; `pip install --no-deps {PACKAGE}`")


@pytest.fixture(scope="session")
def milvus_server(milvus_binaries, tmp_path_factory) -> Iterator[MilvusServer]:
    """A running server that everybody may use."""
    with MilvusServer(tmp_path_factory.mktemp("milvus-server"), milvus_binaries) as server:
        yield server


@pytest.fixture(scope="module", params=["lite", "server"])
def milvus(request) -> MilvusServer | None:
    """A real server, and None for milvus-lite in the folder of the index."""
    return request.getfixturevalue("milvus_server") if request.param == "server" else None


@pytest.fixture
def place(milvus) -> Iterator[Callable[[str], CollectionPlace]]:
    """Where a collection of a test is, by its name."""
    with places(milvus) as place:
        yield place
