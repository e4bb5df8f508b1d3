"""Building an index: every photo of a catalogue is read, encoded and stored once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ...progress import Progress, silent
from ..encoders.batches import in_smaller_batches
from ..encoders.color_check import check_cards
from ..encoders.open_clip import Encoder
from ..photos.catalogue import Catalogue, Reject, read_catalogue
from ..photos.reader import Photo, PhotoReader
from ..store.commit import commit, describe_encoder
from ..store.journal import Draft
from ..store.lock import only_writer
from ..store.manifest import MANIFEST
from ..store.part import Part
from ..vectors.approximate import KINDS, Kind, check_kind, explain_kind
from .calibration import calibrate

BATCH_PIXELS = 64_000_000
"""A batch is closed early when its photos hold this many pixels (about 200 MB)."""


@dataclass(frozen=True)
class BuildReport:
    """What a build did.

    Attributes:
        count: how many garments the index has.
        rejects: what was left out, and why.
        seconds: how long the whole build took.
        garments_per_second: how many photos were read, encoded and stored a second, without those
            that were taken over from an interrupted build; `resumed` counts these.
        color_check: how many of the 8 colour cards are nearest to their names, see color_check.py.
        notes: see `Catalogue`.
        searched: how the index is searched, in words, see `explain_kind`.
    """

    count: int
    rejects: tuple[Reject, ...]
    seconds: float
    garments_per_second: float
    resumed: int
    color_check: int
    notes: tuple[str, ...] = ()
    searched: str = ""

    def summary(self) -> str:
        """Write the report in words; see `report_text`."""
        text = (
            f"{self.count} garments indexed in {self.seconds:.1f} s "
            f"({self.garments_per_second:.1f} a second), {len(self.rejects)} refused."
        )
        if self.resumed:
            text += f" {self.resumed} of them were taken over from an interrupted build."
        return report_text(text, self.searched, self.rejects, self.notes)


def report_text(
    what: str, searched: str, rejects: Sequence[Reject], notes: Sequence[str] = ()
) -> str:
    """Write a report in words.

    First what was done and how the index is searched, then the notes and the refused files, one a
    line.
    """
    listed = [f"  {reject.file}: {reject.reason}" for reject in rejects]
    return "\n".join([what, searched, *listed, *notes])


def build_index(
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
) -> BuildReport:
    """Encode every photo of a catalogue once and write the index `folder`.

    Photos are read, decoded and preprocessed while others are being encoded.

    Args:
        overwrite: replace a finished index; the former stays in use until the new one is complete.
        batch_size: photos encoded at a time, fewer where they are large.
        progress: called with (done, total) before the first batch and after each. It may raise to
            cancel the build: what is done is kept, and the next build goes on from there.
        shard: (3, 8) encodes the third eighth of the catalogue alone, for `merge_indexes`.
        processes: see PhotoReader; 0 is right inside another program.
        kind: one of KINDS (see approximate.py); `auto` goes by the number of garments.

    Raises:
        FileExistsError: there is a finished index and `overwrite` is off.
        BlockingIOError: another build of this index is running.
        FileNotFoundError, NotADirectoryError: the catalogue is no folder.
        ValueError: the catalogue is empty, or too small for the kind; none of its photos can be
            read, or the encoder gives something else than finite vectors of its dimension.
        ImportError: the kind needs faiss, which is missing.
    """
    started = time.perf_counter()
    folder = Path(folder)
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: expected 1 or more.")
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}: expected one of {', '.join(KINDS)}.")
    if not 1 <= shard[0] <= shard[1]:
        of = max(1, shard[1])
        raise ValueError(f"The shard {shard[0]}/{shard[1]} is none: expected 1/{of} to {of}/{of}.")
    if (folder / MANIFEST).exists() and not overwrite:
        raise FileExistsError(
            f"{folder} holds a finished index: choose another name, or turn on overwrite "
            "(`--overwrite`) to replace it."
        )
    catalogue = shard_of(read_catalogue(catalogue_root), *shard)
    check_kind(kind, len(catalogue.garments))
    cards = check_cards(encoder)
    folder.mkdir(parents=True, exist_ok=True)
    garment_of = {garment.file: garment for garment in catalogue.garments}
    files = list(garment_of)
    with (
        only_writer(folder),
        Draft(folder, encoder.fingerprint, encoder.dim, catalogue.root, files) as draft,
    ):
        resumed = len(draft.rows)
        encode_started = time.perf_counter()
        left_out = encode_missing(files, draft, encoder, batch_size, progress, processes)
        encode_seconds = time.perf_counter() - encode_started
        rejects = (*catalogue.rejects, *left_out)
        if not draft.rows:
            listed = "".join(f"\n  {reject.file}: {reject.reason}" for reject in rejects[:5])
            raise ValueError(f"No photo of the catalogue {catalogue.root} can be read:{listed}")
        part = draft.finish(garment_of)
        with contextlib.closing(Part.open(folder, part, encoder.dim)) as opened:
            extra: dict[str, Any] = {"least_score": calibrate(encoder, [opened], cards)}
        if shard[1] > 1:
            extra["shard"] = list(shard)
        manifest = commit(
            folder,
            [part],
            encoder=describe_encoder(encoder, cards.right),
            catalogue_root=catalogue.root,
            rejects=rejects,
            kind=kind,
            progress=lambda *_: progress and progress(len(files), len(files)),
            extra=extra,
        )
    return BuildReport(
        count=len(draft.rows),
        rejects=rejects,
        seconds=time.perf_counter() - started,
        garments_per_second=(len(draft.rows) - resumed) / max(encode_seconds, 1e-9),
        resumed=resumed,
        color_check=cards.right,
        notes=catalogue.notes,
        searched=explain_kind(Kind.of(manifest), manifest["wanted"], manifest["count"]),
    )


def encode_missing(
    files: Sequence[str],
    draft: Draft,
    encoder: Encoder,
    batch_size: int,
    progress: Progress | None,
    processes: int = 0,
) -> list[Reject]:
    """Encode into the draft those of `files` that it lacks; return those that can't be read."""
    progress = progress or silent
    left_out: list[Reject] = []
    missing = [file for file in files if file not in draft.rows]
    done = len(files) - len(missing)
    progress(done, len(files))
    photos: list[Photo] = []
    pixels = 0
    prepare = getattr(encoder, "prepare", None)
    with PhotoReader(draft.root, prepare, processes) as reader:
        for number, photo in enumerate(reader.read(missing, batch_size), start=1):
            if isinstance(photo, Reject):
                left_out.append(photo)
            else:
                photos.append(photo)
                pixels += photo.pixels
            if len(photos) == batch_size or pixels >= BATCH_PIXELS or number == len(missing):
                if photos:
                    draft.append(photos, _encode(encoder, photos))
                photos, pixels = [], 0
                progress(done + number, len(files))
    return left_out


def shard_of(catalogue: Catalogue, number: int, of: int) -> Catalogue:
    """Return the catalogue with only the `number`-th, from 1, of `of` parts of its garments.

    Raises:
        ValueError: that part has none.
    """
    count = len(catalogue.garments)
    garments = catalogue.garments[count * (number - 1) // of : count * number // of]
    if not garments:
        raise ValueError(
            f"The shard {number}/{of} of {catalogue.root} has no garment: it has {count} in all."
        )
    return replace(catalogue, garments=garments)


def _encode(encoder: Encoder, photos: Sequence[Photo]) -> torch.Tensor:
    pictures = [photo.picture for photo in photos]
    if torch.is_tensor(pictures[0]):
        embeddings = in_smaller_batches(encoder.encode_prepared, torch.stack(pictures))
    else:
        embeddings = in_smaller_batches(encoder.encode_images, pictures)
    if embeddings.shape != (len(photos), encoder.dim) or not embeddings.isfinite().all():
        raise ValueError(
            f"The encoder {encoder.name!r} gave embeddings of shape {tuple(embeddings.shape)}, or "
            f"not finite ones, for {photos[0].file} and the photos after it; expected "
            f"{(len(photos), encoder.dim)}. In half precision, try full precision."
        )
    return embeddings.to(torch.float16)
