"""Draw a located image beside the render at its pose and their difference."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from localisation.query import Eye, Query
from nerf.finished_field import OPAQUE, FinishedField
from utils.geometry import invert_rigid
from utils.types import FloatArray

FULL = 0.25  # of full scale: a difference that is drawn in the brightest colour
UNUSED = (40, 40, 40)


def comparison(field: FinishedField, query: Query, world_from_left: FloatArray) -> NDArray[np.uint8]:
    """Return image, render and difference side by side, an eye a row; what was not compared is dark grey.

    The render gets the gain and offset that fit the image best: exposure is no difference.
    """
    rows = [_row(field, eye, world_from_left) for eye in query.eyes]
    width = max(row.shape[1] for row in rows)
    return np.vstack([np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows])


def _row(field: FinishedField, eye: Eye, world_from_left: FloatArray) -> NDArray[np.uint8]:
    world_from_eye = world_from_left @ invert_rigid(eye.eye_from_left)
    image = field.render(eye.camera, world_from_eye, world_from_left=world_from_left)
    seen = np.asarray(image.opacity >= OPAQUE)
    compared = seen & eye.usable
    rendered, taken = image.rgb.astype(np.float32), eye.image.astype(np.float32)
    if compared.sum() > 100:
        gain, offset = exposure(rendered[compared], taken[compared])
        rendered = rendered * gain + offset
    fitted = np.where(seen[..., None], rendered.clip(0, 255), 0).astype(np.uint8)
    off = np.abs(rendered - taken).mean(axis=-1) / (255 * FULL)
    shade = cv2.applyColorMap((255 * off.clip(0, 1)).astype(np.uint8), cv2.COLORMAP_INFERNO)
    difference = np.where(compared[..., None], shade[..., ::-1], np.array(UNUSED, np.uint8))
    return np.hstack([eye.image, fitted, difference.astype(np.uint8)])


def exposure(rendered: FloatArray, taken: FloatArray) -> tuple[float, float]:
    """Return gain and offset that bring rendered values (n, 3) nearest to taken ones: least squares.

    A gain that is not positive belongs to another place: then the values stay as they are.
    """
    mean_r, mean_t = float(rendered.mean()), float(taken.mean())
    variance = float(((rendered - mean_r) ** 2).mean())
    gain = float(((rendered - mean_r) * (taken - mean_t)).mean()) / max(variance, 1e-6)
    return (gain, mean_t - gain * mean_r) if gain > 0 else (1.0, 0.0)
