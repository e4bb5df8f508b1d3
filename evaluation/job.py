"""The settings of an evaluation, and the mark on the folder that keeps its pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..files import read_object, write_text
from .columns import PROTOCOL, Column
from .dresscode import CHUNKS
from .painting import Sampling

_MARK = "run.json"


@dataclass(frozen=True)
class Setting:
    """What one table shows.

    order: `paired` or `unpaired`. chunks: how many noun chunks a caption has.
    """

    order: str
    chunks: int
    columns: tuple[Column, ...]

    @property
    def key(self) -> str:
        """The setting's name in files and in the JSON, such as `paired_3`."""
        return f"{self.order}_{self.chunks}"


@dataclass(frozen=True)
class Job:
    """What to evaluate, where, and how.

    Attributes:
        root: a Dress Code folder.
        model: a model folder in diffusers layout.
        out: the folder for pictures, plots and the table. json: the file of the results.
        pairs: how many pairs a category; None for all.
        skip: how many of the first pairs are left out, so that parameters can be chosen on other
            pairs than the table's.
        index: an index made from `root`; None builds one.
        pred_files: official retrieval files, which are read instead of an index.
        encoder: the index's encoder folder; None is the model's own.
        clip: the encoder folder for CLIP-S and CLIP-I; None is `encoder`.
        unet, adapter: files to use instead of the model folder's.
        parser: the folder of the human parser, for columns with masks by it.
    """

    root: Path
    model: Path
    out: Path
    json: Path
    settings: tuple[Setting, ...]
    categories: tuple[str, ...]
    sampling: Sampling
    device: str
    title: str
    pairs: int | None = None
    skip: int = 0
    index: Path | None = None
    pred_files: Path | None = None
    encoder: Path | None = None
    clip: Path | None = None
    unet: Path | None = None
    adapter: Path | None = None
    parser: Path | None = None

    @property
    def own_encoder(self) -> Path:
        """The model folder's `encoder`, else the folder itself: its text and vision tower."""
        folder = self.model / "encoder"
        return folder if folder.is_dir() else self.model

    @property
    def evaluated(self) -> slice:
        """The part of a category's pairs that is evaluated."""
        return slice(self.skip, None if self.pairs is None else self.skip + self.pairs)


def settings_for(
    columns: Sequence[Column], order: str, chunks: int, full: bool
) -> tuple[Setting, ...]:
    """List the setting asked for; with `full` all others too, with the paper's columns."""
    first = Setting(order, chunks, tuple(columns))
    others = [
        Setting(o, c, PROTOCOL)
        for o in ("paired", "unpaired")
        for c in range(CHUNKS, 0, -1)
        if full and (o, c) != (order, chunks)
    ]
    return (first, *others)


def mark_folder(job: Job) -> None:
    """Record in the folder of pictures which run made them, or check that it was this one.

    Raises:
        ValueError: it holds pictures of other weights, another sampling or another folder.
    """
    weights = sorted(job.model.rglob("*.safetensors"))
    weights += [path for path in (job.unet, job.adapter) if path is not None]
    if job.parser is not None:
        weights += sorted(job.parser.glob("*.safetensors"))
    mark = {
        "folder": str(job.root.resolve()),
        "sampling": {k: v for k, v in asdict(job.sampling).items() if k != "batch_size"},
        "weights": [[path.name, *_stamp(path)] for path in weights],
        "retrieval": str(job.pred_files or job.index or job.encoder or "the model's encoder"),
    }
    mark = json.loads(json.dumps(mark))
    path = job.out / _MARK
    if path.is_file():
        found = read_object(path, f"delete {job.out}, or choose another folder with --out")
        differing = [key for key in mark if found.get(key) != mark[key]]
        if differing:
            raise ValueError(
                f"{job.out} holds pictures of another run ({', '.join(differing)} differ): choose "
                "another folder with --out, or delete it."
            )
    else:
        job.out.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(mark, indent=1))


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
