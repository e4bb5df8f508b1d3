"""The pack's packages and the imports between them, read from the source with `ast`.

    python tests/architecture.py

draws them into docs/architecture.svg. Standard library only.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterable
from functools import cache
from html import escape
from pathlib import Path

PACK = Path(__file__).resolve().parent.parent
DRAWING = PACK / "docs" / "architecture.svg"
SHARED = ("files", "progress", "categories", "model_parts")
"""Modules at the top that every package may use."""
ARROWS = {
    "": {"nodes", "nodes.host", "commands"},
    "commands": {
        *("adapter", "comfyui_server", "demo", "evaluation", "evaluation.miniature", "miniature"),
        *("pictures", "retriever", "training"),
    },
    "demo": {"adapter", "comfyui_server", "miniature", "pictures", "retriever"},
    "evaluation.miniature": {"adapter", "evaluation", "miniature", "pictures"},
    "evaluation": {"adapter", "pictures", "retriever", "training"},
    "miniature": {"adapter", "training"},
    "training": {"adapter", "pictures", "retriever"},
    "nodes": {"adapter", "nodes.host", "pictures", "retriever"},
    "nodes.host": {"adapter", "retriever"},
    "retriever": {"pictures"},
    "adapter": {"pictures"},
    "comfyui_server": set(),
    "pictures": set(),
}
"""From each package to those that it may import, beside SHARED; "" is the top itself."""
_OUTSIDE = {"benchmarks", "docs", "tests"}

_WIDTH, _HEIGHT, _GAP, _ROW, _MARGIN = 236, 112, 22, 172, 28
_INK, _SOFT, _LINE, _PAPER, _BOX = "#23211e", "#6d6860", "#8a8378", "#faf8f4", "#ffffff"
_FONT = "font-family='Helvetica, Arial, sans-serif'"


@cache
def modules() -> dict[str, Path]:
    """The pack's modules by their dotted names."""
    found = {}
    for path in sorted(PACK.rglob("*.py")):
        parts = path.relative_to(PACK).with_suffix("").parts
        if parts[0] not in _OUTSIDE and not parts[0].startswith("."):
            found[".".join(parts)] = path
    return found


def package(module: str) -> str:
    """The package of ARROWS that a module is in."""
    parts = module.split(".")
    parents = (".".join(parts[:depth]) for depth in range(len(parts) - 1, 0, -1))
    return next((parent for parent in parents if parent in ARROWS), "")


@cache
def imports(module: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a module imports, wherever in it: modules of the pack, and other packages' names."""
    own, others, parts = [], [], module.split(".")
    for node in ast.walk(ast.parse(modules()[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            others += [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            others.append(node.module.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            base = [*parts[: -node.level], *(node.module.split(".") if node.module else [])]
            for alias in node.names:
                choices = (".".join([*base, *last]) for last in ([alias.name], [], ["__init__"]))
                own.append(next(choice for choice in choices if choice in modules()))
    return tuple(own), tuple(others)


def used_arrows() -> dict[str, set[str]]:
    """From each package to those that it imports."""
    found: dict[str, set[str]] = {name: set() for name in ARROWS}
    for module in modules():
        targets = {package(own) for own in imports(module)[0] if own not in SHARED}
        found[package(module)] |= targets - {package(module)}
    return found


def draw() -> str:
    """The packages as an SVG: who imports stands above whom it imports.

    An arrow that follows from others (a imports b, b imports c, a imports c) is left out.
    """
    arrows = {name: below for name, below in used_arrows().items() if name}
    below = {name: _reduced(name, arrows) for name in arrows}
    rows = _rows(below)
    width = max(len(row) for row in rows) * (_WIDTH + _GAP) - _GAP + 2 * _MARGIN
    places = {}
    for number, row in enumerate(rows):
        start = (width - len(row) * (_WIDTH + _GAP) + _GAP) / 2
        for column, name in enumerate(row):
            places[name] = (start + column * (_WIDTH + _GAP), _MARGIN + number * _ROW)
    foot = _MARGIN + len(rows) * _ROW - (_ROW - _HEIGHT) + 40
    height = foot + 52 + _MARGIN
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' "
        f"width='{width}' height='{height}' {_FONT}>",
        "<title>The packages of ComfyUI-FashionRAG and what imports what</title>",
        "<defs><marker id='tip' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='8' "
        f"markerHeight='8' orient='auto'><path d='M0 0L8 4L0 8z' fill='{_LINE}'/></marker></defs>",
        f"<rect width='{width}' height='{height}' fill='{_PAPER}'/>",
    ]
    for name, targets in below.items():
        for target in sorted(targets, key=lambda one: places[one]):
            lines.append(_arrow(name, target, below, places))
    lines += [_box(name, *places[name]) for name in places]
    shared = ", ".join(f"{name}.py" for name in SHARED)
    lines += [
        f"<rect x='{_MARGIN}' y='{foot}' width='{width - 2 * _MARGIN}' height='52' rx='8' "
        f"fill='{_BOX}' stroke='{_LINE}'/>",
        f"<text x='{width / 2:g}' y='{foot + 31}' font-size='15' fill='{_INK}' "
        f"text-anchor='middle'>{shared}: any package may use them</text>",
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _reduced(name: str, arrows: dict[str, set[str]]) -> set[str]:
    """The packages that are imported by no other one that is imported."""
    implied: set[str] = set()
    for target in arrows[name]:
        implied |= _reachable(target, arrows)
    return arrows[name] - implied


def _reachable(name: str, arrows: dict[str, set[str]]) -> set[str]:
    return arrows[name].union(*(_reachable(target, arrows) for target in arrows[name]))


def _rows(below: dict[str, set[str]]) -> list[list[str]]:
    """Packages from the top row down, each row in the order that shortens the arrows."""
    level: dict[str, int] = {}

    def depth(name: str) -> int:
        level[name] = 1 + max((depth(target) for target in below[name]), default=-1)
        return level[name]

    for name in below:
        depth(name)
    for name in sorted(below, key=level.__getitem__, reverse=True):
        above = [level[other] for other in below if name in below[other]]
        if above and not below[name]:  # what needs nothing stands right below what needs it
            level[name] = min(above) - 1
    rows = [
        [name for name in below if level[name] == number]
        for number in range(max(level.values()), -1, -1)
    ]
    for number in range(1, len(rows)):
        before = {name: place / max(1, len(rows[number - 1]) - 1)
                  for place, name in enumerate(rows[number - 1])}  # fmt: skip
        rows[number].sort(key=lambda name: _middle(before, (o for o in before if name in below[o])))
    return rows


def _middle(places: dict[str, float], names: Iterable[str]) -> float:
    found = [places[name] for name in names]
    return sum(found) / len(found) if found else 1.0


def _arrow(name: str, target: str, below: dict[str, set[str]], places) -> str:
    out = sorted(below[name], key=lambda one: places[one])
    into = sorted((o for o in below if target in below[o]), key=lambda one: places[one])
    x1 = places[name][0] + _WIDTH * (out.index(target) + 1) / (len(out) + 1)
    x2 = places[target][0] + _WIDTH * (into.index(name) + 1) / (len(into) + 1)
    y1, y2 = places[name][1] + _HEIGHT, places[target][1] - 2
    bend = (y2 - y1) / 2
    return (
        f"<path d='M{x1:.0f} {y1}C{x1:.0f} {y1 + bend:.0f} {x2:.0f} {y2 - bend:.0f} "
        f"{x2:.0f} {y2}' fill='none' stroke='{_LINE}' stroke-width='1.6' marker-end='url(#tip)'/>"
    )


def _box(name: str, x: float, y: float) -> str:
    folder = PACK.joinpath(*name.split("."))
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    lines = textwrap.wrap(text.split("\n")[0].split(";")[0].rstrip(".").replace("`", ""), 36)
    inner = [path.name for path in sorted(folder.iterdir()) if (path / "__init__.py").is_file()]
    inner = [one for one in inner if f"{name}.{one}" not in ARROWS]
    parts = [
        f"<rect x='{x:g}' y='{y}' width='{_WIDTH}' height='{_HEIGHT}' rx='8' fill='{_BOX}' "
        f"stroke='{_LINE}'/>",
        f"<text x='{x + 14:g}' y='{y + 25}' font-size='15' font-weight='bold' fill='{_INK}'>"
        f"{name.replace('.', '/')}</text>",
    ]
    rows = [(line, _INK) for line in lines]
    rows += [(line, _SOFT) for line in textwrap.wrap(", ".join(inner), 38)]
    parts += [
        f"<text x='{x + 14:g}' y='{y + 46 + 17 * row}' font-size='12.5' fill='{colour}'>"
        f"{escape(line)}</text>"
        for row, (line, colour) in enumerate(rows)
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    DRAWING.write_text(draw(), encoding="utf-8", newline="\n")
