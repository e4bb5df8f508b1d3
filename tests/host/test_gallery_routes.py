"""The gallery's routes in a real ComfyUI: what they answer, what they refuse, what they cost."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest

pytestmark = pytest.mark.host


def ask(server, path: str, body: object = None, **headers: str):
    """Status, headers and content of an answer, an error's too."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    if data is not None:
        headers.setdefault("Content-Type", "application/json")
    url = f"http://{server.client.address}/fashion_rag{path}"
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=60)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status, dict(answer.headers), answer.read()


def found(server, index: str, query: dict, **rest) -> dict:
    status, _, content = ask(server, f"/index/{index}/search", {"query": query, **rest})
    assert status == 200, content
    return json.loads(content)


def test_what_the_page_sees_is_what_the_node_finds(server, index):
    described = json.loads(ask(server, f"/index/{index}")[2])
    assert described["count"] == 24
    page = json.loads(ask(server, f"/index/{index}/garments?start=20&count=60")[2])
    assert (page["total"], len(page["garments"])) == (24, 4)
    query = {"text": "a blue shirt", "k": 5, "category": "upper_body"}
    hits = found(server, index, query)["hits"]

    from fashion_rag.comfyui_server.client import Graph

    graph = Graph()
    loaded = graph.add("GarmentIndexLoader", index_name=index)
    node = graph.add(
        "TextGarmentRetrieve", index=loaded, text="a blue shirt", category="upper_body", top_k=5
    )
    graph.add("PreviewImage", images=node[1])
    ran = server.client.run(graph).outputs[node.number]
    assert ran["index"] == [index]
    assert [one["id"] for one in ran["garments"]] == [one["id"] for one in hits]
    assert [one["score"] for one in ran["garments"]] == pytest.approx(
        [one["score"] for one in hits], abs=2e-3
    )


def test_more_like_one(server, index):
    first, *_ = found(server, index, {"text": "trousers", "k": 1})["hits"]
    hits = found(server, index, {"k": 6}, like=first["id"])["hits"]
    assert len(hits) == 6
    assert first["id"] not in [hit["id"] for hit in hits]


def test_pictures_are_cached_by_their_content(server, index):
    (hit,) = found(server, index, {"text": "trousers", "k": 1})["hits"]
    for route in ("thumbnail", "photo"):
        path = f"/index/{index}/{route}?{urllib.parse.urlencode({'id': hit['id']})}"
        status, headers, content = ask(server, path)
        assert (status, headers["Content-Type"], content[:2]) == (200, "image/jpeg", b"\xff\xd8")
        assert "max-age" in headers["Cache-Control"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        again = ask(server, path, **{"If-None-Match": headers["ETag"]})
        assert (again[0], again[2]) == (304, b"")


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/index/nobody", None, 404),
        ("/index/..%2Findexes", None, 404),
        ("/index/%2Fetc", None, 404),
        ("/index/INDEX/thumbnail?id=..%2Fx", None, 404),
        ("/index/INDEX/photo?id=nobody", None, 404),
        ("/index/INDEX/garments?start=x", None, 400),
        ("/index/INDEX/garments?count=100000", None, 400),
        ("/index/INDEX/garments?where=price+%3C", None, 400),
        ("/index/INDEX/search", {"query": {"text": ""}}, 400),
        ("/index/INDEX/search", {"query": {"text": "a", "images": ["/etc/passwd"]}}, 400),
        ("/index/INDEX/search", {"query": {"text": "a", "category": "hats"}}, 400),
        ("/index/INDEX/search", [1], 400),
        ("/index/INDEX/search", {"query": {"text": "a" * 70_000}}, 400),
        ("/index/INDEX/search", {"query": {"text": "a"}, "number": "1"}, 400),
        ("/index/INDEX/search", b"[" * 30_000, 400),
        ("/index/INDEX/search", b'{"query": {"text": ' + b"[" * 900 + b"]" * 900 + b"}}", 400),
        ("/index/INDEX/search", b'{"query": {"text": "\xff"}}', 400),
        ("/index/INDEX/search", {"query": {"text": "a", "where": "a " * 16_000}}, 400),
        ("/index/INDEX/search", {"query": {"text": "(" * 20_000 + ")" * 20_000}}, 400),
    ],
)
def test_a_request_that_is_refused_says_why_in_json(server, index, path, body, status):
    found_status, headers, content = ask(server, path.replace("INDEX", index), body)
    assert found_status == status
    assert headers["Content-Type"].startswith("application/json")
    assert json.loads(content)["error"]


def test_what_encoding_a_request_claims_to_have_does_not_count(server, index):
    kind = {"Content-Type": "application/json; charset=foo"}
    answer = ask(server, f"/index/{index}/search", {"query": {"text": "a", "k": 1}}, **kind)
    assert answer[0] == 200, answer[2]


def test_a_page_takes_the_quotes_that_a_search_takes(server, index):
    where = urllib.parse.quote("file < “jackets0”")
    status, _, content = ask(server, f"/index/{index}/garments?where={where}")
    assert status == 200 and json.loads(content)["total"], content


def test_another_origin_is_refused(server, index):
    answer = ask(
        server,
        f"/index/{index}/search",
        {"query": {"text": "a"}},
        **{"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"},
    )
    assert answer[0] == 403
    simple = ask(server, f"/index/{index}/search", {"query": {}}, **{"Content-Type": "text/plain"})
    assert simple[0] == 400, "what a form of another site could send"


def test_the_newest_of_many_requests_is_answered(server, index):
    """A page that asks without end gets an answer to its last request, in a bounded time."""
    answers: dict[int, int] = {}

    def one(number: int) -> None:
        body = {"query": {"text": f"shirt {number}"}, "page": "p", "number": number}
        answers[number] = ask(server, f"/index/{index}/search", body)[0]

    threads = [threading.Thread(target=one, args=[number]) for number in range(1, 41)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
        time.sleep(0.01)
    for thread in threads:
        thread.join()
    assert answers[40] == 200
    assert set(answers.values()) <= {200, 204}
    assert time.monotonic() - started < 30
