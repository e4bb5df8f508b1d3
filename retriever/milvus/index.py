"""An index whose vectors and records lie in Milvus: embedded (milvus-lite), or on a server.

The collection is that of the last complete push (sync.py); an index that is open when the
next push comes has to be opened again. The photos are read from the catalogue, on this machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...files import parse_json
from ...pictures.photos import open_photo
from ..encoders.fingerprint import has_fingerprint
from ..encoders.open_clip import Encoder
from ..encoders.recipe import display_name
from ..photos.catalogue import Garment, safe_path
from ..store.filters import Filter, number_of
from ..store.records import FIELDS, ColumnValues
from ..store.text_table import fts5_is_there
from .connection import CollectionPlace, Connection, NotLoadedError
from .filters import Fields, inlined, stored_text, to_expression
from .full_text import SPARSE, WORDS, asked_codes, check_words, holding_any, holding_these
from .rows import Rows

VECTOR = "vector"

_MOST = 16_384  # Milvus gives no more hits for one query, nor rows for one request
_AT_ONCE = 4096  # vectors in one answer, well below the 64 MB of a message
_ROUNDING = 1e-5  # a bound on what the server's float32 scores may be off
_SLACK = 16
_THUMBNAIL = 256
_WORDS_KEPT = 1 << 16  # words of queries, with the number of garments that hold each


class MilvusIndex:
    """A SearchBackend over a collection; see backends.py."""

    def __init__(
        self,
        connection: Connection,
        collection: str,
        manifest: dict[str, Any],
        catalogue_root: Path | None = None,
    ):
        self.connection, self.collection, self.manifest = connection, collection, manifest
        self.catalogue_root = Path(catalogue_root or manifest["catalogue"]["path"])
        self.rows = Rows.of_manifest(manifest)
        self._columns = {name: Fields(*pair) for name, pair in manifest["columns"].items()}
        self._count_of = lru_cache(_WORDS_KEPT)(self._ask_count)

    @classmethod
    def open(cls, folder: Path, catalogue_root: Path | None = None) -> MilvusIndex:
        """Open the collection that `milvus.json` in `folder` names.

        Raises:
            ImportError: a package is missing.
            FileNotFoundError: there is no such file, or no such collection.
            ConnectionError, TimeoutError, PermissionError: the server can't be asked.
            ValueError: the file, or the collection, is of something else.
        """
        connection = Connection(folder, CollectionPlace.read(folder))
        collection, manifest = connection.manifest()
        collection = manifest.get("rows_in", collection)
        connection.load(collection)
        return cls(connection, collection, manifest, catalogue_root)

    def close(self) -> None:
        """Close the connection to the server."""
        self.connection.close()

    def __len__(self) -> int:
        return self.manifest["count"]

    def check_encoder(self, encoder: Encoder) -> None:
        """Raise ValueError unless `encoder` is the one that the vectors were made with."""
        built = self.manifest["encoder"]
        if not has_fingerprint(encoder, built["fingerprint"]):
            raise ValueError(
                f"The collection {self.manifest['collection']!r} at {self.connection.address} was "
                f"built with the encoder {display_name(built)} ({built['fingerprint'][:12]}, "
                f"dimension {built['dim']}); the query comes from {display_name(encoder)} "
                f"({encoder.fingerprint[:12]}, dimension {encoder.dim}). Use the former, or push "
                f"an index built with {display_name(encoder)}."
            )

    def nearest(
        self, queries: np.ndarray, k: int, category: str | None, where: Filter | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """See SearchBackend; the kind `exact` finds what a local exact index finds.

        Raises:
            ValueError: also k above 16,384.
        """
        _check_most(k)
        scope = self._scope(category, where)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        rows = np.full((len(queries), k), -1, np.int64)
        step = max(1, _AT_ONCE // (4 * k + _SLACK))
        for start in range(0, len(queries), step):
            part = queries[start : start + step]
            for number, (best, found) in enumerate(self._nearest(part, k, *scope), start):
                scores[number, : len(best)], rows[number, : len(found)] = best, found
        return scores, rows

    def nearest_by_words(
        self, text: str, query: np.ndarray, k: int, category: str | None, where: Filter | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See SearchBackend. The same as the local index finds, see full_text.py.

        Raises:
            ValueError: also k above 16,384.
        """
        _check_most(k)
        check_words(self.manifest, self.connection.server, self.connection.address)
        expression, parameters = self._scope(category, where)
        codes = asked_codes(text)
        if not codes:
            return np.empty(0, np.float32), np.empty(0, np.float32), np.empty(0, np.int64)
        rows, held, whole = self._holders(codes, k, expression, parameters)
        scores = np.zeros(len(rows), np.float32)
        for code, there in zip(codes, held.T, strict=True):
            scores[there] += self._weight(code)
        near, found = np.empty(0, np.float32), np.empty(0, np.int64)
        bound = np.float32(0)
        if len(rows) > k or (len(rows) and not whole):
            # Of those that hold the same words as the last of the k, the cosine similarity decides.
            last = min(k, len(rows))
            bound = np.partition(scores, -last)[-last]
            alike = holding_these(codes, held[scores == bound], self.connection.server)
            rows, scores = rows[scores > bound], scores[scores > bound]
            alike = f"({expression}) and ({alike})" if expression else alike
            (answer,) = self._nearest(query[None], k - len(rows), alike, parameters)
            near, found = answer
        cosines = np.concatenate([_cosines(self.vectors_at(rows), query), near])
        scores = np.concatenate([scores, np.full(len(found), bound, np.float32)])
        rows = np.concatenate([rows, found])
        order = np.lexsort((rows, -cosines, -scores))
        return scores[order], cosines[order], rows[order]

    def _holders(
        self, codes: list[str], k: int, expression: str, parameters: dict[str, Any]
    ) -> tuple[np.ndarray, np.ndarray, bool]:
        """Ask for the garments that hold the rarest of the words.

        Returns:
            Rows, int64, k or more where there are as many; which words each of them holds, (rows,
            len(codes)) bool; and whether there are no others.
        """
        # Where a segment decides how rare a word is, a rare one may come last: each is asked alone.
        alone = codes if self.connection.server.counts_words_by_segment else []
        texts, count = list(dict.fromkeys([" ".join(codes), *alone])), min(k + _SLACK, _MOST)
        while True:
            answers = self._ask_loaded(
                self.connection.client.search,
                data=texts,
                anns_field=SPARSE,
                limit=count,
                output_fields=["row", WORDS],
                search_params={"metric_type": "BM25", "params": {}},
                **self._filter(expression, parameters),
            )
            said = {
                hit["entity"]["row"]: set(hit["entity"][WORDS].split())
                for hits in answers
                for hit in hits
            }
            rows = np.array(list(said), np.int64)
            held = np.array([[code in words for code in codes] for words in said.values()], bool)
            counted, whole = self.rows.holds(rows), len(answers[0]) < count
            if whole or count == _MOST or counted.sum() >= k:
                return rows[counted], held.reshape(len(rows), len(codes))[counted], whole
            count = min(4 * count, _MOST)

    def _weight(self, code: str) -> np.float64:
        """Return what a word counts, see word_search.py."""
        there = len(self)
        holders = min(self._count_of(code), there)
        return np.log1p((there - holders + 0.5) / (holders + 0.5))

    def _ask_count(self, code: str) -> int:
        (line,) = self._ask_loaded(
            self.connection.client.query,
            output_fields=["count(*)"],
            **self._filter(holding_any([code], self.connection.server), {}),
        )
        return line["count(*)"]

    @property
    def has_words(self) -> bool:
        """See SearchBackend."""
        return self.manifest.get("words", False) and fts5_is_there()

    def _nearest(
        self, queries: np.ndarray, k: int, expression: str, parameters: dict[str, Any]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield for each query the server's candidates, ranked by exact scores."""
        waiting = list(range(len(queries)))
        done: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        exactly = self.manifest["kind"] == "exact"
        # The order of an approximate kind is rough: what it gives is ranked anew.
        count = min(k + _SLACK if exactly else 4 * k + _SLACK, _MOST)
        while waiting:
            answers = self._ask(queries[waiting], count, expression, parameters)
            again = []
            for number, (near, found, vectors) in zip(waiting, answers, strict=True):
                whole = len(found) < count or count == _MOST
                counted = self.rows.holds(found)
                found, vectors = found[counted], vectors[counted]
                exact = _cosines(vectors, queries[number])
                order = np.lexsort((found, -exact))[:k]
                done[number] = exact[order], found[order]
                # All that may tie with the k-th must be among the candidates.
                tied = exactly and len(order) and near.min() >= exact[order[-1]] - 2 * _ROUNDING
                if not whole and (len(order) < k or tied):
                    again.append(number)
            waiting, count = again, min(4 * count, _MOST)
        return (done[number] for number in range(len(queries)))

    def _ask(
        self, queries: np.ndarray, count: int, expression: str, parameters: dict[str, Any]
    ) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        kind = np.float16 if self.manifest.get("half") else np.float32
        answers = self._ask_loaded(
            self.connection.client.search,
            data=list(queries.astype(kind)),
            anns_field=VECTOR,
            limit=count,
            output_fields=["row", VECTOR],
            search_params={"metric_type": "IP", "params": self._parameters(count)},
            **self._filter(expression, parameters),
        )
        return [
            (
                np.array([hit["distance"] for hit in hits], np.float32),
                np.array([hit["entity"]["row"] for hit in hits], np.int64),
                self._vectors([hit["entity"][VECTOR] for hit in hits]),
            )
            for hits in answers
        ]

    def _parameters(self, count: int) -> dict[str, int]:
        """Search parameters; a graph can't be asked for more than it looks at."""
        kind = self.manifest["kind"]
        if kind == "diskann":
            return {"search_list": max(200, 2 * count)}
        if kind == "exact":
            return {}
        return {"ef": max(256, 2 * count)}

    def _scope(self, category: str | None, where: Filter | None) -> tuple[str, dict[str, Any]]:
        expression, parameters = "", {}
        if where is not None:
            expression, parameters = to_expression(where, self._columns)
        if category is None:
            return expression, parameters
        known = self.manifest["categories"]
        if not category or category not in known:
            names = ", ".join(repr(name) for name in known if name) or "no category at all"
            raise ValueError(
                f"The collection {self.manifest['collection']!r} has no garments of the category "
                f"{category!r}; it has: {names}."
            )
        expression = f" and ({expression})" if expression else ""
        expression = f"{self._columns['category'].text} == {{category}}{expression}"
        return expression, {**parameters, "category": stored_text(category)}

    def _filter(self, expression: str, parameters: dict[str, Any]) -> dict[str, Any]:
        if self.connection.server.has_parameters:
            return {"filter": expression, "filter_params": parameters}
        return {"filter": inlined(expression, parameters)}

    def categories(self) -> Collection[str]:
        """See SearchBackend."""
        return self.manifest["categories"]

    def columns(self) -> Collection[str]:
        """See SearchBackend."""
        return self._columns

    def values_at(self, rows: np.ndarray, column: str) -> list[str]:
        """See SearchBackend."""
        return [
            getattr(garment, column) if column in FIELDS else garment.metadata.get(column, "")
            for garment in self.garments_at(rows)
        ]

    def values_of(self, column: str) -> ColumnValues:
        """See SearchBackend; only the first garments of the collection are counted."""
        first = self.rows.numbers()[:_AT_ONCE]
        counts = Counter(value for value in self.values_at(first, column) if value)
        numbers = sum(count for value, count in counts.items() if number_of(value) is not None)
        most = sorted(counts, key=lambda value: (number_of(value) is not None, -counts[value]))
        return ColumnValues(counts.total(), numbers, tuple(value[:60] for value in most[:3]))

    def rows_of_ids(self, ids: Sequence[str]) -> np.ndarray:
        """See SearchBackend."""
        field = self._columns["id"].text
        rows: dict[str, int] = {}
        for start in range(0, len(ids), _AT_ONCE):
            wanted = [stored_text(name) for name in ids[start : start + _AT_ONCE]]
            found = self._query(f"{field} in {{ids}}", {"ids": wanted}, ["record"])
            counted = self.rows.holds(np.array([line["row"] for line in found], np.int64))
            rows |= {
                parse_json(line["record"])["id"]: line["row"]
                for line, counts in zip(found, counted, strict=True)
                if counts
            }
        return np.array([rows.get(name, -1) for name in ids], dtype=np.int64)

    def garments_at(self, rows: np.ndarray) -> list[Garment]:
        """See SearchBackend."""
        return [garment_of(line["record"]) for line in self._at(rows, "record")]

    def vectors_at(self, rows: np.ndarray) -> np.ndarray:
        """See SearchBackend."""
        return self._vectors([line[VECTOR] for line in self._at(rows, VECTOR)])

    def records(self) -> Iterator[dict[str, Any]]:
        """Read what is stored of every garment (see `collection.record_of`), in row order."""
        numbers = self.rows.numbers()
        for start in range(0, len(self), _AT_ONCE):
            rows = numbers[start : start + _AT_ONCE]
            yield from (parse_json(line["record"]) for line in self._at(rows, "record"))

    def _at(self, rows: np.ndarray, *fields: str) -> list[dict[str, Any]]:
        lines: dict[int, dict[str, Any]] = {}
        for start in range(0, len(rows), _AT_ONCE):
            wanted = rows[start : start + _AT_ONCE].tolist()
            lines |= {
                line["row"]: line
                for line in self._query("row in {rows}", {"rows": wanted}, list(fields))
            }
        missing = set(rows.tolist()) - set(lines)
        if missing:
            raise ValueError(
                f"The collection {self.collection!r} at {self.connection.address} lacks row "
                f"{min(missing)}: another push has taken it out, so open the index again; if that "
                "doesn't help, push it again."
            )
        return [lines[row] for row in rows.tolist()]

    def _query(
        self, expression: str, parameters: dict[str, Any], fields: list[str]
    ) -> list[dict[str, Any]]:
        if not all(parameters.values()):
            return []
        return self._ask_loaded(
            self.connection.client.query,
            output_fields=["row", *fields],
            **self._filter(expression, parameters),
        )

    def _ask_loaded(self, request: Callable[..., Any], **arguments: Any) -> Any:
        """Ask the server, once more if it has released the collection since this was opened."""
        arguments["timeout"] = self.connection.place.timeout
        try:
            with self.connection.explained():
                return request(self.collection, **arguments)
        except NotLoadedError:
            self.connection.load(self.collection)
            with self.connection.explained():
                return request(self.collection, **arguments)

    def _vectors(self, values: list[Any]) -> np.ndarray:
        dim = self.manifest["encoder"]["dim"]
        # Half precision arrives as bytes, by some versions of pymilvus in a list of one.
        values = [value[0] if len(value) == 1 < dim else value for value in values]
        if values and isinstance(values[0], bytes):
            values = [np.frombuffer(value, np.float16) for value in values]
        return np.asarray(values, dtype=np.float32).reshape(len(values), dim)

    def photo(self, garment: Garment) -> Image.Image:
        """Open the garment's photo from the catalogue, full size, RGB on white.

        Raises:
            FileNotFoundError: the photo, or the whole catalogue, is not there.
            ValueError: the record leads out of the catalogue, or the photo is damaged.
        """
        path = safe_path(self.catalogue_root, garment.file)
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is not there, but the collection {self.manifest['collection']!r} names "
                f"it: the photos of a Milvus index are read from the catalogue, on this machine."
            )
        return open_photo(path)

    def thumbnail(self, garment: Garment) -> Image.Image:
        """Open the garment's photo, fitted into 256 x 256 pixels."""
        image = self.photo(garment)
        image.thumbnail((_THUMBNAIL, _THUMBNAIL))
        return image


def _check_most(k: int) -> None:
    if k > _MOST:
        raise ValueError(f"k is {k}: Milvus gives at most {_MOST} garments for one query.")


def _cosines(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Return the scores of (n, dim) vectors, float32, which don't depend on their number."""
    exact = (vectors.astype(np.float64) * query.astype(np.float64)).sum(axis=1)
    return exact.astype(np.float32)


def garment_of(record: str) -> Garment:
    """Return the garment of a stored record.

    Raises:
        ValueError: it is no record of a garment.
    """
    try:
        values = parse_json(record)
        garment = Garment(*(values[name] for name in Garment.__dataclass_fields__))
        texts = (garment.id, garment.file, garment.category, garment.caption)
        if all(isinstance(text, str) for text in (*texts, *garment.metadata.values())):
            return garment
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise ValueError(f"{record[:80]!r} is not the record of a garment: push the index again.")
