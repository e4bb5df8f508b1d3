"""Product feeds: Shopify, Google Merchant, plain CSV; which photos are fetched and which never."""

from __future__ import annotations

import csv
import http.server
import io
import ssl
import threading

import pytest
import trustme
from fashion_rag.retriever.photos import download
from fashion_rag.retriever.photos.catalogue import read_catalogue
from fashion_rag.retriever.photos.feeds import map_columns, read_feed, read_words
from fashion_rag.retriever.photos.prices import parse_price
from fashion_rag.retriever.upkeep.import_feed import import_feed
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

SHOPIFY = """Handle,Title,Body (HTML),Vendor,Type,Option1 Name,Option1 Value,Variant SKU,\
Variant Price,Variant Inventory Qty,Image Src,Image Position,Status
denim-jacket,Blue denim jacket,<p>Metal &amp; stitched</p>,Acme,Jackets,Size,S,DJ-S,89.90,3,\
https://cdn.example/files/denim_front.jpg?v=1,1,active
denim-jacket,,,,,Size,M,DJ-M,89.90,4,https://cdn.example/files/denim_back.jpg?v=1,2,active
denim-jacket,,,,,Size,L,DJ-L,89.90,0,,,active
sun-dress,Sun dress,,Bolt,,Size,M,SD-M,45.00,1,https://cdn.example/files/sun.png,1,active
"""
GOOGLE = """<?xml version="1.0"?>
<rss version="2.0" xmlns:g="http://base.google.com/ns/1.0"><channel><title>Shop</title>
<item><g:id>A1</g:id><title>Linen trousers</title><g:price>59.00 EUR</g:price>
<g:product_type>Clothing &gt; Trousers</g:product_type><g:brand>Acme</g:brand>
<g:image_link>https://cdn.example/a1.jpg</g:image_link>
<g:additional_image_link>https://cdn.example/a1_b.jpg</g:additional_image_link>
<g:additional_image_link>https://cdn.example/a1_c.jpg</g:additional_image_link>
<g:availability>in stock</g:availability><g:item_group_id>G1</g:item_group_id>
<g:color>sand</g:color></item></channel></rss>
"""


TSV = """id\ttitle\tdescription\timage_link\tadditional_image_link\tavailability\tprice\t\
sale_price\tbrand\tproduct_type\tsize\titem_group_id\tgtin
T1-S\tRock "Lina", blau\t"Leicht,
in ""A-Linie"" geschnitten\tund weit"\thttps://cdn.example/t1.jpg\t\
"https://cdn.example/t1_b.jpg,https://cdn.example/t1_c.jpg"\tin_stock\t20.00 USD\t15.00 USD\t\
Acme\t"Clothing > Skirts"\tS\tT1\t4006381333931
T1-M\tRock "Lina", blau\t\thttps://cdn.example/t1.jpg\t\tin_stock\t20.00 USD\t15.00 USD\t\
Acme\tClothing > Skirts\tM\tT1\t4006381333948
T2\tPullover\tWarm\thttps://cdn.example/t2.jpg\t\tout of stock\t1,299.00 USD\t\t\
Bolt\tClothing > Sweaters\tOne size\t\t4006381333955
"""


def picture(path, colour="red"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (30, 40), colour).save(path)
    return path


def table(catalogue) -> list[dict[str, str]]:
    text = (catalogue / "garments.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text)))


def test_shopify_rows_of_one_article(tmp_path):
    feed = tmp_path / "products.csv"
    feed.write_text(SHOPIFY, encoding="utf-8")
    for name in ("denim_front.jpg", "denim_back.jpg", "sun.png"):
        picture(tmp_path / "shop" / name)
    report = import_feed(feed, tmp_path / "shop")
    front, back, dress = table(tmp_path / "shop")
    assert (front["id"], back["id"], dress["id"]) == ("DJ-S", "DJ-M", "SD-M")
    assert front["item_group_id"] == back["item_group_id"] == "denim-jacket"
    assert back["caption"] == "Blue denim jacket", "said in the article's first row alone"
    assert (front["category"], dress["category"]) == ("upper_body", "dresses")
    assert (front["price"], front["description"]) == ("89.90", "Metal & stitched")
    assert report.missing == []
    assert len(read_catalogue(tmp_path / "shop").garments) == 3


def test_google_merchant_xml(tmp_path):
    feed = tmp_path / "feed.xml"
    feed.write_text(GOOGLE, encoding="utf-8")
    products = read_feed(feed).products
    assert [one.photo[-8:] for one in products] == ["e/a1.jpg", "a1_b.jpg", "a1_c.jpg"]
    columns = products[1].columns
    assert columns["id"] == "A1_2"
    assert (columns["price"], columns["currency"], columns["stock"]) == ("59.00", "EUR", "1")
    assert (columns["category"], columns["color"]) == ("lower_body", "sand")


def test_google_merchant_tsv(tmp_path):
    """With a byte-order mark, names without `g:`, and quotes that hold a tab and a line's end."""
    feed = tmp_path / "feed.tsv"
    feed.write_bytes(TSV.replace("\n", "\r\n").encode("utf-8-sig"))
    for name in ("t1.jpg", "t1_b.jpg", "t1_c.jpg", "t2.jpg"):
        picture(tmp_path / "shop" / name)
    report = import_feed(feed, tmp_path / "shop")
    assert report.missing == []
    skirt, back, side, pullover = table(tmp_path / "shop")
    assert [row["file"] for row in (skirt, back, side, pullover)] == [
        "t1.jpg", "t1_b.jpg", "t1_c.jpg", "t2.jpg"
    ]  # fmt: skip
    assert skirt["caption"] == 'Rock "Lina", blau'
    assert skirt["description"] == 'Leicht, in "A-Linie" geschnitten und weit'
    assert {row["item_group_id"] for row in (skirt, back, side)} == {"T1"}
    assert pullover["item_group_id"] == ""
    assert (skirt["price"], skirt["original_price"], skirt["currency"]) == ("15.00", "20.00", "USD")
    assert (pullover["price"], pullover["currency"]) == ("1299.00", "USD"), "no sale of this one"
    assert [skirt["size"], skirt["stock"]] == ["S, M", "2"], "one photo of both sizes"
    assert [pullover["size"], pullover["stock"]] == ["One size", "0"]
    assert [skirt["category"], pullover["category"]] == ["lower_body", "upper_body"]
    assert [skirt["brand"], skirt["gtin"]] == ["Acme", "4006381333931"]
    assert len(read_catalogue(tmp_path / "shop").garments) == 4


@pytest.mark.parametrize(
    "names", [("price", "sale_price"), ("sale_price", "price"), ("Regular price", "Sale price")]
)
def test_a_sale_price_goes_before_the_price_and_an_empty_one_does_not(tmp_path, names):
    rows = [["20.00", "15.00"], ["30.00", ""], ["40.00", "40.00"]]
    if names[0] == "sale_price":
        rows = [row[::-1] for row in rows]
    lines = [["id", "image_link", *names], *([f"{n}", f"{n}.jpg", *r] for n, r in enumerate(rows))]
    (tmp_path / "feed.csv").write_text("\n".join(map(",".join, lines)))
    columns = [one.columns for one in read_feed(tmp_path / "feed.csv").products]
    assert [one["price"] for one in columns] == ["15.00", "30.00", "40.00"]
    kept = "Regular price" if names[1] == "Sale price" else "original_price"
    assert columns[0][kept] == "20.00"
    assert "original_price" not in columns[1]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_plain_table_of_any_separator_and_encoding(tmp_path, encoding, separator):
    lines = [
        ["Name", "Image", "Price", "Größe"],
        ["Kleid weiß", r"C:\fotos\Weiß.JPG", "12,50 €", "M"],
    ]
    text = "\r\n".join(separator.join(f'"{cell}"' for cell in line) for line in lines)
    (tmp_path / "feed.csv").write_bytes(text.encode(encoding))
    picture(tmp_path / "photos" / "weiß.jpg")
    import_feed(tmp_path / "feed.csv", tmp_path / "shop", tmp_path / "photos")
    (row,) = table(tmp_path / "shop")
    assert (row["category"], row["price"], row["currency"]) == ("dresses", "12.50", "EUR")
    assert row["Größe"] == "M", "a column that means nothing to us keeps its name"
    assert (tmp_path / "shop" / row["file"]).is_file()


def test_a_dry_run_changes_nothing_and_tells_what_is_missing(tmp_path):
    (tmp_path / "feed.csv").write_text("id,title,image\n1,Coat,coat.jpg\n2,Hat,hat.jpg\n")
    picture(tmp_path / "shop" / "coat.jpg")
    report = import_feed(tmp_path / "feed.csv", tmp_path / "shop", dry=True)
    lines = "\n".join(report.lines())
    assert "image  is  photo" in lines
    assert "hat.jpg: not found" in lines
    assert (report.written, report.categories["upper_body"]) == (1, 1)
    assert not (tmp_path / "shop" / "garments.csv").exists()


def test_the_users_own_words_go_first(tmp_path):
    (tmp_path / "words.json").write_text('{"shoes": ["dress"]}')
    (tmp_path / "feed.csv").write_text("title,image\nDress shoes,a.jpg\n")
    (product,) = read_feed(tmp_path / "feed.csv", read_words(tmp_path / "words.json")).products
    assert product.columns["category"] == "shoes"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n", "expected one of photos"),
        ('image,x\n"a.jpg,1\n2,3\n', r'line 2: a quote \("\) is not closed'),
        ("<!DOCTYPE x><rss/>", "document type"),
        ("<rss><channel/></rss>", "holds no item"),
        ("<rss>", "is no XML"),
    ],
)
def test_a_feed_that_cant_be_read(tmp_path, content, message):
    (tmp_path / "feed").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_feed(tmp_path / "feed")


def read(tmp_path, text: str | bytes):
    (tmp_path / "feed").write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return read_feed(tmp_path / "feed")


def values(feed, *names: str) -> list[tuple[str | None, ...]]:
    return [tuple(one.columns.get(name) for name in names) for one in feed.products]


def test_rows_without_an_id_share_nothing(tmp_path):
    feed = read(tmp_path, "file,title,price\np1.jpg,Red dress,10\np2.jpg,Blue shirt,\np3.jpg,,30\n")
    assert values(feed, "id", "caption", "price") == [
        ("p1", "Red dress", "10"), ("p2", "Blue shirt", None), ("p3", None, "30")
    ]  # fmt: skip


def test_a_row_without_a_photo_is_told(tmp_path):
    feed = read(tmp_path, "file,title\np1.jpg,Red dress\n,Blue shirt\np3.jpg,Green\n")
    assert values(feed, "id") == [("p1",), ("p3",)]
    assert feed.faults == [(3, "no photo")]
    item = "<item><g:id>{}</g:id>{}</item>"
    items = item.format("A", "<g:image_link>p1.jpg</g:image_link>") + item.format("B", "")
    xml = f'<rss xmlns:g="http://base.google.com/ns/1.0"><channel>{items}</channel></rss>'
    assert read(tmp_path, xml).faults == [(2, "no photo")]


def test_an_articles_row_without_a_photo_adds_its_size_wherever_it_stands(tmp_path):
    feed = read(
        tmp_path,
        "id,item_group_id,image,size,quantity\nS,G,,S,1\nM,G,m.jpg,M,2\nL,G,,L,3\nX,H,,L,3\n",
    )
    assert values(feed, "id", "size", "stock") == [("M", "M, S, L", "6")]
    assert (feed.merged, feed.faults) == ({2, 4}, [(5, "no photo")])


def test_a_size_without_a_stock_of_its_own_adds_none(tmp_path):
    feed = read(tmp_path, "id,item_group_id,image,size,stock\nS,G,a.jpg,S,3\nM,G,a.jpg,M,\n")
    assert values(feed, "size", "stock") == [("S, M", "3")]


def test_a_stock_of_too_many_digits_is_told_and_costs_nothing_else(tmp_path):
    huge = "9" * 5000
    feed = read(
        tmp_path,
        f"id,item_group_id,image,size,stock\nS,G,a.jpg,S,3\nM,G,a.jpg,M,{huge}\nL,G,a.jpg,L,4\n"
        f"X,H,x.jpg,S,{huge}\nY,H,x.jpg,M,1\n",
    )
    assert values(feed, "id", "size", "stock") == [("S", "S, M, L", "7"), ("X", "S, M", huge)]
    assert [line for line, _ in feed.notes] == [3, 5]
    assert "stock 99999999999999999999... has 5000 digits" in feed.notes[0][1]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("id,item_group_id,image\nA1,G,1.jpg\nA2,G,2.jpg\n", ["A1", "A2"]),
        ("id,image\nA,1.jpg\nA,2.jpg\n", ["A", "A_2"]),
        ("id,image,more images\nA,1.jpg,2.jpg\nA_2,3.jpg,\n", ["A", "A_3", "A_2"]),
        ("id,image,more images\nA_2,3.jpg,\nA,1.jpg,2.jpg|4.jpg\n", ["A_2", "A", "A_3", "A_4"]),
        ("id,image\n,x.jpg\nx,y.jpg\n,a/x.jpg\n", ["x_2", "x", "x_3"]),
        ("id,item_group_id,image\nA1,G,1.jpg\n,G,2.jpg\nA2,G,3.jpg\n", ["A1", "A1_2", "A2"]),
    ],
)
def test_ids_are_the_feeds_own_and_never_twice(tmp_path, text, ids):
    assert [one.columns["id"] for one in read(tmp_path, text).products] == ids


def test_a_row_of_too_many_cells_is_told_and_not_cut_off(tmp_path):
    feed = read(tmp_path, "id,file,title,price\nA,a.jpg\nB,b.jpg,Blue, very blue,20\nC,c.jpg,,,,\n")
    assert values(feed, "id") == [("A",), ("C",)]
    ((line, reason),) = feed.faults
    assert (line, reason[:22]) == (3, "5 values for 4 columns")


def test_values_of_columns_without_a_name_of_their_own_are_told(tmp_path):
    feed = read(tmp_path, "id,image,size,size,\nA,a.jpg,S,M,x\n")
    assert values(feed, "size") == [("S",)]
    assert [reason[:30] for _, reason in feed.faults] == [
        "column 4 is named 'size' again", "column 5 is without a name: it"
    ]  # fmt: skip


def test_odd_prices_are_told(tmp_path):
    feed = read(tmp_path, 'id,file,price\nA,a.jpg,ab\nB,b.jpg,"$19.99 - $29.99"\nC,c.jpg,5\n')
    assert values(feed, "price") == [("ab",), ("19.99",), ("5",)]
    assert feed.notes == [
        (2, "price 'ab' is no price: it is kept as it is"),
        (3, "price '$19.99 - $29.99' holds several numbers: the first counts, 19.99"),
    ]


def test_a_price_of_its_own_has_no_original_of_another_row(tmp_path):
    feed = read(
        tmp_path,
        "id,item_group_id,image,price,sale_price\nA,G,a.jpg,30,15\nB,G,b.jpg,20,\n,G,c.jpg,,\n",
    )
    assert values(feed, "price", "original_price") == [("15", "30"), ("20", None), ("15", "30")]


def test_a_malformed_address_costs_its_photo_alone(tmp_path):
    feed = read(tmp_path, "id,file,title\nX,p1.jpg,Red\nY,https://[bad/p2.jpg,Blue\nZ,p3.jpg,\n")
    assert values(feed, "id") == [("X",), ("Z",)]
    ((line, reason),) = feed.faults
    assert line == 3 and "https://[bad/p2.jpg" in reason


XML = "<rss><item><id>X</id><title>Röcke</title><image>p1.jpg</image></item></rss>"


@pytest.mark.parametrize(
    "content",
    [
        "sep=;\r\nid;image;title\r\nX;p1.jpg;Röcke\r\n".encode(),
        "\n ,,\nid,image,title\nX,p1.jpg,Röcke\n".encode(),
        "sep=|\nid|image|title\nX|p1.jpg|Röcke\n".encode("utf-16"),
        f"<?xml version='1.0' encoding='utf-16'?>{XML}".encode("utf-16"),
        f"<?xml version='1.0' encoding='utf-16'?>{XML}".encode("utf-16-le"),
        f"<?xml version='1.0'?>{XML}".encode("utf-16-be"),
        f"\n <?xml version='1.0' encoding='utf-8'?>{XML}".encode("utf-8-sig"),
        f"<?xml version='1.0' encoding='iso-8859-1'?>{XML}".encode("latin-1"),
    ],
)
def test_first_lines_and_encodings_that_programs_write(tmp_path, content):
    assert values(read(tmp_path, content), "id", "caption") == [("X", "Röcke")]


def test_a_document_type_is_refused_in_utf_16_too(tmp_path):
    with pytest.raises(ValueError, match="document type"):
        read(tmp_path, '<!DOCTYPE x [<!ENTITY a "b">]><rss/>'.encode("utf-16"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"shoes": "boots"}', "\"boots\" for 'shoes': expected categories with lists"),
        ('{"shoes": [1]}', r"\[1\] for 'shoes'"),
        ("[1, 2]", r"holds \[1, 2\]: expected"),
        ("{", "is no JSON"),
    ],
)
def test_words_that_are_no_lists(tmp_path, text, message):
    (tmp_path / "words.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_words(tmp_path / "words.json")


@pytest.mark.parametrize(
    ("text", "price"),
    [
        ("1.299,00 €", ("1299.00", "EUR")),
        ("$1,299.5", ("1299.5", "USD")),
        ("59.00 EUR", ("59.00", "EUR")),
        ("CHF 1'299.-", ("1299", "CHF")),
        ("1 299,95", ("1299.95", "")),
        ("1.299", ("1299", "")),
        ("TRUE", None),
        ("ab", None),
        ("-5", None),
        ("$ -5", None),
        ("19.99USD", ("19.99", "USD")),
        ("EUR29,99", ("29.99", "EUR")),
        ("19.99 eur", ("19.99", "EUR")),
        ("19.99 € TTC", ("19.99", "EUR")),
        ("0.125", ("0.125", "")),
        ("0,125 €", ("0.125", "EUR")),
        ("$.99", ("0.99", "USD")),
        ("Rs.500", ("500", "")),
        ("25.500 KWD", ("25.500", "KWD")),
        ("C$ 25", ("25", "CAD")),
        ("A$25.50", ("25.50", "AUD")),
        ("HK$1,250", ("1250", "HKD")),
        ("US$ 25", ("25", "USD")),
        ("R$ 99,90", ("99.90", "BRL")),
        ("25 $CA", ("25", "CAD")),
        ("Z$ 25", ("25", "")),
        ("CN¥ 80", ("80", "CNY")),
        ("￥１，２９９", ("1299", "JPY")),
        ("19.99 29.99", ("19.99", "")),
        ("1’299.50 CHF", ("1299.50", "CHF")),
    ],
)
def test_prices(text, price):
    assert parse_price(text) == price


@given(st.decimals(0, 99999, places=2, allow_nan=False), st.sampled_from(["{} €", "EUR {}", "{}"]))
def test_a_price_of_two_decimals_survives_every_notation(value, shape):
    for point, thousands in ((".", ","), (",", "."), (",", " "), (".", "'")):
        text = f"{value:,.2f}".translate(str.maketrans({",": thousands, ".": point}))
        found = parse_price(shape.format(text))
        assert found is not None
        assert float(found[0]) == float(value)


def test_every_meaning_goes_to_one_column():
    assert map_columns(["ID", "Image_Link", "image link", "Product-Type"]) == {
        "ID": "id",
        "Image_Link": "photo",
        "Product-Type": "type",
    }


@pytest.fixture
def shop_server(tmp_path, monkeypatch):
    """An https server on loopback with photos and traps; its certificate is trusted."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    photo = io.BytesIO()
    Image.new("RGB", (30, 40), "blue").save(photo, "JPEG")
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            asked.append(self.path)
            body = photo.getvalue() if "photo" in self.path else b"<html>no photo</html>"
            self.send_response(302 if "moved" in self.path else 404 if "gone" in self.path else 200)
            if "moved" in self.path:
                self.send_header("Location", self.path.split("moved=")[1])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    monkeypatch.setattr(download.ssl, "create_default_context", lambda: trusted)
    yield f"https://localhost:{server.server_address[1]}", asked
    server.shutdown()


def test_photos_are_fetched_once_and_resumed(tmp_path, shop_server):
    address, asked = shop_server
    feed = tmp_path / "feed.csv"
    feed.write_text(
        f"id,title,image_link\n1,Coat,{address}/photo_1.jpg\n2,Hat,{address}/gone.jpg\n"
        f"3,Skirt,{address}/x?moved=/photo_3.jpg\n4,Top,{address}/page.jpg\n"
    )
    with pytest.raises(ValueError, match="not found"):
        import_feed(feed, tmp_path / "shop")
    report = import_feed(feed, tmp_path / "shop", download=True, allowed=lambda _: True)
    assert report.written == 2
    reasons = dict(report.missing)
    assert "404" in reasons[f"{address}/gone.jpg"]
    assert "page.jpg" in next(key for key in reasons if "page" in key)
    before = len(asked)
    import_feed(feed, tmp_path / "shop", download=True, allowed=lambda _: True)
    assert len(asked) == before + 2, "only what is not there yet"
    assert not list((tmp_path / "shop").rglob("*.tmp"))


def test_photos_of_one_name_are_told_apart(tmp_path, shop_server):
    address, asked = shop_server
    feed = tmp_path / "feed.csv"
    feed.write_text(
        f"id,title,image_link\n1,Coat,{address}/1/photo.jpg\n2,Hat,{address}/2/photo.jpg\n"
    )
    import_feed(feed, tmp_path / "shop", download=True, allowed=lambda _: True)
    assert len({row["file"] for row in table(tmp_path / "shop")}) == 2
    assert asked == ["/1/photo.jpg", "/2/photo.jpg"]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://localhost/photo.jpg", "only https"),
        ("file:///etc/passwd", "only https"),
        ("https://127.0.0.1/photo.jpg", "not public"),
        ("https://[::1]/photo.jpg", "not public"),
        ("https://169.254.169.254/latest", "not public"),
        ("https://10.0.0.1/photo.jpg", "not public"),
    ],
)
def test_what_is_never_fetched(tmp_path, url, message):
    with pytest.raises(ValueError, match=message):
        download.download_photo(url, tmp_path / "photo.jpg")
    assert not list(tmp_path.iterdir())


def test_a_redirect_to_another_scheme_and_a_large_file_are_refused(
    tmp_path, shop_server, monkeypatch
):
    address, _ = shop_server
    with pytest.raises(ValueError, match="only https"):
        download.download_photo(
            f"{address}/x?moved=http://localhost/a.jpg", tmp_path / "a.jpg", lambda _: True
        )
    monkeypatch.setattr(download, "MOST_BYTES", 100)
    with pytest.raises(ValueError, match="more than 100 bytes"):
        download.download_photo(f"{address}/photo.jpg", tmp_path / "a.jpg", lambda _: True)
    assert not list(tmp_path.iterdir())


def test_quotes_are_letters_where_tabs_part_the_cells_and_none_closes(tmp_path):
    feed = tmp_path / "feed.tsv"
    feed.write_text('id\ttitle\timage_link\n1\tCoat\ta.jpg\n2\t"Slim" jeans\tb.jpg\n')
    for name in ("a.jpg", "b.jpg"):
        picture(tmp_path / "shop" / name)
    assert import_feed(feed, tmp_path / "shop").written == 2
    assert [row["caption"] for row in table(tmp_path / "shop")] == ["Coat", '"Slim" jeans']


def test_letters_and_spaces_of_an_address_are_escaped(tmp_path, shop_server):
    address, asked = shop_server
    for path, escaped in {
        "/photo/gr\u00fcn 1.jpg?a=\u00fc b&c=%20": "/photo/gr%C3%BCn%201.jpg?a=%C3%BC%20b&c=%20",
        "/photo/a%2Fb+c,d.jpg": "/photo/a%2Fb+c,d.jpg",
    }.items():
        download.download_photo(f"{address}{path}", tmp_path / "a.jpg", lambda _: True)
        assert asked[-1] == escaped
