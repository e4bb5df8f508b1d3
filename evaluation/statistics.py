"""Figures with their sample counts and bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
SEED = 0
_TAILS = (0.025, 0.975)


@dataclass(frozen=True)
class Figure:
    """A value, the bounds of its 95 % bootstrap interval, and the number of samples behind it."""

    value: float
    low: float
    high: float
    count: int


def mean_figure(values: np.ndarray) -> Figure | None:
    """Compute the mean of the finite `values` (n,) with a percentile bootstrap interval.

    None: no value is finite.
    """
    values = np.asarray(values, dtype=np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    return _resampled((values,), lambda x, axis: np.mean(x, axis=axis))


def shared_figure(statistic: Callable[..., np.ndarray], *columns: np.ndarray) -> Figure | None:
    """Compute a function of the means of several columns (n,) of the same samples.

    The bootstrap draws the columns together; a sample that lacks one of them is left out.
    """
    stacked = np.stack([np.asarray(column, float) for column in columns])
    stacked = stacked[:, np.isfinite(stacked).all(axis=0)]
    if not stacked.shape[1]:
        return None

    def of_means(*drawn: np.ndarray, axis: int) -> np.ndarray:
        return statistic(*(np.mean(column, axis=axis) for column in drawn))

    return _resampled(tuple(stacked), of_means)


def resampled_distance(
    value: float, distance: Callable[[np.ndarray], float], count: int, resamples: int
) -> Figure:
    """Give a whole set's value the interval of `distance(indices)` over resampled sets.

    Repeated samples raise such distances, so the interval's spread is taken about the resamples'
    mean and set about `value`.
    """
    rng = np.random.default_rng(SEED)
    drawn = np.array([distance(rng.integers(count, size=count)) for _ in range(resamples)])
    low, high = np.quantile(drawn - drawn.mean(), _TAILS)
    return Figure(float(value), float(value + low), float(value + high), count)


def _resampled(data: tuple[np.ndarray, ...], statistic: Callable) -> Figure | None:
    count = len(data[0])
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(*data, axis=-1))
        if not np.isfinite(value):
            return None
        if count == 1 or all(np.ptp(column) == 0 for column in data):
            return Figure(value, value, value, count)
        rng, many = np.random.default_rng(SEED), max(1, 2_000_000 // count)
        parts = [
            rng.integers(count, size=(min(many, RESAMPLES - start), count))
            for start in range(0, RESAMPLES, many)
        ]
        drawn = np.concatenate(
            [statistic(*(column[rows] for column in data), axis=-1) for rows in parts]
        )
    low, high = np.quantile(drawn[np.isfinite(drawn)], _TAILS)
    return Figure(value, float(low), float(high), count)
