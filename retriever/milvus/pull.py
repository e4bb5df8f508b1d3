"""Copying a Milvus collection to a local index, without encoding anything."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ...progress import Progress, silent
from ..photos.catalogue import Reject
from ..photos.reader import Photo, PhotoReader
from ..store.commit import commit
from ..store.journal import Draft
from ..store.lock import only_writer
from ..store.manifest import MANIFEST
from .index import MilvusIndex, garment_of

_BATCH = 1000


def pull(
    folder: Path,
    target: Path,
    catalogue_root: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> tuple[int, list[Reject]]:
    """Make a local index of a collection, without encoding anything.

    Thumbnails are made of the catalogue's photos. A photo that is not there, or not the one that
    was encoded, is left out: `fashion-rag index update` then takes it up.

    Args:
        folder: of `milvus.json`. target: the index's folder. catalogue_root: where the photos are.
        progress: called with (done, total) rows. It may raise to cancel; the next pull goes on
            from there.

    Returns:
        The number of garments in the index, and what was left out.

    Raises:
        FileExistsError: there is a finished index and `overwrite` is off.
        ValueError: none of the photos is there.
        Others as `MilvusIndex.open` does.
    """
    target, progress = Path(target), progress or silent
    if (target / MANIFEST).exists() and not overwrite:
        raise FileExistsError(
            f"{target} holds a finished index: choose another folder, or turn on overwrite."
        )
    if not Path(catalogue_root).is_dir():
        raise FileNotFoundError(f"The catalogue {catalogue_root} is not there.")
    source = MilvusIndex.open(folder, catalogue_root)
    try:
        target.mkdir(parents=True, exist_ok=True)
        with only_writer(target):
            return _pull(source, target, progress)
    finally:
        source.close()


def _pull(source: MilvusIndex, target: Path, progress: Progress) -> tuple[int, list[Reject]]:
    encoder, root = source.manifest["encoder"], source.catalogue_root
    garments, contents, numbers = {}, [], source.rows.numbers()
    for record in source.records():
        garment = garment_of(json.dumps(record))
        garments[garment.file] = garment
        contents.append(record.get("content", ""))
    files, rejects = list(garments), []
    key = encoder["fingerprint"], encoder["dim"]
    with Draft(target, *key, root, files) as draft, PhotoReader(root, _no_pixels) as reader:
        rows = [row for row, file in enumerate(files) if file not in draft.rows]
        photos = reader.read([files[row] for row in rows], _BATCH)
        progress(len(draft.rows), len(files))
        for start in range(0, len(rows), _BATCH):
            part = np.array(rows[start : start + _BATCH])
            vectors = torch.from_numpy(source.vectors_at(numbers[part])).half()
            kept, places = [], []
            for place, (row, photo) in enumerate(zip(part, photos, strict=False)):
                if isinstance(photo, Photo) and contents[row] not in ("", photo.content):
                    photo = Reject(photo.file, "the photo is not the one that was encoded")
                if isinstance(photo, Photo):
                    kept.append(photo)
                    places.append(place)
                else:
                    rejects.append(photo)
            if kept:
                draft.append(kept, vectors[places])
            progress(len(draft.rows) + len(rejects), len(files))
        if not draft.rows:
            listed = "".join(f"\n  {reject.file}: {reject.reason}" for reject in rejects[:5])
            raise ValueError(f"No photo of the catalogue {root} can be used:{listed}")
        commit(
            target,
            [draft.finish(garments)],
            encoder=encoder,
            catalogue_root=root,
            rejects=rejects,
        )
        return len(draft.rows), rejects


def _no_pixels(image: Image.Image) -> torch.Tensor:
    """Prepare a photo for no encoder: a pull copies the vectors."""
    return torch.empty(0)
