"""What every encoder demands of a text, and the vocabulary of an encoder of many languages."""

from __future__ import annotations

from collections.abc import Sequence

MULTILINGUAL_FROM = 100_000
"""Tokens in the vocabulary of a text encoder of many languages (mT5, XLM-RoBERTa and Gemma have
250,000; CLIP, T5 and BERT of English 30,000 to 50,000)."""


def check_texts(texts: Sequence[str]) -> None:
    """Raise ValueError where a text is empty."""
    if not all(text.strip() for text in texts):
        raise ValueError("The text is empty: say what the garment looks like.")
