"""Which baseline carries left images onto right ones by their depth: to find it, or to check what was given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from utils.datasets.check_warp import AGREES, View, agreement, view_of
from utils.datasets.samples import Sample, spread
from utils.datasets.source import Finding, Frame, Lens
from utils.geometry import rigid
from utils.types import FloatArray

_LEAST_MM, _MOST_MM = 2.0, 10.0
_COARSE_MM, _FINE_MM = 0.4, 0.1
_FRAMES = 3
_THINNED = 4  # one of so many points is enough


def check_baseline(frames: Sequence[Frame], matrix: FloatArray, baseline_mm: float | None) -> list[Finding]:
    """Compare the baseline with the one that carries left images onto right ones best, by the left eye's depth.

    Args:
        frames: with images of both eyes, and depth of the left one.
        matrix: (3, 3) of both rectified eyes.
        baseline_mm: what was given or read; None: unknown.

    Returns:
        Nothing where no baseline stands out.
    """
    usable = [index for index, frame in enumerate(frames) if "left" in frame.depth_mm]
    if not usable:
        return []
    samples = [Sample(usable[place], frames[usable[place]]) for place in spread(len(usable), _FRAMES)]
    views = [_views(sample, Lens(matrix)) for sample in samples]
    near, _ = _best(views, np.arange(_LEAST_MM, _MOST_MM + 0.01, _COARSE_MM))
    best, score = _best(views, np.arange(near - _COARSE_MM, near + _COARSE_MM + 0.01, _FINE_MM))
    if score < AGREES or not _LEAST_MM < best < _MOST_MM:
        return []
    words = f"images and depth of {len(samples)} frames fit {best:.1f} mm best"
    if baseline_mm is None:
        return [Finding("warn", "baseline", words, f"--baseline_mm {best:.1f}, where nothing better is known")]
    if abs(best - baseline_mm) <= _FINE_MM + 0.05 * baseline_mm:
        return [Finding("ok", "baseline", words)]
    return [Finding("warn", "baseline", f"{words}, not {baseline_mm:g} mm", "check it: depth scales with it")]


def _views(sample: Sample, lens: Lens) -> tuple[View, View]:
    left = view_of(sample, "left", lens)
    thinned = replace(left, points=left.points[::_THINNED], pixels=left.pixels[::_THINNED])
    return thinned, view_of(sample, "right", lens)


def _best(views: Sequence[tuple[View, View]], tried_mm: Iterable[float]) -> tuple[float, float]:
    """Return the baseline, mm, under which the images agree best, and the correlation."""
    scores = {
        float(tried): np.mean([agreement(*pair, rigid(np.eye(3), np.array([-tried, 0.0, 0.0]))) for pair in views])
        for tried in tried_mm
    }
    best = max(scores, key=lambda tried: scores[tried])
    return best, float(scores[best])
