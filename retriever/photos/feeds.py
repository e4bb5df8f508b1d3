"""Product feeds as shops export them: Shopify's CSV, Google Merchant's TSV and XML, any plain CSV.

A feed is read into products, one for each photo of an article, with the columns of a catalogue's
table: id, caption, category, price and currency, brand, size, stock, item_group_id (shared by the
views of one article). Columns that mean none of these keep their names; a price beside a sale price
becomes `original_price`.
"""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from ...files import parse_json
from .feed_rows import read_rows
from .prices import count_numbers, parse_price

COLUMNS: dict[str, tuple[str, ...]] = {
    "id": ("id", "sku", "variant sku", "article number", "product id", "handle"),
    "item_group_id": ("item_group_id", "handle", "parent id", "parent sku", "group id", "style"),
    "photo": ("image_link", "image src", "image", "photo", "picture", "image url", "file"),
    "more_photos": ("additional_image_link", "additional image link", "more images"),
    "caption": ("title", "caption", "name", "product name"),
    "description": ("description", "body (html)", "body html"),
    "type": ("product_type", "type", "product category", "google_product_category", "category"),
    "price": ("sale_price", "price", "variant price", "regular price"),
    "brand": ("brand", "vendor", "manufacturer"),
    "size": ("size", "option1 value"),
    "stock": ("quantity", "stock", "variant inventory qty", "inventory", "availability"),
}
"""The names that shops give a column, the likeliest first; letter case and `_`, `-` don't count."""

CATEGORY_WORDS: dict[str, tuple[str, ...]] = {
    "dresses": (
        "dress dresses gown gowns jumpsuit jumpsuits romper kleid kleider robe robes vestido "
        "vestidos abito abiti 连衣裙 ワンピース платье"
    ).split(),
    "upper_body": (
        "top tops shirt shirts t-shirt t-shirts tshirt tee tees blouse blouses sweater sweaters "
        "pullover jumper cardigan hoodie sweatshirt jacket jackets coat coats blazer vest tunic "
        "knitwear outerwear polo hemd hemden bluse jacke jacken mantel chemise chemises veste "
        "camisa camisas chaqueta camicia giacca 上衣 衬衫 外套 シャツ ジャケット рубашка куртка"
    ).split(),
    "lower_body": (
        "trousers pants jeans skirt skirts shorts leggings chinos joggers bottoms culottes hose "
        "hosen rock röcke pantalon pantalons jupe jupes falda faldas pantalón pantalones gonna "
        "裤子 半身裙 パンツ スカート брюки юбка"
    ).split(),
}
"""Words of product types and titles in English, German, French, Spanish, Italian, Chinese,
Japanese and Russian; a table of the user's own goes before them."""


_COUNT = re.compile(r"-?\d{1,18}")
"""A stock that can be added up: Python reads no number of thousands of digits."""


@dataclass(frozen=True)
class Product:
    """One photo of an article in a feed.

    photo: its URL or path. columns: the values of the columns of the catalogue's table. line: of
    the feed, or the number of the item in XML.
    """

    photo: str
    columns: Mapping[str, str]
    line: int


@dataclass
class Feed:
    """The content of a product feed.

    products: one a photo, in the order of the feed. mapping: each of the feed's columns with the
    catalogue's column that it became ('' where it keeps its name). faults: (line, reason) of rows,
    photos and columns that can't be used. notes: (line, what is odd) of rows that are. merged: the
    lines that bring no photo of their own; their size and stock are added to their article's.
    """

    products: list[Product] = field(default_factory=list)
    mapping: dict[str, str] = field(default_factory=dict)
    faults: list[tuple[int, str]] = field(default_factory=list)
    notes: list[tuple[int, str]] = field(default_factory=list)
    merged: set[int] = field(default_factory=set)


def read_feed(path: Path, words: Mapping[str, Iterable[str]] | None = None) -> Feed:
    """Read a product feed; its kind is known by its content.

    Args:
        words: categories with words that mean them, asked before CATEGORY_WORDS.

    Raises:
        OSError: from the file system.
        ValueError: it can't be read (see feed_rows.read_rows), or has no column of photos.
    """
    path = Path(path)
    table = read_rows(path)
    mapping = map_columns(table.names)
    if "photo" not in mapping.values():
        raise ValueError(
            f"{path} has the columns {table.names}: expected one of photos, called "
            f"{', '.join(COLUMNS['photo'])}."
        )
    feed = Feed(mapping={name: mapping.get(name, "") for name in table.names}, faults=table.faults)
    choose = _categories({**(words or {})})
    rows = [(line, _meant(row, mapping)) for line, row in table.rows]
    ids = _Ids(values.get("id", "") for _, values in rows)
    articles: dict[str | int, dict[str, str]] = {}
    first: dict[str | int, dict[str, str]] = {}
    seen: dict[tuple[str | int, str], dict[str, str]] = {}
    without: list[tuple[int, str | int, dict[str, str]]] = []
    for line, own in rows:
        # A row without an id is an article of its own.
        key = own.get("item_group_id") or own.get("id") or line
        values = _inherited(articles.setdefault(key, own), own)
        photos = _photos(values.pop("photo", ""), values.pop("more_photos", ""))
        feed.notes += [(line, note) for note in (*_odd_prices(own), *_odd_stock(own))]
        if not photos:
            without.append((line, key, own))
            continue
        columns = _columns(values, choose)
        for photo in photos:
            try:
                name = photo_name(photo)
            except ValueError as error:
                feed.faults.append((line, f"photo {photo!r} is no address ({error}): mend it"))
                continue
            # Sizes of one article share its photos.
            if (former := seen.get((key, photo))) is not None:
                _merge_variant(former, own)
                feed.merged.add(line)
                continue
            known = columns.get("id", "")
            identity = ids.choose(
                known or own.get("item_group_id", "") or PurePosixPath(name).stem, bool(known)
            )
            one = {**columns, "id": identity}
            first.setdefault(key, one)
            seen[key, photo] = one
            feed.products.append(Product(photo, one, line))
    for line, key, own in without:
        if key in first:  # an article whose first row has no photo
            _merge_variant(first[key], own)
            feed.merged.add(line)
        else:
            feed.faults.append((line, "no photo"))
    feed.faults.sort()
    return feed


def map_columns(names: Iterable[str]) -> dict[str, str]:
    """Find the catalogue's column that each name means, by COLUMNS; the likeliest name gets it."""
    names = list(names)
    plain = {_plain(name): name for name in reversed(names)}
    mapping: dict[str, str] = {}
    for meaning, known in COLUMNS.items():
        found = next(
            (plain[_plain(k)] for k in known if plain.get(_plain(k)) not in (None, *mapping)), None
        )
        if found is not None:
            mapping[found] = meaning
    return mapping


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-]+", " ", name.strip().casefold())


def _meant(row: Mapping[str, str], mapping: Mapping[str, str]) -> dict[str, str]:
    values = {mapping[name]: value.strip() for name, value in row.items() if name in mapping}
    others = {n.strip(): v.strip() for n, v in row.items() if n not in mapping and v.strip()}
    plain = {_plain(name): value for name, value in others.items()}
    for meaning, value in values.items():
        if not value:  # a row without `sale_price` has a `price`
            known = (plain.get(_plain(name)) for name in COLUMNS[meaning])
            values[meaning] = next(filter(None, known), "")
    for name, value in others.items():
        meaning = _plain(name).replace(" ", "_")
        if meaning not in values:
            values[name] = value
        elif value != values[meaning]:
            values[f"original_{meaning}"] = value
    if "item_group_id" not in values and "id" in values:
        values["item_group_id"] = ""
    return values


def _photos(first: str, more: str) -> list[str]:
    split = re.split(r"[,|\n]\s*(?=https?://)|[|\n]", more) if more else []
    return list(dict.fromkeys(photo.strip() for photo in (first, *split) if photo.strip()))


def _columns(values: Mapping[str, str], choose) -> dict[str, str]:
    columns = dict(values)
    kind = columns.pop("type", "")
    category = choose(kind) or choose(columns.get("caption", ""))
    description = html.unescape(re.sub(r"<[^>]*>", " ", columns.pop("description", "")))
    found = {
        "category": category,
        "product_type": kind,
        "description": re.sub(r"\s+", " ", description).strip()[:2000],
    }
    for name in ("original_price", "price"):
        if price := columns.pop(name, ""):
            number, currency = parse_price(price) or (price, "")
            found |= {name: number, "currency": currency}
    found["stock"] = _stock(columns.pop("stock", ""))
    columns |= {name: value for name, value in found.items() if value}
    return {name: value for name, value in columns.items() if value and name}


def _stock(text: str) -> str:
    known = {"in stock": "1", "in_stock": "1", "out of stock": "0", "out_of_stock": "0"}
    return known.get(text.casefold(), text)


def _odd_prices(own: Mapping[str, str]) -> Iterator[str]:
    for name in ("price", "original_price"):
        text = own.get(name, "")
        price = parse_price(text)
        if text and price is None:
            yield f"{name} {text!r} is no price: it is kept as it is"
        elif price and count_numbers(text) > 1:
            yield f"{name} {text!r} holds several numbers: the first counts, {price[0]}"


def _odd_stock(own: Mapping[str, str]) -> Iterator[str]:
    text = own.get("stock", "")
    if _COUNT.fullmatch(text) is None and re.fullmatch(r"-?\d+", text):
        yield f"stock {text[:20]}... has {len(text)} digits: it is kept as it is, and not added up"


def _inherited(article: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Fill the empty cells of an article's row; Shopify says a title in the first row alone."""
    values = dict(article)
    if own.get("price"):
        values.pop("original_price", None)
    return values | {name: value for name, value in own.items() if value}


def _merge_variant(former: dict[str, str], own: Mapping[str, str]) -> None:
    sizes = [size for size in former.get("size", "").split(", ") if size]
    if (size := own.get("size", "")) and size not in sizes:
        former["size"] = ", ".join([*sizes, size])
    stocks = [former.get("stock", ""), _stock(own.get("stock", ""))]
    if all(map(_COUNT.fullmatch, stocks)):
        former["stock"] = str(sum(map(int, stocks)))


class _Ids:
    """Gives each photo an id of its own, and leaves those of the feed to the rows that say them."""

    def __init__(self, said: Iterable[str]):
        self._said, self._given = set(said), set[str]()
        self._places: Counter[str] = Counter()

    def choose(self, base: str, is_said: bool) -> str:
        """Return `base`, or `base_2` and so on where it is given or, unless `is_said`, said."""
        base = chosen = base or "photo"
        while chosen in self._given or (chosen in self._said and not (is_said and chosen == base)):
            self._places[base] += 1
            chosen = f"{base}_{self._places[base] + 1}"
        self._given.add(chosen)
        return chosen


def photo_name(photo: str) -> str:
    """Return the file name that a URL or path of a photo ends in, without a query.

    Raises:
        ValueError: the URL is malformed.
    """
    return PurePosixPath(photo_path(photo)).name


def photo_path(photo: str) -> str:
    """Return the path in a URL or path of a photo, with slashes and without a query.

    Raises:
        ValueError: the URL is malformed.
    """
    path = urlsplit(photo).path if "://" in photo else photo
    return unquote(path).replace("\\", "/")


def _categories(words: Mapping[str, Iterable[str]]):
    table = [
        (word.casefold(), category)
        for source in (words, CATEGORY_WORDS)
        for category, known in source.items()
        for word in known
    ]

    def choose(text: str) -> str:
        # The last part of "Clothing > Dresses > Midi" says most.
        for part in reversed(re.split(r"[>/|]", text.casefold())):
            tokens = set(re.findall(r"[\w-]+", part))
            for word, category in table:
                if word in tokens or (not word.isascii() and word in part):
                    return category
        return ""

    return choose


def read_words(path: Path) -> dict[str, list[str]]:
    """Read a JSON file of the words that mean each category: {"shoes": ["boots", "sneakers"]}.

    Raises:
        OSError: from the file system. ValueError: it is something else.
    """
    expected = 'expected categories with lists of words: {"shoes": ["boots", "sneakers"]}.'
    try:
        content = parse_json(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON in UTF-8 ({error}): {expected}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds {str(content)[:80]}: {expected}")
    for category, words in content.items():
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            found = json.dumps(words, ensure_ascii=False)[:80]
            raise ValueError(f"{path} has {found} for {category!r}: {expected}")
    return content
