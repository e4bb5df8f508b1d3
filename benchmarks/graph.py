"""What the pack costs beside the models, in a real ComfyUI on the CPU.

    python benchmarks/graph.py --comfyui PATH --model FOLDER --json FILE

Every figure stands beside its reference, timed in the same run and in turn with it:

- each node against the bare model calls that it can't do without (vision tower, text encoder, VAE);
- a sampling step of the 27-channel U-Net against the 9-channel one of the same weights;
- the time from a re-queue with a new seed to the first node that runs, in a server;
- the peak memory of a process that conditions, samples one step and decodes, against that of the
  stock 9-channel graph (stock loader, CLIP Text Encode, InpaintModelConditioning) in a process of
  its own; the weights that only our graph has, vision tower and adapter, are given beside it.

FOLDER is a model folder of SD2's sizes in diffusers layout with a 27-channel U-Net and an adapter;
untrained weights do, the time is the same.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

PACK = Path(__file__).resolve().parent.parent
GARMENTS = 500
REQUEUES = 10
PARTS = ("nodes", "steps", "memory")
STOCK_MEMORY = "stock memory"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comfyui", type=Path, default=Path.home() / "comfy" / "ComfyUI")
    parser.add_argument("--python", type=Path, help="of the ComfyUI; default: its .venv")
    parser.add_argument("--model", type=Path, required=True, help="model folder, diffusers layout")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--height", type=int, default=512)
    parser.add_argument("--pairs", type=int, default=15, help="interleaved pairs of sampling steps")
    parser.add_argument("--repeats", type=int, default=5, help="interleaved runs of each node")
    parser.add_argument("--part", choices=(*PARTS, STOCK_MEMORY), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        sys.stdout.write(json.dumps(work(args)))
        return
    figures = {"machine": machine(args.comfyui)}
    for part in PARTS:
        sys.stderr.write(f"{part} ...\n")
        figures[part] = run_part(args, part, args.model)
    sys.stderr.write(f"{STOCK_MEMORY} ...\n")
    with tempfile.TemporaryDirectory() as folder:
        figures[STOCK_MEMORY] = run_part(args, STOCK_MEMORY, stock_folder(args.model, Path(folder)))
    sys.stderr.write("re-queue ...\n")
    figures["re-queue"] = time_requeue(args)
    figures["summary"] = summary(figures)
    text = json.dumps(figures, indent=2)
    sys.stdout.write(text + "\n")
    if args.json:
        args.json.write_text(text, encoding="utf-8")


def machine(comfyui: Path) -> dict:
    version = (comfyui / "comfyui_version.py").read_text(encoding="utf-8").split('"')[-2]
    return {"processor": platform.processor(), "cores": os.cpu_count(), "comfyui": version}


def stock_folder(model: Path, folder: Path) -> Path:
    """The model folder with the first 9 channels of its U-Net, in the names that the stock loader
    knows at this width (LDM's)."""
    from fashion_rag.adapter.garment.checkpoints import unet_diffusers_to_ldm
    from safetensors.torch import load_file, save_file

    for part in ("text_encoder", "vae"):
        (folder / part).symlink_to((model / part).resolve(), target_is_directory=True)
    (source,) = (model / "unet").glob("*.safetensors")
    weights = load_file(source)
    weights["conv_in.weight"] = weights["conv_in.weight"][:, :9].contiguous()
    (folder / "unet").mkdir()
    save_file(unet_diffusers_to_ldm(weights), folder / "unet" / source.name)
    return folder


def run_part(args: argparse.Namespace, part: str, model: Path) -> dict:
    """A part in a process of its own, with the host's Python and the host first on sys.path."""
    python = args.python or args.comfyui / ".venv" / "bin" / "python"
    command = [python, __file__, "--part", part, "--comfyui", args.comfyui, "--model", model]
    for name in ("width", "height", "pairs", "repeats"):
        command += [f"--{name}", getattr(args, name)]
    done = subprocess.run(
        [str(word) for word in command], stdout=subprocess.PIPE, cwd=args.comfyui, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def time_requeue(args: argparse.Namespace) -> dict:
    """In a server: from the start of a re-queue with a new seed to the start of KSampler.

    The models are the stand-in's, since none of them runs in that time.
    """
    from fashion_rag.comfyui_server.installations import Host
    from fashion_rag.commands.demo import TEXT
    from fashion_rag.demo import scene
    from fashion_rag.demo.painters import NAME, DemoGraph, InComfyUI
    from fashion_rag.miniature.standin import make_standin

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        standin = make_standin(folder / "standin")
        models = scene.Models(standin, (384, 512), 1, 7.5, "stand-ins")
        catalogue = scene.draw_catalogue(folder / "catalogue")
        flags = ("--cache-classic",)
        painter = InComfyUI(Host(args.comfyui), models, catalogue, folder, sys.stderr.write, flags)
        server = painter.server
        scene.draw_person(server.store / "people" / NAME, None, "dresses")
        graph = DemoGraph(models, TEXT, "dresses", 3)
        graph.paint((384, 512))
        sampler = graph.node("KSampler").number
        try:
            client = server.start().client
            client.run(graph)
            socket = client.listen()
            times = []
            for seed in range(1, 1 + REQUEUES):
                graph[sampler]["inputs"]["seed"] = seed
                times.append(_until(socket, client.submit(graph), sampler))
        finally:
            server.stop()
    return {"median, ms": statistics.median(times), "spread, ms": [min(times), max(times)]}


def _until(socket, prompt: str, node: str) -> float:
    """Milliseconds from the start of a prompt to that of a node; waits for the prompt's end."""
    started = reached = None
    while True:
        message = socket.recv()
        if isinstance(message, bytes):
            continue
        content = json.loads(message)
        data = content["data"]
        if data.get("prompt_id") != prompt:
            continue
        if content["type"] == "execution_start":
            started = time.perf_counter()
        elif content["type"] == "executing" and data["node"] == node:
            reached = time.perf_counter()
        elif content["type"] == "executing" and data["node"] is None:
            return 1000 * (reached - started)


def summary(figures: dict) -> dict:
    steps, nodes = figures["steps"], figures["nodes"]
    run = 20 * steps["27 channels, s"]
    beyond = sum(node["beyond the models, s"] for node in nodes.values())
    return {
        "our nodes beyond the models, s": beyond,
        "share of a 20-step run, %": 100 * beyond / run,
        "27 to 9 channels, ratio": steps["ratio, median"],
        "re-queue to KSampler, ms": figures["re-queue"]["median, ms"],
        "peak memory, MB": figures["memory"]["peak, MB"],
        "of it vision tower and adapter, MB": figures["memory"]["vision tower and adapter, MB"],
        "stock graph's peak memory, MB": figures[STOCK_MEMORY]["peak, MB"],
        "peak memory, ratio": figures["memory"]["peak, MB"] / figures[STOCK_MEMORY]["peak, MB"],
    }


def work(args: argparse.Namespace) -> dict:
    """In the host's process: everything that needs comfy is imported from here on."""
    sys.argv = [sys.argv[0], "--cpu"]
    sys.path.insert(0, str(args.comfyui))
    import asyncio

    import comfy.options

    comfy.options.enable_args_parsing()
    import torch

    import nodes

    torch.set_grad_enabled(False)
    if args.part == STOCK_MEMORY:
        return stock_memory(args)
    link = Path(tempfile.mkdtemp()) / "ComfyUI-FashionRAG"
    link.symlink_to(PACK, target_is_directory=True)
    if not asyncio.run(nodes.load_custom_node(str(link))):
        raise RuntimeError(f"{args.comfyui} could not import the pack: see the log above.")
    graph = Graph(args, nodes.NODE_CLASS_MAPPINGS)
    if args.part == "nodes":
        return graph.time_nodes()
    if args.part == "steps":
        return graph.time_steps()
    return graph.peak_memory()


def stock_memory(args: argparse.Namespace) -> dict:
    """The most memory that ComfyUI's own graph took: conditioning, one step and a decode."""
    import comfy.diffusers_load
    import torch

    import nodes

    model, clip, vae = comfy.diffusers_load.load_diffusers(str(args.model))
    person, mask = person_and_mask(torch, args)
    encode = nodes.CLIPTextEncode().encode
    texts = (encode(clip, text)[0] for text in ("a photo of a model wearing an outfit", ""))
    inputs = nodes.InpaintModelConditioning().encode(*texts, person, vae, mask)
    sample_and_decode(nodes, model, vae, inputs)
    return {"peak, MB": peak()}


def person_and_mask(torch, args: argparse.Namespace) -> tuple:
    person = torch.rand(1, args.height, args.width, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, args.height, args.width)
    mask[:, args.height // 4 : args.height // 2, args.width // 4 : -args.width // 4] = 1
    return person, mask


def sample(nodes, model, inputs: tuple) -> dict:
    """One step with classifier-free guidance, as KSampler does it."""
    return nodes.common_ksampler(model, 0, 1, 7.5, "ddim", "ddim_uniform", *inputs)[0]


def sample_and_decode(nodes, model, vae, inputs: tuple) -> None:
    vae.decode(sample(nodes, model, inputs)["samples"])


def peak() -> float:
    """Megabytes that this process had in memory at most."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1024 * 1024 if sys.platform == "darwin" else 1024)


class Graph:
    """The main graph's parts, called as the executor calls them."""

    def __init__(self, args: argparse.Namespace, classes: dict):
        import torch

        import nodes

        self.args, self.classes, self.nodes = args, classes, nodes
        pack = sys.modules[classes["FashionRAGLoader"].__module__.rsplit(".", 1)[0]]
        self.pack = pack.__name__
        loader = self._module("host.model_folder").load_model_folder
        self.model, self.clip, self.vae, self.vision, self.adapter = loader(args.model)
        generator = torch.Generator().manual_seed(0)
        self.garments = torch.rand(3, 512, 384, 3, generator=generator)
        self.person, self.mask = person_and_mask(torch, args)
        self.empty = self.clip.encode_from_tokens_scheduled(self.clip.tokenize(""))

    def _module(self, name: str):
        return sys.modules[f"{self.pack}.{name}"]

    def invert(self) -> tuple:
        node = self.classes["GarmentTextualInversion"]
        prompt = self._module("textual_inversion").PAPER_PROMPT
        return node.execute(
            self.clip, self.vision, self.adapter, prompt, 1.0, "fit", images=self.garments
        ).args

    def condition(self, positive: list, noise_mask: bool) -> tuple:
        node = self.classes["FashionInpaintConditioning"]
        return node.execute(
            positive, self.empty, self.vae, self.person, self.mask, noise_mask, 0
        ).args

    def time_nodes(self) -> dict:
        """Each node against the bare model calls on the same inputs."""
        pixels = self._module("host.vision").garment_pixels(
            self.garments, "fit", self.vision.image_size
        )
        conditioning = self.invert()[0]
        tower = self._module("host.text").TextTower(self.clip)
        words = [(token, 1.0) for token in self.invert()[1].pseudo_words]
        content = [*tower.tokens("a photo of a model wearing an outfit made of"), *words]
        content = [(tower.start, 1.0), *content, (tower.end, 1.0)]
        window = content + [(tower.padding, 1.0)] * (tower.length - len(content))

        def bare_inversion() -> None:
            features = self.vision.encode_image(pixels)["last_hidden_state"]
            self.adapter.pseudo_words(features)
            tower.conditioning([window])

        node = self.classes["FashionComposite"]
        retrieve, index = self.classes["TextGarmentRetrieve"], self.make_index()
        return {
            "TextGarmentRetrieve": self._compare(
                lambda: retrieve.execute(index, "a red dress", "any", 3), lambda: None
            ),
            "GarmentTextualInversion": self._compare(self.invert, bare_inversion),
            "FashionInpaintConditioning, noise_mask": self._compare(
                lambda: self.condition(conditioning, True),
                lambda: (self.vae.encode(self.person), self.vae.encode(self.person)),
            ),
            "FashionInpaintConditioning": self._compare(
                lambda: self.condition(conditioning, False),
                lambda: self.vae.encode(self.person),
            ),
            "FashionComposite": self._compare(
                lambda: node.execute(self.person, self.person, self.mask, 8), lambda: None
            ),
        }

    def make_index(self):
        """An index of drawn photos whose encoder costs nothing."""
        import torch
        from PIL import Image

        class Random:
            name, dim, fingerprint, preprocessing = "random", 768, "random", {}

            def encode_images(self, photos):
                return torch.nn.functional.normalize(torch.randn(len(photos), self.dim), dim=1)

            encode_texts = encode_images

        folder = Path(tempfile.mkdtemp())
        (folder / "photos").mkdir()
        for number in range(GARMENTS):
            photo = Image.effect_noise((384, 512), 1 + number % 200).convert("RGB")
            photo.save(folder / "photos" / f"{number}.jpg")
        retrieve = self._module("retrieve")
        retrieve.build_index(folder / "photos", folder / "index", Random())
        index = retrieve.LocalBackend(retrieve.GarmentIndex.open(folder / "index"))
        return retrieve.sockets.LoadedIndex(index, Random())

    def _compare(self, ours: Callable, bare: Callable) -> dict:
        ours(), bare()
        pairs = [(timed(ours), timed(bare)) for _ in range(self.args.repeats)]
        beyond = [node - models for node, models in pairs]
        return {
            "node, s": statistics.median(node for node, _ in pairs),
            "bare models, s": statistics.median(models for _, models in pairs),
            "beyond the models, s": statistics.median(beyond),
            "spread, s": [min(beyond), max(beyond)],
        }

    def time_steps(self) -> dict:
        """Steps of the 27-channel U-Net in turn with those of its first 9 channels."""
        positive = self.invert()[0]
        inputs = self.condition(positive, False)
        stock = self._stock_unet()
        sample(self.nodes, self.model, inputs), sample(self.nodes, stock, inputs)
        pairs = [
            (
                timed(lambda: sample(self.nodes, self.model, inputs)),
                timed(lambda: sample(self.nodes, stock, inputs)),
            )
            for _ in range(self.args.pairs)
        ]
        ratios = sorted(ours / other for ours, other in pairs)
        return {
            "size": [self.args.width, self.args.height],
            "pairs": len(pairs),
            "27 channels, s": statistics.median(ours for ours, _ in pairs),
            "9 channels, s": statistics.median(other for _, other in pairs),
            "ratio, median": statistics.median(ratios),
            "ratio, spread": [ratios[0], ratios[-1]],
            "ratio, quartiles": statistics.quantiles(ratios, n=4)[::2],
        }

    def _stock_unet(self):
        module = self._module("host.model_folder")
        part = self.args.model / "unet"
        config, weights = module.read_part(part, "diffusion_pytorch_model")
        weights["conv_in.weight"] = weights["conv_in.weight"][:, :9].contiguous()
        return module.unet_model(part, {**config, "in_channels": 9}, weights)

    def peak_memory(self) -> dict:
        """The most memory that conditioning, one step and a decode took."""
        inputs = self.condition(self.invert()[0], True)
        sample_and_decode(self.nodes, self.model, self.vae, inputs)
        weights = [*self.vision.model.parameters(), *self.adapter.module.parameters()]
        return {
            "peak, MB": peak(),
            "vision tower and adapter, MB": sum(t.nbytes for t in weights) / 2**20,
        }


def timed(call: Callable) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
