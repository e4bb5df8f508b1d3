"""The results as JSON and as Markdown tables in the paper's form."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..categories import CATEGORIES
from .columns import ROUND_TRIP, Column
from .results import Measured
from .statistics import Figure, mean_figure
from .world import Verdict


@dataclass(frozen=True)
class Measure:
    """A measure as a row of the JSON and a column of the tables.

    better: `lower` or `higher`. digits: after the point. scale: the factor for printing.
    """

    key: str
    title: str
    better: str
    digits: int
    scale: float = 1.0


MEASURES = (
    Measure("fid", "FID", "lower", 2),
    Measure("kid", "KID x 1000", "lower", 2, 1000),
    Measure("clip_frechet", "Fréchet distance on CLIP features x 1000", "lower", 1, 1000),
    Measure("clip_kernel", "kernel distance on CLIP features x 1000", "lower", 3, 1000),
    Measure("lpips", "LPIPS", "lower", 3),
    Measure("ssim", "SSIM", "higher", 3),
    Measure("mask_error", "error in mask x 100", "lower", 2, 100),
    Measure("colour_error", "colour error (CIEDE2000)", "lower", 1),
    Measure("pattern", "pattern right, %", "higher", 1, 100),
    Measure("retrieved_colour_error", "colour error to retrieved", "lower", 1),
    Measure("retrieved_pattern", "pattern of retrieved, %", "higher", 1, 100),
    Measure("clip_s", "CLIP-S", "higher", 2),
    Measure("clip_i", "CLIP-I", "higher", 3),
    Measure("fidelity", "garment fidelity", "higher", 3),
)
_DISTANCES = {"inception": ("fid", "kid"), "clip": ("clip_frechet", "clip_kernel")}

Figures = dict[str, Figure]


@dataclass(frozen=True)
class Table:
    """One setting's results: figures by column, over all samples and by category.

    retrieval: by category. own_recall: by k. counts: how many samples by category. A figure of
    `retrieval` or `own_recall` is None where there was nothing to compute it from, as for a
    category without a sample.
    """

    order: str
    chunks: int
    columns: tuple[Column, ...]
    figures: dict[str, Figures]
    by_category: dict[str, dict[str, Figures]]
    retrieval: dict[str, dict[str, Figure | None]]
    own_recall: dict[str, Figure | None]
    counts: dict[str, int]

    @property
    def key(self) -> str:
        """The setting's name in the JSON, such as `paired_3`."""
        return f"{self.order}_{self.chunks}"


def figures_of(measured: Measured, column: str, rows: np.ndarray) -> Figures:
    """Compute all figures of a column over the samples in `rows` (n,)."""
    found = {name: mean_figure(values[rows]) for name, values in measured.values[column].items()}
    for name, keys in _DISTANCES.items():
        pair = measured.distances(column, name, rows)
        found |= dict(zip(keys, pair or (), strict=False))
    return {name: figure for name, figure in found.items() if figure is not None}


def make_table(
    order: str,
    chunks: int,
    columns: Sequence[Column],
    measured: Measured,
    retrieval: Mapping[str, Mapping[str, np.ndarray]],
    own: Mapping[int, np.ndarray],
) -> Table:
    """Compute every figure of a setting.

    Args:
        retrieval: by category, from `retrieval_rates`.
        own: whether a sample's own garment is among the first k, by k.
    """
    category = np.array([sample.category for sample in measured.samples])
    present = [name for name in CATEGORIES if (category == name).any()]
    every = np.arange(len(category))
    rates = {
        name: {key: mean_figure(values) for key, values in found.items()}
        for name, found in retrieval.items()
    }
    if len(retrieval) > 1:
        first = next(iter(retrieval.values()))
        rates["all"] = {
            key: mean_figure(np.concatenate([found[key] for found in retrieval.values()]))
            for key in first
        }
    return Table(
        order=order,
        chunks=chunks,
        columns=tuple(columns),
        figures={column.key: figures_of(measured, column.key, every) for column in columns},
        by_category={
            name: {
                column.key: figures_of(measured, column.key, np.flatnonzero(category == name))
                for column in columns
            }
            for name in present
        },
        retrieval=rates,
        own_recall={str(k): mean_figure(values) for k, values in own.items()},
        counts={name: int((category == name).sum()) for name in present},
    )


def to_json(
    settings: Mapping[str, Any],
    tables: Sequence[Table],
    targets: Sequence[Mapping[str, Any]],
    left_out: Mapping[str, str],
) -> dict[str, Any]:
    """Return all results as plain JSON values; a figure that there is none of is null."""
    return {
        "settings": dict(settings),
        "claim": [dict(target) for target in targets],
        "tables": [
            {
                "order": table.order,
                "chunks": table.chunks,
                "samples": table.counts,
                "columns": {
                    column.key: {
                        "title": column.title,
                        "figures": _plain(table.figures[column.key]),
                        "by_category": {
                            name: _plain(figures[column.key])
                            for name, figures in table.by_category.items()
                        },
                    }
                    for column in table.columns
                },
                "retrieval": {name: _plain(found) for name, found in table.retrieval.items()},
                "own_recall": _plain(table.own_recall),
            }
            for table in tables
        ],
        "left_out": dict(left_out),
    }


def to_markdown(
    title: str,
    settings: Mapping[str, Any],
    tables: Sequence[Table],
    verdict: Verdict,
    left_out: Mapping[str, str],
) -> str:
    """Write the results as a page: verdict, one table a setting, retrieval, what was left out."""
    lines = [f"# {title}", "", _sentence(settings), ""]
    lines += verdict.lines
    for table in tables:
        lines += _table(table, verdict.void)
    if left_out:
        lines += ["## Left out", ""]
        lines += [f"- {name}: {reason}" for name, reason in left_out.items()] + [""]
    return "\n".join(lines)


def number(figure: Figure, measure: Measure) -> str:
    """Print a figure with its interval, as in the tables."""
    value, low, high = (
        f"{measure.scale * x:.{measure.digits}f}" for x in (figure.value, figure.low, figure.high)
    )
    return f"{value} [{low}, {high}]"


def _plain(figures: Mapping[str, Figure | None]) -> dict[str, Any]:
    return {name: None if figure is None else asdict(figure) for name, figure in figures.items()}


def _sentence(settings: Mapping[str, Any]) -> str:
    named = "; ".join(f"{name.replace('_', ' ')}: {value}" for name, value in settings.items())
    return f"Brackets hold 95 % bootstrap intervals. {named[:1].upper()}{named[1:]}."


def _table(table: Table, void: Collection[str]) -> list[str]:
    counts = ", ".join(f"{count} {name}" for name, count in table.counts.items())
    chunks = "1 noun chunk" if table.chunks == 1 else f"{table.chunks} noun chunks"
    lines = [
        f"## {table.order.capitalize()}, {chunks}: {sum(table.counts.values())} samples",
        "",
        f"Samples by category: {counts}.",
        "",
        *_figures(table.columns, table.figures, void),
        "",
    ]
    if len(table.by_category) > 1:
        for name, figures in table.by_category.items():
            lines += [
                f"### {name}: {table.counts[name]} samples",
                "",
                *_figures(table.columns, figures, void),
                "",
            ]
    return lines + _retrieval(table)


def _figures(
    columns: Sequence[Column], figures: Mapping[str, Figures], void: Collection[str]
) -> list[str]:
    shown = [m for m in MEASURES if any(m.key in figures[column.key] for column in columns)]
    arrows = {"lower": "↓", "higher": "↑"}
    head = " | ".join(f"{measure.title} {arrows[measure.better]}" for measure in shown)
    lines = [f"| | {head} |", "|---|" + "---|" * len(shown)]
    for column in columns:
        cells = []
        for measure in shown:
            figure = figures[column.key].get(measure.key)
            if measure.key in void:
                cells.append("void")
            else:
                cells.append("" if figure is None else number(figure, measure))
        name = f"*{column.title}*" if column.key == ROUND_TRIP.key else column.title
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _retrieval(table: Table) -> list[str]:
    if not table.retrieval:
        return []
    names = [name for name in next(iter(table.retrieval.values())) if "@" in name]
    cutoffs = sorted({int(name.split("@")[1]) for name in names})
    lines = [
        "### Retrieval",
        "",
        "Recall: a garment with this caption is among the first k. Precision: the textbook's, and "
        "half of the mean share of such garments found, which fits the official figures. In the "
        "last row: the sample's very own garment is among the first k.",
        "",
        "| | queries | " + " | ".join(
            f"{kind}@{k}" for kind in ("R", "P", "official P") for k in cutoffs
        ) + " |",
        "|---|---|" + "---|" * (3 * len(cutoffs)),
    ]  # fmt: skip
    for name, found in table.retrieval.items():
        cells = [
            _rate(found[f"{kind}@{k}"])
            for kind in ("recall", "precision", "official_precision")
            for k in cutoffs
        ]
        lines.append(f"| {name} | {_count(found['recall@1'])} | " + " | ".join(cells) + " |")
    if table.own_recall:
        cells = [_rate(table.own_recall.get(str(k))) for k in cutoffs]
        cells += [""] * (2 * len(cutoffs))
        count = _count(next(iter(table.own_recall.values())))
        lines.append(f"| own garment | {count} samples | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _rate(figure: Figure | None) -> str:
    return "" if figure is None else f"{figure.value:.3f}"


def _count(figure: Figure | None) -> int:
    return 0 if figure is None else figure.count
