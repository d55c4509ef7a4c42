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
        A refusal where the baseline is unknown; nothing where it is known and no other one stands out.
    """
    best = _fitting(frames, matrix)
    if baseline_mm is None:
        words = "neither extrinsics.txt nor --baseline_mm says it"
        do = "put the release's folder calibration beside the sequences, or give --baseline_mm"
        if best is not None:
            words, do = f"{words}; images and depth fit {best:.1f} mm best", f"{do} {best:.1f}"
        return [Finding("refuse", "baseline", words, do)]
    if best is None:
        return []
    words = f"images and depth fit {best:.1f} mm best"
    if abs(best - baseline_mm) <= _FINE_MM + 0.05 * baseline_mm:
        return [Finding("ok", "baseline", words)]
    return [Finding("warn", "baseline", f"{words}, not {baseline_mm:g} mm", "check it: depth scales with it")]


def _fitting(frames: Sequence[Frame], matrix: FloatArray) -> float | None:
    """Return the baseline, mm, that carries left images onto right ones best; None where none stands out."""
    usable = [index for index, frame in enumerate(frames) if "left" in frame.depth_mm]
    if not usable:
        return None
    samples = [Sample(usable[place], frames[usable[place]]) for place in spread(len(usable), _FRAMES)]
    views = [_views(sample, Lens(matrix)) for sample in samples]
    near, _ = _best(views, np.arange(_LEAST_MM, _MOST_MM + 0.01, _COARSE_MM))
    best, score = _best(views, np.arange(near - _COARSE_MM, near + _COARSE_MM + 0.01, _FINE_MM))
    return best if score >= AGREES and _LEAST_MM < best < _MOST_MM else None


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
