"""Prompt templates and windows of tokens."""

from __future__ import annotations

import logging
import math
from zlib import crc32

import pytest
import torch
from fashion_rag.adapter.garment import prompts
from hypothesis import given, settings
from hypothesis import strategies as st

START, END, PAD = 1, 2, 0
SPECIAL = {"start": START, "end": END, "pad": PAD}


def by_word(text: str) -> list[prompts.Token]:
    """A word to one token, from 10 on; "(word:1.2)" as ComfyUI weighs it, for single words."""
    tokens = []
    for word in text.replace("( ", "(").replace(" :", ":").split():
        weight = 1.0
        if word.startswith("("):
            word, weight = word[1:-1].split(":")
        tokens.append((10 + crc32(word.encode()), float(weight)))
    return tokens


def garments(count: int, words: int = 16, width: int = 8) -> list[torch.Tensor]:
    return [torch.full((words, width), float(index + 1)) for index in range(count)]


def numbers(window: list[prompts.Token]) -> list[float]:
    """Ids as they are; pseudo-words as the negative number of their garment."""
    return [-token[0].item() if torch.is_tensor(token) else token for token, _ in window]


@pytest.mark.parametrize(
    ("categories", "words"),
    [
        (["dresses"], "a dress"),
        (["upper_body", "upper_body"], "an upper body garment"),
        (["lower_body"], "a lower body garment"),
        (["upper_body", "lower_body"], "an outfit"),
        (["kimonos"], "kimonos"),
        (["kimonos", ""], "an outfit"),
        ([""], "an outfit"),
        ([], "an outfit"),
    ],
)
def test_category_words(categories, words):
    assert prompts.category_words(categories) == words


def test_split_prompt_keeps_braces_and_dollars_of_the_user():
    parts = prompts.split_prompt(
        prompts.CAPTION_PROMPT, caption="a {garments} shirt for 5$ of {category}"
    )
    assert parts == ["a {garments} shirt for 5$ of {category}. ", ""]
    assert prompts.split_prompt("{colour} {category}", "a dress") == ["{colour} a dress"]


def test_split_prompt_refuses_two_places():
    with pytest.raises(ValueError, match="2 times"):
        prompts.split_prompt("{garments} and {garments}")


@pytest.mark.parametrize(("category", "fits"), [("a dress", 4), ("an upper body garment", 3)])
def test_paper_prompt_takes_as_many_garments_as_fit(category, fits):
    parts = prompts.split_prompt(prompts.PAPER_PROMPT, category)
    text = by_word("".join(parts))
    assert len(prompts.windows(parts, garments(fits), by_word, **SPECIAL)) == 1
    first, second = prompts.windows(parts, garments(fits + 1), by_word, **SPECIAL)
    used = 1 + len(text)
    assert first[0] == (START, 1.0) and second[0] == (START, 1.0)
    assert first[1:used] == second[1:used] == text
    expected = [-float(1 + i // 16) for i in range(16 * fits)]
    assert numbers(first)[used:] == [*expected, END, *[PAD] * (76 - used - 16 * fits)]
    assert numbers(second)[used:] == [*[-(fits + 1.0)] * 16, END, *[PAD] * (60 - used)]


def test_the_garments_take_the_weight_of_their_place():
    (window,) = prompts.windows(
        ["wearing (", ":1.5) gladly"], garments(1, words=2), by_word, **SPECIAL
    )
    weights = [weight for token, weight in window if torch.is_tensor(token)]
    assert weights == [1.5, 1.5]
    assert [weight for token, weight in window if not torch.is_tensor(token)] == [1.0] * 75


def test_long_prompt_is_continued_and_nothing_is_cut(caplog):
    words = " ".join(f"word{i}" for i in range(100))
    with caplog.at_level(logging.WARNING):
        result = prompts.windows([words + " ", " end"], garments(5), by_word, **SPECIAL)
    assert "100" in caplog.text or "101" in caplog.text
    text = by_word(words + " end")
    assert [len(window) for window in result] == [77] * 4
    assert result[0][1:76] + result[1][1:27] == text
    assert numbers(result[2])[1:66] == [-float(1 + i // 16) for i in range(64)] + [END]
    assert numbers(result[3])[1:18] == [-5.0] * 16 + [END]


def test_without_garments_the_prompt_stands_alone():
    parts = prompts.split_prompt(prompts.PAPER_PROMPT, "a dress")
    (window,) = prompts.windows(parts, [], by_word, **SPECIAL)
    text = by_word("a photo of a model wearing a dress made of")
    assert window == [(START, 1.0), *text, (END, 1.0), *[(PAD, 1.0)] * (75 - len(text))]
    (empty,) = prompts.windows([""], [], by_word, **SPECIAL)
    assert [token for token, _ in empty] == [START, END, *[PAD] * 75]


def test_a_template_without_a_place_says_that_garments_are_left_out(caplog):
    with caplog.at_level(logging.WARNING):
        (window,) = prompts.windows(["a dress"], garments(2), by_word, **SPECIAL)
    assert "2 garments" in caplog.text
    assert not any(torch.is_tensor(token) for token, _ in window)


def test_errors_name_what_was_found():
    with pytest.raises(ValueError, match="found 2 times"):
        prompts.windows([prompts.MARKER, ""], garments(1), by_word, **SPECIAL)


def test_a_text_that_swallows_the_garments_place_is_shown():
    with pytest.raises(ValueError, match=r"a <\|endoftext\|>.*special tokens"):
        prompts.windows(["a <|endoftext|>", ""], garments(1), lambda text: [], **SPECIAL)
    with pytest.raises(ValueError, match="80 pseudo-words"):
        prompts.windows(["", ""], garments(1, words=80), by_word, **SPECIAL)
    with pytest.raises(ValueError, match="2 strengths for 1 garments"):
        prompts.scale_garments(garments(1), strengths=[1, 1])
    for strength, own in ((math.nan, [1]), (math.inf, [0]), (1, [-math.inf])):
        with pytest.raises(ValueError, match=f"strength is {strength}"):
            prompts.scale_garments(garments(1), strength, own)
    with pytest.raises(ValueError, match="a weight of the prompt is nan"):
        prompts.windows(["", ""], garments(1), lambda text: [(9, math.nan)], **SPECIAL)


def test_strength_scales_and_zero_leaves_out():
    first, third = prompts.scale_garments(garments(3), 0.5, [1, 0, 2])
    assert torch.equal(first, torch.full((16, 8), 0.5))
    assert torch.equal(third, torch.full((16, 8), 3.0))
    assert prompts.scale_garments(garments(2), 0.0) == []
    assert torch.equal(torch.stack(prompts.scale_garments(garments(2))), torch.stack(garments(2)))


@settings(max_examples=100, deadline=None)
@given(
    before=st.lists(st.sampled_from("abcd"), max_size=90),
    after=st.lists(st.sampled_from("wxyz"), max_size=30),
    words=st.lists(st.integers(1, 75), max_size=8),
)
def test_every_token_is_in_some_window_in_order(before, after, words):
    blocks = [torch.full((count, 2), float(index)) for index, count in enumerate(words)]
    parts = [" ".join(before), " ".join(after)]
    result = prompts.windows(parts, blocks, by_word, **SPECIAL)
    assert all(len(window) == 77 and window[0] == (START, 1.0) for window in result)
    placed = [token for window in result for token, _ in window if torch.is_tensor(token)]
    assert [vector[0].item() for vector in placed] == [
        float(index) for index, count in enumerate(words) for _ in range(count)
    ]
    texts = []
    for window in result:
        ids = [token for token, _ in window if not torch.is_tensor(token)]
        texts.append(ids[1 : ids.index(END)])
        assert set(ids[ids.index(END) + 1 :]) <= {PAD}
    wanted = [token for token, _ in by_word(" ".join(parts))]
    assert any(text == wanted for text in texts) or sum(texts, []) == wanted
