"""A few decoded frames of a source, spread over all of it, for checks that need pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.datasets.source import Frame, Picture, Source
from utils.images import read_rgb
from utils.types import BoolArray, Side

COUNT = 6


def decode(picture: Picture) -> NDArray[np.uint8]:
    """Return an image (h, w, 3), RGB. Raises InputError where its file cannot be decoded."""
    return read_rgb(picture) if isinstance(picture, Path) else picture()


@dataclass(frozen=True)
class Sample:
    """One frame by number, decoded when it is asked for and kept."""

    index: int
    frame: Frame

    @cached_property
    def images(self) -> Mapping[Side, NDArray[np.uint8]]:
        """(h, w, 3) RGB of each eye."""
        return {side: decode(picture) for side, picture in self.frame.images.items()}

    @cached_property
    def tissue(self) -> Mapping[Side, BoolArray]:
        """(h, w), true on tissue, of each eye that has a mask."""
        return {side: read() for side, read in self.frame.tissue.items()}

    @cached_property
    def depth_mm(self) -> Mapping[Side, NDArray[np.float32]]:
        """(h, w) z-depth, mm, NaN unknown, of each eye that has it."""
        return {side: read() for side, read in self.frame.depth_mm.items()}


def spread(count: int, wanted: int) -> list[int]:
    """Return at most `wanted` numbers below `count`, evenly spread, the first and the last among them."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, wanted))})


def take_samples(
    source: Source, pool: dict[int, Sample], has: Callable[[Frame], bool] = lambda _: True, wanted: int = COUNT
) -> list[Sample]:
    """Return some frames of those for which `has` holds, from the pool (by number) or added to it."""
    usable = [index for index, frame in enumerate(source.frames) if has(frame)]
    chosen = [usable[place] for place in spread(len(usable), wanted)]
    return [pool.setdefault(index, Sample(index, source.frames[index])) for index in chosen]
