"""Real images in a wanted view: without their highlights, as bright as its render, smoothly gone on beyond."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from nerf.finished_field import FinishedField
from novel_view.targets import Condition, Target
from novel_view.warped_prior import ColouredView
from novel_view.warped_prior import carry as carry_plainly
from utils.types import BoolArray, FloatArray

DIMMEST, BRIGHTEST = 0.5, 2.0  # by how much exposure and lamp may make a carried image differ


@dataclass(frozen=True, eq=False)
class Carried:
    """One input view's image as the target would see it: `rgb` (h, w, 3) in [0, 1] where `seen` (h, w)."""

    rgb: FloatArray
    seen: BoolArray


def carry(field: FinishedField, target: Target, condition: Condition) -> Carried:
    """Return the real pixels of an input view in the target view (`novel_view.warped_prior` says which it sees).

    Highlights are left out: under the target's lamp they would stand elsewhere. One gain brings the view's
    exposure and the distance of its lamp to those of the render.
    """
    view, (side, name) = field.seen[condition.index], condition.view
    image, (_, highlight) = field.dataset.image(side, name), field.dataset.masks(side, name)
    shrink = target.camera.fx / view.camera.fx
    if shrink < 1.0:  # what is sampled thinly would alias
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), 0.5 * (shrink**-2 - 1.0) ** 0.5), np.uint8)
    plain = replace(view, depth_mm=np.where(highlight, np.nan, view.depth_mm).astype(np.float32))
    colours, seen = carry_plainly(target.surface, ColouredView(plain, image))
    rgb, seen = 0.5 * (colours + 1.0), seen & target.seen
    return Carried(np.clip(rgb * _gain(rgb, target, seen), 0.0, 1.0).astype(np.float32), seen)


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
