"""What a reader may be told: which frames, and what a layout leaves open."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ReaderOptions:
    """Choices of the conversion.

    Args:
        every: take every n-th frame.
        start: first frame of the dataset's own count, from 0.
        stop: the frame after the last one; None: to the end.
        mask_polarity: what nonzero means in mask files: `tissue`, `tool`, or `auto` for what the layout says.
        depth_scale: mm per unit of stored depth; None: what the layout says.
        baseline_mm: distance between the eyes where the layout does not say it; None: unknown.
        part: what to take where a folder holds a single measured pair (`keyframe`) and a `video`; `auto`: the
            video where there is one.
    """

    every: int = 1
    start: int = 0
    stop: int | None = None
    mask_polarity: str = "auto"
    depth_scale: float | None = None
    baseline_mm: float | None = None
    part: str = "auto"
