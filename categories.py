"""The three garment categories of Dress Code, spelt as its folders are."""

from __future__ import annotations

CATEGORIES = ("dresses", "upper_body", "lower_body")
"""Names of the top folders of a Dress Code folder, in the paper's order. A catalogue may use words
of its own."""

CATEGORY_WORDS = {
    "dresses": "a dress",
    "upper_body": "an upper body garment",
    "lower_body": "a lower body garment",
}
"""What a prompt says for a category; the paper's words."""
