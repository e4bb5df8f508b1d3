"""The index on disk: what a finished build left, opened for reading.

Files of an index folder, all of one generation (a random word in their names):

    manifest.json                what belongs together; replaced last, so it is the commit point
    embeddings-GEN.safetensors   (n, dim) float16 unit vectors, the truth
    garments-GEN.jsonl           one record a row, in the order of the embeddings
    thumbnails-GEN.bin           JPEG files one after the other; records hold offset and length
    vectors-GEN.faiss            derived from the embeddings, rebuilt in memory where missing
"""

from __future__ import annotations

import hashlib
import io
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError, safe_open

from .catalogue import Garment, safe_path
from .encoders import Encoder
from .photos import open_photo

INDEX_SCHEMA = 1
MANIFEST = "manifest.json"
TENSOR = "embeddings"
THUMBNAIL_SIZE = 256
HASHED_AT_OPEN = 4 << 20
"""Files up to this many bytes are compared with their sha256 when the index is opened."""

_FILES = ("embeddings", "garments", "thumbnails", "faiss")
_REMEDY = "Build the index again: `fashion-rag index build --overwrite`."


class GarmentIndex:
    """A finished index.

    folder: where it lies. manifest: its manifest.json. garments: the records, by row.
    embeddings: (n, dim) float16 unit vectors, memory-mapped.
    catalogue_root: the folder of the photos; may be set to where they are on this machine.
    """

    def __init__(
        self,
        folder: Path,
        manifest: dict[str, Any],
        garments: list[Garment],
        thumbnails: list[tuple[int, int]],
        embeddings: torch.Tensor,
        catalogue_root: Path,
    ):
        self.folder = folder
        self.manifest = manifest
        self.garments = garments
        self.embeddings = embeddings
        self.catalogue_root = catalogue_root
        self._thumbnails = thumbnails
        self._rows_of: dict[str, torch.Tensor] = {}

    @classmethod
    def open(cls, folder: Path, catalogue_root: Path | None = None) -> GarmentIndex:
        """Open the index in `folder`.

        Args:
            catalogue_root: where the photos are; None takes the place recorded in the manifest.

        Raises:
            FileNotFoundError: there is no index, or one of its files is missing.
            ValueError: another schema, or files that are truncated, changed or swapped.
        """
        folder = Path(folder)
        while True:
            manifest = read_manifest(folder)
            try:
                return cls._open(folder, manifest, catalogue_root)
            except FileNotFoundError:
                # A build that finished meanwhile has taken the files of its predecessor away.
                if read_manifest(folder)["generation"] == manifest["generation"]:
                    raise

    @classmethod
    def _open(
        cls, folder: Path, manifest: dict[str, Any], catalogue_root: Path | None
    ) -> GarmentIndex:
        paths = {kind: folder / entry["name"] for kind, entry in manifest["files"].items()}
        for kind, entry in manifest["files"].items():
            _check_file(paths[kind], entry)
        count, dim = manifest["count"], manifest["encoder"]["dim"]
        garments, thumbnails = _read_records(paths["garments"], paths["thumbnails"])
        embeddings = map_embeddings(paths["embeddings"])
        if len(garments) != count or tuple(embeddings.shape) != (count, dim):
            raise ValueError(
                f"{folder / MANIFEST} says {count} garments of dimension {dim}, the files hold "
                f"{len(garments)} records and embeddings of shape {tuple(embeddings.shape)}. "
                f"{_REMEDY}"
            )
        root = Path(catalogue_root or manifest["catalogue"]["path"])
        return cls(folder, manifest, garments, thumbnails, embeddings, root)

    def __len__(self) -> int:
        return len(self.garments)

    def check_encoder(self, encoder: Encoder) -> None:
        """Raise ValueError unless `encoder` is the one that the index was built with."""
        built = self.manifest["encoder"]
        if encoder.fingerprint != built["fingerprint"]:
            raise ValueError(
                f"The index {self.folder} was built with the encoder {built['name']!r} "
                f"({built['fingerprint'][:12]}, dimension {built['dim']}); the query comes from "
                f"{encoder.name!r} ({encoder.fingerprint[:12]}, dimension {encoder.dim}). Use the "
                f"former, or build the index again with {encoder.name!r}."
            )

    def categories(self) -> list[str]:
        """The categories that occur, sorted, without the empty one."""
        return sorted({garment.category for garment in self.garments} - {""})

    def rows_of(self, category: str) -> torch.Tensor:
        """The rows of a category, int64, ascending.

        Raises:
            ValueError: there are none; the message lists the categories that there are.
        """
        if category not in self._rows_of:
            rows = [
                row for row, garment in enumerate(self.garments) if garment.category == category
            ]
            if not rows:
                known = ", ".join(map(repr, self.categories())) or "no category at all"
                raise ValueError(
                    f"The index {self.folder} has no garments of the category {category!r}; it "
                    f"has: {known}."
                )
            self._rows_of[category] = torch.tensor(rows)
        return self._rows_of[category]

    def photo(self, garment: Garment) -> Image.Image:
        """The garment's photo from the catalogue, full size, RGB on white.

        Raises:
            FileNotFoundError: the photo, or the whole catalogue, is no longer there.
            ValueError: the record leads out of the catalogue, or the photo is damaged.
        """
        path = safe_path(self.catalogue_root, garment.file)
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is gone, but the index {self.folder} names it: put the catalogue back at "
                f"{self.catalogue_root}, or build the index again."
            )
        return open_photo(path)

    def thumbnail(self, garment: Garment) -> Image.Image:
        """The garment's photo, fitted into 256 x 256, as the build kept it.

        Raises:
            KeyError: the garment is not of this index.
            ValueError: the stored thumbnail is damaged.
        """
        offset, length = self._thumbnails[self._row_of_id[garment.id]]
        path = self.folder / self.manifest["files"]["thumbnails"]["name"]
        with open(path, "rb") as file:
            file.seek(offset)
            data = file.read(length)
        try:
            image = Image.open(io.BytesIO(data), formats=("JPEG",))
            if max(image.size) <= THUMBNAIL_SIZE:
                return image.convert("RGB")
        except OSError as error:
            raise ValueError(f"{path}: thumbnail of {garment.id!r}: {error}. {_REMEDY}") from error
        raise ValueError(f"{path}: thumbnail of {garment.id!r} is {image.size}. {_REMEDY}")

    @cached_property
    def _row_of_id(self) -> dict[str, int]:
        return {garment.id: row for row, garment in enumerate(self.garments)}

    @cached_property
    def faiss(self) -> Any:
        """The exact FAISS index over the embeddings, row for row (half precision, inner product).

        Raises:
            ImportError: faiss is missing.
        """
        import faiss

        entry = self.manifest["files"].get("faiss")
        if entry is None:
            return faiss_index(self.embeddings)
        vectors = faiss.read_index(str(self.folder / entry["name"]))
        if (vectors.ntotal, vectors.d) != tuple(self.embeddings.shape):
            raise ValueError(
                f"{self.folder / entry['name']} holds {vectors.ntotal} vectors of dimension "
                f"{vectors.d}, the embeddings are {tuple(self.embeddings.shape)}. {_REMEDY}"
            )
        return vectors


def faiss_index(embeddings: torch.Tensor) -> Any:
    """(n, dim) float16 embeddings as a FAISS index of exact scores, without a float32 copy.

    Raises:
        ImportError: faiss is missing.
    """
    import faiss

    count, dim = embeddings.shape
    kind = faiss.ScalarQuantizer.QT_fp16
    vectors = faiss.IndexScalarQuantizer(dim, kind, faiss.METRIC_INNER_PRODUCT)
    vectors.is_trained = True
    for start in range(0, count, 1 << 14):
        vectors.add(embeddings[start : start + (1 << 14)].float().numpy())
    return vectors


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of the index in `folder`, checked for schema and shape.

    Raises:
        FileNotFoundError: no index there.
        ValueError: another schema, or not a manifest.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no index in {folder} ({MANIFEST} is missing): build one with "
            "`fashion-rag index build` or the node Garment Index Build."
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        schema = manifest["schema"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not the manifest of an index ({error!r}). {_REMEDY}"
        ) from error
    if schema != INDEX_SCHEMA:
        raise ValueError(
            f"{path} has schema {schema!r}, this version reads schema {INDEX_SCHEMA}. Update the "
            f"pack, or build the index again: `fashion-rag index build --overwrite`."
        )
    if not _is_manifest(manifest):
        raise ValueError(f"{path} lacks parts of a manifest or has others. {_REMEDY}")
    return manifest


def _is_manifest(manifest: dict[str, Any]) -> bool:
    match manifest:
        case {
            "generation": str(),
            "count": int(),
            "catalogue": {"name": str(), "path": str()},
            "encoder": {"name": str(), "fingerprint": str(), "dim": int()},
            "files": {"embeddings": {}, "garments": {}, "thumbnails": {}} as files,
        }:
            return all(kind in _FILES and _is_file_entry(entry) for kind, entry in files.items())
    return False


def _is_file_entry(entry: Any) -> bool:
    match entry:
        case {"name": str(name), "bytes": int(), "sha256": str()}:
            return name not in ("", ".", "..") and not set(name) & set("/\\:\0")
    return False


def _check_file(path: Path, entry: dict[str, Any]) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing. {_REMEDY}")
    size = path.stat().st_size
    if size != entry["bytes"]:
        raise ValueError(
            f"{path} has {size} bytes, {MANIFEST} says {entry['bytes']}: it is truncated or of "
            f"another build. {_REMEDY}"
        )
    if size <= HASHED_AT_OPEN and sha256(path) != entry["sha256"]:
        raise ValueError(f"{path} is not what {MANIFEST} says: its sha256 differs. {_REMEDY}")


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _read_records(path: Path, thumbnails: Path) -> tuple[list[Garment], list[tuple[int, int]]]:
    garments, places = [], []
    size = thumbnails.stat().st_size
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                record = json.loads(line)
                garment = Garment(*(record[name] for name in Garment.__dataclass_fields__))
                offset, length = record["thumbnail"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path} line {number} is not a garment record ({error!r}). {_REMEDY}"
                ) from error
            if not _is_garment(garment) or not 0 <= offset <= offset + length <= size:
                raise ValueError(f"{path} line {number} is not a garment record. {_REMEDY}")
            garments.append(garment)
            places.append((offset, length))
    return garments, places


def _is_garment(garment: Garment) -> bool:
    texts = (garment.id, garment.file, garment.category, garment.caption)
    metadata = garment.metadata
    return all(isinstance(text, str) for text in texts) and (
        isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())
    )


def map_embeddings(path: Path) -> torch.Tensor:
    """The (n, dim) float16 embeddings of a file, memory-mapped.

    Raises:
        ValueError: the file is damaged, or of another type or shape.
    """
    try:
        with safe_open(path, framework="pt") as file:
            embeddings = file.get_tensor(TENSOR)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}). {_REMEDY}") from error
    if embeddings.dtype != torch.float16 or embeddings.ndim != 2:
        raise ValueError(
            f"{path} holds {embeddings.dtype} of shape {tuple(embeddings.shape)}, expected float16 "
            f"of two dimensions. {_REMEDY}"
        )
    return embeddings
