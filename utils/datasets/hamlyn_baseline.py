"""Whether a baseline fits rectified pairs and their depth: measured on the images themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from utils.datasets.source import Finding, Frame
from utils.images import read_rgb
from utils.types import FloatArray

_TRIED_MM = np.arange(2.0, 10.01, 0.1)
_FRAMES = 3
_SHARP = 0.9  # the best baseline's residual, less than this part of the median one's, or nothing is said


def check_baseline(frames: Sequence[Frame], matrix: FloatArray, baseline_mm: float | None) -> list[Finding]:
    """Compare the baseline with the one that best carries the left images onto the right ones by their depth.

    Args:
        frames: with images as files, and depth of the left eye.
        matrix: (3, 3) of both rectified eyes.
        baseline_mm: what was given or read; None: unknown.
    """
    usable = [frame for frame in frames if "left" in frame.depth_mm]
    if not usable:
        return []
    looked_at = [usable[round(index)] for index in np.linspace(0, len(usable) - 1, min(_FRAMES, len(usable)))]
    residuals = np.sum([_residuals(frame, float(matrix[0, 0])) for frame in looked_at], axis=0)
    best = float(_TRIED_MM[int(np.argmin(residuals))])
    if not residuals.min() < _SHARP * np.median(residuals) or best in (_TRIED_MM[0], _TRIED_MM[-1]):
        return []
    words = f"images and depth of {len(looked_at)} frames fit {best:.1f} mm best"
    if baseline_mm is None:
        return [Finding("warn", "baseline", words, f"--baseline_mm {best:.1f}, where nothing better is known")]
    if abs(best - baseline_mm) <= 0.1 + 0.05 * baseline_mm:
        return [Finding("ok", "baseline", words)]
    return [Finding("warn", "baseline", f"{words}, not {baseline_mm:g} mm", "check it: depth scales with it")]


def _residuals(frame: Frame, focal_px: float) -> FloatArray:
    """Return, for each tried baseline, the median grey difference of left pixels to where depth puts them."""
    left, right = (frame.images["left"], frame.images["right"])
    assert isinstance(left, Path)
    assert isinstance(right, Path)
    grey = [cv2.cvtColor(read_rgb(path), cv2.COLOR_RGB2GRAY).astype(np.float32) for path in (left, right)]
    detail = [image - cv2.GaussianBlur(image, (0, 0), 5) for image in grey]  # the eyes differ in brightness
    depth_mm = frame.depth_mm["left"]()
    rows, columns = np.nonzero(np.isfinite(depth_mm) & (np.abs(detail[0]) > 2))
    step = max(1, len(rows) // 20000)
    rows, columns = rows[::step], columns[::step]
    if not len(rows):
        return np.ones(len(_TRIED_MM))
    found = []
    for baseline_mm in _TRIED_MM:
        there = columns - focal_px * baseline_mm / depth_mm[rows, columns]
        where = there.astype(np.float32)[None], rows.astype(np.float32)[None]
        seen = cv2.remap(detail[1], *where, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=np.nan)[
            0
        ]
        difference = np.abs(seen - detail[0][rows, columns])[there >= 0]
        found.append(np.median(difference) if len(difference) > 100 else np.nan)
    return np.nan_to_num(np.array(found), nan=float(np.nanmax(found)) if np.isfinite(found).any() else 1.0)
