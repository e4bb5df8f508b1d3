"""The command line: numbers, files, terminals of few letters, and what libraries raise."""

from __future__ import annotations

import argparse
import io
import re
import sqlite3

import pytest
import torch
from fashion_rag.commands import main as cli
from fashion_rag.commands import terminal
from PIL import Image
from safetensors.torch import save_file


def test_numbers_in_range():
    assert terminal.whole_number(1, 5)("5") == 5
    assert terminal.number(0)("1e300") == 1e300
    for read, text in (
        (terminal.whole_number(1, 5), "0"),
        (terminal.whole_number(1, 5), "6"),
        (terminal.whole_number(1), "1.5"),
        (terminal.number(0, 2), "nan"),
        (terminal.number(0), "inf"),
        (terminal.number(0, 2), "-0.1"),
        (terminal.picture_size, "0x512"),
        (terminal.picture_size, "384"),
    ):
        with pytest.raises(argparse.ArgumentTypeError, match=text):
            read(text)


@pytest.mark.parametrize(
    "option",
    [("--steps", "0"), ("--strength", "-5"), ("--guidance-scale", "nan"), ("--seed", str(2**64)),
     ("--height", "0"), ("--pose-person", "-1"), ("--top-k", "0")],
)  # fmt: skip
def test_generate_refuses_numbers_before_anything_is_read(option, capsys):
    files = [f"--{name}=none" for name in ("text", "person", "mask", "index", "model", "out")]
    with pytest.raises(SystemExit):
        cli.main(["generate", *files, *option])
    assert f"argument {option[0]}: '{option[1]}': expected a" in capsys.readouterr().err


def test_files_are_tried_before_the_work(tmp_path):
    terminal.check_picture(tmp_path / "new" / "a.png", "--out")
    (tmp_path / "file").write_text("")
    for path, error, words in (
        (tmp_path / "a.docx", ValueError, "no picture's ending"),
        (tmp_path, ValueError, "no picture's ending"),
        (tmp_path / "file" / "a.png", OSError, "--out .* can't be written"),
    ):
        with pytest.raises(error, match=words):
            terminal.check_picture(path, "--out")


def test_a_picture_that_can_not_be_written_is_not_lost(tmp_path, capsys):
    picture = Image.new("RGB", (2, 2), "red")
    assert terminal.save_picture(picture, tmp_path / "a.jfif") == tmp_path / "a.jfif"
    assert Image.open(tmp_path / "a.jfif").format == "JPEG"
    (tmp_path / "b.png").mkdir()  # between the check and the end
    kept = terminal.save_picture(picture, tmp_path / "b.png")
    assert Image.open(kept).size == (2, 2) and str(kept) in capsys.readouterr().err
    kept.unlink()


def test_a_terminal_of_few_letters(monkeypatch):
    for name, put in (("stdout", terminal.write), ("stderr", terminal.tell)):
        stream = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
        monkeypatch.setattr(f"sys.{name}", stream)
        put("红 é \udce9")
        assert stream.buffer.getvalue().decode("cp1252") == "\\u7ea2 é \\udce9\n"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("a b"), "a b"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "--batch-size"),
        (RuntimeError("MPS backend out of memory"), "--batch-size"),
        (Image.DecompressionBombError("too large"), "DecompressionBombError: too large"),
        (sqlite3.OperationalError("disk full"), "OperationalError: disk full"),
        (TypeError("a fault"), None),
        (KeyError("a fault"), None),
    ],
)
def test_what_is_told_of_an_error(error, words):
    told = cli.explanation(error)
    assert told is None if words is None else words in told


def test_errors_of_the_system_name_the_file_and_what_helps(tmp_path):
    (tmp_path / "file").write_text("")
    told = []
    for wrong in (
        lambda: open(tmp_path / "nope.jpg"),
        lambda: (tmp_path / "file").mkdir(),
        lambda: tmp_path.mkdir(),
        lambda: open(tmp_path),
        lambda: open(tmp_path / "file" / "a"),
        lambda: open(tmp_path / ("x" * 300)),
    ):
        with pytest.raises(OSError) as raised:
            wrong()
        told.append(cli.explanation(raised.value).replace(str(tmp_path), "T"))
    assert told == [
        "T/nope.jpg does not exist: check the name and the folder.",
        "T/file is there already, as a file: choose another name, or remove it.",
        "T is there already, as a folder: choose another name, or remove it.",
        "T is a folder, expected a file: name a file in it.",
        "T/file/a is no folder, or lies below a file: check the name and the folder.",
        f"T/{'x' * 300} is too long a name: choose a shorter one.",
    ]


def test_errors_with_words_of_their_own_keep_them():
    assert (
        cli.explanation(OSError(37, "x can't be locked: copy it")) == "x can't be locked: copy it"
    )
    assert cli.explanation(FileNotFoundError("a is missing: do b")) == "a is missing: do b"
    assert cli.explanation(OSError(5, "Input/output error", "a")) == "a: Input/output error."
    full = sqlite3.OperationalError("database or disk is full")
    for error in (OSError(28, "No space left on device"), full):
        assert "The disk is full: free some space, and run the same" in cli.explanation(error)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda file: file.mkdir(), "is a folder: name the U-Net's or the adapter's file in it"),
        (
            lambda file: save_file({"other.weight": torch.ones(2)}, file),
            "is neither a U-Net nor an inversion adapter .*: no U-Net in it",
        ),
        (
            lambda file: save_file({"post_layernorm.weight": torch.ones(80)}, file),
            "is neither a U-Net nor an inversion adapter .*: 'layers.0.weight'",
        ),
    ],
)
def test_what_can_not_be_converted_is_named(tmp_path, capsys, make, words):
    make(tmp_path / "a.safetensors")
    arguments = [str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors")]
    assert cli.main(["convert", *arguments]) == 1
    assert re.search(f"a.safetensors {words}", capsys.readouterr().err)


def test_what_torch_raises_is_one_line_and_our_own_faults_a_traceback(monkeypatch, capsys):
    def in_torch(args):
        torch.zeros(2) @ torch.zeros(3)

    def ours(args):
        raise KeyError("x")

    class Parser:
        run = staticmethod(in_torch)

        def parse_args(self, argv):
            return argparse.Namespace(verbose=False, run=self.run)

    monkeypatch.setattr(cli, "build_parser", Parser)
    assert cli.main([]) == 1
    assert capsys.readouterr().err.startswith("fashion-rag: inconsistent tensor size")
    Parser.run = staticmethod(ours)
    with pytest.raises(KeyError):
        cli.main([])
