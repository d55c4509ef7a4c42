"""What the viewer shows, as colours: image, depth and confidence of frames and of the reconstruction's points."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from export.measured_run import MeasuredRun, View
from export.shapes import Shape
from utils.geometry import invert_rigid, transform
from utils.types import FloatArray

LAYERS = ("colour", "depth", "confidence")
UNKNOWN = (60, 60, 60)

Picture = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class FramePictures:
    """One view: its image, depth and confidence (h, w, 3) RGB, and a line that says what the colours mean."""

    pictures: dict[str, Picture]
    legend: str


def coloured(values: FloatArray, low: float, high: float) -> Picture:
    """Return RGB (..., 3) of values (...): turbo, `low` blue, `high` red, NaN grey."""
    share = (np.nan_to_num(values, nan=low) - low) / max(high - low, 1e-9)
    flat = np.rint(255 * share.clip(0, 1)).astype(np.uint8).reshape(-1, 1)
    colours = cv2.cvtColor(cv2.applyColorMap(flat, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    picture = np.asarray(colours, np.uint8).reshape(*values.shape, 3)
    return np.where(np.isfinite(values)[..., None], picture, np.array(UNKNOWN, np.uint8))


def limits(values: FloatArray) -> tuple[float, float]:
    """Return the 2nd and 98th percentile of what is known; (0, 1) where nothing is."""
    known = values[np.isfinite(values)]
    if not known.size:
        return 0.0, 1.0
    low, high = np.percentile(known, [2, 98])
    return float(low), float(high)


def frame_pictures(run: MeasuredRun, view: View) -> FramePictures:
    """Read one view and colour its maps; depth by its own limits, confidence from 0 to 1."""
    maps = run.measured(view)
    low, high = limits(maps.depth_mm)
    pictures = {
        "colour": run.scene.image(*view),
        "depth": coloured(maps.depth_mm, low, high),
        "confidence": coloured(maps.confidence, 0.0, 1.0),
    }
    known = np.isfinite(maps.depth_mm)
    sigma = f", σ {np.nanmedian(maps.sigma_mm):.2g}" if np.isfinite(maps.sigma_mm).any() else ""
    legend = (
        f"depth: {low:.4g} (blue) to {high:.4g} (red){sigma} {run.unit}, known for {100 * known.mean():.1f} % of "
        "the pixels; confidence: 0 (blue) to 1 (red); grey: unknown"
    )
    return FramePictures(pictures, legend)


def shape_colours(shape: Shape, layer: str, world_from_camera: FloatArray) -> Picture:
    """Return RGB (n, 3) of the points: their own, by z-depth from a camera (4, 4), or by confidence.

    Points behind the camera are grey in the layer `depth`.
    """
    if layer == "colour":
        return shape.colours
    if layer == "confidence":
        return coloured(shape.confidence, 0.0, 1.0)
    depth = transform(invert_rigid(world_from_camera), shape.points_world)[:, 2]
    depth = np.where(depth > 0, depth, np.nan)
    return coloured(depth, *limits(depth))


def thumbnail(picture: Picture, widest_px: int) -> Picture:
    """Return a picture (h, w, 3) made at most so wide, by area; itself where it is not wider."""
    height, width = picture.shape[:2]
    if width <= widest_px:
        return picture
    size = widest_px, max(round(height * widest_px / width), 1)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
