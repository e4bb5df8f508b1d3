"""What many queries at once cost, beside faiss Flat and usearch, and what words add to a query.

    python benchmarks/many_queries.py --json FILE                   # 54,000 garments, some minutes
    python benchmarks/many_queries.py --size 1m --json FILE         # an hour with usearch's graph

On vectors like those of CLIP (vectors.py) and captions of drawn words, k = 10, without encoding.
Times are milliseconds of processor time, all of them on as many threads (one, unless told
otherwise), so that they hold on a busy machine too, but for what its other work takes of the
memory's bandwidth:

- at once: time a query for 1, 16 and 256 queries at a time, in turn with faiss Flat in fp32
  and usearch in fp16, whose effort is tuned on other texts until its recall@10 is the index's, or
  as high as it gets;
- words: an answer of `retrieve` with and without words: the first time that its words are asked
  for, and later; what the words add to the file of records and to the time of writing and opening
  it.

faiss and usearch: pip install -e '.[bench]'.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from retrieval import DRESS_CODE, RECALL, SIZES, TEXTS, K, in_ms, machine, recall, write_index
from vectors import DIM, Generator

AT_ONCE = (1, 16, 256)
ROUNDS = {1: 40, 16: 10, 256: 3}
WEIGHT = 0.5
_EFFORTS = (16, 32, 64, 128, 256, 512, 1024, 2048)  # usearch's expansion in searching
_WORDS = (
    "red blue green black white navy beige pink yellow olive grey brown cream purple orange teal",
    "dress shirt blouse jacket coat jeans skirt trousers sweater hoodie top cardigan blazer shorts",
    "long short sleeveless floral striped plain checked cotton linen silk denim leather wool belt "
    "collar buttons pockets v-neck round hem print lace ruffled slim loose",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=("54k", "1m"), default="54k")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--folder", type=Path, help="where the index goes and stays")
    parser.add_argument("--without", nargs="+", default=[], choices=("usearch", "faiss"))
    parser.add_argument("--threads", type=int, default=1, help="for all (default: 1)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    figures: dict = {"machine": machine(), "threads": args.threads}
    with tempfile.TemporaryDirectory() as scratch:
        folder = (args.folder or Path(scratch)) / f"many {args.size}"
        for name, step in (
            ("index", lambda: fill(folder, args.size)),
            ("words", lambda: of_words(folder)),
            ("at once", lambda: at_once(folder, args.without, args.threads)),
        ):
            sys.stderr.write(f"{name} ...\n")
            figures[name] = step()
            if args.json:
                args.json.write_text(json.dumps(figures, indent=2), encoding="utf-8")
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")


def captions(count: int, seed: int = 0) -> Iterator[str]:
    """Captions of eight words, of a colour, a cut, details and one of 300 brands."""
    draw = random.Random(seed)
    colours, cuts, details = (words.split() for words in _WORDS)
    for _ in range(count):
        own = [draw.choice(colours), draw.choice(cuts), "with", *draw.sample(details, 3)]
        yield f"{' '.join(own)}, brand{draw.randrange(300)}"


def fill(folder: Path, size: str) -> dict:
    """Write and tune an index with captions, unless the folder holds one."""
    from fashion_rag.retriever.upkeep.tune import tune_index

    if (folder / "manifest.json").exists():
        return {}
    count = DRESS_CODE if size == "54k" else SIZES[size]
    kind = "exact" if size == "54k" else "ivf"
    figures = write_index(folder, count, kind, captions(count))
    if kind != "exact":
        texts = Generator().texts(TEXTS)[: TEXTS // 2]
        tune_index(folder, RECALL[size] + 0.01, K, queries=texts)
    return {"garments": count, **figures}


# --- many queries --------------------------------------------------------------------------------


def at_once(folder: Path, without: list[str], threads: int) -> dict:
    from fashion_rag.retriever.search import nearest
    from fashion_rag.retriever.store.index import GarmentIndex

    index = GarmentIndex.open(folder)
    tuned_on, texts = Generator().texts(2 * max(AT_ONCE)).split(max(AT_ONCE))
    truth = nearest(index, texts, K, backend="exact")[1].numpy()
    found = np.concatenate([nearest(index, part, K)[1].numpy() for part in texts.split(1)])
    ways: dict[str, Callable[[torch.Tensor], object]] = {
        "index": lambda queries: nearest(index, queries, K)
    }
    figures: dict = {"index": {"kind": index.kind.record(), "recall@10": recall(found, truth)}}
    single = index.embeddings.float().numpy() if without != ["usearch", "faiss"] else None
    if "faiss" not in without:
        import faiss

        faiss.omp_set_num_threads(threads)
        flat = faiss.IndexFlatIP(DIM)
        flat.add(single)
        ways["faiss Flat fp32"] = lambda queries: flat.search(queries.numpy(), K)
        figures["faiss Flat fp32"] = {"recall@10": recall(flat.search(texts.numpy(), K)[1], truth)}
    if "usearch" not in without:
        import usearch.index

        graph = usearch.index.Index(ndim=DIM, metric="cos", dtype="f16")
        started = time.perf_counter()
        graph.add(np.arange(len(single)), single)  # by all threads: it is not what is measured
        seconds = time.perf_counter() - started
        known = nearest(index, tuned_on, K, backend="exact")[1].numpy()
        wanted = figures["index"]["recall@10"]
        for effort in _EFFORTS:
            graph.expansion_search = effort
            if recall(graph.search(tuned_on.numpy(), K).keys, known) >= wanted:
                break
        ways["usearch fp16"] = lambda queries: graph.search(queries.numpy(), K, threads=threads)
        figures["usearch fp16"] = {
            "recall@10": recall(graph.search(texts.numpy(), K).keys, truth),
            "expansion": graph.expansion_search,
            "build, s": seconds,
        }
    del single
    for count in AT_ONCE:
        times = in_turn(ways, texts, count)
        for name, values in times.items():
            figures[name][f"{count} at once, a query"] = in_ms([t / count for t in values])
    return figures


def in_turn(ways: dict[str, Callable], texts: torch.Tensor, count: int) -> dict:
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS[count] + 1):
        start = number * count % (len(texts) - count + 1)
        for name, way in ways.items():
            started = time.process_time()
            way(texts[start : start + count])
            if number:  # the first ones load what the others have
                times[name].append(time.process_time() - started)
    return times


# --- words ---------------------------------------------------------------------------------------


class Drawn:
    """Takes no time, so that what is measured is the rest."""

    name, fingerprint, dim = "drawn", "drawn", DIM

    def __init__(self, texts: list[str]):
        self._vectors = dict(zip(texts, Generator().texts(len(texts)), strict=True))

    def encode_texts(self, texts) -> torch.Tensor:
        return torch.stack([self._vectors[text] for text in texts])


def of_words(folder: Path) -> dict:
    from fashion_rag.retriever.backends import LocalBackend
    from fashion_rag.retriever.query import Query, retrieve
    from fashion_rag.retriever.store.index import GarmentIndex

    texts = list(dict.fromkeys(captions(60, seed=1)))
    encoder = Drawn(texts)
    times: dict[str, list[float]] = {"photos": [], "with words": [], "with words, first": []}

    def timed(name: str, shop: LocalBackend, text: str, weight: float) -> None:
        started = time.process_time()
        retrieve(shop, encoder, [Query(text, k=K, word_weight=weight)])
        times[name].append(time.process_time() - started)

    shop = LocalBackend(GarmentIndex.open(folder))
    for weight in (0.0, WEIGHT):
        retrieve(shop, encoder, [Query(text, word_weight=weight) for text in texts])
    for text in texts:
        timed("photos", shop, text, 0.0)
        timed("with words", shop, text, WEIGHT)
    for text in texts[:5]:
        new = LocalBackend(GarmentIndex.open(folder))
        retrieve(new, encoder, [Query(text, k=K)])
        timed("with words, first", new, text, WEIGHT)
        new.index.close()
    return {name: in_ms(values) for name, values in times.items()} | of_records(folder)


def of_records(folder: Path) -> dict:
    """Writing and opening the records with and without words, in turn."""
    from fashion_rag.retriever.store import text_table
    from fashion_rag.retriever.store.index import GarmentIndex
    from fashion_rag.retriever.store.records import Records, RecordWriter

    source = GarmentIndex.open(folder)
    (part,) = source.parts
    found: dict = {}
    for name, is_there in (("without words", False), ("with words", True)):
        path, writing, opening = folder.parent / "copy.sqlite", [], []
        with mock.patch.object(text_table, "fts5_is_there", return_value=is_there):
            for _ in range(2):
                started = time.process_time()
                with RecordWriter.create(path, ["stock"]) as writer:
                    writer.put(iter(part.records))
                    writer.finish()
                writing.append(time.process_time() - started)
        for _ in range(20):
            started = time.process_time()
            Records.open(path).close()
            opening.append(time.process_time() - started)
        found[f"records {name}"] = {
            "writing, s": min(writing),
            "opening, ms": statistics.median(opening) * 1000,
            "bytes a garment": path.stat().st_size / len(source),
        }
        path.unlink()
    source.close()
    return found


if __name__ == "__main__":
    main()
