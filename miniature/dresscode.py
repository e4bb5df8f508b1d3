"""Writing the drawn world in Dress Code's folder layout.

```
fine_captions.json coarse_captions.json   {"000000": [chunk, chunk, chunk], ...}
train_pairs.txt test_pairs_paired.txt test_pairs_unpaired.txt      three columns, with the category
often.txt                                 train_pairs, patterns that are learnt slowly often
garments.jsonl                            what each garment truly is: file, caption, attributes
miniature.json                            seed, size, and the version of the world
<category>/images/NNNNNN_0.jpg            model photo;  NNNNNN_1.jpg the in-shop photo
<category>/keypoints/NNNNNN_2.json        18 rows x, y, confidence, index, in the 384x512 frame
<category>/label_maps/NNNNNN_4.png        ATR labels as palette indices
<category>/{train_pairs,test_pairs_paired,test_pairs_unpaired}.txt
```
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from PIL import Image

from ..categories import CATEGORIES
from ..files import atomic_file, read_object, write_text
from ..progress import Progress
from .captions import coarse_caption, fine_caption
from .draw import FRAME, ModelPhoto, draw_garment, draw_model
from .world import category_of, make_garment, make_scene, numbers

#: Raise it whenever the same seed and number give other pixels or captions than before.
WORLD_VERSION = 2
#: The third column of the pairs files in the root.
_CATEGORY_COLUMN = {"upper_body": 0, "lower_body": 1, "dresses": 2}
OFTEN = "often.txt"
#: How often it names a pair of a pattern; of any other, once.
_TIMES = {"flowers": 8, "dots": 4, "diamonds": 3, "zigzag": 3, "checks": 3}
#: What colours a viewer shows the 18 labels in.
_PALETTE = bytes.fromhex(
    "141418 fabe3c 784628 3c3c3c dc5a50 a05ac8 4678c8 eb82aa f0dc5a"
    "28a08c 3cbeaa fac8aa c8966e dcaa82 d2a08c e6b4a0 8c8c3c 5ac85a"
)


def render(
    folder: Path,
    count: int,
    test: int,
    seed: int = 0,
    size: tuple[int, int] = FRAME,
    processes: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Render `count` pairs, `test` of them held out, below `folder`.

    The same seed and number give the same pixels in any order and with any number of processes.
    A folder that was rendered with the same seed and size is completed: pairs that are there stay.

    Args:
        size: width and height of the pictures in pixels, 3:4.
        processes: how many to draw with; by default one for each core.
        progress: called with (pairs done, pairs in all).

    Raises:
        ValueError: the size is not 3:4, a count is out of range, or the folder holds anything else.
    """
    folder = Path(folder)
    if size[0] < 24 or size[0] * FRAME[1] != size[1] * FRAME[0]:
        raise ValueError(f"{size[0]}x{size[1]} is not a size of 3:4 from 24x32 on, as 384x512 is.")
    if not 0 <= test <= count:
        raise ValueError(f"{test} test pairs of {count} can't be held out: name 0 to {count}.")
    train, held_out = numbers(count - test, "train"), numbers(test, "test")
    _mark_folder(folder, seed, size)
    for category in CATEGORIES:
        for name in ("images", "keypoints", "label_maps"):
            (folder / category / name).mkdir(parents=True, exist_ok=True)
    every = [*train, *held_out]
    draw = partial(_write_pair, folder, seed, size)
    for done, _ in enumerate(draw_each(draw, every, processes), 1):
        if progress is not None:
            progress(done, count)
    _write_captions(folder, seed, every)
    _write_pairs(folder, seed, train, held_out)


def _mark_folder(folder: Path, seed: int, size: tuple[int, int]) -> None:
    """Record in the folder which world it holds, or check that it holds this one."""
    mark = {"world": WORLD_VERSION, "seed": seed, "size": list(size)}
    file = folder / "miniature.json"
    if file.is_file():
        found = read_object(file, "choose an empty folder")
        if found != mark:
            raise ValueError(
                f"{folder} holds the world {found}, not {mark}: choose an empty folder."
            )
    elif folder.is_dir() and any(folder.iterdir()):
        raise ValueError(
            f"{folder} is not empty and holds no miniature.json: choose an empty folder."
        )
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(mark) + "\n")


def draw_each(
    draw: Callable[[int], None], items: list[int], processes: int | None
) -> Iterable[None]:
    """Draw every item, on several processes if asked; yield after each."""
    processes = min(processes or os.cpu_count() or 1, max(len(items), 1))
    if processes == 1:
        yield from map(draw, items)
        return
    # Spawned: the same on every system, without copies of the caller's threads and locks. They
    # ignore Ctrl-C: the caller ends them.
    ignored = (signal.SIGINT, signal.SIG_IGN)
    with multiprocessing.get_context("spawn").Pool(processes, signal.signal, ignored) as pool:
        yield from pool.imap_unordered(draw, items, chunksize=8)


def _write_pair(folder: Path, seed: int, size: tuple[int, int], number: int) -> None:
    category, name = folder / category_of(number), f"{number:06d}"
    files = [
        category / "images" / f"{name}_1.jpg",
        category / "images" / f"{name}_0.jpg",
        category / "label_maps" / f"{name}_4.png",
        category / "keypoints" / f"{name}_2.json",
    ]
    if all(file.is_file() for file in files):
        return
    garment = make_garment(seed, number)
    _write_picture(files[0], draw_garment(garment, size))
    photo = draw_model(garment, make_scene(seed, number), size)
    _write_picture(files[1], photo.picture)
    labels = Image.fromarray(photo.labels)
    labels.putpalette(_PALETTE)
    _write_picture(files[2], labels)
    write_text(files[3], json.dumps({"keypoints": keypoint_rows(photo)}))


def keypoint_rows(photo: ModelPhoto) -> list[list[float]]:
    """Return Dress Code's rows x, y, confidence, index; -1, -1, 0, -1 for an unseen joint."""
    return [
        [round(float(x), 2), round(float(y), 2), 1.0, i] if seen else [-1.0, -1.0, 0.0, -1]
        for i, (x, y, seen) in enumerate(photo.keypoints)
    ]


def _write_picture(file: Path, picture: Image.Image) -> None:
    with atomic_file(file) as part:
        if file.suffix == ".jpg":
            picture.save(part, format="JPEG", quality=95, subsampling=0)
        else:
            picture.save(part, format="PNG")


def _write_captions(folder: Path, seed: int, every: list[int]) -> None:
    fine, coarse, rows = {}, {}, []
    for number in every:
        garment = make_garment(seed, number)
        name = f"{number:06d}"
        fine[name], coarse[name] = fine_caption(seed, garment), coarse_caption(garment)
        caption = ", ".join(sorted(fine[name]))
        file = f"{garment.category}/images/{name}_1.jpg"
        truth = {k: v for k, v in asdict(garment).items() if k not in ("number", "category")}
        rows.append(
            {"file": file, "id": name, "category": garment.category, "caption": caption, **truth}
        )
    write_text(folder / "fine_captions.json", json.dumps(fine, indent=0) + "\n")
    write_text(folder / "coarse_captions.json", json.dumps(coarse, indent=0) + "\n")
    write_text(folder / "garments.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def _write_pairs(folder: Path, seed: int, train: Iterable[int], test: Iterable[int]) -> None:
    pairs: dict[str, list[tuple[int, int]]] = {
        "train_pairs": [(n, n) for n in train],
        "test_pairs_paired": [(n, n) for n in test],
        "test_pairs_unpaired": [],
    }
    for category in CATEGORIES:
        own = [n for n in test if category_of(n) == category]
        random.Random(f"unpaired {seed} {category}").shuffle(own)
        # Each person gets the next one's garment: never the own one while there are two.
        pairs["test_pairs_unpaired"] += list(zip(own, own[1:] + own[:1], strict=True))
    for name, rows in pairs.items():
        for category in CATEGORIES:
            lines = [
                f"{a:06d}_0.jpg\t{b:06d}_1.jpg\n" for a, b in rows if category_of(a) == category
            ]
            write_text(folder / category / f"{name}.txt", "".join(lines))
        lines = [
            f"{a:06d}_0.jpg\t{b:06d}_1.jpg\t{_CATEGORY_COLUMN[category_of(a)]}\n" for a, b in rows
        ]
        write_text(folder / f"{name}.txt", "".join(lines))
    times = {n: _TIMES.get(make_garment(seed, n).pattern, 1) for n in train}
    lines = [f"{n:06d}_0.jpg\t{n:06d}_1.jpg\n" * count for n, count in times.items()]
    write_text(folder / OFTEN, "".join(lines))
