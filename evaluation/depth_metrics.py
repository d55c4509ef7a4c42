"""Compare depth maps with the truth: errors, accuracies, coverage; nothing trimmed, nothing clamped."""

from __future__ import annotations

import numpy as np

from utils.types import BoolArray, FloatArray

ERRORS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "a1", "a2", "a3")


def known(depth_mm: FloatArray) -> BoolArray:
    """Return where a depth map says something: finite and positive."""
    return np.asarray(np.isfinite(depth_mm) & (depth_mm > 0))


def depth_metrics(depth_mm: FloatArray, truth_depth_mm: FloatArray, region: BoolArray) -> dict[str, float]:
    """Score one predicted depth map inside one region.

    valid = truth known & region & finite positive prediction; every error is a mean over the valid pixels.

    Args:
        depth_mm: (h, w) predicted z-depth; NaN, infinite, zero or negative is "no prediction".
        truth_depth_mm: (h, w) true z-depth; NaN, infinite, zero or negative is "unknown".
        region: (h, w) pixels that count.

    Returns:
        abs_rel = mean |p - t| / t, sq_rel = mean (p - t)^2 / t (mm), rmse (mm), rmse_log (natural logarithm),
        a1, a2, a3 = share of pixels with max(p / t, t / p) < 1.25, 1.25^2, 1.25^3 (Eigen et al. 2014),
        coverage = valid / (truth known & region) and n_valid_px. Without any valid pixel only the last two,
        which are zero; empty where no truth is known in the region.

    Raises:
        ValueError: the three maps differ in size.
    """
    if not depth_mm.shape == truth_depth_mm.shape == region.shape:
        raise ValueError(f"maps differ in size: {depth_mm.shape}, {truth_depth_mm.shape}, {region.shape}")
    scored = known(truth_depth_mm) & region
    valid = scored & known(depth_mm)
    if not scored.any():
        return {}
    coverage = {"coverage": float(valid.sum() / scored.sum()), "n_valid_px": float(valid.sum())}
    if not valid.any():
        return coverage
    return depth_errors(depth_mm[valid].astype(np.float64), truth_depth_mm[valid].astype(np.float64)) | coverage


def depth_errors(predicted: FloatArray, truth: FloatArray) -> dict[str, float]:
    """Return the seven errors of pixels (n,) whose prediction and truth are known and positive."""
    difference = predicted - truth
    ratio = np.maximum(predicted / truth, truth / predicted)
    return {
        "abs_rel": float(np.mean(np.abs(difference) / truth)),
        "sq_rel": float(np.mean(difference**2 / truth)),
        "rmse": float(np.sqrt(np.mean(difference**2))),
        "rmse_log": float(np.sqrt(np.mean((np.log(predicted) - np.log(truth)) ** 2))),
        "a1": float(np.mean(ratio < 1.25)),
        "a2": float(np.mean(ratio < 1.25**2)),
        "a3": float(np.mean(ratio < 1.25**3)),
    }


def median_ratio(depth_mm: FloatArray, truth_depth_mm: FloatArray) -> float:
    """Return median(truth) / median(prediction) of pooled valid pixels (n,): the scale of `median_scaled`.

    Pool the pixels of all frames and eyes of one method first: a ratio per frame would hide drifting scale.
    NaN where there is no pixel.
    """
    if depth_mm.size == 0:
        return float("nan")
    return float(np.median(truth_depth_mm.astype(np.float64)) / np.median(depth_mm.astype(np.float64)))
