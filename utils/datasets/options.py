"""What a reader may be told: which frames, and what a layout leaves open."""

from __future__ import annotations

import math
from dataclasses import dataclass

from utils.errors import InputError

PARTS = ("auto", "keyframe", "video")


@dataclass(frozen=True)
class ReaderOptions:
    """Choices of the conversion.

    Args:
        every: take every n-th frame.
        start: first frame of the dataset's own count, from 0.
        stop: the frame after the last one; None: to the end.
        poses: whether the dataset's own poses are taken; False leaves them out.
        mask_polarity: what nonzero means in mask files: `tissue`, `tool`, or `auto` for what the layout says.
        depth_scale: mm per unit of stored depth; None: what the layout says.
        baseline_mm: distance between the eyes where the layout does not say it; None: unknown.
        part: what to take where a folder holds a single measured pair (`keyframe`) and a `video`; `auto`: the
            video where there is one.
    """

    every: int = 1
    start: int = 0
    stop: int | None = None
    poses: bool = True
    mask_polarity: str = "auto"
    depth_scale: float | None = None
    baseline_mm: float | None = None
    part: str = "auto"

    def require_sensible(self) -> None:
        """Raise InputError for a number that no dataset can have."""
        for flag, number in (("depth_scale", self.depth_scale), ("baseline_mm", self.baseline_mm)):
            if number is not None and not 0 < number < math.inf:
                raise InputError(
                    f"--{flag} makes no sense",
                    found=f"{number:g}",
                    expected="a number above 0",
                    do="correct it, or leave it out: then what the layout says is taken",
                )

    def chosen(self, count: int) -> range:
        """Return which of `count` frames to take, by number. Raises InputError where the choice leaves none."""
        if self.every < 1 or self.start < 0:
            raise InputError(
                "the choice of frames makes no sense",
                found=f"every {self.every}, start {self.start}",
                expected="every 1 or more, start 0 or more",
                do="correct it",
            )
        frames = range(count)[self.start : self.stop : self.every]
        if not frames:
            raise InputError(
                "no frame is chosen",
                found=f"start {self.start}, stop {self.stop}, every {self.every} of {count} frames",
                expected="a choice that leaves a frame or more",
                do="correct start and stop: they count the dataset's own frames, from 0",
            )
        return frames
