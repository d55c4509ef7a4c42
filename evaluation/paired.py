"""Differences of two runs frame by frame: what one does better than the other where both look at the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from evaluation.bootstrap import crossed_interval, mean_interval
from evaluation.compared_run import COLOUR, ComparedRun, Place, Seen
from evaluation.depth_metrics import ERRORS
from evaluation.scores import RGB_KEYS
from utils.types import FloatArray

DEPTH_METRICS = (*ERRORS, "coverage")
RISING = ("a1", "a2", "a3", "coverage", "psnr", "ssim")  # more is better; of all others less is

Winner = Literal["first", "second", "none", "unknown"]


@dataclass(frozen=True, eq=False)
class Difference:
    """One score of two runs (or two sets of runs, seed by seed) over the frames that both have.

    Attributes:
        place: method, region, alignment.
        metric: the score's name.
        frames: names, in the order of the sequence.
        first: (n,) the score a frame, mean over its eyes and over runs.
        second: (n,) the same.
        means: of the first and of the second, over all views of those frames.
        difference: of the means, second minus first.
        interval: its 95 % interval; None for too few frames.
        runs: differences of the means run by run.
        lost: views that only one side has this score of.
    """

    place: Place
    metric: str
    frames: tuple[str, ...]
    first: FloatArray
    second: FloatArray
    means: tuple[float, float]
    difference: float
    interval: tuple[float, float] | None
    runs: tuple[float, ...]
    lost: tuple[Seen, ...]

    @property
    def better(self) -> int:
        """In how many frames the second is better."""
        return int((self._gain > 0).sum())

    @property
    def worse(self) -> int:
        """In how many frames the second is worse."""
        return int((self._gain < 0).sum())

    @property
    def changed(self) -> bool:
        """Whether any frame has another score."""
        return bool(self._gain.any()) or any(self.runs)

    @property
    def winner(self) -> Winner:
        """Which side is better as far as the interval tells."""
        if not self.changed:
            return "none"
        if self.interval is None:
            return "unknown"
        low, high = self.interval
        if low <= 0.0 <= high:
            return "none"
        return "second" if (low > 0.0) == (self.metric in RISING) else "first"

    @property
    def _gain(self) -> FloatArray:
        sign = 1.0 if self.metric in RISING else -1.0
        return sign * (self.second - self.first)


def metrics_of(method: str) -> tuple[str, ...]:
    """Return the scores that a method has."""
    return RGB_KEYS if method == COLOUR else DEPTH_METRICS


def shared_places(runs: Iterable[ComparedRun], split: str, region: str, alignment: str) -> list[Place]:
    """Return what all runs have scores of, depth in one alignment and colour, in the order of the first run."""
    listed = [run.scores.get(split, {}) for run in runs]
    return [
        place
        for place in listed[0]
        if place[1] == region and place[2] in ("", alignment) and all(place in other for other in listed)
    ]


def compare_place(
    pairs: Sequence[tuple[ComparedRun, ComparedRun]], split: str, sides: Sequence[str], place: Place
) -> list[Difference]:
    """Return the differences of every score of one method, over the views that all runs have that score of.

    Args:
        pairs: two runs, or such pairs of several seeds.
        split: train or test.
        sides: eyes; both eyes of a frame stay together.
        place: method, region, alignment.
    """
    found = (_compare(pairs, split, sides, place, metric) for metric in metrics_of(place[0]))
    return [one for one in found if one is not None]


def _compare(
    pairs: Sequence[tuple[ComparedRun, ComparedRun]], split: str, sides: Sequence[str], place: Place, metric: str
) -> Difference | None:
    tables = [[run.scores[split][place] for run in pair] for pair in pairs]
    every = [
        {view for view, scores in table.items() if metric in scores and view[0] in sides}
        for pair in tables
        for table in pair
    ]
    shared = set.intersection(*every)
    frames = tuple(name for name in pairs[0][0].scene.names if any((side, name) in shared for side in sides))
    if not frames:
        return None
    counts = np.array([sum((side, name) in shared for side in sides) for name in frames], float)
    values = np.array(
        [[_sums(table, shared, sides, frames, metric) for table in pair] for pair in tables]
    )  # (runs, 2, n)
    first, second = values.mean(axis=0)
    apart = values[:, 1] - values[:, 0]
    interval = mean_interval(apart[0], counts) if len(pairs) == 1 else crossed_interval(apart, counts)
    means = float(first.sum() / counts.sum()), float(second.sum() / counts.sum())
    return Difference(
        place=place,
        metric=metric,
        frames=frames,
        first=first / counts,
        second=second / counts,
        means=means,
        difference=float(apart.mean(axis=0).sum() / counts.sum()),
        interval=interval,
        runs=tuple(float(one) for one in apart.sum(axis=1) / counts.sum()),
        lost=tuple(sorted(set.union(*every) - shared)),
    )


def _sums(
    table: Mapping[Seen, Mapping[str, float]],
    shared: set[Seen],
    sides: Sequence[str],
    frames: Sequence[str],
    metric: str,
) -> list[float]:
    """Return the sum of a score over the shared eyes of each frame."""
    return [sum(table[side, name][metric] for side in sides if (side, name) in shared) for name in frames]
