"""Plots: quality against the number of retrieved garments."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from .columns import ORACLE, PROTOCOL, ROUND_TRIP, WITHOUT_OWN
from .report import MEASURES, Table

_INK, _SOFT, _LINE, _OTHERS, _BEST = "#23211e", "#6d6860", "#2f5d8a", "#c2571a", "#3c7a4b"


def plot_quality(table: Table, path: Path, void: Collection[str] = ()) -> None:
    """Plot one panel a measure: values for 0 to 3 garments with their intervals.

    The oracle and the VAE's round trip are lines. Measures in `void` are left out.

    Raises:
        ImportError: matplotlib is missing.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = [column for column in PROTOCOL if column.key in table.figures]
    shown = [
        measure
        for measure in MEASURES
        if any(measure.key in table.figures[column.key] for column in columns)
        and measure.key not in void
    ]
    across = min(4, len(shown))
    down = -(-len(shown) // across)
    figure = Figure(figsize=(3.4 * across, 2.75 * down + 0.7), layout="constrained")
    FigureCanvasAgg(figure)
    count = sum(table.counts.values())
    figure.suptitle(
        f"Quality against the number of retrieved garments ({table.order}, "
        f"{table.chunks} noun chunks, {count} samples, 95 % intervals)",
        color=_INK,
    )
    axes = figure.subplots(down, across, squeeze=False).flatten()
    for axis, measure in zip(axes, shown, strict=False):
        _panel(axis, table, columns, measure)
    for axis in axes[len(shown) :]:
        axis.set_axis_off()
    handles, labels = axes[0].get_legend_handles_labels()
    for axis in axes[1:]:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            if label not in labels:
                handles, labels = [*handles, handle], [*labels, label]
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.savefig(path, dpi=110, facecolor="white")


def _panel(axis, table: Table, columns, measure) -> None:
    found = [(c.garments, table.figures[c.key].get(measure.key)) for c in columns]
    found = [(k, figure) for k, figure in found if figure is not None]
    places = [k for k, _ in found]
    values, low, high = (
        [measure.scale * getattr(figure, name) for _, figure in found]
        for name in ("value", "low", "high")
    )
    axis.fill_between(places, low, high, color=_LINE, alpha=0.15, linewidth=0)
    axis.plot(places, values, "o-", color=_LINE, markersize=5, label="retrieved")
    for key, style, colour, label in (
        (ORACLE.key, "--", _BEST, "oracle: the own garment"),
        (ROUND_TRIP.key, ":", _SOFT, "true photos through the VAE"),
    ):
        line = table.figures.get(key, {}).get(measure.key)
        if line is not None:
            axis.axhline(measure.scale * line.value, linestyle=style, color=colour, label=label)
    without = table.figures.get(WITHOUT_OWN.key, {}).get(measure.key)
    if without is not None:
        ends = [[measure.scale * (without.value - without.low)],
                [measure.scale * (without.high - without.value)]]  # fmt: skip
        axis.errorbar(
            [1.12], [measure.scale * without.value], yerr=ends, fmt="s", color=_OTHERS,
            markersize=5, capsize=2, label="own garment removed",
        )  # fmt: skip
    axis.set_title(measure.title, fontsize=10, color=_INK)
    axis.set_xticks(range(4))
    axis.set_xlim(-0.25, 3.25)
    axis.set_xlabel(f"garments ({measure.better} is better)", fontsize=8, color=_SOFT)
    axis.tick_params(labelsize=8, colors=_SOFT)
    axis.grid(axis="y", color="#e8e4dc", linewidth=0.7)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
