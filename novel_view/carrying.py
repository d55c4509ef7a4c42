"""Carry real images into a wanted view over its surface, and go on smoothly where nothing was carried."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from nerf.finished_field import FinishedField
from novel_view.targets import Condition, Target
from utils.geometry import invert_rigid
from utils.multi_view import RaysInView
from utils.types import BoolArray, FloatArray
from utils.visibility import seen_by

DIMMEST, BRIGHTEST = 0.5, 2.0  # by how much exposure and lamp may make a carried image differ


@dataclass(frozen=True, eq=False)
class Carried:
    """One input view's image as the target would see it: `rgb` (h, w, 3) in [0, 1] where `seen` (h, w)."""

    rgb: FloatArray
    seen: BoolArray


def carry(field: FinishedField, target: Target, condition: Condition) -> Carried:
    """Return the real pixels of an input view in the target view.

    A pixel counts where the target's surface lies in the view's image, agrees with the view's own depth, and is no
    highlight there, which would stand elsewhere under the target's lamp. One gain brings the view's exposure and
    distance of its lamp to those of the render.
    """
    side, name = condition.view
    view = field.seen[condition.index]
    image: FloatArray = field.dataset.image(side, name).astype(np.float32) / 255.0
    _, highlight = field.dataset.masks(side, name)
    camera = view.camera
    shrink = target.camera.fx / camera.fx
    if shrink < 1.0:  # what is sampled thinly would alias
        camera = camera.resized(max(round(shrink * camera.width), 1), max(round(shrink * camera.height), 1))
        image = np.asarray(
            cv2.resize(image, (camera.width, camera.height), interpolation=cv2.INTER_AREA), np.float32
        )
    shining = cv2.resize(highlight.astype(np.float32), image.shape[1::-1], interpolation=cv2.INTER_AREA)
    view_from_target = invert_rigid(view.world_from_camera) @ target.world_from_camera
    depth = np.asarray(target.surface.depth_mm, np.float32)
    _, columns, rows = RaysInView(target.camera, camera, view_from_target).land(depth)
    columns, rows = (np.nan_to_num(places, nan=-9.0) for places in (columns, rows))
    rgb = np.asarray(
        cv2.remap(image, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32
    )
    shine = cv2.remap(shining, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    seen = seen_by(target.surface, view) & target.seen & (shine < 0.1)
    return Carried(np.clip(rgb * _gain(rgb, target, seen), 0.0, 1.0), seen)


def _gain(rgb: FloatArray, target: Target, seen: BoolArray) -> float:
    """Return the factor that brings carried colours to the render's brightness: the median over seen pixels."""
    ours, theirs = target.rgb[seen].mean(-1) / 255.0, rgb[seen].mean(-1)
    usable = theirs > 0.05
    return float(np.clip(np.median(ours[usable] / theirs[usable]), DIMMEST, BRIGHTEST)) if usable.any() else 1.0


def merged(carried: list[Carried], target: Target) -> tuple[FloatArray, BoolArray]:
    """Return (h, w, 3) in [0, 1]: real pixels of the best view that has one, and where (h, w) any has."""
    rgb, done = np.zeros_like(carried[0].rgb), np.zeros(target.seen.shape, bool)
    for one in carried:
        new = one.seen & ~done
        rgb[new], done = one.rgb[new], done | one.seen
    return rgb, done


def gone_on(rgb: FloatArray, known: BoolArray) -> FloatArray:
    """Return (h, w, 3): known pixels as they are, the others a smooth continuation, coarser with the distance.

    Pull and push (Gortler et al. 1996): means over known pixels of halved images, taken up again where finer ones
    know nothing.
    """
    weight = known.astype(np.float32)[..., None]
    if not known.any() or min(known.shape) <= 2:
        mean = (rgb * weight).sum((0, 1)) / max(float(weight.sum()), 1.0)
        return np.where(known[..., None], rgb, mean).astype(np.float32)
    height, width = known.shape
    half = ((width + 1) // 2, (height + 1) // 2)
    small_weight = cv2.resize(weight[..., 0], half, interpolation=cv2.INTER_AREA)
    small = cv2.resize((rgb * weight).astype(np.float32), half, interpolation=cv2.INTER_AREA)
    small = small / np.maximum(small_weight, 1e-6)[..., None]
    coarse = gone_on(small, small_weight > 1e-3)
    up = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.where(known[..., None], rgb, up).astype(np.float32)
