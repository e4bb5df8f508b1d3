"""Where the pack's files live: subfolders of ComfyUI's model folder `fashion_rag`.

Nodes offer the names found there, one level deep, and open nothing else: a workflow is untrusted.
"""

from __future__ import annotations

import functools
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path

import folder_paths

from ...files import escaped, state_of_file, state_of_folder
from ...retriever.photos.catalogue import state_of_catalogue

logger = logging.getLogger(__name__)

KEY = "fashion_rag"
HOST_ENCODER = "host"

SHIPPED = Path(__file__).parent.parent.parent / "miniature"
"""What comes with the pack: the trained miniature, drawn garments and people; only read."""


def _has_mask(person: str) -> bool:
    """Tell whether a folder holds mask.png, or a mask of another format."""
    try:
        return any(os.path.splitext(name.lower())[0] == "mask" for name in os.listdir(person))
    except OSError:  # one that can't be read is none, and costs no other
        return False


_IS_ENTRY: dict[str, Callable[[os.DirEntry], bool]] = {
    "adapters": lambda e: e.name.lower().endswith((".safetensors", ".pth")) and e.is_file(),
    "catalogues": lambda e: e.is_dir(),
    "encoders": lambda e: any(
        os.path.isfile(os.path.join(e.path, name))
        for name in ("open_clip_config.json", "config.json")
    ),
    "indexes": lambda e: any(
        os.path.isfile(os.path.join(e.path, name)) for name in ("manifest.json", "milvus.json")
    ),
    "models": lambda e: os.path.isfile(os.path.join(e.path, "model_index.json")),
    "parsers": lambda e: os.path.isfile(os.path.join(e.path, "config.json")),
    "people": lambda e: e.is_dir() and _has_mask(e.path),
}


_STATE_OF: dict[str, Callable[[Path], object]] = {
    "adapters": state_of_file,
    "catalogues": state_of_catalogue,
    "encoders": state_of_folder,
    "models": state_of_folder,
    "parsers": state_of_folder,
    "people": state_of_folder,
}
_EMBEDDING = re.compile(r"embedding:([^\s:()\[\]<]+)")


def register_folders() -> None:
    """Add `models/fashion_rag` beside what extra_model_paths.yaml names for the same key."""
    default = os.path.join(folder_paths.models_dir, KEY)
    folder_paths.add_model_folder_path(KEY, default)
    paths, _ = folder_paths.folder_names_and_paths[KEY]
    folder_paths.folder_names_and_paths[KEY] = (paths, {".safetensors", ".pth"})


def roots(kind: str) -> list[Path]:
    """List the folders that are searched for `kind`; new files go to the first."""
    return [Path(path) / kind for path in folder_paths.get_folder_paths(KEY)]


def entries(kind: str) -> dict[str, Path]:
    """List the names of a kind with their paths, sorted; of equal names, the first folder's counts.

    What comes with the pack stands last.
    """
    found: dict[str, Path] = {}
    for root in roots(kind):
        found = _listed(root, kind) | found
    shipped = _listed(SHIPPED / "examples" / kind, kind)
    if kind == "models" and (SHIPPED / "weights" / "model" / "model_index.json").is_file():
        shipped["miniature"] = SHIPPED / "weights" / "model"
    if kind == "parsers" and (SHIPPED / "weights" / "parser" / "config.json").is_file():
        shipped["miniature"] = SHIPPED / "weights" / "parser"
    return _sorted(found) | {n: path for n, path in _sorted(shipped).items() if n not in found}


def _listed(root: Path, kind: str) -> dict[str, Path]:
    found = {}
    if root.is_dir():
        try:
            with os.scandir(root) as scan:
                for entry in scan:
                    if entry.name.startswith(".") or not _is_entry(entry, kind):
                        continue
                    if escaped(entry.name) == entry.name:
                        found[entry.name] = Path(entry.path)
                    else:
                        _tell_odd(entry.path)
        except OSError as error:
            # Schemas are made of this: an unreadable folder must not cost the user every node.
            logger.warning("%s can't be listed: %s", root, error)
    return found


def _is_entry(entry: os.DirEntry, kind: str) -> bool:
    """Tell whether an entry is one of the kind; one that can't be looked at costs no other."""
    try:
        return _IS_ENTRY[kind](entry)
    except OSError as error:  # a link that leads to itself, or into a folder of somebody else
        _tell_unreadable(entry.path, str(error))
        return False


@functools.cache
def _tell_unreadable(path: str, reason: str) -> None:
    """Log, once, that an entry can't be looked at."""
    logger.warning("%s is passed over, as it can't be looked at: %s", path, reason)


@functools.cache
def _tell_odd(path: str) -> None:
    """Log, once, that a name can't be offered: no workflow could hold it, nor a page ask for it."""
    logger.warning("%s is passed over, as its name is no valid UTF-8: rename it.", path)


def _sorted(found: dict[str, Path]) -> dict[str, Path]:
    return dict(sorted(found.items(), key=lambda item: item[0].casefold()))


def resolve(kind: str, name: str) -> Path:
    """Return the path of the entry called `name`.

    Raises:
        FileNotFoundError: no such entry; the message lists those there are and where they go.
    """
    found = entries(kind)
    if name not in found:
        places = " or ".join(str(root) for root in roots(kind))
        names = ", ".join(repr(n) for n in found) or "none"
        raise FileNotFoundError(
            f"No {_ONE.get(kind, kind.removesuffix('s'))} {name!r} in {places} "
            f"(found: {names}). {_REMEDY[kind]}"
        )
    return found[name]


_ONE = {"indexes": "index", "people": "person"}
_REMEDY = {
    "adapters": "Put the inversion adapter (.safetensors or .pth) there and press R to refresh.",
    "catalogues": "Put a folder of garment photos, or a link to it, there and press R to refresh.",
    "encoders": "Fetch one with `fashion-rag encoder get`, or choose 'host'. An index that was "
    "built with a model folder, such as the miniature, is searched with clip and clip_vision of "
    "Fashion-RAG Loader: connect both.",
    "indexes": "Build one with the node Garment Index Build or with `fashion-rag index build`.",
    "models": "Put a model folder in diffusers layout (with model_index.json) there.",
    "parsers": "Put a human parser's folder in transformers' layout (config.json and "
    "model.safetensors), such as segformer_b2_clothes, there and press R to refresh.",
    "people": "Put a folder with photo.jpg (or .png), mask.png and, if you like, pose.json there.",
}


def exists_or_message(kind: str, name: str | None) -> bool | str:
    """Return True or the message of `resolve`, for `validate_inputs`.

    A linked input (None) passes.
    """
    if name is None:
        return True
    try:
        resolve(kind, name)
    except FileNotFoundError as error:
        return str(error)
    return True


def states(kind: str, name: str | None) -> list[tuple]:
    """Return what changes when a file of the entry `name` does, for `fingerprint_inputs`.

    Args:
        name: None for an input that is linked, whose value is not known yet: all entries count.
    """
    return [
        (entry, str(path), _STATE_OF[kind](path))
        for entry, path in entries(kind).items()
        if name is None or entry == name
    ]


def states_of_embeddings(*texts: str | None) -> list[tuple]:
    """Return what changes when an embedding in a prompt does, for `fingerprint_inputs`.

    The prompt of a linked input (None) is not known yet and doesn't count, as in the stock nodes.
    """
    found = {name for text in texts if text for name in _EMBEDDING.findall(text)}
    # As the host: with commas if there is such a file, else without those at its ends.
    names = {name for written in found for name in (written, written.strip(","))}
    return [
        state_of_file(Path(root) / f"{name}{suffix}")
        for root in folder_paths.get_folder_paths("embeddings")
        for name in sorted(names)
        for suffix in ("", ".safetensors", ".pt", ".bin")
    ]


def embeddings_folder() -> Path:
    """Return where textual-inversion embeddings are saved: the first of models/embeddings."""
    return Path(folder_paths.get_folder_paths("embeddings")[0])
