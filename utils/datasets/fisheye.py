"""Scaramuzza's omnidirectional camera, and the pinhole view that is cut out of its images and depth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.geometry import pixel_grid
from utils.types import BoolArray, FloatArray

_BEND = 0.02  # of 1/z: how far it may differ from its neighbours' mean on one surface (0 on a plane)


@dataclass(frozen=True)
class Omnidirectional:
    """Pixel p sees along (u, v, a0 + a2 r^2 + a3 r^3 + a4 r^4), r = |(u, v)|, [c e; d 1] (u, v) = p - centre.

    Scaramuzza, Martinelli, Siegwart, IROS 2006, equations 2 to 6; pixels are (column, row), the centre of the
    top-left one (0, 0). The stretch is read as C3VD's renderer reads it (glm::mat2(c, d, e, 1), column by column).
    """

    width: int
    height: int
    cx: float
    cy: float
    a0: float
    a2: float
    a3: float
    a4: float
    c: float = 1.0
    d: float = 0.0
    e: float = 0.0

    @property
    def stretch(self) -> FloatArray:
        """(2, 2) from the ideal sensor to pixels."""
        return np.array([[self.c, self.e], [self.d, 1.0]])

    def rays(self, pixels: FloatArray) -> FloatArray:
        """Return unit viewing directions (..., 3) of pixels (..., 2)."""
        ideal = (pixels - (self.cx, self.cy)) @ np.linalg.inv(self.stretch).T
        radius = np.linalg.norm(ideal, axis=-1)
        rays = np.concatenate([ideal, self._height(radius)[..., None]], axis=-1)
        return rays / np.linalg.norm(rays, axis=-1, keepdims=True)

    def pixels(self, slopes: FloatArray) -> FloatArray:
        """Return the pixels (..., 2) that see along (x, y, 1), for `slopes` (..., 2) = (x, y); NaN: none does."""
        steep = np.linalg.norm(slopes, axis=-1)
        table = self._radii
        slope_of = table / self._height(table)
        radius = np.interp(steep, slope_of, table, right=np.nan)
        for _ in range(2):  # Newton: r = steep * height(r)
            change = 1 - steep * (2 * self.a2 * radius + 3 * self.a3 * radius**2 + 4 * self.a4 * radius**3)
            radius -= (radius - steep * self._height(radius)) / change
        ideal = slopes * (radius / np.maximum(steep, 1e-12))[..., None]
        return ideal @ self.stretch.T + (self.cx, self.cy)

    def half_angle_degrees(self, pixels: float) -> float:
        """Return the angle to the axis of what is seen at a distance from the centre, px."""
        return float(np.degrees(np.arctan2(pixels, self._height(np.array(pixels)))))

    def _height(self, radius: FloatArray) -> FloatArray:
        return self.a0 + self.a2 * radius**2 + self.a3 * radius**3 + self.a4 * radius**4

    @property
    def _radii(self) -> FloatArray:
        """Distances from the centre over which the slope rises: what a plane in front can be mapped to."""
        radii = np.linspace(0.0, np.hypot(self.width, self.height), 4096)
        height = self._height(radii)
        slope = radii / np.where(height > 1e-3 * self.a0, height, np.nan)
        rises = np.concatenate([[True], np.diff(slope) > 0])
        return radii[: len(radii) if rises.all() else int(np.argmin(rises))]


@dataclass(frozen=True)
class PinholeView:
    """The view of a pinhole camera of the same size and centre, as sharp in the middle as the lens: f = a0."""

    lens: Omnidirectional

    @property
    def matrix(self) -> FloatArray:
        """(3, 3) of the pinhole camera, px."""
        return np.array([[self.lens.a0, 0.0, self.lens.cx], [0.0, self.lens.a0, self.lens.cy], [0.0, 0.0, 1.0]])

    @cached_property
    def _map(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(h, w) columns and rows of the stored image, for each pinhole pixel; far outside where it has none."""
        pixels = pixel_grid(self.lens.width, self.lens.height)
        stored = self.lens.pixels((pixels - self.matrix[:2, 2]) / self.lens.a0)
        stored = np.nan_to_num(stored, nan=-1e4).astype(np.float32)
        return np.ascontiguousarray(stored[..., 0]), np.ascontiguousarray(stored[..., 1])

    def colour(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the (h, w, 3) image as the pinhole camera sees it; black beyond the stored one."""
        return np.asarray(self._seen(image, cv2.INTER_CUBIC), np.uint8)

    def mask(self, mask: BoolArray) -> BoolArray:
        """Return a mask (h, w) as the pinhole camera sees it; false beyond the stored one."""
        return self._seen(mask.astype(np.uint8), cv2.INTER_NEAREST) > 0

    def depth(self, depth_mm: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return z-depth (h, w) as the pinhole camera sees it: z does not change, for both look the same way.

        Between stored pixels it is interpolated on a surface and taken from the nearest pixel across an edge.
        """
        nearest, smooth = (self._seen(depth_mm, how, np.nan) for how in (cv2.INTER_NEAREST, cv2.INTER_LINEAR))
        return np.where(self.mask(_edges(depth_mm)), nearest, smooth).astype(np.float32)

    def _seen(self, values: NDArray[Any], how: int, outside: float = 0.0) -> NDArray[Any]:
        return np.asarray(cv2.remap(values, *self._map, how, borderMode=cv2.BORDER_CONSTANT, borderValue=outside))


def _edges(depth_mm: NDArray[np.float32]) -> BoolArray:
    """Return (h, w): the surface breaks off or bends sharply beside this pixel, or is unknown there."""
    near = 1 / depth_mm
    edge = np.zeros(depth_mm.shape, bool)
    edge[:, 1:-1] |= ~(np.abs(near[:, :-2] - 2 * near[:, 1:-1] + near[:, 2:]) < 2 * _BEND * near[:, 1:-1])
    edge[1:-1] |= ~(np.abs(near[:-2] - 2 * near[1:-1] + near[2:]) < 2 * _BEND * near[1:-1])
    return edge
