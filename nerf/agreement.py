"""How well the other training images agree with depths of a view: the judge of the refinement."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from nerf.correlation import HALF_WINDOW_PX, decorrelations
from nerf.views import PixelPool
from utils.geometry import invert_rigid, pixel_grid, unproject
from utils.types import BoolArray, FloatArray

WINDOW_PX = 2 * HALF_WINDOW_PX + 1
# Views that judge: this many, spread over all those that lie near enough to see the same surface. Distances are
# between camera centres over the working distance; too close a view cannot tell depths apart.
JUDGES = 8
NEAREST, FARTHEST, WIDEST_RADIANS = 0.01, 0.8, 0.9
# An edge hides what is behind it from some views: the worst ones do not count.
BEST_SHARE = 0.75
NOISE_VARIANCE = 4.0  # of 255 squared: a window without texture says nothing


class Agreement:
    """The training images' green channel, and the cameras that compare them."""

    def __init__(self, pool: PixelPool) -> None:
        count = len(pool.views)
        bottom = np.tile(np.array([[[0.0, 0.0, 0.0, 1.0]]]), (count, 1, 1))
        self.world_from = np.concatenate([pool.cameras.world_from_camera.numpy().astype(float), bottom], axis=1)
        self.matrices = pool.cameras.matrices
        self.green = [_green(pool, view) for view in range(count)]
        some = pool.depth[pool.some]
        self.typical_mm = float(some[some.isfinite()].median())

    def judges(self, view: int) -> list[int]:
        """Return the views that judge a view, nearest first; none where all are too near or too far."""
        parallax = self._parallax(view)
        cosine = self.world_from[:, :3, 2] @ self.world_from[view, :3, 2]
        able = (parallax > NEAREST) & (parallax < FARTHEST) & (cosine > np.cos(WIDEST_RADIANS))
        able[view] = False
        ordered = sorted(np.flatnonzero(able), key=lambda other: float(parallax[other]))
        if not ordered:
            return []
        chosen = np.linspace(0.08 * len(ordered), len(ordered) - 1, JUDGES).astype(int)
        return [int(ordered[index]) for index in dict.fromkeys(chosen.tolist())]

    def step(self, view: int, pixels: float) -> float:
        """Return the relative change of depth that moves a point by `pixels` in the middle one of the judges."""
        parallax = np.median(self._parallax(view)[self.judges(view)])
        return float(pixels / (parallax * self.matrices[view, 0, 0]))

    def cost(self, view: int, depths_mm: FloatArray) -> NDArray[np.float32]:
        """Return (k, h, w): 1 - correlation of a view with its judges brought into it by depths (k, h, w).

        Normalised cross-correlation over a window of 5 px, which brightness and contrast do not change, averaged
        over the three quarters of the judges that fit best; 0 is best. NaN where no judge sees the point, or in
        highlights and outside tissue.
        """
        judges = self.judges(view)
        if not judges or len({self.green[judge].shape for judge in judges}) > 1:
            return self.cost_plainly(view, depths_mm)
        moved = [self._moved(view, judge) for judge in judges]
        from_pixels = np.linalg.inv(self.matrices[view])
        turned = [self.matrices[judge] @ m[:3, :3] @ from_pixels for judge, m in zip(judges, moved, strict=True)]
        shifts = [self.matrices[judge] @ m[:3, 3] for judge, m in zip(judges, moved, strict=True)]
        found: NDArray[np.float32] = decorrelations(
            self.green[view],
            np.stack([self.green[judge] for judge in judges]),
            np.array(turned, np.float32),
            np.array(shifts, np.float32),
            np.ascontiguousarray(depths_mm, np.float32),
            NOISE_VARIANCE,
            BEST_SHARE,
        )
        return found

    def cost_plainly(self, view: int, depths_mm: FloatArray) -> NDArray[np.float32]:
        """Do the same by OpenCV and NumPy: slower, and for judges of several sizes."""
        mine = self.green[view]
        height, width = mine.shape
        directions = unproject(self.matrices[view], pixel_grid(width, height), np.ones((height, width)))
        judges = self.judges(view)
        costs = np.full((len(judges), *mine.shape), np.nan, np.float32)
        found = np.full(depths_mm.shape, np.nan, np.float32)
        moved = [self._moved(view, judge) for judge in judges]
        for index, depth_mm in enumerate(depths_mm):
            for number, (judge, judge_from_view) in enumerate(zip(judges, moved, strict=True)):
                turned = (directions @ judge_from_view[:3, :3].T).astype(np.float32)
                shift = judge_from_view[:3, 3].astype(np.float32)
                points = turned * depth_mm.astype(np.float32)[..., None] + shift
                costs[number] = _decorrelation(mine, _sampled(self.green[judge], points, self.matrices[judge]))
            found[index] = _mean_of_best(costs) if judges else np.nan
        return found

    def _parallax(self, view: int) -> FloatArray:
        """Return (v,) distances between the centres of all cameras and a view's over the working distance."""
        centres = self.world_from[:, :3, 3]
        return np.asarray(np.linalg.norm(centres - centres[view], axis=1) / self.typical_mm)

    def _moved(self, view: int, judge: int) -> FloatArray:
        """Return (4, 4) `judge_from_view`, mm."""
        return invert_rigid(self.world_from[judge]) @ self.world_from[view]


def _green(pool: PixelPool, view: int) -> FloatArray:
    """Return (h, w) of 0 to 255; NaN at highlights, which move with the camera, and outside tissue."""
    where, width = pool.view_slice(view), int(pool.widths[view])
    green = pool.rgb[where, 1].numpy().astype(np.float32)
    usable: BoolArray = (pool.tissue[where] & ~pool.highlight[where]).numpy()
    return np.where(usable, green, np.nan).astype(np.float32).reshape(-1, width)


def _sampled(image: FloatArray, points: FloatArray, matrix: FloatArray) -> FloatArray:
    """Return (h, w) the image's values where points (h, w, 3) of its camera are seen; NaN elsewhere."""
    z = np.where(points[..., 2] > 1e-3, points[..., 2], np.nan)
    columns = matrix[0, 0] * points[..., 0] / z + matrix[0, 2]
    rows = matrix[1, 1] * points[..., 1] / z + matrix[1, 2]
    u, v = (np.nan_to_num(values, nan=-9.0).astype(np.float32) for values in (columns, rows))
    return np.asarray(cv2.remap(image, u, v, cv2.INTER_LINEAR, borderValue=float("nan")), np.float32)


def _decorrelation(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return (h, w) 1 - normalised cross-correlation over windows of which at least half is known in both."""
    known = np.isfinite(first) & np.isfinite(second)
    a, b = np.where(known, first, 0.0).astype(np.float32), np.where(known, second, 0.0).astype(np.float32)
    count = _window_sum(known.astype(np.float32))
    share = 1.0 / np.maximum(count, 1.0)
    mean_a, mean_b = _window_sum(a) * share, _window_sum(b) * share
    variance_a = _window_sum(a * a) * share - mean_a**2 + NOISE_VARIANCE
    variance_b = _window_sum(b * b) * share - mean_b**2 + NOISE_VARIANCE
    covariance = _window_sum(a * b) * share - mean_a * mean_b
    cost = 1.0 - covariance / np.sqrt(variance_a * variance_b)
    return np.where(count >= 0.5 * WINDOW_PX**2, cost, np.nan).astype(np.float32)


def _window_sum(values: FloatArray) -> FloatArray:
    window = (WINDOW_PX, WINDOW_PX)
    return np.asarray(cv2.boxFilter(values, -1, window, normalize=False, borderType=cv2.BORDER_CONSTANT))


def _mean_of_best(costs: FloatArray) -> FloatArray:
    """Return (h, w) the mean of the best three quarters of (n, h, w) costs, NaN where none is known."""
    ordered = np.sort(costs, axis=0)  # NaN last
    count = np.isfinite(ordered).sum(axis=0)
    taken = np.ceil(BEST_SHARE * count)
    counts = np.arange(len(costs))[:, None, None] < taken
    total = np.where(counts, ordered, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(taken, 1.0), np.nan).astype(np.float32)
