"""`fashion-rag demo`: from words to a dressed person, every stage on one contact sheet.

The trained miniature dresses a drawn person from a drawn catalogue; full-size weights do the same
for photos. It runs in a ComfyUI where one is found, else in the headless pipeline.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from ..comfyui_server.client import PromptError
from ..comfyui_server.installations import Host, find_hosts
from ..demo.painters import Found, Headless, InComfyUI
from ..demo.scene import (
    Models,
    check_own_photos,
    copy_person,
    draw_catalogue,
    draw_person,
    drawn_category,
    open_models,
    photo_of,
)
from ..demo.words import category_of_text, unknown_words
from ..pictures.contact_sheet import MARGIN, SOFT_INK, contact_sheet
from ..pictures.fonts import draw_text, printable
from ..pictures.photos import open_photo
from .terminal import check_picture, save_picture, tell, tell_progress, write

logger = logging.getLogger(__name__)

TEXT = "green A-line dress, short sleeves, patterned fabric"
SHOWN, WORN = 3, 1
"""How many of the garments found are on the sheet, and how many of them are worn."""
OLDEST = (0, 28)  # the oldest ComfyUI supported, as in pyproject.toml
_FOOT = 20
_VEIL = "#e0558a"


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand to argparse's subparsers."""
    parser = commands.add_parser(
        "demo", help="dress a person from words and show every stage on one sheet"
    )
    add = parser.add_argument
    add("--text", default=TEXT, help="what the person should wear (default: %(default)s)")
    add("--out", type=Path, default=Path("outputs/demo.png"), help="default: %(default)s")
    add("--no-comfyui", action="store_true", help="use the headless pipeline in any case")
    own = parser.add_argument_group("your own photos, with full-size models")
    add = own.add_argument
    add("--weights", type=Path, metavar="FOLDER", help="a model folder (docs/headless.md)")
    add("--person", type=Path, metavar="FILE", help="photo of a person")
    add("--mask", type=Path, metavar="FILE", help="picture, white is repainted")
    add("--pose", type=Path, metavar="FILE", help="JSON of DWPose or OpenPose (default: none)")
    add("--catalogue", type=Path, metavar="FOLDER", help="of garment photos")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Run the demo and write the sheet.

    Raises:
        ValueError: an empty text, own photos without weights for them, nothing found, or the
            ComfyUI that was found failed; the message holds its own.
        FileNotFoundError: weights or photos are missing.
    """
    started = time.monotonic()
    check(args)
    host = None if args.no_comfyui else choose_host()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = open_models(args.weights, folder / "model")
        catalogue = args.catalogue or draw_catalogue(folder / "catalogue", counting("drawing"))
        try:
            sheet = dress(args, host, models, catalogue, folder)
        except (RuntimeError, TimeoutError, PromptError) as error:
            if host is None:
                raise
            raise ValueError(f"{host.root}: {error}\nWithout it: --no-comfyui") from error
    out = save_picture(sheet, args.out)
    write(f"wrote {out} after {time.monotonic() - started:.0f} s")


def check(args: argparse.Namespace) -> None:
    """Refuse what can't be done, before anything else is done."""
    if not args.text.strip():
        raise ValueError("The text is empty: say what the person should wear (--text).")
    check_own_photos(args.person, args.mask, args.catalogue, args.weights)
    if args.pose is not None and args.person is None:
        raise ValueError("--pose belongs to --person: the drawn person brings its own.")
    check_picture(args.out, "--out")
    if args.catalogue is None and (unknown := unknown_words(args.text)):
        logger.warning(
            "No caption of the drawn world has the word%s %s; try: %s",
            "s" if len(unknown) > 1 else "",
            ", ".join(unknown),
            TEXT,
        )


def dress(
    args: argparse.Namespace, host: Host | None, models: Models, catalogue: Path, folder: Path
) -> Image.Image:
    """Find the garments, paint the person in the best of them, and draw the sheet."""
    category = None if args.catalogue else category_of_text(args.text)
    if host is None:
        painter = Headless(models, catalogue, folder, say)
    else:
        painter = InComfyUI(host, models, catalogue, folder, say)
    say(f"working {painter.title}")
    with painter:
        found = painter.find(args.text, category, SHOWN)
        if not found:
            raise ValueError(f"No garment is found for {args.text!r}.")
        worn = found[:WORN]
        target = folder / "person"
        category = drawn_category(worn[0].category or category_of_text(args.text))
        if args.person:
            person = copy_person(target, args.person, args.mask, args.pose)
        else:
            drawn = None if args.catalogue else worn[0].file
            person = draw_person(target, drawn, category)
        say(f"painting {worn[0].file}: {worn[0].caption}")
        result, masked = painter.paint(args.text, worn, person, category)
    photos = [open_photo(catalogue / garment.file) for garment in found]
    return draw_sheet(
        args.text, found, photos, photo_of(person), masked, result, note(models, painter)
    )


def note(models: Models, painter: Headless | InComfyUI) -> str:
    """Say what painted the picture, for the foot of the sheet."""
    width, height = models.size
    how = f"{width}x{height} pixels, {models.steps} steps, {painter.title}"
    return f"Painted by {models.title}, {how}."


def choose_host() -> Host | None:
    """Find the first ComfyUI that the pack supports; None without one."""
    hosts = find_hosts()
    for host in hosts:
        if tuple(map(int, host.version.split(".")[:2])) >= OLDEST:
            return host
        wanted = ".".join(map(str, OLDEST))
        say(f"{host.root} is ComfyUI {host.version}, too old: {wanted} is needed")
    if not hosts:
        say("no ComfyUI found; COMFYUI_PATH names one")
    return None


def draw_sheet(
    text: str,
    found: Sequence[Found],
    photos: Sequence[Image.Image],
    person: Image.Image,
    mask: Image.Image,
    result: Image.Image,
    foot: str,
) -> Image.Image:
    """Draw the garments with their scores, then person, mask and result, and `foot` below them."""
    mask = mask.convert("L").resize(person.size)
    veil = Image.blend(person, Image.new("RGB", person.size, _VEIL), 0.75)
    masked = Image.composite(veil, person, mask)
    tiles = [
        (photo, f"{garment.score:.3f}{'  worn' if number < WORN else ''}\n{garment.caption}")
        for number, (garment, photo) in enumerate(zip(found, photos, strict=True))
    ]
    tiles += [(person, "The person"), (masked, "The inpainting mask"), (result, "The result")]
    sheet = contact_sheet(tiles, columns=3, title=f"“{text}”")
    footed = Image.new("RGB", (sheet.width, sheet.height + _FOOT), sheet.getpixel((0, 0)))
    footed.paste(sheet)
    place = (MARGIN, sheet.height - MARGIN + 12)
    draw_text(ImageDraw.Draw(footed), place, printable(foot), 15, SOFT_INK)
    return footed


def counting(what: str):
    """Make a progress callback that counts on a terminal; elsewhere it writes the end alone."""

    def report(done: int, total: int) -> None:
        tell_progress(f"demo: {what} {done} of {total} garments", done == total)

    return report


def say(text: str) -> None:
    """Tell what the demo is doing."""
    tell(f"demo: {text}")
