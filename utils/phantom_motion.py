"""Move the phantom's tissue as breathing does: parts of the organ rise and sink, the rest stays."""

from dataclasses import replace

import numpy as np

from utils.phantom_surface import Organ, smooth_noise
from utils.types import FloatArray

BREATH_FRAMES = 10.7  # a breath lasts as long: no divisor of a loop of the endoscope, or of every eighth frame
LARGEST_LIFT_MM = 20.0  # more would come near the endoscope
_PATCH_MM = 60.0  # size of what moves as one, on an organ of scale 1
_SOFT = 0.5  # deviations of noise, from what stays to what moves fully


def make_lift(n_frames: int, breathing_mm: float, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Return how far (mm) the tissue is lifted in each frame (n,), and which share of it each sample takes (m, m).

    About half of the sheet moves; between that and the rest lies a soft seam.
    """
    phase = rng.uniform(0, 2 * np.pi)
    breath = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_frames) / BREATH_FRAMES + phase)
    part = np.clip(0.5 + smooth_noise(rng, _PATCH_MM) / (2 * _SOFT), 0, 1)
    return breathing_mm * breath, np.asarray(part * part * (3 - 2 * part), np.float32)


def lifted(organ: Organ, lift_mm: float, part: FloatArray) -> Organ:
    """Return the organ with `part` (n, n, in [0, 1]) of `lift_mm` added to its height; its skin rises with it."""
    if lift_mm == 0:
        return organ
    rise_mm = np.float32(lift_mm) * part
    down, right = np.gradient(rise_mm, organ.mm_per_px)
    slopes = organ.slopes.copy()
    slopes[..., 0] += right
    slopes[..., 1] += down
    steepest = float(np.hypot(slopes[..., 0], slopes[..., 1]).max())
    return replace(organ, height_mm=organ.height_mm + rise_mm, slopes=slopes, steepest=steepest)
