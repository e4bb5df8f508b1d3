"""`fashion-rag index` and `encoder` as a user types them, and what they print."""

from __future__ import annotations

import argparse
from pathlib import Path

from fashion_rag.commands import encoder, index

from .retriever_fakes import draw_catalogue, write_tiny_encoder


def run(*words: str | Path | float) -> None:
    """Run one command line of `fashion-rag`."""
    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers(required=True)
    for command in (encoder, index):
        command.add_commands(subparsers)
    args = parser.parse_args([str(word) for word in words])
    args.run(args)


def build_shop(shop: Path, count: int, columns: str, values) -> Path:
    """Build `shop/index` of `shop/photos`, whose table has more columns, with `shop/encoder`.

    Photos are NNN.png with the id gN, hats and coats in turn; values: of `columns` for a number.
    """
    photos = draw_catalogue(shop / "photos", count)
    rows = [f"{n:03}.png,g{n},{('hats', 'coats')[n % 2]},{values(n)}" for n in range(count)]
    (photos / "garments.csv").write_text("\n".join([f"file,id,category,{columns}", *rows]))
    write_tiny_encoder(shop / "encoder")
    options = ("--encoder", shop / "encoder", "--device", "cpu", "--unchecked")
    run("index", "build", photos, shop / "index", *options)
    return shop


def searching(shop: Path, capsys):
    """A function that searches an index of the shop, and returns the lines printed."""

    def search(*words, index: str = "index") -> list[str]:
        capsys.readouterr()
        run("index", "search", shop / index, *words, "--encoder", shop / "encoder")
        return capsys.readouterr().out.splitlines()

    return search


def files(lines: list[str]) -> list[str]:
    """The files of the hits in a search's lines."""
    return [line.split()[1] for line in lines if line[:1] in "-0123456789" and ".png" in line]
