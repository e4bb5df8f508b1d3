"""`fashion-rag index search`: find garments by text, by photo, or both."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from ..pictures.contact_sheet import contact_sheet
from ..pictures.photos import open_photo
from ..retriever.backends import SearchBackend
from ..retriever.encoders.open_clip import Encoder
from ..retriever.encoders.recipe import as_built
from ..retriever.gallery import shown
from ..retriever.open_index import open_index
from ..retriever.query import retrieve
from ..retriever.query_types import CHUNKS, MAX_POOL, Query, Result
from ..retriever.search import BACKENDS
from .query_file import read_queries
from .terminal import (
    add_encoder_options,
    check_picture,
    encoder_of,
    number,
    save_picture,
    whole_number,
    write,
)

_AT_ONCE = 256  # queries that are encoded and searched together

Numbered = tuple[int, Query]
"""A query after the number of its line or text, from 1."""


def add_actions(actions: argparse._SubParsersAction) -> None:
    """Add `search` to the actions of `fashion-rag index`."""
    _add_search(actions.add_parser("search", help="find garments by text, by photo, or both"))


def _add_search(parser: argparse.ArgumentParser) -> None:
    add, default = parser.add_argument, Query("-")
    add("index", type=Path, help="folder of an index, also of one in Milvus")
    texts = add(
        "text",
        nargs="+",
        help="what the garment looks like, in English; each text is a query of its own",
    )
    add(
        "--queries",
        type=Path,
        metavar="FILE",
        action=_InPlaceOf,
        other=texts,
        help="in place of TEXT: queries, one a line; in a .jsonl with options of their own",
    )
    add("--json", action="store_true", help="print a JSON object a line for each query")
    add_encoder_options(parser)
    add(
        "-k",
        "--top-k",
        type=whole_number(1, MAX_POOL),
        default=default.k,
        metavar="K",
        help="default: 3",
    )
    add("--chunks", choices=CHUNKS, default=default.chunks, help="parts between commas; see docs")
    add(
        "--negative",
        default="",
        metavar="TEXT",
        help="what it should not look like (not: `not red` in TEXT)",
    )
    add(
        "--negative-weight",
        type=number(0, 2),
        default=default.negative_weight,
        metavar="W",
        help="0 to 2, default: 0.3",
    )
    add("--image", type=Path, action="append", default=[], metavar="FILE", help="reference photo")
    add(
        "--image-weight",
        type=number(0, 1),
        default=default.image_weight,
        metavar="W",
        help="0 to 1, default: 0.3",
    )
    add("--category", help="search this category alone")
    add("--where", default="", metavar="FILTER", help="such as: price < 80 and brand in ['Acme']")
    add(
        "--min-score",
        type=_least_score,
        default=default.min_score,
        metavar="S",
        help="least cosine; auto: as measured on the catalogue when the index was built",
    )
    add(
        "--words",
        type=number(0, 1),
        default=default.word_weight,
        metavar="W",
        help="what words of captions count beside photos, 0 to 1, default: 0",
    )
    add(
        "--diversity",
        type=number(0, 1),
        default=default.diversity,
        metavar="D",
        help="0 to 1, default 0",
    )
    add(
        "--draw-from",
        type=whole_number(0, MAX_POOL),
        default=0,
        metavar="N",
        help="draw K at random from the N best",
    )
    add(
        "--temperature",
        type=number(0),
        default=default.temperature,
        metavar="T",
        help="of the draw",
    )
    add(
        "--seed",
        type=whole_number(0, 2**64 - 1),
        default=default.seed,
        metavar="N",
        help="of the draw, default: 0",
    )
    add("--pin", action="append", default=[], metavar="ID", help="take this garment in any case")
    add("--exclude", action="append", default=[], metavar="ID", help="never take this garment")
    add("--catalogue", type=Path, help="where the photos are now, if they were moved")
    add("--backend", choices=BACKENDS, default="auto", help="how a local index is searched")
    add("--sheet", type=Path, metavar="FILE", help="save a contact sheet (png, jpg) of each query")
    parser.set_defaults(run=_search)


class _InPlaceOf(argparse.Action):
    """An option that, if given, lets a positional argument be missing."""

    def __init__(self, *args: Any, other: argparse.Action, **options: Any):
        super().__init__(*args, **options)
        self._other = other

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        self._other.required = False
        setattr(namespace, self.dest, values)


def _least_score(text: str) -> float | str:
    return text if text == "auto" else number(-1, 1)(text)


def _search(args: argparse.Namespace) -> None:
    if args.sheet and args.json:
        raise ValueError("Both --json and --sheet are given: a sheet is saved without --json only.")
    if args.sheet:
        check_picture(args.sheet, "--sheet")
    if args.queries and args.text:
        raise ValueError("Both TEXT and --queries are given: name one of them.")
    base = _options(args)
    if args.queries and not args.queries.is_file():
        queries = iter(list(read_queries(args.queries, base)))  # a pipe is read once
    elif args.queries:
        for _ in read_queries(args.queries, base):  # names a bad line before the work begins
            pass
        queries = read_queries(args.queries, base)
    else:
        queries = iter([(n, replace(base, text=t)) for n, t in enumerate(args.text, start=1)])
    index = open_index(args.index, args.catalogue, args.backend)
    encoder = as_built(encoder_of(args), index.manifest["encoder"])
    index.check_encoder(encoder)
    if args.json:
        _write_lines(index, encoder, queries)
        return
    several = args.queries is not None or len(args.text) > 1
    while batch := list(islice(queries, _AT_ONCE)):
        results = retrieve(index, encoder, [query for _, query in batch])
        for (place, _), result in zip(batch, results, strict=True):
            _show(index, result, place, several, args.sheet)


def _options(args: argparse.Namespace) -> Query:
    """Return the fields that all queries share; its text is a placeholder."""
    auto = args.min_score == "auto"
    return Query(
        text="-",
        chunks=args.chunks,
        negative=args.negative,
        negative_weight=args.negative_weight,
        images=tuple(open_photo(path) for path in args.image),
        image_weight=args.image_weight,
        category=args.category,
        where=args.where,
        k=args.top_k,
        diversity=args.diversity,
        draw_from=args.draw_from,
        seed=args.seed,
        temperature=args.temperature,
        pinned=tuple(args.pin),
        excluded=tuple(args.exclude),
        min_score=-1.0 if auto else args.min_score,
        word_weight=args.words,
        auto_min_score=auto,
    )


def _write_lines(index: SearchBackend, encoder: Encoder, queries: Iterable[Numbered]) -> None:
    """Print a JSON object for each query as soon as its batch is answered.

    Raises:
        ValueError: some could not be answered, which their objects say; after all others.
    """
    count = failed = 0
    queries = iter(queries)
    while batch := list(islice(queries, _AT_ONCE)):
        for number_of, query, answer in _answers(index, encoder, batch):
            count, failed = count + 1, failed + ("error" in answer)
            write(json.dumps({"line": number_of, "text": query.text, **answer}))
    if failed:
        raise ValueError(f'{failed} of {count} queries have no answer: see "error" in their lines.')


def _answers(
    index: SearchBackend, encoder: Encoder, batch: list[Numbered]
) -> Iterator[tuple[int, Query, dict[str, Any]]]:
    """Answer a batch: every query's hits and note, or its own error."""
    try:
        results = retrieve(index, encoder, [query for _, query in batch])
    except ValueError as error:
        if len(batch) == 1:
            yield (*batch[0], {"error": str(error)})
            return
        half = len(batch) // 2
        yield from _answers(index, encoder, batch[:half])
        yield from _answers(index, encoder, batch[half:])
        return
    for (place, query), result in zip(batch, results, strict=True):
        yield place, query, shown(result)


def _show(
    index: SearchBackend, result: Result, place: int, several: bool, sheet: Path | None
) -> None:
    if several:
        write(f"{chr(10) if place > 1 else ''}{result.query}")
    write("cosine  file  caption")
    for hit in result.hits:
        write(f"{hit.score:.4f}  {hit.garment.file}  {hit.garment.caption}".rstrip())
    if result.note:
        write(result.note)
    if sheet and result.hits:
        many = f"{sheet.stem}_{place}{sheet.suffix}"
        save_picture(_sheet(index, result), sheet.with_name(many) if several else sheet)


def _sheet(index, result: Result):
    tiles = [
        (index.thumbnail(hit.garment), f"{hit.score:.3f}\n{hit.garment.caption or hit.garment.id}")
        for hit in result.hits
    ]
    return contact_sheet(tiles, title=f"{result.query}: cosine similarity")
