"""HTTP routes under /fashion_rag/ for the gallery on the node and the catalogue in the side bar.

Everything is named by an index of the nodes' own list and by garment ids, never by a path, and
nothing is written. The work is done off the event loop by one thread, from reading the disk to
writing the answer's JSON or hashing a picture. While a graph runs, it takes at most a twentieth of
the time, so that a page which asks without end does not slow it down.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import web
from server import PromptServer

from ...files import escaped, parse_json, state_of_folder
from ...retriever import gallery
from ...retriever.backends import LocalBackend, SearchBackend
from ...retriever.encoders.open_clip import Encoder, load_encoder
from ...retriever.encoders.recipe import as_built, fingerprint_of, recipe_of
from ...retriever.encoders.towers import is_model_folder
from ...retriever.open_index import open_index, state_of_index, unanswered
from . import folders

logger = logging.getLogger(__name__)

PREFIX = "/fashion_rag"
PHOTO_SIZE = 1024
"""Longer side of a photo in the page, in pixels."""

SHARE = 0.05
"""Of the time that the page's requests may take while a graph runs."""

LONGEST_REST = 10.0
"""Seconds without an answer after a piece of work: opening an encoder may take some."""

_MOST_BODY = 64 << 10  # bytes of a request
_KEPT_INDEXES = 4
_KEPT_PAGES = 100
_JSON = "application/json"


class Library:
    """The indexes and text encoders that pages have asked for, opened once.

    Encoders are loaded on the CPU, apart from the graph's own, so that ComfyUI's memory
    management and a running sampler are left alone. The last one is kept, and the fingerprints of
    all that were loaded, until their files change. Only the worker thread calls it.
    """

    def __init__(self) -> None:
        self._indexes: OrderedDict[str, tuple[tuple, SearchBackend]] = OrderedDict()
        self._loaded: tuple[tuple[Path, int], Encoder] | None = None
        self._fingerprints: dict[Path, tuple[int, str]] = {}

    def index(self, name: str) -> SearchBackend:
        """The index called `name`, opened again after it has changed; its photos can't be read.

        Raises:
            FileNotFoundError: there is no such index.
            ValueError: it is damaged.
            ConnectionError, TimeoutError: its server gave no answer some seconds ago.
        """
        folder = folders.resolve("indexes", name)
        state = state_of_index(folder)
        if (error := unanswered(folder)) is not None:
            raise error  # at once: many pictures are asked for, one after the other
        kept = self._indexes.pop(name, None)
        if kept is None or kept[0] != state:
            index = open_index(folder)
            # The path in the file is a claim of whoever made it: only a registered one is read.
            index.catalogue_root = folders.roots("catalogues")[0] / "missing"
            kept = (state, index)
        self._indexes[name] = kept
        while len(self._indexes) > _KEPT_INDEXES:
            self._indexes.popitem(last=False)
        return kept[1]

    def index_with_photos(self, name: str) -> SearchBackend:
        """The index called `name`, as `index` gives it, with its catalogue as it is now.

        Raises:
            FileNotFoundError: there is no such index, or its catalogue is gone.
            ValueError: it is damaged.
        """
        index = self.index(name)
        index.catalogue_root = folders.resolve("catalogues", index.manifest["catalogue"]["name"])
        return index

    def encoder(self, index: SearchBackend) -> Encoder:
        """The encoder of an index: a folder of `encoders`, or the towers of a model folder.

        Raises:
            ValueError: it is the pair `host`, and no model folder has these towers.
            FileNotFoundError: it is not in the folder of encoders.
        """
        built = index.manifest["encoder"]
        return as_built(self._load(self._folder_of(built)), built)

    def _folder_of(self, built: dict[str, Any]) -> Path:
        if built["name"] in folders.entries("encoders"):
            return folders.resolve("encoders", built["name"])
        for folder in folders.entries("models").values():
            if is_model_folder(folder):
                found = fingerprint_of(self._fingerprint(folder), recipe_of(built))
                if found == built["fingerprint"]:
                    return folder
        if built["name"] == folders.HOST_ENCODER:
            raise ValueError(
                "This index was made with the encoder 'host', which is there only while a graph "
                "runs: press Run to search by text."
            )
        return folders.resolve("encoders", built["name"])

    def _fingerprint(self, folder: Path) -> str:
        """The fingerprint of a model folder's towers; "" where they can't be loaded."""
        state = state_of_folder(folder)
        known = self._fingerprints.get(folder)
        if known is None or known[0] != state:
            try:
                fingerprint = self._load(folder).fingerprint
            except Exception as error:  # libraries have errors of their own for damaged files
                logger.warning("%s is not looked at as an encoder: %s", folder, error)
                fingerprint = ""
            known = self._fingerprints[folder] = (state, fingerprint)
        return known[1]

    def _load(self, folder: Path) -> Encoder:
        place = (folder, state_of_folder(folder))
        if self._loaded is None or self._loaded[0] != place:
            self._loaded = None  # two don't have to fit into the memory
            self._loaded = (place, load_encoder(folder))
        return self._loaded[1]


class Worker:
    """One thread for all requests: one after another, and of a page's searches the newest wins.

    While a graph runs, each piece of work is followed by a rest, so that all of them together take
    SHARE of the time.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="fashion-rag-gallery")
        self._turn = asyncio.Lock()
        self._newest: dict[str, int] = {}
        self._free_at = 0.0

    async def run(self, work: Callable[[], Any], wanted: Callable[[], bool] = lambda: True) -> Any:
        """Run a piece of work in the thread, or return None where it is no longer wanted."""
        async with self._turn:
            while wanted() and (wait := self._free_at - time.monotonic()) > 0 and graph_runs():
                await asyncio.sleep(min(wait, 0.2))
            if not wanted():
                return None
            started = time.monotonic()
            try:
                return await asyncio.get_running_loop().run_in_executor(self._pool, work)
            finally:
                ended = time.monotonic()
                rest = (ended - started) * (1 / SHARE - 1)
                self._free_at = ended + min(rest, LONGEST_REST)

    async def search(self, page: str, number: int, work: Callable[[], Any]) -> Any:
        """Run a search, or return None where the page has asked for something newer meanwhile."""
        self._newest[page] = max(number, self._newest.pop(page, number))
        while len(self._newest) > _KEPT_PAGES:
            self._newest.pop(next(iter(self._newest)))
        return await self.run(work, lambda: self._newest.get(page, number) == number)


def graph_runs() -> bool:
    """Whether ComfyUI works on a prompt at the moment."""
    return bool(PromptServer.instance.prompt_queue.currently_running)


library = Library()
worker = Worker()


def add_routes() -> None:
    """Register the routes with ComfyUI's server, which also refuses requests of other origins."""
    routes = PromptServer.instance.routes
    routes.get(f"{PREFIX}/indexes")(_answered(_indexes))
    routes.get(f"{PREFIX}/index/{{name}}")(_answered(_describe))
    routes.get(f"{PREFIX}/index/{{name}}/garments")(_answered(_browse))
    routes.post(f"{PREFIX}/index/{{name}}/search")(_answered(_search))
    routes.get(f"{PREFIX}/index/{{name}}/thumbnail")(_answered(_thumbnail))
    routes.get(f"{PREFIX}/index/{{name}}/photo")(_answered(_photo))


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _answered(handler: Handler) -> Handler:
    """Answer errors as JSON: 404 for what is not there, 400 for what can't be understood."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except (FileNotFoundError, KeyError) as error:
            return _error(404, error)
        except (ValueError, ImportError, RecursionError) as error:
            return _error(400, error)
        except OSError as error:
            logger.warning("%s: %s", request.path, error)
            return _error(500, error)

    return answer


def _error(status: int, error: Exception) -> web.Response:
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return web.json_response({"error": escaped(text)}, status=status)


async def _indexes(request: web.Request) -> web.Response:
    return _json(
        await worker.run(lambda: json.dumps({"indexes": list(folders.entries("indexes"))}))
    )


async def _describe(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    return _json(await worker.run(lambda: json.dumps(gallery.describe(library.index(name)))))


async def _browse(request: web.Request) -> web.Response:
    name, asked = request.match_info["name"], request.query
    start, count = _number(asked, "start", 0), _number(asked, "count", 100)
    category, where = asked.get("category", ""), asked.get("where", "")

    def work() -> str:
        return json.dumps(gallery.browse(library.index(name), start, count, category, where))

    return _json(await worker.run(work))


async def _search(request: web.Request) -> web.Response:
    """Answer {query: fields of Query, like: an id or null, page: any text, number: its place}.

    204 where the page has asked for something newer meanwhile.
    """
    name = request.match_info["name"]
    if request.content_type != _JSON:
        raise ValueError(f"The request is {request.content_type}: expected {_JSON}.")
    size = request.content_length or 0
    # Not its text: the encoding that a request claims to have may be none.
    content = await request.read() if size <= _MOST_BODY else b""
    if max(size, len(content)) > _MOST_BODY:  # the length may be untold
        raise ValueError(f"The request has {size or len(content)} bytes: at most {_MOST_BODY}.")
    try:
        body = parse_json(content)
    except ValueError as error:
        raise ValueError(f"The request is no JSON: {error}") from error
    if not isinstance(body, dict) or not isinstance(body.get("query"), dict):
        raise ValueError("The request holds no query: expected {query: {text: ...}}.")
    like, page, number = body.get("like"), str(body.get("page", "")), body.get("number", 0)
    if not isinstance(number, int) or not (like is None or isinstance(like, str)):
        raise ValueError(f"number is {number!r}, like {like!r}: expected a number and an id.")
    fields = body["query"]
    if like is not None:  # a query needs words, these are not looked for
        fields = {**fields, "text": "like this one", "chunks": "together"}

    def work() -> str:
        query, index = gallery.query_of(fields), library.index(name)
        if like is not None:
            return json.dumps(gallery.more_like(index, like, query))
        return json.dumps(gallery.search(index, library.encoder(index), query))

    found = await worker.search(page[:80], number, work)
    return web.Response(status=204) if found is None else _json(found)


async def _thumbnail(request: web.Request) -> web.Response:
    name, identity = request.match_info["name"], request.query.get("id", "")

    def work() -> bytes:
        index = library.index(name)
        row = _row_of(index, name, identity)
        if isinstance(index, LocalBackend):
            return index.index.thumbnail_file(int(row[0]))
        index = library.index_with_photos(name)
        return _jpeg(index.thumbnail(index.garments_at(row)[0]))

    return await _picture(request, work)


async def _photo(request: web.Request) -> web.Response:
    name, identity = request.match_info["name"], request.query.get("id", "")

    def work() -> bytes:
        index = library.index_with_photos(name)
        photo = index.photo(index.garments_at(_row_of(index, name, identity))[0])
        photo.thumbnail((PHOTO_SIZE, PHOTO_SIZE))
        return _jpeg(photo)

    return await _picture(request, work)


def _row_of(index: SearchBackend, name: str, identity: str) -> np.ndarray:
    """Return the row (1,) int64 of a garment's id.

    Raises:
        KeyError: the index has no such id.
    """
    row = index.rows_of_ids([identity])
    if row[0] < 0:
        raise KeyError(f"No garment of the index {name!r} has the id {identity!r}.")
    return row


def _jpeg(picture: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90)
    return file.getvalue()


async def _picture(request: web.Request, read: Callable[[], bytes]) -> web.Response:
    """A JPEG file that `read` gives in the thread, or 304 where the page has it."""

    def work() -> tuple[bytes, str]:
        data = read()
        return data, f'"{sha256(data).hexdigest()[:32]}"'

    data, tag = await worker.run(work)
    headers = {
        "ETag": tag,
        "Cache-Control": "private, max-age=300, must-revalidate",
        "X-Content-Type-Options": "nosniff",
    }
    if request.headers.get("If-None-Match") == tag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=data, content_type="image/jpeg", headers=headers)


def _json(text: str) -> web.Response:
    return web.Response(text=text, content_type=_JSON)


def _number(asked: Any, name: str, default: int) -> int:
    text = asked.get(name, str(default))
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(f"{name} is {text!r}: expected a whole number.") from error
