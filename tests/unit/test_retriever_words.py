"""What is taken out of a query's text, and what the user is told of it."""

from __future__ import annotations

import re
import time

import pytest
from fashion_rag.adapter.garment.prompts import refuse_embeddings, weighted_parts
from fashion_rag.demo.words import unknown_words
from fashion_rag.retriever.filter_text import read_filter
from fashion_rag.retriever.query_types import LONGEST_TEXT, Query
from fashion_rag.retriever.store.filters import parse_filter
from fashion_rag.retriever.words import language_of, plain_words, remarks
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("red dress", "red dress"),
        ("(red dress:1.3)", "red dress"),
        ("((red:1.2) dress:1.1), long", "red dress, long"),
        ("((red)) dress", "red dress"),
        ("jacket (blue)", "jacket (blue)"),
        ("size (range:38)", "size (range:38)"),
        (r"jacket \(blue:1\)", "jacket (blue:1)"),
        ("red dress, embedding:good_name", "red dress"),
        ("embedding:a.pt, red dress", "red dress"),
        ("red dress <lora:style:0.8>", "red dress"),
    ],
)
def test_plain_words(text, words):
    assert plain_words(text)[0] == words == Query(text).words
    assert bool(plain_words(text)[1]) == (words != text and "\\" not in text)


@given(
    st.lists(st.sampled_from(["(", ")", "((", "))", "red", " ", ":", ":1", ":1.2 "]), max_size=14)
)
def test_brackets_are_taken_off_as_often_as_there_are_some(parts):
    """The model takes off one pair of brackets at a time."""
    text = words = "a" + "".join(parts) + "b"
    for pattern in (r"\(([^()]*):\s*\d(?:\.\d*)?\s*\)", r"\(\(([^()]*)\)\)"):
        count = 1
        while count:
            words, count = re.subn(pattern, r"\1", words, count=1)
    assert plain_words(text)[0] == words


LONG_TEXTS = {
    "brackets": "((((((" * 6000 + ")))))" * 4000,
    "levels": "(" * 20_000 + "a" + ")" * 20_000,
    "weights": "(" * 12_000 + "a" + ":1)" * 12_000,
}


@pytest.mark.parametrize("text", LONG_TEXTS.values(), ids=LONG_TEXTS)
def test_a_long_text_is_read_at_once(text):
    started = time.process_time()
    plain_words(text)
    assert time.process_time() - started < 1.5


@pytest.mark.parametrize(
    "fields", [{"text": "a" * 10_001}, {"text": "a", "negative": "(" * 60_000}]
)
def test_no_text_is_endless(fields):
    assert Query("a" * LONGEST_TEXT).words
    with pytest.raises(
        ValueError, match=r"(text|negative) has \d\d,\d+ characters: expected 10,000"
    ):
        Query(**{"text": "red"} | fields)


LONG_FILTERS = {
    "words": "a " * 16_000,
    "hyphens": "a-" * 30_000,
    "spaces": "a b" + " " * 30_000 + "!",
    "escapes": '"' + '\\"' * 30_000,
    "columns": "sale price < " * 5_000,
    "ins": "in " * 20_000,
    "digits": "price < 1 or price < " + "9" * 20_000 + " x",
}


@pytest.mark.parametrize("text", LONG_FILTERS.values(), ids=LONG_FILTERS)
def test_a_long_filter_is_refused_at_once(text):
    started = time.process_time()
    with pytest.raises(ValueError, match="is not understood at character"):
        read_filter(text)
    assert time.process_time() - started < 5


def test_quotes_that_are_opened_and_never_closed():
    plain = parse_filter('a = "b" and c = 1')
    assert read_filter('a = “b" and c ＝ 1') == plain
    assert read_filter('a = "b” and c ＝ 1') == plain
    assert read_filter("`it's` = 1 and c = 'x，\"y'") == parse_filter("`it's` = 1 and c = 'x，\"y'")


def test_nothing_but_an_embedding_is_no_query():
    with pytest.raises(ValueError, match="embedding:x.*no words"):
        Query("embedding:x")


def test_punctuation_of_any_script_separates():
    assert Query("红色，长袖；棉、夏", chunks="singly").noun_chunks == ("红色", "长袖", "棉", "夏")


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("robe rouge", "French"),
        ("rotes Kleid mit langen Ärmeln", "German"),
        ("vestido rojo", "Spanish"),
        ("красное платье", "Russian or another language in Cyrillic letters"),
        ("红色连衣裙", "Chinese or Japanese"),
        ("ＲＥＤ dress", None),
        ("red dress", None),
        ("a long robe, rose print, appliqué", None),
        ("blue denim jacket with metal buttons", None),
        ("crêpe de chine blouse", None),
    ],
)
def test_language(text, language):
    assert language_of(text) == language


class Counting:
    name, context_length = "counting", 5

    @staticmethod
    def count_tokens(text: str) -> int:
        return len(text.split()) + 2


def test_remarks():
    assert remarks("red dress", Counting()) == []
    assert remarks("knotted notch", Counting()) == []
    (note,) = remarks("dress without sleeves", Counting())
    assert "“without”" in note and "negative_text" in note
    (note,) = remarks("one two three four five", Counting())
    assert "7 tokens long" in note and "reads 5" in note and "“four five”" in note
    assert "English" in remarks("robe rouge", Counting())[0]
    assert remarks("robe rouge", type("Many", (Counting,), {"multilingual": True})()) == []


def test_filters_as_typesetters_and_chinese_keyboards_write_them():
    plain = parse_filter('a = "x，y" and b in [1, 2]')
    assert read_filter('a = "x，y" and b in ［1，2］') == plain
    with pytest.raises(ValueError, match="`sale price`"):
        read_filter("price < 3 and sale price < 80")


def test_weights_of_a_prompt():
    # Checked against ComfyUI's own token_weights on 20,000 random prompts.
    expected = {
        "a (b:1.2) c": [("a ", 1.0), ("b", 1.2), (" c", 1.0)],
        "((b))": [("b", 1.1 * 1.1)],
        "(a (b:0.5) c)": [("a ", 1.1), ("b", 0.5), (" c", 1.1)],
        "(a:b)": [("a:b", 1.1)],
        r"\(a\)": [("(a)", 1.0)],
        "a) (b": [("a) ", 1.0), ("(b", 1.0)],
        "": [],
    }
    for text, parts in expected.items():
        assert weighted_parts(text) == [(part, pytest.approx(by)) for part, by in parts], text


def test_embeddings_are_refused_outside_of_comfyui():
    refuse_embeddings("a photo of (red:1.2)")
    with pytest.raises(ValueError, match="'embedding:x'.*ComfyUI alone"):
        refuse_embeddings("a photo, embedding:x, (embedding:y:1.2)")


def test_the_demo_knows_words_of_no_other_script():
    assert unknown_words("红色连衣裙") and unknown_words("красное платье")
    assert unknown_words("green dress") == []
