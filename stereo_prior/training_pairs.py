"""The rectified pairs that a stereo network trains on: those of training frames, loaded when they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import overload

from stereo_prior.pair import Pair, load_pair
from stereo_prior.search_range import search_range
from stereo_prior.source import Task

_CACHED = 24  # pairs kept in memory


class TrainingPairs(Sequence[Pair]):
    """The pairs of the training frames, all searched over the range of disparities that any of them needs."""

    def __init__(self, task: Task) -> None:
        self.names = [name for name in task.scene.names if name in set(task.scene.train)]
        ranges = [search_range(task.rectification, task.scene, name, task.found_px[name]) for name in self.names]
        self.search_px = (min(low for low, _ in ranges), max(high for _, high in ranges))

        @lru_cache(maxsize=_CACHED)
        def load(index: int) -> Pair:
            return load_pair(task.scene, task.rectification, self.names[index], self.search_px)

        self._load = load

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Pair]: ...
    def __getitem__(self, index: int | slice) -> Pair | Sequence[Pair]:
        """Return one pair, or those of a slice."""
        chosen = range(len(self))[index]
        return self._load(chosen) if isinstance(chosen, int) else [self._load(one) for one in chosen]
