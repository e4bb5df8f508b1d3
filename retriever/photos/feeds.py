"""Product feeds as shops export them: Shopify's CSV, Google Merchant's TSV and XML, any plain CSV.

A feed is read into products, one for each photo of an article, with the columns of a catalogue's
table: id, caption, category, price and currency, brand, size, stock, item_group_id (shared by the
views of one article). Columns that mean none of these keep their names; a price beside a sale price
becomes `original_price`.
"""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

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

MOST_BYTES = 512 << 20
_CURRENCIES = {"€": "EUR", "$": "USD", "£": "GBP", "¥": "JPY", "₽": "RUB", "₩": "KRW"}
_GOOGLE = "{http://base.google.com/ns/1.0}"
_ENCODINGS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"", "utf-8-sig"))


@dataclass(frozen=True)
class Product:
    """One photo of an article in a feed.

    photo: its URL or file name. columns: the values of the columns of the catalogue's table.
    """

    photo: str
    columns: Mapping[str, str]


@dataclass
class Feed:
    """The content of a product feed.

    products: one a photo, in the order of the feed. mapping: each of the feed's columns with the
    catalogue's column that it became ('' where it keeps its name). faults: (line, reason) of rows
    that can't be used.
    """

    products: list[Product] = field(default_factory=list)
    mapping: dict[str, str] = field(default_factory=dict)
    faults: list[tuple[int, str]] = field(default_factory=list)


def read_feed(path: Path, words: Mapping[str, Iterable[str]] | None = None) -> Feed:
    """Read a product feed; its kind is known by its content.

    Args:
        words: categories with words that mean them, asked before CATEGORY_WORDS.

    Raises:
        OSError: from the file system.
        ValueError: it is larger than MOST_BYTES, no text, no table, or has no column of photos.
    """
    path = Path(path)
    if (size := path.stat().st_size) > MOST_BYTES:
        raise ValueError(f"{path} has {size} bytes: a feed has at most {MOST_BYTES}. Split it.")
    content = path.read_bytes()
    if content.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"):
        names, rows = _xml_rows(path, content)
    else:
        names, rows = _table_rows(path, _decoded(path, content))
    mapping = map_columns(names)
    if "photo" not in mapping.values():
        raise ValueError(
            f"{path} has the columns {names}: expected one of photos, called "
            f"{', '.join(COLUMNS['photo'])}."
        )
    feed = Feed(mapping={name: mapping.get(name, "") for name in names})
    choose = _categories({**(words or {})})
    articles: dict[str, dict[str, str]] = {}
    seen: dict[tuple[str, str], dict[str, str]] = {}
    views: Counter[str] = Counter()
    for line, row in rows:
        values = _meant(row, mapping)
        group = values.get("item_group_id") or values.get("id", "")
        # Shopify says an article's title in its first row alone.
        article = articles.setdefault(group, values)
        values = {**article, **{name: value for name, value in values.items() if value}}
        photos = _photos(values.pop("photo", ""), values.pop("more_photos", ""))
        if not photos:
            if not group or article is values:
                feed.faults.append((line, "no photo"))
            continue
        columns = _columns(values, choose)
        for photo in photos:
            # Sizes of one article share its photos.
            former = seen.get((group, photo))
            if former is not None:
                _merge_variant(former, columns)
                continue
            one = {**columns, "id": _view_id(columns.get("id") or group, views[group], photo)}
            views[group] += 1
            seen[group, photo] = one
            feed.products.append(Product(photo, one))
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


def parse_price(text: str) -> tuple[str, str] | None:
    """Split a price into its number (with a point) and currency (or ''); None if it is no price.

    The last of `.` and `,` is the decimal point unless three digits follow it and it, or a blank,
    stands for thousands.
    """
    number = re.search(r"\d[\d.,'\s\u00a0\u202f]*", text)
    if number is None:
        return None
    digits = re.sub(r"[\s'\u00a0\u202f]", "", number[0]).rstrip(".,")
    point = max(digits.rfind("."), digits.rfind(","))
    if point >= 0:
        whole, rest = re.sub(r"[.,]", "", digits[:point]), digits[point + 1 :]
        several = digits.count(digits[point]) > 1
        digits = (
            f"{whole}{rest}"
            if len(rest) == 3 and (several or len(whole) <= 3)
            else f"{whole}.{rest}"
        )
    code = re.search(r"\b[A-Z]{3}\b", text)
    sign = next((_CURRENCIES[letter] for letter in text if letter in _CURRENCIES), "")
    return digits, code[0] if code else sign


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
    stock = columns.pop("stock", "")
    if stock:
        known = {"in stock": "1", "in_stock": "1", "out of stock": "0", "out_of_stock": "0"}
        found["stock"] = known.get(stock.casefold(), stock)
    columns |= {name: value for name, value in found.items() if value}
    return {name: value for name, value in columns.items() if value and name}


def _merge_variant(former: dict[str, str], columns: Mapping[str, str]) -> None:
    sizes = [size for size in former.get("size", "").split(", ") if size]
    if (size := columns.get("size", "")) and size not in sizes:
        former["size"] = ", ".join([*sizes, size])
    stocks = [former.get("stock", ""), columns.get("stock", "")]
    if all(re.fullmatch(r"-?\d+", stock) for stock in stocks):
        former["stock"] = str(sum(map(int, stocks)))


def _view_id(name: str, place: int, photo: str) -> str:
    base = name or PurePosixPath(photo_name(photo)).stem
    return base if place == 0 else f"{base}_{place + 1}"


def photo_name(photo: str) -> str:
    """Return the file name that a URL or path of a photo ends in, without a query."""
    path = urlsplit(photo).path if "://" in photo else photo
    return PurePosixPath(unquote(path).replace("\\", "/")).name


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


def _decoded(path: Path, content: bytes) -> str:
    encoding = next(name for mark, name in _ENCODINGS if content.startswith(mark))
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        try:
            return content.decode("cp1252")  # what Excel saves where nobody chooses
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is no text ({error}): save it as UTF-8.") from error


def _table_rows(path: Path, text: str) -> tuple[list[str], Iterator[tuple[int, dict[str, str]]]]:
    head = text[: text.find("\n") + 1 or None]
    separator = max(",;\t|", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        names = next(reader)
    except (csv.Error, StopIteration) as error:
        raise ValueError(f"{path} is no table: its first line is {head[:80]!r}.") from error

    def rows() -> Iterator[tuple[int, dict[str, str]]]:
        try:
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield reader.line_num, dict(zip(names, cells, strict=False))
        except csv.Error as error:
            raise ValueError(
                f"{path} line {reader.line_num}: {error}. Close the quotes."
            ) from error

    return names, rows()


class _NoDoctype(ElementTree.TreeBuilder):
    def doctype(self, *_: object) -> None:
        raise ValueError("the feed declares a document type, which no product feed needs")


def _xml_rows(path: Path, content: bytes) -> tuple[list[str], Iterator[tuple[int, dict[str, str]]]]:
    if b"<!DOCTYPE" in content[:4096] or b"<!ENTITY" in content:
        raise ValueError(
            f"{path} declares a document type or entities: no product feed needs them."
        )
    try:
        parser = ElementTree.XMLParser(target=_NoDoctype())
        parser.feed(content)
        root = parser.close()
    except ElementTree.ParseError as error:
        raise ValueError(f"{path} is no XML ({error}): export the feed again.") from error
    items = [e for e in root.iter() if e.tag.rpartition("}")[2] in ("item", "entry")]
    if not items:
        raise ValueError(f"{path} holds no item: expected Google Merchant's RSS or Atom feed.")
    rows = []
    for number, item in enumerate(items, start=1):
        row: dict[str, str] = {}
        for child in item:
            name, text = child.tag.rpartition("}")[2], (child.text or "").strip()
            # Google's own names go before RSS's of the same name.
            if child.tag.startswith(_GOOGLE) and name not in ("additional_image_link",):
                row[name] = text
            elif name == "additional_image_link":
                row[name] = "|".join(filter(None, [row.get(name, ""), text]))
            else:
                row.setdefault(name, text)
        rows.append((number, row))
    return list(dict.fromkeys(name for _, row in rows for name in row)), iter(rows)


def read_words(path: Path) -> dict[str, list[str]]:
    """Read a JSON file of the words that mean each category: {"shoes": ["boots", "sneakers"]}.

    Raises:
        ValueError: it is something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if all(
            isinstance(k, str) and all(isinstance(w, str) for w in v) for k, v in content.items()
        ):
            return content
    except (ValueError, AttributeError, TypeError):
        pass
    raise ValueError(f'{path}: expected JSON of categories and words: {{"shoes": ["boots"]}}.')
