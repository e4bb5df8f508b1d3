"""`fashion-rag index search --queries FILE --json`, words and the least score, as a user types."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from fashion_rag.commands import search as command
from fashion_rag.commands.query_file import LONGEST, read_queries
from fashion_rag.retriever.query import Query

from .index_commands import build_shop, files, searching

torch.set_num_threads(1)
NAMES = ["navy", "linen", "coat", "boot"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    return build_shop(folder, 24, "caption", lambda n: f"{NAMES[n % 4]} {n}")


@pytest.fixture
def search(shop, capsys):
    return searching(shop, capsys)


def write_file(folder: Path, content: str | bytes, name: str = "queries.txt") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("at_once", [2, 256])
def test_each_line_is_answered_as_it_is_alone(search, tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(command, "_AT_ONCE", at_once)
    texts = ["a navy hat", "红色连衣裙", '"coat" AND *', "a hat, singly", "boot"]
    file = write_file(tmp_path, b"\xef\xbb\xbf" + "\r\n\r\n".join(texts).encode())
    lines = [json.loads(line) for line in search("--queries", file, "--json", "-k", 2)]
    assert [line["text"] for line in lines] == texts
    assert [line["line"] for line in lines] == [1, 3, 5, 7, 9]
    for text, line in zip(texts, lines, strict=True):
        (alone,) = search(text, "--json", "-k", 2)
        assert json.loads(alone) == {**line, "line": 1}
        plain = search(text, "-k", 2)
        assert files(plain) == [hit["file"] for hit in line["hits"]]
        assert len(line["hits"]) == 2 and set(line["hits"][0]) == {
            *("id", "file", "category", "caption", "columns", "score")
        }


def test_lines_may_have_options_of_their_own(search, tmp_path):
    lines = [
        {"text": "a hat"},
        {"text": "a hat", "category": "hats", "k": 5},
        {"text": "navy", "word_weight": 1, "k": 6, "where": "category = 'hats'"},
    ]
    file = write_file(tmp_path, "\n".join(map(json.dumps, lines)), "queries.jsonl")
    found = [json.loads(line) for line in search("--queries", file, "--json", "-k", 2)]
    assert [len(line["hits"]) for line in found] == [2, 5, 6]
    assert {hit["category"] for hit in found[1]["hits"]} == {"hats"}
    assert all("navy" in hit["caption"] for hit in found[2]["hits"])


def test_without_json_each_line_is_shown_with_its_text(search, tmp_path):
    file = write_file(tmp_path, "a hat\na coat")
    assert search("--queries", file, "-k", 2) == search("a hat", "a coat", "-k", 2)


def test_a_query_that_fails_is_none_of_the_others(search, tmp_path, capsys):
    lines = [{"text": "a hat"}, {"text": "a hat", "category": "shoes"}, {"text": "a coat"}]
    file = write_file(tmp_path, "\n".join(map(json.dumps, lines)), "queries.jsonl")
    with pytest.raises(ValueError, match="1 of 3 queries have no answer"):
        search("--queries", file, "--json")
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert ["error" in line for line in found] == [False, True, False]
    assert "'shoes'" in found[1]["error"] and len(found[2]["hits"]) == 3


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (b"", "a.txt", "holds no query: write one a line"),
        (b"\n \r\n\t\n", "a.txt", "holds no query"),
        ("ok\nrotes Kleid, Größe".encode("latin-1"), "a.txt", r"line 2 is no text in UTF-8"),
        ("red dress\n".encode("utf-16"), "a.txt", "line 1 .*UTF-16"),
        ("ok\n" + "w" * (LONGEST + 1), "a.txt", "line 2 is longer than 10,000 characters"),
        ("ok\n" + " " * 10**6, "a.txt", "line 2 is longer than"),
        ("ok\n<lora:x:1>", "a.txt", "line 2: .* holds no words"),
        ('{"text": "a"}\n{', "a.jsonl", "line 2: it is no JSON object"),
        ("[1]", "a.jsonl", "line 1: it is list, expected an object"),
        ('{"k": 3}', "a.jsonl", "line 1: .*text is empty"),
        ('{"text": "a", "colour": 1}', "a.jsonl", "line 1: 'colour' is no part of a query"),
        ('{"text": "a", "k": 0}', "a.jsonl", "line 1: k is 0"),
        ('{"text": "a", "auto_min_score": 1}', "a.jsonl", "auto_min_score is 1: expected bool"),
    ],
)
def test_a_file_that_is_none(search, tmp_path, capsys, content, name, words):
    file = write_file(tmp_path, content, name)
    with pytest.raises(ValueError, match=words) as error:
        search("--queries", file, "--json")
    assert str(file) in str(error.value)
    assert capsys.readouterr().out == ""


def test_the_longest_line_is_read(tmp_path):
    longest = "\N{MATHEMATICAL SCRIPT CAPITAL A}" * LONGEST
    file = write_file(tmp_path, f"{longest}\r\na hat\n")
    assert [query.text for _, query in read_queries(file, Query("-"))] == [longest, "a hat"]


def test_texts_or_a_file(search, tmp_path):
    with pytest.raises(ValueError, match="Both TEXT and --queries"):
        search("a hat", "--queries", write_file(tmp_path, "a hat"))
    with pytest.raises(SystemExit):
        search("--json")
    with pytest.raises(FileNotFoundError):
        search("--queries", tmp_path / "missing.txt", "--json")


# --- words and the least score


def test_words_change_the_order(search):
    plain = files(search("navy hat", "-k", 24))
    joined = files(search("navy hat", "-k", 24, "--words", 0.5))
    assert sorted(plain) == sorted(joined) and plain != joined
    first = files(search("navy", "-k", 6, "--words", 1))
    assert sorted(first) == [f"{n:03}.png" for n in range(0, 24, 4)]
    with pytest.raises(SystemExit):
        search("navy", "--words", 1.5)


def test_the_least_score_of_the_catalogue_is_a_minimum(shop, search):
    manifest = json.loads((shop / "index" / "manifest.json").read_text())
    measured = manifest["least_score"]
    assert measured["by"] == "captions" and measured["texts"] == measured["garments"] == 24
    plain = search("navy 0", "-k", 24, "--min-score", measured["score"])
    assert search("navy 0", "-k", 24, "--min-score", "auto") == plain
    with pytest.raises(SystemExit):
        search("navy 0", "--min-score", "often")
