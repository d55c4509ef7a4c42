"""Colour maps of the report page, told apart by colour-blind eyes too: maps to pictures, and their colour bars."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from evaluation.report.html import text
from utils.types import FloatArray

# Anchors of the colour maps, from the low end to the high one; lightness alone tells the sequential ones.
_ANCHORS = {
    "depth": ("#fde725", "#7ad151", "#22a884", "#2a788e", "#414487", "#440154"),
    "confidence": ("#3b0f3a", "#7d2a55", "#b8506a", "#dd8c7d", "#f0c8a8", "#fdf6e3"),
    "amount": ("#f7fbff", "#c6dbef", "#7fb5d8", "#3a87bd", "#125a9b", "#08264d"),
    "error": ("#063a66", "#0f6fb0", "#7fb8dc", "#f6f4ef", "#f0a868", "#cf5a0c", "#6e2a04"),
}
_STEPS = 256


@dataclass(frozen=True)
class Scale:
    """A colour map between two values; `title` says the quantity and its unit, `ends` what the ends mean."""

    colours: str
    low: float
    high: float
    title: str
    ends: tuple[str, str] = ("", "")

    def paint(self, values: FloatArray) -> NDArray[np.uint8]:
        """Return a picture (h, w, 4) of a map (h, w); unknown is clear, so that the page's hatching shows."""
        share = (np.nan_to_num(values, nan=self.low, posinf=self.high, neginf=self.low) - self.low) / max(
            self.high - self.low, 1e-12
        )
        indices = np.rint(np.clip(share, 0, 1) * (_STEPS - 1)).astype(int)
        painted = np.full((*values.shape, 4), 255, np.uint8)
        painted[..., :3] = _table(self.colours)[indices]
        painted[np.isnan(values)] = 0
        return painted

    def bar(self) -> str:
        """Return the colour bar as HTML: five values under a strip."""
        stops = ", ".join(_ANCHORS[self.colours])
        values = np.linspace(self.low, self.high, 5)
        marks = "".join(f"<span>{_short(value, self.high - self.low)}</span>" for value in values)
        ends = f"<span>{text(self.ends[0])}</span><span>{text(self.ends[1])}</span>" if any(self.ends) else ""
        return (
            f'<div class="bar"><b>{text(self.title)}</b><i style="background:linear-gradient(90deg,{stops})"></i>'
            f'<div class="marks">{marks}</div><div class="ends">{ends}</div></div>'
        )


def limits(maps: list[FloatArray], low: float, high: float) -> tuple[float, float]:
    """Return two percentiles of the known values of several maps; (0, 1) where none is known."""
    known = np.concatenate([values[np.isfinite(values)].ravel() for values in maps] or [np.zeros(0)])
    if known.size == 0:
        return 0.0, 1.0
    ends = np.percentile(known, [low, high])
    return float(ends[0]), float(ends[1])


def round_up(value: float) -> float:
    """Return the next of …, 1, 2, 5, 10, … that is not below a positive value."""
    if not np.isfinite(value) or value <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= value * (1 - 1e-9)))


def fit(image: NDArray[np.uint8], widest_px: int, *, exact: bool) -> NDArray[np.uint8]:
    """Return a picture that is at most `widest_px` wide; maps keep their values (nearest neighbour)."""
    height, width = image.shape[:2]
    if width <= widest_px:
        return image
    size = (widest_px, max(1, round(height * widest_px / width)))
    how = cv2.INTER_NEAREST_EXACT if exact else cv2.INTER_AREA
    return np.asarray(cv2.resize(image, size, interpolation=how), np.uint8)


def _table(name: str) -> NDArray[np.uint8]:
    """Return (256, 3) RGB, straight lines between the anchors."""
    anchors = np.array([[int(code[i : i + 2], 16) for i in (1, 3, 5)] for code in _ANCHORS[name]], float)
    places, wanted = np.linspace(0, 1, len(anchors)), np.linspace(0, 1, _STEPS)
    return np.rint(np.stack([np.interp(wanted, places, anchors[:, k]) for k in range(3)], axis=1)).astype(np.uint8)


def _short(value: float, span: float) -> str:
    digits = int(np.clip(2 - np.floor(np.log10(max(span, 1e-9))), 0, 6)) if span < 20 else 0
    return f"{round(value, digits) + 0.0:g}"
