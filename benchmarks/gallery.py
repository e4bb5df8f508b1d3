"""What the gallery in the page costs: how soon it answers, what it takes from a running sampler.

    python benchmarks/gallery.py --comfyui PATH --json FILE

- An answer of the live search over GARMENTS drawn garments, as plain data, beyond encoding the
  text; beside it, in turn, the bare reading of all embeddings.
- The time of a sampling while a page asks RATE times a second, for searches, larger photos and
  thumbnails, against the same sampling while nobody asks and while a page asks for a route of the
  host, which says what any request costs. All in turn, on the stand-in model, in a real ComfyUI.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from retrieval import DIM, DrawnEncoder, in_turn, write_index
from vectors import Generator

GARMENTS = 54_000
SHOWN = 24
RATE = 50  # requests a second
ASKERS = 16  # threads that wait for answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comfyui", type=Path, default=Path.home() / "comfy" / "ComfyUI")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--searches", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5, help="samplings of each kind")
    parser.add_argument("--steps", type=int, default=60, help="of a sampling")
    args = parser.parse_args()
    figures = {"cores": os.cpu_count(), "load before": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as name:
        figures["an answer"] = answers(Path(name), args.searches)
        figures["a sampling"] = samplings(Path(name), args)
    figures["load after"] = os.getloadavg()[0]
    text = json.dumps(figures, indent=2)
    sys.stdout.write(text + "\n")
    if args.json:
        args.json.write_text(text, encoding="utf-8")


class TextEncoder(DrawnEncoder):
    """Gives the next of the drawn texts, without taking time."""

    def __init__(self) -> None:
        self.texts, self.next = Generator().texts(1000), 0

    def encode_texts(self, texts: list[str]) -> torch.Tensor:
        self.next += 1
        return self.texts[self.next % 1000].expand(len(texts), DIM)


def answers(folder: Path, searches: int) -> dict:
    """Milliseconds of `gallery.search` and its JSON, with and without a filter."""
    from fashion_rag.retriever import gallery
    from fashion_rag.retriever.open_index import open_index

    write_index(folder / "index", GARMENTS, "exact")
    backend, encoder = open_index(folder / "index"), TextEncoder()
    stored = torch.empty(GARMENTS, DIM, dtype=torch.float16).normal_()

    def answer(**fields) -> Callable[[], object]:
        query = {"text": "a blue shirt", "k": SHOWN, **fields}
        return lambda: json.dumps(gallery.search(backend, encoder, gallery.query_of(query)))

    ways = {
        "reading the embeddings": lambda: stored.sum(),
        "any text": answer(),
        "with a filter that leaves a half": answer(where="stock < 500"),
        "with a pin": answer(pinned=["00000007"]),
    }
    return in_turn(ways, searches)


def samplings(folder: Path, args: argparse.Namespace) -> dict:
    """Seconds of a sampling while nothing, or a page, is asking; medians and ratios to silence."""
    from fashion_rag.comfyui_server.client import Graph
    from fashion_rag.comfyui_server.installations import Host, optional_packages
    from fashion_rag.comfyui_server.server import Server
    from fashion_rag.miniature.standin import make_standin

    host = Host(args.comfyui)
    server = Server(host, folder / "host", optional_packages(host.python), ("--cache-classic",))
    standin = make_standin(server.store / "models" / "standin")
    (server.store / "encoders").mkdir()
    (server.store / "encoders" / "standin").symlink_to(standin / "encoder")

    def sampling(seed: int) -> Graph:
        graph = Graph()
        models = graph.add("FashionRAGLoader", model_name="standin")
        text = graph.add("CLIPTextEncode", clip=models[1], text="")
        photo = graph.add("EmptyImage", width=384, height=512, batch_size=1, color=0)
        mask = graph.add("SolidMask", value=1.0, width=384, height=512)
        inputs = graph.add(
            "FashionInpaintConditioning", positive=text, negative=text, vae=models[2],
            image=photo, mask=mask, noise_mask=False, person=0,
        )  # fmt: skip
        sampled = graph.add(
            "KSampler", model=models, positive=inputs[0], negative=inputs[1],
            latent_image=inputs[2], seed=seed, steps=args.steps, cfg=7.5, sampler_name="euler",
            scheduler="normal", denoise=1.0,
        )  # fmt: skip
        graph.add("PreviewImage", images=graph.add("VAEDecode", samples=sampled, vae=models[2]))
        return graph

    try:
        client = server.start().client
        built = Graph()
        built.add(
            "GarmentIndexBuild", catalogue="drawn_garments", encoder="standin", index_name="shop",
            overwrite=False, batch_size=32,
        )  # fmt: skip
        client.run(built)
        pages = f"http://{client.address}/fashion_rag/index/shop"
        ids = [one["id"] for one in client.json("/fashion_rag/index/shop/garments")["garments"]]
        asked = {
            "silence": None,
            "a route of the host": lambda _: fetch(f"http://{client.address}/features"),
            "searches": lambda number: search(f"{pages}/search", number),
            "photos": lambda number: fetch(f"{pages}/photo?id={ids[number % len(ids)]}"),
            "thumbnails": lambda number: fetch(f"{pages}/thumbnail?id={ids[number % len(ids)]}"),
        }
        client.run(sampling(0))
        times: dict[str, list[float]] = {name: [] for name in asked}
        answered: dict[str, list[float]] = {name: [] for name in asked}
        for turn in range(args.rounds):
            for place, (name, ask) in enumerate(asked.items()):
                with Page(ask) as page:
                    started = time.perf_counter()
                    client.run(sampling(1 + turn * len(asked) + place))
                    took = time.perf_counter() - started
                times[name].append(took)
                answered[name].append(page.answers / took)
    finally:
        server.stop()
    return {
        name: {
            "median, s": statistics.median(times[name]),
            "least, s": min(times[name]),
            "to silence, median of pairs": statistics.median(
                mine / quiet for mine, quiet in zip(times[name], times["silence"], strict=True)
            ),
            "answers a second": statistics.median(answered[name]),
        }
        for name in asked
    }


class Page:
    """Asks RATE times a second, whether or not answers come, while the block runs."""

    def __init__(self, ask: Callable[[int], None] | None):
        self.ask, self.answers, self.over = ask, 0, threading.Event()
        self.pool = ThreadPoolExecutor(ASKERS)
        self.thread = threading.Thread(target=self.work)

    def __enter__(self) -> Page:
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.over.set()
        self.thread.join()
        self.pool.shutdown(cancel_futures=True)

    def work(self) -> None:
        number = 0
        while self.ask and not self.over.wait(1 / RATE):
            number += 1
            self.pool.submit(self.one, number)

    def one(self, number: int) -> None:
        self.ask(number)
        self.answers += 1


def fetch(url: str, body: bytes | None = None) -> None:
    headers = {"Content-Type": "application/json"} if body else {}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60) as answer:
        answer.read()


def search(url: str, number: int) -> None:
    # Each from a page of its own, so that none is overtaken: the worst that a page can do.
    body = {"query": {"text": f"shirt {number}"}, "page": f"{number}", "number": 1}
    fetch(url, json.dumps(body).encode())


if __name__ == "__main__":
    main()
