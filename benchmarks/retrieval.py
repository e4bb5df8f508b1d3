"""What retrieval costs, beside what a user would pick instead.

    python benchmarks/retrieval.py --json FILE                  # in 15 minutes
    python benchmarks/retrieval.py --size 10m --json FILE       # an hour or two, 40 GB of disk

Each part runs in a process of its own, on vectors like those of CLIP (vectors.py):

- 54k: exact search in an index of Dress Code's size, in turn with reading its embeddings once
  (torch's sum over the stored halves, and over the 8 bits that the search goes by); then faiss Flat
  in fp32, numpy, usearch, and the way of ClipVision_Tools, which goes through a list read from
  JSON; and the approximate kind;
- 1m, 10m: an index of that many garments: building, opening, latency, recall@10 against exact
  search, resident memory, and filters that leave 50, 5 and 0.5 % of the garments. The effort is
  tuned on other texts than those that are timed. Then updates of 10 photos: what they write, and
  their time beside encoding;
- build: photos a second from JPEG files to the index, thumbnails included, against the bare
  ViT-L-14 on prepared tensors. The weights are untrained, the time is the same;
- state: what Run costs a finished Garment Index Build where nothing has changed, for a catalogue of
  100,000 photos in one folder and in 100, on a warm disk.

Latencies are of single queries of k = 10, medians, without encoding the text. faiss and usearch:
pip install -e '.[bench]'.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from vectors import DIM, Generator, intrinsic_dimension

K = 10
TEXTS = 200  # half to tune on, half to measure
BLOCK = 50_000
DRESS_CODE = 54_000
SIZES = {"1m": 1_000_000, "10m": 10_000_000}
KINDS = {"1m": "ivf", "10m": "ivf"}  # what `auto` is, within 4 GiB
PARTS = ("54k", "1m", "build", "state")
STEPS = ("fill", "tune", "search", "update")
RECALL = {"1m": 0.95, "10m": 0.9}
PHOTOS = 24
ADDED, UPDATES = 10, 5
STATED, LOOKS = 100_000, 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--size", choices=SIZES, help="this many garments, and no other part")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="default: all")
    parser.add_argument(
        "--folder", type=Path, help="where the index goes and stays, to be measured again"
    )
    parser.add_argument("--part", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        sys.stdout.write(json.dumps(measure(args.part, args.folder)))
        return
    figures: dict = {"machine": machine()}
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch)
        for part in [args.size] if args.size else args.parts or PARTS:
            for step in STEPS if part in SIZES else ("",):
                sys.stderr.write(f"{part} {step} ...\n")
                figures.setdefault(part, {}).update(in_process(f"{part} {step}".strip(), folder))
    text = json.dumps(figures, indent=2)
    sys.stdout.write(text + "\n")
    if args.json:
        args.json.write_text(text, encoding="utf-8")


def measure(part: str, folder: Path) -> dict:
    name, *step = part.split()
    if name == "54k":
        return exact_against_others(folder)
    if name == "build":
        return build_rate(folder)
    if name == "state":
        return state_of_photos(folder)
    steps = {"fill": fill, "tune": tune, "search": search_index, "update": update}
    return steps[step[0]](name, folder / name)


def in_process(part: str, folder: Path) -> dict:
    command = [sys.executable, __file__, "--part", part, "--folder", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def machine() -> dict:
    import faiss
    from fashion_rag.miniature.train import processor

    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "torch": torch.__version__,
        "faiss": faiss.__version__,
    }


# --- Dress Code's size ---------------------------------------------------------------------------


def exact_against_others(folder: Path) -> dict:
    """Exact search in turn with reading, then the others one after the other."""
    import faiss
    import usearch.index
    from fashion_rag.retriever.search import nearest
    from fashion_rag.retriever.store.index import GarmentIndex

    path = folder / "54k"
    write_index(path, DRESS_CODE, "exact")
    index = GarmentIndex.open(path)
    texts = Generator().texts(40)
    half = index.embeddings
    codes = half.to(torch.int8).view(torch.int64)  # torch sums these without widening each
    number = iter(range(10**9))

    def next_text() -> torch.Tensor:
        return texts[next(number) % len(texts)][None]

    # Before the other libraries start threads of their own, which spin for a while after each call.
    figures = in_turn(
        {
            "read once": lambda: half.sum(),
            "read once, 8 bits": lambda: codes.sum(),
            "exact": lambda: nearest(index, next_text(), K),
        },
        200,
    )
    # Many queries at once are scored from the embeddings themselves.
    truth = nearest(index, texts, K, backend="exact")[1].numpy()
    single = half.float().numpy()
    flat = faiss.IndexFlatIP(DIM)
    flat.add(single)
    started = time.perf_counter()
    graph = usearch.index.Index(ndim=DIM, metric="cos")
    graph.add(np.arange(len(single)), single)
    graph_seconds = time.perf_counter() - started
    for name, way in {
        "faiss Flat fp32": lambda: flat.search(next_text().numpy(), K),
        "numpy fp32": lambda: by_numpy(single, next_text().numpy()[0]),
        "usearch": lambda: graph.search(next_text().numpy()[0], K),
    }.items():
        time.sleep(1)
        figures |= in_turn({name: way}, 60)
    found = {
        "exact": np.array([nearest(index, text[None], K)[1][0].numpy() for text in texts]),
        "faiss Flat fp32": flat.search(texts.numpy(), K)[1],
        "numpy fp32": np.array([by_numpy(single, text) for text in texts.numpy()]),
        "usearch": np.array([graph.search(text, K).keys for text in texts.numpy()]),
    }
    for name, rows_found in found.items():
        figures[name]["recall@10"] = recall(rows_found, truth)
    figures["usearch"]["build, s"] = graph_seconds
    listed = json_list(folder / "list.json", single)
    slow = in_turn({"list from JSON": lambda: search_list(listed, next_text().numpy()[0])}, 3)
    ratio = figures["exact"]["median, ms"] / figures["read once"]["median, ms"]
    return {
        "garments": DRESS_CODE,
        **figures,
        **slow,
        "exact / read once": ratio,
        "ivf": approximate_kind(path),
        "exact / read once, of the fastest": figures["exact"]["fastest, ms"]
        / figures["read once"]["fastest, ms"],
    }


def approximate_kind(folder: Path) -> dict:
    """The same index as `ivf`, with the effort that recall@10 of 0.95 takes on other texts."""
    from fashion_rag.retriever.search import nearest
    from fashion_rag.retriever.store.index import GarmentIndex
    from fashion_rag.retriever.upkeep.tune import tune_index

    texts = Generator().texts(TEXTS)
    truth = exact(folder, texts[TEXTS // 2 :], None)
    started = time.perf_counter()
    tune_index(folder, 0.96, K, kind="ivf", queries=texts[: TEXTS // 2])
    seconds = time.perf_counter() - started
    index = GarmentIndex.open(folder)
    nearest(index, texts[:1], K)
    times, found = time_queries(
        lambda text: nearest(index, text[None], K)[1][0].numpy(), texts[TEXTS // 2 :]
    )
    return {
        "kind": index.manifest["kind"],
        "building and tuning, s": seconds,
        "bytes": index.manifest["vectors"]["bytes"],
        "recall@10": recall(found, truth),
        **times,
    }


def json_list(path: Path, vectors: np.ndarray) -> list[dict]:
    """A database of names and embeddings as one JSON file, read back."""
    path.write_text(
        json.dumps([{"name": str(n), "embed": v} for n, v in enumerate(vectors.tolist())])
    )
    return json.loads(path.read_text())


def search_list(entries: list[dict], query: np.ndarray) -> list[str]:
    """Cosine similarity entry by entry, then a sort."""
    norm = np.linalg.norm(query)
    scored = []
    for entry in entries:
        vector = np.array(entry["embed"])
        scored.append((float(vector @ query / (np.linalg.norm(vector) * norm)), entry["name"]))
    return [name for _, name in sorted(scored, reverse=True)[:K]]


# --- a million and more --------------------------------------------------------------------------


def fill(name: str, folder: Path) -> dict:
    """Write an index of drawn vectors, unless the folder holds one."""
    if (folder / "manifest.json").exists():
        return {}
    return {"garments": SIZES[name], **write_index(folder, SIZES[name], KINDS[name])}


def tune(name: str, folder: Path) -> dict:
    from fashion_rag.retriever.upkeep.tune import tune_index

    started = time.perf_counter()
    texts = Generator().texts(TEXTS)[: TEXTS // 2]
    report = tune_index(folder, RECALL[name] + 0.01, K, queries=texts)
    seconds = time.perf_counter() - started
    return {"tuning, s": seconds, "recall@10 of the texts tuned on": report.chosen.recall}


def search_index(name: str, folder: Path) -> dict:
    from fashion_rag.retriever.search import nearest
    from fashion_rag.retriever.store.index import GarmentIndex

    texts = Generator().texts(TEXTS)[TEXTS // 2 :]
    before = memory()
    started = time.perf_counter()
    index = GarmentIndex.open(folder)
    opened = time.perf_counter() - started
    nearest(index, texts[:1], K)
    first = time.perf_counter() - started
    times, found = time_queries(lambda text: nearest(index, text[None], K)[1][0].numpy(), texts)
    figures = {
        "kind": index.manifest["kind"],
        "open, s": opened,
        "open and first query, s": first,
        "recall@10": 0.0,
        **times,
        "resident memory for searching, MB": memory() - before,
        "process without page cache, MB": memory(),
        "filters": {},
    }
    figures["recall@10"] = recall(found, exact(folder, texts, None))
    for share, text in ((50, "stock < 500"), (5, "stock < 50"), (0.5, "stock < 5")):
        figures["filters"][f"{share} %"] = filtered(folder, text, texts[:50])
    if name == "1m":
        figures["others"] = flat_searches(folder, texts)
    sample = index.vectors.at(index.rows[:: len(index) // 50_000]).float()
    best = (texts @ sample.T).max(dim=1).values
    figures["vectors"] = {
        "intrinsic dimension": intrinsic_dimension(sample),
        "best cosine of 50,000 garments, mean": float(best.mean()),
    }
    return figures


def filtered(folder: Path, text: str, texts: torch.Tensor) -> dict:
    from fashion_rag.retriever.search import nearest
    from fashion_rag.retriever.store.filters import parse_filter
    from fashion_rag.retriever.store.index import GarmentIndex

    index = GarmentIndex.open(folder)
    condition = parse_filter(text)
    started = time.perf_counter()
    rows = index.rows_where(condition)
    seconds = time.perf_counter() - started
    truth = exact(folder, texts, rows)
    nearest(index, texts[:1], K, rows)

    def find(query: torch.Tensor) -> np.ndarray:
        return nearest(index, query[None], K, index.rows_where(condition))[1][0].numpy()

    times, found = time_queries(find, texts)
    return {
        "rows": len(rows),
        "finding the rows once, ms": seconds * 1000,
        "recall@10": recall(found, truth),
        **times,
    }


def exact(folder: Path, texts: torch.Tensor, rows: np.ndarray | None) -> np.ndarray:
    from fashion_rag.retriever.search import nearest
    from fashion_rag.retriever.store.index import GarmentIndex

    index = GarmentIndex.open(folder)
    return nearest(index, texts, K, rows, backend="exact")[1].numpy()


def flat_searches(folder: Path, texts: torch.Tensor) -> dict:
    import faiss
    from fashion_rag.retriever.store.index import GarmentIndex

    single = GarmentIndex.open(folder).embeddings.float().numpy()
    flat = faiss.IndexFlatIP(DIM)
    flat.add(single)
    number = iter(range(10**9))

    def next_text() -> np.ndarray:
        return texts[next(number) % len(texts)].numpy()

    return in_turn(
        {
            "numpy fp32": lambda: by_numpy(single, next_text()),
            "faiss Flat fp32": lambda: flat.search(next_text()[None], K),
        },
        5,
    )


def by_numpy(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    scores = vectors @ query
    best = np.argpartition(-scores, K)[:K]
    return best[np.argsort(-scores[best])]


def write_index(folder: Path, count: int, kind: str, captions: Iterable[str] | None = None) -> dict:
    """An index of drawn vectors, without photos, written as a build writes it.

    The column `stock` is 0 to 999, so that a filter can leave any share of the garments.
    """
    from fashion_rag.retriever.photos.catalogue import Garment
    from fashion_rag.retriever.store.commit import commit
    from fashion_rag.retriever.store.journal import tensor_header
    from fashion_rag.retriever.store.manifest import file_entry
    from fashion_rag.retriever.store.records import Record, RecordWriter, ThumbnailPlace

    folder.mkdir(parents=True, exist_ok=True)
    embeddings = folder / "embeddings-00000000.safetensors"
    generator = Generator()
    started = time.perf_counter()
    with open(embeddings, "wb") as file:
        file.write(tensor_header(count, DIM))
        for block in range(-(-count // BLOCK)):
            photos = generator.photos(block, min(BLOCK, count - block * BLOCK))
            file.write(photos.half().numpy().tobytes())
    drawn = time.perf_counter()

    def records() -> Iterator[tuple[int, Record]]:
        texts = repeat("") if captions is None else captions
        for row, (stock, text) in enumerate(zip(stocks(count), texts, strict=False)):
            garment = Garment(f"{row:08}", f"{row:08}.jpg", "", text, {"stock": str(stock)})
            yield row, Record(garment, 0, 0, "", ThumbnailPlace(0, 0, 0, 0))

    garments = folder / "garments-00000000.sqlite"
    with RecordWriter.create(garments, ["stock"]) as writer:
        writer.put(records())
        writer.finish()
    thumbnails = folder / "thumbnails-00000000.bin"
    thumbnails.write_bytes(b"")
    written = time.perf_counter()
    part = {
        "rows": count,
        "embeddings": file_entry(embeddings),
        "records": file_entry(garments),
        "thumbnails": [file_entry(thumbnails)],
    }
    hashed = time.perf_counter()
    manifest = commit(
        folder,
        [part],
        encoder={"name": "drawn", "fingerprint": "drawn", "dim": DIM},
        catalogue_root=folder.parent / f"{folder.name} photos",
        rejects=[],
        kind=kind,
        # As a build of photos measures it: updates then leave it.
        extra={"least_score": {"score": 0.2, "by": "captions", "texts": 256, "garments": count}},
    )
    ended = time.perf_counter()
    entries = {name: part[name] for name in ("embeddings", "records")}
    entries |= {"vectors": manifest["vectors"]} if manifest["vectors"] else {}
    return {
        "drawing the vectors, s": drawn - started,
        "writing the records, s": written - drawn,
        "checksums, s": hashed - written,
        "training and filling, s": ended - hashed,
        "bytes": {name: entry["bytes"] for name, entry in entries.items()},
    }


def stocks(count: int) -> list[int]:
    return np.random.default_rng(5).integers(0, 1000, count).tolist()


def update(name: str, folder: Path) -> dict:
    """Updates of ADDED new photos: what each writes, and its time before and after encoding.

    The catalogue has an empty file for each garment of the index, and a table of their stock.
    """
    from fashion_rag.retriever.store.index import GarmentIndex
    from fashion_rag.retriever.upkeep.update import update_index
    from PIL import Image

    photos = folder.parent / f"{folder.name} photos"
    if not photos.exists():
        photos.mkdir()
        lines = ["file,id,stock\n"]
        for row, stock in enumerate(stocks(SIZES[name])):
            file = photos / f"{row:08}.jpg"
            file.touch()
            os.utime(file, ns=(0, 0))
            lines.append(f"{file.name},{row:08},{stock}\n")
        (photos / "garments.csv").write_text("".join(lines))
    rounds = []
    for number in range(UPDATES):
        for photo in range(ADDED):
            noise = Image.effect_noise((768, 1024), 60)
            noise.convert("RGB").save(photos / f"new {time.time_ns()} {number} {photo}.jpg")
        moments: list[float] = []

        def progress(*_: int, moments: list[float] = moments) -> None:
            moments.append(time.perf_counter())

        before, started = written_bytes(), time.perf_counter()
        report = update_index(folder, DrawnEncoder(), photos, progress=progress)
        ended = time.perf_counter()
        assert report.added == ADDED, report.summary()
        rounds.append(
            {
                "comparing with the catalogue, s": moments[0] - started,
                "reading and encoding, s": moments[-1] - moments[0],
                "writing, s": ended - moments[-1],
                "written, MB": (written_bytes() - before) / 1e6,
            }
        )
    figures = {
        key: {
            "median": statistics.median(r[key] for r in rounds),
            "most": max(r[key] for r in rounds),
        }
        for key in rounds[0]
    }
    parts = len(GarmentIndex.open(folder).parts)
    return {f"updates of {ADDED} photos": {"updates": UPDATES, **figures, "parts": parts}}


class DrawnEncoder:
    """Takes no time, so that what is measured is the rest."""

    name, fingerprint, dim, preprocessing = "drawn", "drawn", DIM, {}

    def encode_images(self, photos: list) -> torch.Tensor:
        return Generator().photos(10**6, len(photos))


def written_bytes() -> int:
    """What this process gave to the system to write."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["wchar"])


# --- building ------------------------------------------------------------------------------------


def build_rate(folder: Path) -> dict:
    """Photos a second of the whole build and of the bare model, in turn."""
    import open_clip
    from fashion_rag.retriever.encoders.open_clip import OpenClipEncoder
    from fashion_rag.retriever.store.index import GarmentIndex
    from fashion_rag.retriever.upkeep.build import build_index
    from PIL import Image

    device = "cuda" if torch.cuda.is_available() else "cpu"
    precision = "fp16" if device == "cuda" else "fp32"
    model, _, preprocess = open_clip.create_model_and_transforms(
        "ViT-L-14", precision=precision, device=device
    )
    model.eval().requires_grad_(False)
    dtype = torch.float16 if device == "cuda" else torch.float32
    encoder = OpenClipEncoder(
        "bare", model, preprocess, open_clip.get_tokenizer("ViT-L-14"), "bare", device, dtype
    )
    count = PHOTOS * (100 if device == "cuda" else 1)
    photos = folder / "photos"
    photos.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        noise = Image.effect_noise((96, 128), 60).resize((768, 1024), Image.Resampling.BICUBIC)
        colour = Image.new("RGB", (768, 1024), (number * 37 % 256, number * 91 % 256, 120))
        Image.blend(noise.convert("RGB"), colour, 0.5).save(photos / f"{number:05}.jpg", quality=90)
    files = sorted(photos.iterdir())
    pixels = torch.stack([encoder.prepare(Image.open(file)) for file in files])
    batch = 256 if device == "cuda" else 8
    encoder.encode_prepared(pixels[:batch])
    bare, whole = [], []
    for number in range(3):
        started = time.perf_counter()
        for part in pixels.split(batch):
            encoder.encode_prepared(part)
        bare.append(count / (time.perf_counter() - started))
        report = build_index(photos, folder / f"built {number}", encoder, batch_size=batch)
        whole.append(report.garments_per_second)
    (part,) = GarmentIndex.open(folder / "built 0").manifest["parts"]
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "photos": count,
        "bare ViT-L-14, photos a second": bare,
        "build, photos a second": whole,
        "thumbnail, bytes": part["thumbnails"][0]["bytes"] / count,
        "build / bare": statistics.median(whole) / statistics.median(bare),
    }


# --- measuring -----------------------------------------------------------------------------------


def in_turn(ways: dict[str, Callable[[], object]], rounds: int) -> dict:
    times: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - started)
    return {name: in_ms(values) for name, values in times.items()}


def time_queries(
    find: Callable[[torch.Tensor], np.ndarray], texts: torch.Tensor
) -> tuple[dict, np.ndarray]:
    times, found = [], []
    for text in texts:
        started = time.perf_counter()
        found.append(find(text))
        times.append(time.perf_counter() - started)
    return in_ms(times), np.array(found)


def in_ms(times: list[float]) -> dict:
    return {
        "median, ms": statistics.median(times) * 1000,
        "95th percentile, ms": float(np.percentile(times, 95)) * 1000,
        "fastest, ms": min(times) * 1000,
    }


def recall(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean([len(set(f) & set(t)) / K for f, t in zip(found, truth, strict=True)]))


def memory() -> float:
    """Resident megabytes of this process that are its own, not pages of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return sum(int(fields[name].split()[0]) for name in ("RssAnon", "RssShmem")) / 1024


# --- nothing has changed -------------------------------------------------------------------------


def state_of_photos(folder: Path) -> dict:
    """The fingerprint of a catalogue of STATED photos: milliseconds of LOOKS looks, and of CPU."""
    from fashion_rag.retriever.photos.catalogue import state_of_catalogue

    figures = {}
    for folders in (1, 100):
        catalogue = folder / f"stated {folders}"
        for number in range(folders):
            (catalogue / f"{number:03}").mkdir(parents=True)
        for number in range(STATED):
            (catalogue / f"{number % folders:03}" / f"garment_{number:08}.jpg").touch()
        states, wall, cpu = set(), [], []
        for _ in range(LOOKS):
            started, worked = time.perf_counter(), time.process_time()
            states.add(state_of_catalogue(catalogue))
            wall.append(1000 * (time.perf_counter() - started))
            cpu.append(1000 * (time.process_time() - worked))
        assert len(states) == 1
        figures[f"{STATED:,} photos in {folders} folders, ms"] = {
            "median": statistics.median(wall),
            "least": min(wall),
            "CPU, median": statistics.median(cpu),
        }
    return figures


if __name__ == "__main__":
    main()
