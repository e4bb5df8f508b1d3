"""Making an index current: it is built where there is none, else brought up to date."""

from __future__ import annotations

from pathlib import Path

from ..encoders.fingerprint import has_fingerprint
from ..encoders.open_clip import Encoder
from ..encoders.recipe import display_name
from ..milvus.connection import CONFIG
from ..photos.catalogue import read_catalogue
from ..store.index import GarmentIndex
from ..store.manifest import MANIFEST
from ..store.records import text_of
from .build import BuildReport, Progress, build_index
from .update import UpdateReport, update_index

_SAME = 0.5
"""A catalogue elsewhere is the same one, moved, if it has this share of the index's files."""


def refresh_index(
    catalogue_root: Path,
    folder: Path,
    encoder: Encoder,
    *,
    overwrite: bool = False,
    batch_size: int = 32,
    progress: Progress | None = None,
    shard: tuple[int, int] = (1, 1),
    processes: int = 0,
    kind: str = "auto",
) -> BuildReport | UpdateReport:
    """Make `folder` the index of a catalogue as it is now.

    Where there is none, it is built; an interrupted build goes on. A finished one is brought up to
    date: only photos that are new or have changed are encoded.

    Args:
        overwrite: encode all photos again; the former index stays in use until the new one is
            complete.
        batch_size, progress, shard, processes: see `build_index`.
        kind: see `build_index`; of a finished index, `auto` keeps what was asked for before.

    Raises:
        ValueError: the folder stands for a Milvus collection; the finished index is damaged, or is
            that of another encoder, catalogue or shard, and `overwrite` is off; and as
            `build_index` and `update_index` do.
        BlockingIOError: another process writes the index.
        FileNotFoundError, NotADirectoryError: the catalogue is no folder.
    """
    folder, root = Path(folder), Path(catalogue_root)
    if (folder / CONFIG).is_file() and not (folder / MANIFEST).exists():
        raise ValueError(
            f"{folder} stands for a collection in Milvus ({CONFIG}): choose another name for the "
            "index of this catalogue, and copy it to the collection by `fashion-rag index push`."
        )
    options = {"batch_size": batch_size, "progress": progress, "processes": processes}
    if overwrite or not (folder / MANIFEST).exists():
        return build_index(
            root, folder, encoder, overwrite=overwrite, shard=shard, kind=kind, **options
        )
    index = GarmentIndex.open(folder, root)
    try:
        _check(index, root, encoder, shard)
    finally:
        index.close()
    return update_index(folder, encoder, root, kind=None if kind == "auto" else kind, **options)


def _check(index: GarmentIndex, root: Path, encoder: Encoder, shard: tuple[int, int]) -> None:
    """Refuse to replace an index that is of another encoder, catalogue or shard."""
    built = index.manifest["encoder"]
    remedy = "choose another name for the new index, or turn on overwrite (`--overwrite`) to "
    if not has_fingerprint(encoder, built["fingerprint"]):
        raise ValueError(
            f"The index {index.folder} was built with the encoder {display_name(built)} "
            f"({built['fingerprint'][:12]}), not with {display_name(encoder)} "
            f"({encoder.fingerprint[:12]}): choose {display_name(built)} to bring it up to date, "
            f"{remedy}encode all photos again with {display_name(encoder)}."
        )
    of_shard = tuple(index.manifest.get("shard", (1, 1)))
    if of_shard != tuple(shard):
        raise ValueError(
            f"The index {index.folder} is that of the shard {of_shard[0]}/{of_shard[1]} of its "
            f"catalogue, not {shard[0]}/{shard[1]}: {remedy}replace it."
        )
    recorded = index.manifest["catalogue"]
    if recorded["path"] == str(root.absolute()):
        return
    there = {garment.file for garment in read_catalogue(root).garments}
    same = sum(text_of(line.file) in there for line in index.lines())
    if same < _SAME * len(index):
        raise ValueError(
            f"The index {index.folder} is that of the catalogue {recorded['name']!r} "
            f"({recorded['path']}), of whose {len(index)} garments {same} are in {root}: {remedy}"
            "replace it."
        )
