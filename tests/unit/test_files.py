"""Names that are fit for files on every system, and writing that is tried again."""

from __future__ import annotations

import os

import pytest
from fashion_rag import files
from fashion_rag.files import (
    check_file_name,
    escaped,
    parse_json,
    read_object,
    read_text,
    state_of_folder,
    write_bytes,
)


@pytest.mark.parametrize(
    "name", ["shop", "my garments", "衣服", "robe d'été", "console", "com10", "a.b", "lpt", "null"]
)
def test_names_that_are_fit(name):
    assert check_file_name(name, "name") == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *((name, "device on Windows") for name in ("CON", "nul.txt", "Aux .a.b", "com1", "LPT³.x")),
        ("", "1 to 120"),
        (" a", "1 to 120"),
        ("a.", "1 to 120"),
        ("é" * 61, "1 to 120"),
        ("a/b", "'/'"),
        ("a\\b:c", "':' '"),
        ("a\x00", r"'\\x00'"),
        ("photo\u202egpj.exe", r"'\\u202e'"),
        ("\u200fa", r"'\\u200f'"),
        ("a\udcff", r"'\\udcff'"),
    ],
)
def test_names_that_are_refused(name, reason):
    with pytest.raises(ValueError, match=f"name .*{reason}") as error:
        check_file_name(name, "name")
    assert "\u202e" not in str(error.value)


@pytest.mark.parametrize("text", ["[" * 30_000, b'{"a":' * 5_000, "[" * 3_000 + "]" * 3_000])
def test_json_that_is_nested_too_deeply(tmp_path, text):
    with pytest.raises(ValueError):
        parse_json(text)
    (tmp_path / "a.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match="a.json is no JSON.*fetch it again"):
        read_object(tmp_path / "a.json", "fetch it again")


def test_names_of_other_bytes_can_be_written():
    name = os.fsdecode(b"\xff\xb5.jpg") if os.name == "posix" else "\udcff\udcb5.jpg"
    assert escaped(name).encode("utf-8") == rb"\udcff\udcb5.jpg"
    assert escaped("衣服 😀.jpg") == "衣服 😀.jpg"


def test_a_file_that_another_process_holds(tmp_path, monkeypatch):
    """The rename is tried again; what is held for long is an error, and nothing is left behind."""
    replace, tries = os.replace, []

    def held(source, target):
        tries.append(source)
        if len(tries) < 4:
            raise PermissionError(13, "in use", str(target))
        replace(source, target)

    monkeypatch.setattr(files, "_PAUSE", 0)
    monkeypatch.setattr(files.os, "replace", held)
    write_bytes(tmp_path / "manifest.json", b"new")
    assert len(tries) == 4 and (tmp_path / "manifest.json").read_bytes() == b"new"

    def always_held(source, target):
        raise PermissionError(13, "in use", str(target))

    monkeypatch.setattr(files.os, "replace", always_held)
    with pytest.raises(PermissionError):
        write_bytes(tmp_path / "manifest.json", b"newer")
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_the_state_of_a_folder_changes_with_every_file_below_it(tmp_path):
    folder = tmp_path / "catalogue"
    for name in ("a.jpg", "b.jpg", "shop/c.jpg", "@eaDir/thumbnail.jpg", ".hidden"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    look = lambda: state_of_folder(folder, {"@eadir"})  # noqa: E731
    states = [look()]
    assert look() == states[0], "nothing has changed"
    (folder / "@eaDir" / "thumbnail.jpg").unlink()
    (folder / ".hidden").write_bytes(b"more")
    assert look() == states[0], "what does not count has changed"

    def swap() -> None:
        for old, new in (("a.jpg", "x"), ("b.jpg", "a.jpg"), ("x", "b.jpg")):
            (folder / old).rename(folder / new)

    changes = [
        lambda: (folder / "d.jpg").touch(),
        lambda: (folder / "d.jpg").rename(folder / "shop" / "d.jpg"),
        lambda: (folder / "shop").rename(folder / "store"),
        lambda: (folder / "a.jpg").write_bytes(b"longer"),
        lambda: os.utime(folder / "b.jpg", ns=(0, 5)),
        swap,
        lambda: (folder / "store" / "c.jpg").unlink(),
        lambda: (folder / "nowhere.jpg").symlink_to(folder / "nothing"),
        lambda: (folder / "empty").mkdir(),
    ]
    for change in changes:
        change()
        states.append(look())
    assert len(set(states)) == len(changes) + 1
    assert state_of_folder(folder / "missing") != state_of_folder(folder / "empty")


def test_any_two_files_that_change_places_are_seen(tmp_path):
    """A sum hides it where the hash of a whole is nearly the sum of its parts' hashes."""
    for number in range(120):
        (tmp_path / f"{number}.jpg").write_bytes(b"." * (number + 1))
    before = state_of_folder(tmp_path)
    for number in range(0, 120, 2):
        one, two = (tmp_path / f"{n}.jpg" for n in (number, number + 1))
        one.rename(tmp_path / "x")
        two.rename(one)
        (tmp_path / "x").rename(two)
        after = state_of_folder(tmp_path)
        assert after != before
        before = after


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_texts_as_people_save_them(tmp_path, encoding):
    (tmp_path / "a.txt").write_bytes("Röcke\r\n衣服\n".encode(encoding))
    assert read_text(tmp_path / "a.txt") == "Röcke\r\n衣服\n"


@pytest.mark.parametrize(
    ("content", "expected"),
    [("Röcke".encode("latin-1"), "UTF-8"), (b"\xff\xfea", "UTF-16, as its first bytes say")],
)
def test_texts_in_another_encoding_are_named_with_the_remedy(tmp_path, content, expected):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ValueError, match=f"a.txt is no text in {expected} .*save it anew as UTF-8"):
        read_text(tmp_path / "a.txt")


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[1]"])
def test_a_damaged_object_is_named_with_the_remedy(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.json (is no|holds a) JSON .*: render it again\."):
        read_object(tmp_path / "a.json", "render it again")
    (tmp_path / "a.json").write_bytes(b'{"a": 1}')
    assert read_object(tmp_path / "a.json", "render it again") == {"a": 1}
