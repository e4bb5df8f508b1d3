"""kill -9 at random moments of build, update, merge and the joining of parts: nothing is lost.

What is found is the former index or the next one, whole.

FASHION_RAG_KILLS=200 kills so often; the usual run has fewer.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from fashion_rag.retriever.photos.reader import thumbnail_of
from fashion_rag.retriever.store.index import GarmentIndex
from fashion_rag.retriever.store.manifest import data_files
from fashion_rag.retriever.upkeep.build import build_index
from PIL import Image

from .retriever_fakes import ColourEncoder, draw_catalogue

torch.set_num_threads(1)
KILLS = int(os.environ.get("FASHION_RAG_KILLS", "18"))
COUNT = 24
JOBS = ("build", "update", "merge", "join")

# One interpreter that imports once and forks a process for every job that it is asked for.
FORKER = """
import os, sys
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from retriever_fakes import ColourEncoder
from fashion_rag.retriever.upkeep.build import build_index
from fashion_rag.retriever.upkeep.merge import merge_indexes
from fashion_rag.retriever.upkeep import update
from fashion_rag.retriever.upkeep.update import update_index

def work(job, folder, *sources):
    if job == "build":
        build_index(sources[0], folder, ColourEncoder(), overwrite=True, batch_size=2, kind="exact")
    elif job in ("update", "join"):
        update.MOST_PARTS = 1 if job == "join" else 99
        update_index(folder, ColourEncoder(), batch_size=2)
    else:
        merge_indexes(sources, folder, overwrite=True)

while line := sys.stdin.readline():
    process = os.fork()
    if not process:
        try:
            work(*line.rstrip("\\n").split("\\t"))
        except BaseException as error:
            sys.stderr.write(f"{error!r}\\n")
            os._exit(1)
        os._exit(0)
    print(process, flush=True)
    sys.stdin.readline()  # until then the process, even if it has ended, keeps its id
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""

State = dict[str, tuple[bytes, bytes]]


def state_of(folder: Path) -> State:
    """The embedding and thumbnail of every file; everything is compared with its checksum."""
    index = GarmentIndex.open(folder)
    index.verify()
    found = {
        garment.file: (index.vectors.at(row[None])[0].numpy().tobytes(), index.thumbnail_file(row))
        for row, garment in zip(index.rows, index.garments, strict=True)
    }
    index.close()
    return found


def state_for(catalogue: Path) -> State:
    photos = {path.name: Image.open(path).convert("RGB") for path in catalogue.glob("*.png")}
    vectors = ColourEncoder().encode_images(list(photos.values())).half().numpy()
    return {
        file: (vector.tobytes(), thumbnail_of(photo))
        for (file, photo), vector in zip(photos.items(), vectors, strict=True)
    }


class Killer:
    """Runs jobs in processes of their own, of which some are killed."""

    def __init__(self, forker: subprocess.Popen):
        self.forker = forker
        self.seconds: dict[str, float] = {}
        self.killed = 0

    def run(self, job: str, *paths: Path, kill_at: float | None = None) -> bool:
        """Whether the job came to its end; kill_at: in units of the last whole run's time."""
        started = time.monotonic()
        self.forker.stdin.write("\t".join([job, *map(str, paths)]) + "\n")
        self.forker.stdin.flush()
        process = int(self.forker.stdout.readline())
        if kill_at is not None:
            time.sleep(kill_at * self.seconds[job])
            os.kill(process, signal.SIGKILL)
        self.forker.stdin.write("\n")
        self.forker.stdin.flush()
        code = int(self.forker.stdout.readline())
        assert code in (0, -signal.SIGKILL)
        if kill_at is None:
            self.seconds[job] = time.monotonic() - started
        self.killed += code != 0
        return code == 0


@pytest.fixture
def killer():
    command = [sys.executable, "-c", FORKER, str(Path(__file__).parent)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as forker:
        yield Killer(forker)
        forker.stdin.close()


def change(catalogue: Path, number: int) -> None:
    """Some photos come, go, change and are renamed."""
    files = sorted(catalogue.glob("*.png"))
    files[number % len(files)].unlink()
    files[(number + 7) % len(files)].rename(catalogue / f"moved {number}.png")
    for step in range(4):
        colour = tuple((number * 41 + step * 89 + n * 57) % 256 for n in range(3))
        Image.new("RGB", (24, 32), colour).save(catalogue / f"new {number} {step}.png")
    Image.new("RGB", (24, 32), (number % 256, 1, 2)).save(files[(number + 3) % len(files)])


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is of POSIX")
@pytest.mark.timeout(3600)
def test_kill_9(tmp_path, killer):
    moments = random.Random(4)
    catalogue = draw_catalogue(tmp_path / "photos", COUNT)
    folders = {job: tmp_path / job for job in JOBS}
    parts = [tmp_path / f"part {number}" for number in range(3)]
    for number, part in enumerate(parts):
        few = draw_catalogue(tmp_path / str(number) / "photos", 6 + number)
        for file in few.glob("*.png"):
            file.rename(few / f"{number} {file.name}")
        build_index(few, part, ColourEncoder())
    states = [state_of(part) for part in parts]
    merges = [
        (parts[0], parts[1], states[0] | states[1]),
        (parts[0], parts[2], states[0] | states[2]),
    ]
    for job, sources in (("build", [catalogue]), ("build", [catalogue]), ("merge", parts[:2])):
        killer.run(job, folders[job], *sources)
    for job in ("update", "join"):
        build_index(catalogue, folders[job], ColourEncoder())
    change(catalogue, 1000)
    for job in ("update", "join"):
        killer.run(job, folders[job])

    finished = {job: state_of(folder) for job, folder in folders.items()}
    round_number = 0
    while killer.killed < KILLS:
        job = JOBS[round_number % len(JOBS)]
        folder = folders[job]
        if job == "merge":
            *sources, expected = merges[round_number // len(JOBS) % 2]
        else:
            change(catalogue, round_number)
            sources, expected = [catalogue], state_for(catalogue)
        for _ in range(3):  # killed, taken up, killed again
            ended = killer.run(job, folder, *sources, kill_at=1.1 * moments.random())
            found = state_of(folder)
            assert found == expected or (found == finished[job] and not ended)
        assert killer.run(job, folder, *sources)
        finished[job] = state_of(folder)
        assert finished[job] == expected
        index = GarmentIndex.open(folder)
        assert job != "join" or len(index.parts) <= 6
        named = {entry["name"] for entry in data_files(index.manifest)}
        assert {path.name for path in folder.iterdir()} == named | {"manifest.json", "build.lock"}
        index.close()
        round_number += 1
    assert round_number <= KILLS, "most of them must have hit"
