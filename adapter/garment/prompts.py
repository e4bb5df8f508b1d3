"""Prompts that contain garments: from a template and pseudo-words to windows of 77 tokens.

Both hosts use these functions, each with its own tokenizer: ComfyUI takes the windows as they are,
the headless pipeline turns them into input embeddings. Fashion-RAG, section III-B: the pseudo-words
of the retrieved garments stand one after the other, in the order of retrieval, after the prompt.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Sequence

import torch

from ...categories import CATEGORY_WORDS

logger = logging.getLogger(__name__)

PAPER_PROMPT = "a photo of a model wearing {category} made of {garments}"
CAPTION_PROMPT = "{caption}. {garments}"
DEPTH_PROMPT = "a photo of a model wearing {category}. {caption}"

OUTFIT = "an outfit"

Token = tuple[int | torch.Tensor, float]
"""A token's id, or the vector (width,) that stands for it, and its weight."""
Tokenize = Callable[[str], Sequence[Token]]
"""Text to tokens, without start, end and padding."""

# Stands for the garments while the text is tokenised, so that they take over the weight of their
# place, as in "({garments}:1.2)". Plain letters: every CLIP tokenizer keeps them, a character of
# the private-use area is dropped by some.
MARKER = "qxgarmentsplaceqx"

_EMPHASIS = 1.1  # what brackets without a number weigh, in ComfyUI
_ESCAPED = (("\\(", "\ue000"), ("\\)", "\ue001"))
_EMBEDDING = re.compile(r"(?<![^\s(,])embedding:[^\s,)]+")


def category_words(categories: Sequence[str]) -> str:
    """Return the words for garments' categories: the paper's for its three, else the name.

    Several different categories, an unknown one (an empty name) or none give "an outfit".
    """
    names = {name.strip() for name in categories}
    name = names.pop() if len(names) == 1 else ""
    return CATEGORY_WORDS.get(name, name) or OUTFIT


def split_prompt(template: str, category: str = OUTFIT, caption: str = "") -> list[str]:
    """Fill in {category} and {caption}; return [before, after] the garments, or [text] without.

    `category` is put in as it is (see `category_words`). Only these three names in braces mean
    anything, and only in the template: what the user's own text holds stays.

    Raises:
        ValueError: {garments} stands in the template more than once.
    """
    values = {"category": category, "caption": caption}
    parts = [""]
    for index, piece in enumerate(re.split(r"\{(category|caption|garments)\}", template)):
        if index % 2 == 0:
            parts[-1] += piece
        elif piece == "garments":
            parts.append("")
        else:
            parts[-1] += values[piece]
    if len(parts) > 2:
        raise ValueError(
            f"the prompt {template!r} has {{garments}} {len(parts) - 1} times, expected once at "
            "most: all garments stand at one place; remove the others."
        )
    return parts


def weighted_parts(text: str, weight: float = 1.0) -> list[tuple[str, float]]:
    """Read a prompt's weights as ComfyUI does: the parts of the text, in order, with their weights.

    `(words:1.2)` weighs 1.2, whatever stands around it; `(words)` 1.1 times what stands around it;
    `\\(` and `\\)` are brackets themselves. A bracket without its other half is a letter.
    """
    for escaped, stand_in in _ESCAPED:
        text = text.replace(escaped, stand_in)
    parts: list[tuple[str, float]] = []
    depth, start = 0, 0
    for place, letter in enumerate(text):
        if letter == "(":
            if depth == 0:
                parts.append((text[start:place], weight))
                start = place
            depth += 1
        elif letter == ")" and depth:
            depth -= 1
            if depth == 0:
                parts += _bracketed(text[start + 1 : place], weight)
                start = place + 1
    parts.append((text[start:], weight))
    for escaped, stand_in in _ESCAPED:
        parts = [(part.replace(stand_in, escaped[1:]), by) for part, by in parts]
    return [(part, by) for part, by in parts if part]


def _bracketed(text: str, weight: float) -> list[tuple[str, float]]:
    words, colon, number = text.rpartition(":")
    try:
        own = float(number) if colon and words else math.nan
    except ValueError:
        own = math.nan
    if math.isfinite(own):
        return weighted_parts(words, own)
    return weighted_parts(text, _EMPHASIS * weight)


def refuse_embeddings(*texts: str) -> None:
    """Refuse `embedding:NAME`, which a host without a folder of embeddings would read as words.

    Raises:
        ValueError: a text holds `embedding:NAME`.
    """
    for text in texts:
        if match := _EMBEDDING.search(text):
            raise ValueError(
                f"the prompt holds {match[0]!r}: embeddings are read in ComfyUI alone; name the "
                "garments by words, or take them from an index ({garments})."
            )


def scale_garments(
    pseudo_words: Sequence[torch.Tensor],
    strength: float = 1.0,
    strengths: Sequence[float] | None = None,
) -> list[torch.Tensor]:
    """Scale each garment's pseudo-words (words, width) by `strength` times its own strength.

    1 is the paper. A garment whose product is 0 is left out. `strengths` defaults to 1 for each.

    Raises:
        ValueError: there are not as many strengths as garments, or one is no finite number.
    """
    if strengths is None:
        strengths = [1.0] * len(pseudo_words)
    if len(strengths) != len(pseudo_words):
        raise ValueError(
            f"got {len(strengths)} strengths for {len(pseudo_words)} garments, expected one each."
        )
    factors = [strength * own for own in strengths]
    if not all(map(math.isfinite, factors)):
        raise ValueError(
            f"strength is {strength}, the garments' own are {', '.join(map(str, strengths))}: "
            "expected finite numbers, 1 is the paper's."
        )
    return [words * by for words, by in zip(pseudo_words, factors, strict=True) if by != 0]


def windows(
    parts: Sequence[str],
    garments: Sequence[torch.Tensor],
    tokenize: Tokenize,
    *,
    start: int,
    end: int,
    pad: int,
    length: int = 77,
) -> list[list[Token]]:
    """Put the garments' pseudo-words into the prompt; return one or more windows of tokens.

    A window takes as many garments as fit beside the prompt; the next one repeats the prompt with
    its own garments. Where not even one fits, the prompt goes into windows of its own, and the
    garments follow in windows of theirs. Nothing is cut.

    Args:
        parts: the text around the garments, as `split_prompt` returns it.
        garments: for each garment its pseudo-words (words, width), in the order of retrieval.
        tokenize: the host's tokenizer; called with text that holds no `start`, `end` or `pad`.
        start, end, pad: the ids that begin, close and fill a window.
        length: tokens in a window, `start` and `end` included.

    Returns:
        Windows of exactly `length` tokens (id or vector (width,), weight).

    Raises:
        ValueError: the text holds the marker word, a weight is no finite number, or one garment
            has more pseudo-words than a window can take.
    """
    before, after, weight = _tokenize_parts(parts, tokenize)
    blocks: list[list[Token]] = [[(vector, weight) for vector in words] for words in garments]
    if blocks and len(parts) == 1:
        logger.warning("The prompt has no {garments}: %d garments do not take part.", len(blocks))
        blocks = []
    room = length - 2
    longest = max((len(block) for block in blocks), default=0)
    if longest > room:
        raise ValueError(
            f"a garment has {longest} pseudo-words, expected at most {room}: "
            f"one window holds {length} tokens with its start and end."
        )

    contents: list[list[Token]] = []
    if not blocks or len(before) + longest + len(after) > room:
        text = [*before, *after]
        contents = [text[i : i + room] for i in range(0, len(text), room)] or [[]]
        if len(text) + longest > room:
            logger.warning(
                "The prompt is %d tokens long, a window holds %d: it is continued in further "
                "windows, and the garments stand in windows of their own.",
                len(text),
                room,
            )
        before, after = [], []
    contents += [[*before, *group, *after] for group in _group(blocks, room - len(before + after))]
    return [
        [(start, 1.0), *content, (end, 1.0), *[(pad, 1.0)] * (room - len(content))]
        for content in contents
    ]


def _tokenize_parts(
    parts: Sequence[str], tokenize: Tokenize
) -> tuple[list[Token], list[Token], float]:
    """Return the tokens before the garments, those after them, and the weight at their place."""
    tokens = list(tokenize(f" {MARKER} ".join(parts)))
    for _, weight in tokens:
        if not math.isfinite(weight):
            raise ValueError(
                f"a weight of the prompt is {weight}: expected a finite number, as in "
                "({garments}:1.2)."
            )
    if len(parts) == 1:
        return tokens, [], 1.0
    marker = [token for token, _ in tokenize(MARKER)]
    ids = [None if torch.is_tensor(token) else int(token) for token, _ in tokens]
    places = [i for i in range(len(ids)) if ids[i : i + len(marker)] == marker]
    if not places:
        raise ValueError(
            "the text encoder's tokenizer loses the place of the garments in "
            f"{' ... '.join(parts)!r}: take special tokens, such as <|endoftext|>, out of the text."
        )
    if len(places) > 1:
        raise ValueError(
            f"the word {MARKER!r} is reserved for the place of the garments; "
            f"found {len(places)} times in the tokens, expected once: remove it from the text."
        )
    place = places[0]
    return tokens[:place], tokens[place + len(marker) :], tokens[place][1]


def _group(blocks: Sequence[list[Token]], room: int) -> list[list[Token]]:
    """Join whole blocks, in order, into as few groups of at most `room` tokens as that allows."""
    groups: list[list[Token]] = []
    for block in blocks:
        if groups and len(groups[-1]) + len(block) <= room:
            groups[-1] = [*groups[-1], *block]
        else:
            groups.append(block)
    return groups
