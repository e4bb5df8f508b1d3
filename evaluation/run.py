"""One evaluation from the folder to the files: paint, measure, judge, write."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from ..adapter.garment.fidelity import garment_fidelity
from ..adapter.headless.pipeline import FashionRAGPipeline
from ..adapter.person.framing import to_picture
from ..adapter.person.parsing import load_parser
from ..files import write_text
from ..pictures.photos import open_photo
from ..progress import Progress
from ..retriever.encoders.open_clip import load_encoder
from ..retriever.encoders.recipe import as_built
from ..retriever.photos.catalogue import safe_path
from ..retriever.store.index import MANIFEST, GarmentIndex
from ..retriever.upkeep.build import build_index
from . import networks, report
from .columns import PROTOCOL, RETRIEVED, ROUND_TRIP, TRUTH, Column, garments_needed
from .dresscode import Sample, load_scene, read_samples
from .grid import GridRow, picture_grid
from .job import Job, Setting, mark_folder
from .measuring import Instruments, composited, measure, read_picture
from .painting import Condition, Painter
from .plots import plot_quality
from .results import Measured
from .retrieval import (
    CUTOFFS,
    Ranking,
    check_ranking,
    own_garment_found,
    rank_online,
    read_pred_files,
    retrieval_rates,
    rows_of,
)
from .world import Verdict, World

_GRID_ROWS = 2  # a category


class Evaluation:
    """A job with its samples, rankings and files.

    Args:
        world: what is known of the people and garments beyond the folder's photos.
        left_out: measures that are left out, by their titles, each with the reason.

    Raises:
        ValueError: a column's masks are made by a parser, and the job names none.
    """

    def __init__(
        self, job: Job, world: World | None = None, left_out: Mapping[str, str] | None = None
    ):
        self.job, self.world = job, world
        parsed = [c.key for setting in job.settings for c in setting.columns if c.parsed]
        if parsed and job.parser is None:
            raise ValueError(
                f"The column {parsed[0]} needs a human parser: name its folder with --parser, or "
                "leave the column out."
            )
        of_order = {"paired": self._read("paired")}
        for setting in job.settings:
            if setting.order not in of_order:
                of_order[setting.order] = self._read(setting.order)
        self.pool = of_order["paired"]
        self.samples = {
            order: [sample for samples in found.values() for sample in samples[job.evaluated]]
            for order, found in of_order.items()
            if any(setting.order == order for setting in job.settings)
        }
        for order, found in self.samples.items():
            if not found:
                raise ValueError(f"No {order} pair is left after the first {job.skip}.")
        self.rankings: dict[tuple[str, int], Ranking] = {}
        self.left_out = {**(left_out or {}), **(world.unmeasured if world else {})}

    def _read(self, order: str) -> dict[str, list[Sample]]:
        samples = read_samples(self.job.root, order, self.job.categories)
        return {
            category: [sample for sample in samples if sample.category == category]
            for category in self.job.categories
        }

    def rank(self) -> None:
        """Retrieve garments for every caption of every setting, into `rankings`."""
        job = self.job
        depth = max(garments_needed(setting.columns) for setting in job.settings)
        index = encoder = None
        if job.pred_files is None and depth:
            encoder = self._encoder(job.encoder or job.own_encoder)
            index = self._index(encoder)
        for setting in job.settings:
            for category in job.categories:
                key = (category, setting.chunks)
                samples = [s for s in self.samples[setting.order] if s.category == category]
                if depth == 0:
                    continue
                if job.pred_files is not None:
                    ranking = read_pred_files(job.pred_files, category, setting.chunks, job.root)
                else:
                    # All garments of the category are asked for, so that recall is of them all.
                    captions = [s.caption(setting.chunks) for s in self.pool[category] + samples]
                    rows = rows_of(index, [sample.file for sample in self.pool[category]])
                    ranking = rank_online(index, encoder, captions, rows)
                check_ranking(ranking, samples, setting.chunks, garments_needed(setting.columns))
                self.rankings[key] = {**self.rankings.get(key, {}), **ranking}

    def _encoder(self, folder: Path):
        device = torch.device(self.job.device)
        dtype = torch.float16 if device.type == "cuda" else torch.float32
        return load_encoder(folder, device, dtype)

    def _index(self, encoder) -> GarmentIndex:
        job = self.job
        folder = job.index or job.out / "index"
        if job.index is None and not (folder / MANIFEST).is_file():
            with _bar("indexing the garments", "garment") as bar:
                build_index(job.root, folder, encoder, progress=_progress_of(bar))
        index = GarmentIndex.open(folder, job.root)
        index.check_encoder(as_built(encoder, index.manifest["encoder"]))
        return index

    def garments_of(self, setting: Setting, sample: Sample, column: Column) -> tuple[str, ...]:
        """Choose the photos of the garments that a column gives a sample."""
        ranking = self.rankings.get((sample.category, setting.chunks), {})
        return column.pick(sample, ranking, setting.chunks)

    def picture_of(self, setting: Setting, sample: Sample, column: Column) -> Path:
        """Return the path of a column's picture of a sample."""
        folder = self.job.out / "pictures" / setting.key / column.key
        return folder / sample.category / f"{sample.name}.png"

    def paint(self, pipeline: FashionRAGPipeline) -> None:
        """Paint the pictures that are not in the folder yet."""
        job = self.job
        painter = Painter(
            pipeline,
            job.sampling,
            lambda path: open_photo(safe_path(job.root, str(path))),
            None if job.parser is None else load_parser(job.parser),
        )
        files = [
            self.picture_of(setting, sample, column)
            for setting in job.settings
            for sample in self.samples[setting.order]
            for column in setting.columns
        ]
        there = sum(file.is_file() for file in files)
        with _bar("painting", "picture", len(files), there) as bar:
            for setting in job.settings:
                if ROUND_TRIP in setting.columns:
                    painter.round_trips(
                        self.samples[setting.order],
                        lambda sample, setting=setting: self.picture_of(
                            setting, sample, ROUND_TRIP
                        ),
                        bar.update,
                    )
            for order, samples in self.samples.items():
                settings = [setting for setting in job.settings if setting.order == order]
                painter.paint(
                    samples, lambda sample, of=settings: self._wanted(of, sample), bar.update
                )

    def _wanted(self, settings: Sequence[Setting], sample: Sample) -> dict[Condition, list[Path]]:
        wanted: dict[Condition, list[Path]] = {}
        for setting in settings:
            for column in setting.columns:
                if column.source == TRUTH:
                    continue
                garments = [Path(file) for file in self.garments_of(setting, sample, column)]
                caption = sample.caption(setting.chunks)
                condition = Condition.of(
                    column.prompt, sample.category, caption, garments, column.parsed
                )
                file = self.picture_of(setting, sample, column)
                wanted.setdefault(condition, []).append(file)
        return wanted

    def instruments(self) -> Instruments:
        """Load the networks that measure; missing ones go to `left_out`, with the reason."""
        job = self.job
        inception = lpips = clip = None
        for name, make in (
            ("FID, KID", networks.inception_features),
            ("LPIPS", networks.lpips_distance),
        ):
            if name in self.left_out:
                continue
            try:
                made = make(job.device)
            except networks.MissingWeightsError as error:
                self.left_out[name] = str(error)
            else:
                inception, lpips = (made, lpips) if name.startswith("FID") else (inception, made)
        named = job.clip or job.encoder
        try:
            clip = self._encoder(named or job.own_encoder)
        except (FileNotFoundError, ValueError) as error:
            if named is not None:
                raise
            self.left_out["CLIP-S, CLIP-I"] = f"{error} Or name an encoder with --clip."
        features = None if clip is None else networks.clip_features(clip)

        @cache
        def garment_features(file: str) -> np.ndarray:
            photo = open_photo(safe_path(job.root, file))
            return features([np.asarray(photo, dtype=np.float32) / 255])[0]

        def fidelity(picture: np.ndarray, region: np.ndarray, file: str) -> float:
            painted = Image.fromarray((picture * 255).round().astype(np.uint8))
            photo = open_photo(safe_path(job.root, file))
            (found,) = garment_fidelity(
                painted, region, [photo], lambda photos: clip.encode_images(photos).numpy()
            )
            return found.score

        return Instruments(
            size=job.sampling.size,
            mask=job.sampling.mask,
            clip=features,
            caption_features=None
            if clip is None
            else lambda texts: clip.encode_texts(list(texts)).double().numpy(),
            garment_features=garment_features,
            fidelity=None if clip is None else fidelity,
            inception=inception,
            lpips=lpips,
            world=self.world,
        )

    def measure(self, setting: Setting, tools: Instruments) -> Measured:
        """Measure a setting's pictures."""
        samples = self.samples[setting.order]
        with _bar(
            f"measuring {setting.order}, {setting.chunks} chunks", "sample", len(samples)
        ) as bar:
            return measure(
                samples,
                setting.columns,
                lambda sample, column: self.picture_of(setting, sample, column),
                lambda sample, column: self.garments_of(setting, sample, column),
                [sample.caption(setting.chunks) for sample in samples],
                tools,
                _progress_of(bar),
            )

    def own_garment_found(self, setting: Setting, k: int) -> np.ndarray:
        """Tell for each sample whether its own garment is among the first k: 1 or 0, float (n,)."""
        return np.concatenate(
            [
                own_garment_found(
                    self.rankings[category, setting.chunks],
                    [s for s in self.samples[setting.order] if s.category == category],
                    setting.chunks,
                    k,
                )
                for category in self.job.categories
            ]
        )

    def table(self, setting: Setting, measured: Measured) -> report.Table:
        """Summarise a setting's measurements as a table."""
        retrieval: dict[str, dict[str, np.ndarray]] = {}
        own: dict[int, np.ndarray] = {}
        if any(column.source == RETRIEVED for column in setting.columns):
            for category in self.job.categories:
                ranking = self.rankings[category, setting.chunks]
                captions = {s.file: s.caption(setting.chunks) for s in self.pool[category]}
                queries = [caption for caption in captions.values() if caption in ranking]
                retrieval[category] = retrieval_rates(ranking, captions, queries)
            own = {k: self.own_garment_found(setting, k) for k in CUTOFFS}
        return report.make_table(
            setting.order, setting.chunks, setting.columns, measured, retrieval, own
        )

    def grid(self, setting: Setting) -> Image.Image:
        """Draw the first samples of every category, by all columns."""
        size = self.job.sampling.size
        columns = [column for column in setting.columns if column.source != TRUTH]
        depth = max(
            (column.garments for column in columns if column.source == RETRIEVED), default=0
        )
        rows = []
        for category in self.job.categories:
            samples = [s for s in self.samples[setting.order] if s.category == category]
            for sample in samples[:_GRID_ROWS]:
                scene = load_scene(sample, size, self.job.sampling.mask)
                pictures = [
                    composited(read_picture(self.picture_of(setting, sample, column), size), scene)
                    for column in columns
                ]
                ranking = self.rankings.get((category, setting.chunks), {})
                files = list(ranking.get(sample.caption(setting.chunks), ()))[:depth]
                truth = self._truth_picture(sample, scene)
                rows.append(
                    GridRow(
                        caption=sample.caption(setting.chunks),
                        person=to_picture(scene.photo[None]),
                        mask=scene.mask.numpy(),
                        garments=[open_photo(safe_path(self.job.root, file)) for file in files],
                        own=files.index(sample.file) if sample.file in files else None,
                        pictures=[
                            *(to_picture(torch.from_numpy(picture)[None]) for picture in pictures),
                            truth,
                        ],
                    )
                )
        last = "truth" if setting.order == "paired" or self.world else "garment asked for"
        heading = f"{self.job.title}: the first pairs of each category, pasted into the photo"
        return picture_grid(rows, [*(column.title for column in columns), last], heading)

    def _truth_picture(self, sample: Sample, scene) -> Image.Image:
        if sample.paired:
            return to_picture(scene.photo[None])
        if self.world is not None:
            return self.world.worn(sample.person, sample.garment)[0]
        return open_photo(safe_path(self.job.root, sample.file))


def evaluate(
    job: Job, world: World | None = None, left_out: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run a job and write its JSON, Markdown, plots and grid; return the JSON's content.

    Args:
        world, left_out: see `Evaluation`.

    Raises:
        FileNotFoundError, ValueError: the folder, the model or the retrieval do not fit; the
            message names the file and the remedy.
        ImportError: a package of the extra `evaluate` is missing.
    """
    evaluation = Evaluation(job, world, left_out)
    pipeline = FashionRAGPipeline.from_pretrained(
        job.model,
        unet=job.unet,
        adapter=job.adapter,
        device=job.device,
        dtype=torch.float16 if job.device.startswith("cuda") else torch.float32,
    )
    tools = evaluation.instruments()
    mark_folder(job)
    evaluation.rank()
    evaluation.paint(pipeline)
    tables, verdict = [], Verdict()
    for setting in job.settings:
        measured = evaluation.measure(setting, tools)
        _write_samples(job.out / f"samples_{setting.key}.jsonl", measured)
        if world is not None and set(world.judged) <= set(setting.columns):
            verdict = world.judge(measured, evaluation.own_garment_found(setting, 1))
        table = evaluation.table(setting, measured)
        tables.append(table)
        if sum(column in PROTOCOL for column in setting.columns) > 1:
            plot_quality(table, job.out / f"quality_{setting.key}.png", verdict.void)
        evaluation.grid(setting).save(job.out / f"grid_{setting.key}.png")
    settings = _described(job, evaluation)
    content = report.to_json(settings, tables, verdict.targets, evaluation.left_out)
    write_text(job.json, json.dumps(content, indent=1, allow_nan=False) + "\n")
    page = report.to_markdown(job.title, settings, tables, verdict, evaluation.left_out)
    write_text(job.out / "table.md", page)
    return content


def _described(job: Job, evaluation: Evaluation) -> dict[str, Any]:
    height, width = job.sampling.size
    return {
        "size": f"{width}x{height}",
        "masks": job.sampling.mask,
        "steps": job.sampling.steps,
        "guidance_scale": job.sampling.guidance_scale,
        "seed": job.sampling.seed,
        "garments_in_the_index": ", ".join(
            f"{len(found)} {name}" for name, found in evaluation.pool.items()
        ),
        "retrieval": "official files" if job.pred_files else "online",
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if job.device.startswith("cuda") else _processor(),
    }


def _processor() -> str:
    return f"{os.cpu_count()} cores of {platform.machine()}"


def _write_samples(path: Path, measured: Measured) -> None:
    lines = []
    for row, sample in enumerate(measured.samples):
        values = {
            key: {name: round(float(v[row]), 5) for name, v in found.items() if np.isfinite(v[row])}
            for key, found in measured.values.items()
        }
        head = {"category": sample.category, "person": sample.person, "garment": sample.garment}
        lines.append(json.dumps({**head, **values}))
    write_text(path, "\n".join(lines) + "\n")


def _bar(what: str, unit: str, total: int | None = None, initial: int = 0) -> tqdm:
    return tqdm(
        desc=what,
        unit=f" {unit}s",
        total=total,
        initial=initial,
        dynamic_ncols=True,
        smoothing=0.05,
    )


def _progress_of(bar: tqdm) -> Progress:
    def progress(done: int, total: int) -> None:
        if bar.total is None:
            bar.reset(total)
        bar.update(done - bar.n)

    return progress
