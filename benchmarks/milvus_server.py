"""What an index on a Milvus server costs, beside the local one.

    pip install --no-deps milvus==2.3.5
    milvus-server --data FOLDER --proxy-port 19530
    python benchmarks/milvus_server.py --uri http://127.0.0.1:19530 --pid PID --json FILE

On vectors like those of CLIP (vectors.py): the rate of a push, and the time of one where nothing
changed; the server's memory before and after (`--pid`: of its process `milvus run standalone`);
whether it finds the garments and scores that the local index does; and the latency of single
queries, k = 10, without encoding, from 1 and from 8 processes that search at once, of the server
and of the local index in the same run.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from retrieval import K, in_ms, machine, write_index
from vectors import Generator

QUERIES = 40  # of each process
COMPARED = 20
PROCESSES = (1, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--uri", required=True, help="of the server, http://host:19530")
    parser.add_argument("--pid", type=int, help="of its process, to read its memory")
    parser.add_argument("--count", type=int, default=200_000, help="garments, default: 200,000")
    parser.add_argument("--kinds", nargs="+", default=["exact"], help="default: exact")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    figures: dict = {"machine": machine(), "garments": args.count}
    with tempfile.TemporaryDirectory() as scratch:
        local = Path(scratch) / "local"
        write_index(local, args.count, "exact")
        for kind in args.kinds:
            figures[kind] = on_server(local, Path(scratch) / kind, args.uri, args.pid, kind)
        figures["local"] = {"latency": latency(local)}
    text = json.dumps(figures, indent=2)
    sys.stdout.write(text + "\n")
    if args.json:
        args.json.write_text(text, encoding="utf-8")


def on_server(local: Path, folder: Path, uri: str, pid: int | None, kind: str) -> dict:
    """Push, compare and search."""
    from fashion_rag.retriever.backends import LocalBackend
    from fashion_rag.retriever.milvus.connection import CollectionPlace
    from fashion_rag.retriever.milvus.sync import push
    from fashion_rag.retriever.open_index import open_index
    from fashion_rag.retriever.store.index import GarmentIndex

    index, place = GarmentIndex.open(local), CollectionPlace(f"bench_{kind}", uri, timeout=120)
    figures: dict = {"memory before, MB": memory(pid)}
    started = time.perf_counter()
    written = []

    def progress(done: int, total: int) -> None:
        if done == total and not written:
            written.append(time.perf_counter() - started)

    push(index, folder, place, kind=kind, progress=progress)
    seconds = time.perf_counter() - started
    figures |= {
        "push, s": seconds,
        "of it sending, s": written[0],
        "garments a second": len(index) / seconds,
        "memory after, MB": memory(pid),
    }
    started = time.perf_counter()
    push(index, folder, place, kind=kind)
    figures["push of nothing, s"] = time.perf_counter() - started
    texts = Generator().texts(COMPARED).numpy()
    pushed = open_index(folder)
    answers = [pushed.nearest(text[None], K, None, None) for text in texts]
    scores, rows = (np.concatenate(column) for column in zip(*answers, strict=True))
    expected, truth = LocalBackend(index, "exact").nearest(texts, K, None, None)
    same = [len(set(a) & set(b)) / K for a, b in zip(rows.tolist(), truth.tolist(), strict=True)]
    figures["garments of the local index"] = float(np.mean(same))
    figures["largest difference of scores"] = float(np.abs(scores - expected).max())
    sys.stderr.write(f"{kind}: {json.dumps(figures)}\n")
    figures["latency"] = latency(folder)
    figures["memory while searching, MB"] = memory(pid)
    return figures


def latency(folder: Path) -> dict:
    """Of single queries, from so many processes at once; and queries a second of all of them."""
    spawn = multiprocessing.get_context("spawn")
    figures = {}
    for count in PROCESSES:
        start, results = spawn.Barrier(count), spawn.Queue()
        searchers = [
            spawn.Process(target=searches, args=(folder, seed, start, results))
            for seed in range(count)
        ]
        for searcher in searchers:
            searcher.start()
        times = [results.get() for _ in searchers]
        for searcher in searchers:
            searcher.join()
        rate = sum(len(own) / sum(own) for own in times)
        all_times = [one for own in times for one in own]
        figures[f"{count} at once"] = {**in_ms(all_times), "queries a second": rate}
    return figures


def searches(folder: Path, seed: int, start, results) -> None:
    """Search again and again, in a process of its own."""
    import torch
    from fashion_rag.retriever.open_index import open_index

    torch.set_num_threads(1)
    index = open_index(folder)
    texts = Generator(seed).texts(QUERIES + 3).numpy()
    times = []
    for number, text in enumerate(texts):
        if number == 3:  # the first ones load what is needed
            start.wait()
        began = time.perf_counter()
        index.nearest(text[None], K, None, None)
        times.append(time.perf_counter() - began)
    results.put(times[3:])


def memory(pid: int | None) -> float | None:
    """Megabytes in memory that are the process's own, not pages of files."""
    if pid is None:
        return None
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


if __name__ == "__main__":
    main()
