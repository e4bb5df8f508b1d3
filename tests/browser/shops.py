"""Indexes that the page shows: a small shop of real photos, and one of very many drawn garments."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import torch
from fashion_rag.comfyui_server.server import Server
from fashion_rag.retriever.encoders.open_clip import load_encoder
from fashion_rag.retriever.photos.catalogue import Garment
from fashion_rag.retriever.store.commit import commit, describe_encoder
from fashion_rag.retriever.store.journal import tensor_header
from fashion_rag.retriever.store.manifest import file_entry
from fashion_rag.retriever.store.records import Record, RecordWriter, ThumbnailPlace
from fashion_rag.retriever.upkeep.build import build_index
from PIL import Image

MARKUP = '<img src=x onerror="document.title=1">'
MANY = 100_000


def make_shop(server: Server) -> str:
    """openvto's photos with columns for facets, and a caption that holds markup."""
    catalogue = server.store / "catalogues" / "shop"
    shutil.copytree(server.store / "catalogues" / "openvto", catalogue)
    with open(catalogue / "garments.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for place, row in enumerate(rows):
        row |= {"brand": ["Acme", 'O"Neil & Sons'][place % 2], "price": f"{place}.50"}
        row |= {"size": str(36 + 2 * (place % 3))}
    rows[0]["caption"] = MARKUP
    with open(catalogue / "garments.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    encoder = load_encoder(server.store / "encoders" / "standin")
    build_index(catalogue, server.store / "indexes" / "shop", encoder)
    return "shop"


def make_large_shop(server: Server) -> str:
    """MANY garments, g000000 and on, of one photo and one thumbnail; their vectors are random."""
    catalogue, folder = (server.store / kind / "large" for kind in ("catalogues", "indexes"))
    encoder = load_encoder(server.store / "encoders" / "standin")
    catalogue.mkdir()
    folder.mkdir()
    Image.linear_gradient("L").resize((192, 256)).save(catalogue / "garment.jpg", "JPEG")
    names = ("embeddings-1.safetensors", "garments-1.sqlite", "thumbnails-1.bin")
    embeddings, garments, thumbnails = (folder / name for name in names)
    thumbnails.write_bytes((catalogue / "garment.jpg").read_bytes())
    vectors = torch.randn(MANY, encoder.dim, generator=torch.Generator().manual_seed(0))
    vectors = torch.nn.functional.normalize(vectors, dim=1).half()
    embeddings.write_bytes(tensor_header(MANY, encoder.dim) + vectors.numpy().tobytes())
    with RecordWriter.create(garments, ["brand", "price"]) as writer:
        writer.put(_records(thumbnails))
        writer.finish()
    part = {
        "rows": MANY,
        "embeddings": file_entry(embeddings),
        "records": file_entry(garments),
        "thumbnails": [file_entry(thumbnails)],
    }
    described = describe_encoder(encoder, 0)
    commit(
        folder, [part], encoder=described, catalogue_root=catalogue, rejects=[], kind="exact"
    )  # fmt: skip
    return "large"


def _records(thumbnails: Path) -> Iterator[tuple[int, Record]]:
    data = thumbnails.read_bytes()
    place = ThumbnailPlace(0, 0, len(data), crc32(data))
    for row in range(MANY):
        kind = ("upper_body", "lower_body", "dresses")[row % 3]
        columns = {"brand": f"brand {row % 20}", "price": f"{row % 300}.90"}
        garment = Garment(f"g{row:06}", "garment.jpg", kind, f"garment number {row}", columns)
        yield row, Record(garment, 0, 0, "", place)
