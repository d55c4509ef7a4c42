"""The stage `filter`: smooth rendered depth along its surfaces, not across their edges."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from utils.artifacts import has_maps, load_maps, save_maps
from utils.errors import InputError, NotApplicable
from utils.images import colour_depth, write_rgb
from utils.options import option
from utils.scene import Scene
from utils.stages import Stage, skipped
from utils.types import FloatArray

EDGE = 0.02  # relative difference of inverse depth across which surfaces are different ones


@dataclass(frozen=True)
class FilterOptions:
    """How rendered depth is filtered."""

    filter_radius: int = option(3, "radius of the guided filter, px; 0: median only")
    filter_epsilon: float = option(0.02, "colour contrast (of full scale) across which nothing is smoothed")
    filter_median: int = option(3, "side of the median filter, px: 0, 3 or 5")
    train_binocular: bool = option(False, "train on the images of both eyes")


def check(options: FilterOptions) -> None:
    """Raise InputError for options that the filters cannot take."""
    if options.filter_median not in (0, 3, 5) or options.filter_radius < 0 or options.filter_epsilon <= 0:
        raise InputError(
            "the filter cannot work with these numbers",
            found=f"filter_median {options.filter_median}, filter_radius {options.filter_radius}, "
            f"filter_epsilon {options.filter_epsilon:g}",
            expected="filter_median 0, 3 or 5, filter_radius 0 or more, filter_epsilon above 0",
            do="correct the flag",
        )


def run(options: FilterOptions, *, out: Path, scene: Path, render: Path) -> str:
    """Filter the depth of every rendered view, guided by the render; only images that train the field enter."""
    if skipped(render):
        raise NotApplicable(f"nothing was rendered ({skipped(render)})")
    dataset = Scene.load(scene)
    views = [(side, name) for side in dataset.rig.sides for name in dataset.names if has_maps(render, side, name)]
    trained = dataset.sides if options.train_binocular else dataset.sides[:1]
    changes = []
    for side, name in tqdm(views, desc="filter", unit="view"):
        maps = load_maps(render, side, name)
        weight = weight_of(maps["depth_mm"], maps["depth_std_mm"], maps["opacity"])
        if name in dataset.train and side in trained:
            difference = np.abs(maps["rgb"].astype(np.float32) - dataset.image(side, name)).mean(-1) / 255.0
            weight = weight * (1.0 - difference)
        filtered = filter_depth(options, maps["depth_mm"], maps["rgb"], weight)
        save_maps(out, side, name, depth_mm=filtered)
        write_rgb(out / "pictures" / f"{side}_{name}.png", colour_depth(filtered))
        known = np.isfinite(filtered)
        changes.append(float(np.median(np.abs(filtered - maps["depth_mm"])[known] / filtered[known])))
    return f"{len(views)} views, median change {100 * float(np.mean(changes)):.3f} % of the depth"


def weight_of(depth_mm: FloatArray, depth_std_mm: FloatArray, opacity: FloatArray) -> FloatArray:
    """Return (h, w) in [0, 1] how far a rendered depth is to be trusted: opaque and thin is best; below half 0."""
    with np.errstate(all="ignore"):  # clear rays have no depth
        thin = 1.0 / (1.0 + (depth_std_mm / (0.02 * depth_mm)) ** 2)
    return np.where(opacity >= 0.5, opacity * thin, 0.0).astype(np.float32)


def filter_depth(
    options: FilterOptions, depth_mm: FloatArray, rgb: NDArray[np.uint8], weight: FloatArray
) -> FloatArray:
    """Return filtered z-depth (h, w), NaN where the weight is zero.

    A median, then a guided filter (He et al. 2013) of inverse depth with the render as its guide, as a weighted
    mean: filter(w / z) / filter(w). Inverse depth is affine in the pixel on a plane, depth is not.
    """
    usable = weight > 0
    if not usable.any():
        return np.full_like(depth_mm, np.nan)
    start = np.where(usable, depth_mm, np.median(depth_mm[usable])).astype(np.float32)
    if options.filter_median:
        smooth = cv2.medianBlur(start, options.filter_median)
        start = np.where(usable, smooth, start).astype(np.float32)
    if options.filter_radius:
        start = _guided(options, start, rgb, np.where(usable, weight, 1e-4).astype(np.float32))
    return np.where(usable, start, np.nan).astype(np.float32)


def _guided(
    options: FilterOptions, depth_mm: FloatArray, rgb: NDArray[np.uint8], weight: FloatArray
) -> FloatArray:
    # In 0..255: given 0..1, OpenCV takes the colours' covariance for singular and the guide for flat.
    guide = rgb.astype(np.float32)
    guided = cv2.ximgproc.createGuidedFilter(guide, options.filter_radius, (255.0 * options.filter_epsilon) ** 2)
    # Relative to the local mean on this side of edges, so that the line through the colours cannot bend a surface.
    inverse = 1.0 / depth_mm
    typical = float(np.median(inverse))
    base = typical * cv2.bilateralFilter(
        inverse / typical, 2 * options.filter_radius + 1, EDGE, max(options.filter_radius / 2, 0.5)
    )
    detail = guided.filter(weight * (inverse - base)) / np.maximum(guided.filter(weight), 1e-6)
    result = 1.0 / (base + detail)
    limit = 0.01 * depth_mm
    return np.clip(result, depth_mm - limit, depth_mm + limit)


STAGE = Stage("filter", run, FilterOptions, reads=("scene", "render"), version=2, check=check)
