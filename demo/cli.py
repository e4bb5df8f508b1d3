"""`fashion-rag demo`: the main job on photos at hand, shown on one contact sheet.

Through ComfyUI where one is found, else through the headless pipeline. The models are untrained
stand-ins of the right architecture, which the sheet says.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ..adapter.pipeline import FashionRAGPipeline
from ..adapter.prompts import PAPER_PROMPT
from ..miniature.standin import make_standin
from ..retriever.build import build_index
from ..retriever.encoders import load_encoder
from ..retriever.index import GarmentIndex
from ..retriever.search import Hit, search
from ..retriever.sheet import contact_sheet
from .client import Graph, Node, Refused
from .hosts import Host, find_hosts, optional_packages
from .server import Server

TEXT = "blue denim jacket with metal buttons"
DATA = Path(__file__).parent.parent / "tests" / "data"
TOP_K = 3
STEPS = 10
SIZE = (384, 512)
OLDEST = (0, 28)  # the oldest ComfyUI supported, as in pyproject.toml
NOTICE = "Untrained stand-in weights: this shows the plumbing, not the quality."


@dataclass(frozen=True)
class Scene:
    """What goes in: a folder to work in, a person and a mask, garments and models."""

    folder: Path
    person: Image.Image
    mask: Image.Image
    catalogue: Path
    models: Path


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand to argparse's subparsers."""
    parser = commands.add_parser(
        "demo", help="dress a person from words and show every stage on one sheet"
    )
    add = parser.add_argument
    add("--text", default=TEXT, help="what the person should wear (default: %(default)s)")
    add("--out", type=Path, default=Path("outputs/demo.png"), help="default: %(default)s")
    add("--no-comfyui", action="store_true", help="use the headless pipeline in any case")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Run the main job and write the sheet.

    Raises:
        ValueError: the ComfyUI that was found failed; the message holds its own.
    """
    host = None if args.no_comfyui else choose_host()
    painter = f"ComfyUI {host.version}" if host else "the headless pipeline"
    with tempfile.TemporaryDirectory() as folder:
        scene = make_scene(Path(folder))
        hits, index = retrieve(scene, args.text)
        say(f"painting with {painter}")
        try:
            result = (
                paint_in_host(host, scene, args.text)
                if host
                else paint_headless(scene, hits, index)
            )
        except (RuntimeError, TimeoutError, Refused) as error:
            if host is None:
                raise
            raise ValueError(f"{host.root}: {error}\nWithout it: --no-comfyui") from error
        sheet = draw_sheet(args.text, scene, hits, index, result, painter)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(args.out)
    sys.stdout.write(f"wrote {args.out}\n{NOTICE}\n")


def choose_host() -> Host | None:
    """The first ComfyUI found that the pack supports."""
    hosts = find_hosts()
    for host in hosts:
        if tuple(map(int, host.version.split(".")[:2])) >= OLDEST:
            return host
        wanted = ".".join(map(str, OLDEST))
        say(f"{host.root} is ComfyUI {host.version}, too old: {wanted} is needed")
    if not hosts:
        say("no ComfyUI found; COMFYUI_PATH names one")
    return None


def make_scene(folder: Path) -> Scene:
    """The photos of openvto with our masks, poses and captions, and stand-in models.

    Raises:
        FileNotFoundError: the photos are missing.
    """
    spec = importlib.util.find_spec("openvto")
    if spec is None:
        raise FileNotFoundError(
            "The demo's photos are missing: pip install --no-deps openvto==0.1.7, or run "
            "`python quickstart.py demo`."
        )
    assets = Path(spec.submodule_search_locations[0]) / "assets"
    catalogue = folder / "openvto"
    shutil.copytree(assets / "clothes", catalogue)
    shutil.copy(DATA / "openvto_garments.csv", catalogue / "garments.csv")
    person = Image.open(assets / "people" / "1_posture.jpg").convert("RGB")
    say("making stand-in models")
    return Scene(
        folder=folder,
        person=person.resize(SIZE, Image.Resampling.LANCZOS),
        mask=Image.open(DATA / "masks" / "person_1_upper.png").convert("L").resize(SIZE),
        catalogue=catalogue,
        models=make_standin(folder / "standin"),
    )


def retrieve(scene: Scene, text: str) -> tuple[list[Hit], GarmentIndex]:
    """Build the index on the spot and search it."""
    encoder = load_encoder(scene.models / "encoder")
    report = build_index(scene.catalogue, scene.folder / "index", encoder)
    say(report.summary())
    index = GarmentIndex.open(scene.folder / "index")
    (hits,) = search(index, encoder.encode_texts([text]), TOP_K, "upper_body")
    return hits, index


def paint_headless(scene: Scene, hits: list[Hit], index: GarmentIndex) -> Image.Image:
    return FashionRAGPipeline.from_pretrained(scene.models)(
        scene.person,
        scene.mask,
        [index.photo(hit.garment) for hit in hits],
        category="upper_body",
        steps=STEPS,
    )


def paint_in_host(host: Host, scene: Scene, text: str) -> Image.Image:
    """Post the graph to a ComfyUI server of its own and fetch the picture."""
    server = make_server(host, scene)
    try:
        client = server.start().client
        graph, saved = main_graph(text)
        (picture,) = client.images(client.run(graph), saved)
    finally:
        server.stop()
    return Image.fromarray(picture)


def make_server(host: Host, scene: Scene, flags: tuple[str, ...] = ()) -> Server:
    """A server, not yet started, that has the scene's models, index and pictures."""
    server = Server(host, scene.folder / "comfyui", optional_packages(host.python), flags)
    shutil.copytree(scene.models, server.store / "models" / "standin")
    shutil.copytree(scene.models / "encoder", server.store / "encoders" / "encoder")
    shutil.copytree(scene.catalogue, server.store / "catalogues" / "openvto")
    shutil.copytree(scene.folder / "index", server.store / "indexes" / "openvto")
    scene.person.save(server.base / "input" / "person.png")
    scene.mask.convert("RGB").save(server.base / "input" / "mask.png")
    return server


def main_graph(text: str, steps: int = STEPS) -> tuple[Graph, Node]:
    """The main graph in API form, and the node that saves its picture."""
    graph = Graph()
    models = graph.add("FashionRAGLoader", model_name="standin")
    found = graph.add(
        "TextGarmentRetrieve",
        index=graph.add("GarmentIndexLoader", index_name="openvto"),
        text=text,
        category="upper_body",
        top_k=TOP_K,
    )
    words = graph.add(
        "GarmentTextualInversion",
        clip=models[1],
        clip_vision=models[3],
        adapter=models[4],
        prompt=PAPER_PROMPT,
        strength=1.0,
        preprocess="from adapter",
        garments=found,
    )
    person = graph.add("LoadImage", image="person.png")
    mask = graph.add("LoadImageMask", image="mask.png", channel="red")
    inputs = graph.add(
        "FashionInpaintConditioning",
        positive=words,
        negative=graph.add("CLIPTextEncode", clip=models[1], text=""),
        vae=models[2],
        image=person,
        mask=mask,
        noise_mask=False,
        person=0,
    )
    latents = graph.add(
        "KSampler",
        model=models,
        positive=inputs[0],
        negative=inputs[1],
        latent_image=inputs[2],
        seed=0,
        steps=steps,
        cfg=7.5,
        sampler_name="ddim",
        scheduler="ddim_uniform",
        denoise=1.0,
    )
    picture = graph.add(
        "FashionComposite",
        original=person,
        generated=graph.add("VAEDecode", samples=latents, vae=models[2]),
        mask=mask,
        feather=8,
    )
    return graph, graph.add("SaveImage", images=picture, filename_prefix="demo")


def draw_sheet(
    text: str,
    scene: Scene,
    hits: list[Hit],
    index: GarmentIndex,
    result: Image.Image,
    painter: str,
) -> Image.Image:
    """Garments with their scores above; person, mask and result below; what it is at the foot."""
    masked = Image.composite(Image.new("RGB", SIZE, "#e0558a"), scene.person, scene.mask)
    tiles = [(index.photo(hit.garment), f"{hit.score:.3f}\n{hit.garment.caption}") for hit in hits]
    tiles += [(scene.person, "The person"), (masked, "The inpainting mask")]
    tiles += [(result, f"Painted by {painter}")]
    sheet = contact_sheet(tiles, columns=3, title=f"“{text}”")
    footed = Image.new("RGB", (sheet.width, sheet.height + 48), sheet.getpixel((0, 0)))
    footed.paste(sheet)
    font = ImageFont.load_default(20)
    place = (sheet.width // 2, sheet.height + 4)
    ImageDraw.Draw(footed).text(place, NOTICE, fill="#b3261e", font=font, anchor="ma")
    return footed


def say(text: str) -> None:
    sys.stderr.write(f"demo: {text}\n")
