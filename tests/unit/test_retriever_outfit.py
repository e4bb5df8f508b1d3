"""Outfits in words: how lines are read, in which category each is searched, what is left out."""

from __future__ import annotations

import pytest
import torch
from fashion_rag.retriever.backends import LocalBackend
from fashion_rag.retriever.outfit import OutfitLine, read_outfit, retrieve_outfit
from fashion_rag.retriever.photos.catalogue import Garment
from fashion_rag.retriever.query import Query
from fashion_rag.retriever.store.index import GarmentIndex
from hypothesis import given
from hypothesis import strategies as st

WORDS = {"shirt": 0, "trousers": 1, "dress": 2, "red": 3, "blue": 4}


class Encoder:
    """Texts as sums of their known words' axes."""

    name, fingerprint, dim = "words", "w0rd5", len(WORDS) + 1

    def encode_texts(self, texts):
        rows = torch.full((len(texts), len(WORDS) + 1), 1e-3)
        for row, text in zip(rows, texts, strict=True):
            for word in text.split():
                row[WORDS.get(word, len(WORDS))] += 1
        return torch.nn.functional.normalize(rows, dim=1)


CATEGORY_OF = {"shirt": "upper_body", "trousers": "lower_body", "dress": "dresses"}


def index() -> LocalBackend:
    """Garments named by two words, with the category of the second."""
    names = [f"{colour} {kind}" for kind in CATEGORY_OF for colour in ("red", "blue")]
    garments = [Garment(name, f"{name}.png", CATEGORY_OF[name.split()[1]]) for name in names]
    found = GarmentIndex.in_memory(garments, Encoder().encode_texts(names))
    found.manifest["encoder"]["fingerprint"] = Encoder.fingerprint
    return LocalBackend(found)


def ids_of(outfit) -> list[list[str]]:
    return [[hit.garment.id for hit in part.result.hits] for part in outfit.parts]


def search(text: str, **options):
    lines = read_outfit(text)
    return retrieve_outfit(index(), Encoder(), lines, Query("any", **{"k": 1} | options))


def test_lines_with_and_without_a_category():
    lines = read_outfit("\n upper_body : white linen shirt \n\njeans")
    assert lines == (OutfitLine(2, "white linen shirt", "upper_body"), OutfitLine(4, "jeans"))
    assert read_outfit("Lower_Body\uff1ajeans")[0].category == "lower_body"
    assert read_outfit("Hats: red")[0].category == "Hats", "a catalogue's own category"
    assert read_outfit("a shirt in one colour: red")[0].category == ""


@given(st.lists(st.sampled_from(["red shirt", "dresses: blue dress", "", "  "]), max_size=6))
def test_every_line_with_words_is_read_in_order(rows):
    wanted = [number for number, row in enumerate(rows, 1) if row.strip()]
    if wanted:
        assert [line.number for line in read_outfit("\n".join(rows))] == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" \n ", "The outfit is empty"),
        ("a shirt\ndresses:", "line 2, 'dresses:': the category is named, but no garment"),
    ],
)
def test_lines_that_can_not_be_read(text, message):
    with pytest.raises(ValueError, match=message):
        read_outfit(text)


def test_the_encoder_chooses_the_category_where_none_is_named():
    outfit = search("red shirt\nblue trousers\ndresses: blue shirt")
    assert ids_of(outfit) == [["red shirt"], ["blue trousers"], ["blue dress"]]
    assert [part.category for part in outfit.parts] == ["upper_body", "lower_body", "dresses"]
    assert str(outfit.parts[0]) == "line 1, upper_body (chosen): red shirt"
    assert str(outfit.parts[2]) == "line 3, dresses: blue shirt"


def test_a_line_without_a_match_is_left_out_with_a_note():
    outfit = search("red shirt\nsomething else", min_score=0.5)
    assert ids_of(outfit) == [["red shirt"]] and outfit.parts[0].line.number == 1
    (note,) = outfit.notes
    assert note.startswith("line 2") and "minimum score 0.5" in note and note.endswith("Left out.")
    with pytest.raises(ValueError, match=r"No line of the outfit.*line 1.*minimum score"):
        search("something else", min_score=0.5)


def test_a_word_before_a_colon_that_is_no_category_is_told_with_its_line():
    told = (
        r"line 2, '10:30 red dress': a single word before a colon is a category\. .*category '10'; "
        r"it has: 'dresses', .*Write one of these before the colon, or the line without it"
    )
    with pytest.raises(ValueError, match=told):
        search("red shirt\n 10:30 red dress")
    assert ids_of(search("DRESSES: red\nat 10:30, red dress"))[1] == ["red dress"]


def test_options_are_shared_and_pinned_garments_refused():
    outfit = search("red shirt\nred trousers", k=2, excluded=("red shirt",))
    assert ids_of(outfit) == [["blue shirt"], ["red trousers", "blue trousers"]]
    with pytest.raises(ValueError, match="no pinned garments"):
        search("red shirt", pinned=("red shirt",))
