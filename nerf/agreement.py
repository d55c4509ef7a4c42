"""How well other training images agree with a depth map: the judge between a prior and a rendered depth."""

from __future__ import annotations

import cv2
import numpy as np

from nerf.views import PixelPool
from utils.geometry import invert_rigid, pixel_grid, project, transform, unproject
from utils.types import FloatArray
from utils.warping import nearest_views

NEIGHBOURS = 5
WINDOW_PX = 7
SKIPPED = 1


class Agreement:
    """Training images without local brightness and contrast, and the cameras that compare them."""

    def __init__(self, pool: PixelPool) -> None:
        self.pool = pool
        count = len(pool.views)
        bottom = np.tile(np.array([[[0.0, 0.0, 0.0, 1.0]]]), (count, 1, 1))
        self.world_from = np.concatenate([pool.cameras.world_from_camera.numpy().astype(float), bottom], axis=1)
        fx, fy, cx, cy = pool.cameras.intrinsics.double().numpy().T
        self.matrices = np.tile(np.eye(3), (count, 1, 1))
        self.matrices[:, 0, 0], self.matrices[:, 1, 1] = fx, fy
        self.matrices[:, 0, 2], self.matrices[:, 1, 2] = cx, cy
        self.normalised = [_normalised(pool, view) for view in range(count)]
        known = pool.depth[pool.depth.isfinite()]
        self.typical_mm = float(known.median())

    def difference(self, view: int, depth_mm: FloatArray) -> FloatArray:
        """Return (h, w) mean difference between a view and its neighbours brought into it by `depth_mm`.

        In units of local contrast, over a window of 7 px; NaN where the depth is unknown or no neighbour sees it.
        The view itself and its nearest neighbour (too close to tell depths apart) do not count.
        """
        height, width = depth_mm.shape
        points = unproject(self.matrices[view], pixel_grid(width, height), depth_mm)
        near = nearest_views(self.world_from[view], self.world_from, self.typical_mm, NEIGHBOURS + 1 + SKIPPED)
        others = [other for other in near if other != view][SKIPPED:]
        total, count = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
        for other in others:
            other_from_view = invert_rigid(self.world_from[other]) @ self.world_from[view]
            pixels, _ = project(self.matrices[other], transform(other_from_view, points))
            where = np.nan_to_num(pixels, nan=-9.0).astype(np.float32)
            seen = cv2.remap(
                self.normalised[other], where[..., 0], where[..., 1], cv2.INTER_LINEAR, borderValue=float("nan")
            )
            apart = np.abs(np.asarray(seen, np.float32) - self.normalised[view])
            usable = np.isfinite(apart)
            total += np.where(usable, np.minimum(apart, 2.0), 0.0)
            count += usable
        window = (WINDOW_PX, WINDOW_PX)
        sums = np.asarray(cv2.boxFilter(total, -1, window)), np.asarray(cv2.boxFilter(count, -1, window))
        return np.where((sums[1] > 0.5) & np.isfinite(depth_mm), sums[0] / np.maximum(sums[1], 1e-6), np.nan)


def _normalised(pool: PixelPool, view: int) -> FloatArray:
    """Return (h, w) green minus its local mean over its local contrast; NaN at highlights and background."""
    where, width = pool.view_slice(view), int(pool.widths[view])
    green = pool.rgb[where, 1].numpy().reshape(-1, width).astype(np.float32)
    mean = cv2.GaussianBlur(green, (0, 0), 3.0)
    contrast = np.sqrt(np.maximum(cv2.GaussianBlur(green**2, (0, 0), 3.0) - mean**2, 0.0)) + 2.0
    usable = (pool.tissue[where] & ~pool.highlight[where]).numpy().reshape(-1, width)
    return np.where(usable, (green - mean) / contrast, np.nan).astype(np.float32)
