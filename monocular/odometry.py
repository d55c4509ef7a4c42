"""Place frames beside placed ones: features with known 3-D points, perspective-n-point, robust refinement."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from scipy.optimize import least_squares
from scipy.spatial import cKDTree
from tqdm import tqdm

from monocular.colmap_sfm import SparseModel
from utils.geometry import FloatArray, invert_rigid, project, rigid, transform
from utils.scene import Scene
from utils.sift import detect, mutual_matches, usable_pixels
from utils.stereo_points import Landmarks, stereo_landmarks

log = logging.getLogger("specula")

FEWEST_INLIERS = 15
_SMALLEST_SHARE = 0.25  # of the matches that the found pose must explain
_INLIER_PX = 2.0
_SAME_FEATURE_PX = 1.5  # a feature this close to a landmark's pixel is the landmark
_NEIGHBOURS = 4  # placed frames that a new one is matched with
_MARGIN = 0.008


@dataclass
class Odometry:
    """Frames with landmarks, and poses that grow one by one.

    Args:
        scene: the scene.
        matches: folder of the stage `matches`, or None for one eye.
        sparse: reconstruction whose points are landmarks too (its scale and world), or None.
        poses: frame -> world_from_left (4, 4) of the frames placed so far.
    """

    scene: Scene
    matches: Path | None
    sparse: SparseModel | None = None
    poses: dict[str, FloatArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.features = lru_cache(maxsize=64)(self._features)
        self.landmarks = lru_cache(maxsize=64)(self._landmarks)

    def place_all(self, names: Iterable[str]) -> dict[str, str]:
        """Place frames, nearest to placed ones first; return frame -> how for those that could be placed."""
        waiting, how = list(names), {}
        bar = tqdm(total=len(waiting), desc="odometry", unit="frame", disable=None)
        while waiting:
            waiting.sort(key=self._frames_to_placed)
            for name in waiting:
                found = self.place(name)
                if found is not None:
                    break
            else:
                break
            self.poses[name], inliers = found
            how[name] = f"odometry, {inliers} points"
            waiting.remove(name)
            bar.update()
            bar.set_postfix(points=inliers)
        bar.close()
        return how

    def place(self, name: str) -> tuple[FloatArray, int] | None:
        """Return world_from_left (4, 4) of one frame and how many points agree, or None."""
        points_world, pixels = self._correspondences(name)
        if len(pixels) < FEWEST_INLIERS:
            return None
        left_from_world, inliers = solve_pose(self.scene.rig.left.matrix, points_world, pixels)
        if left_from_world is None or inliers < max(FEWEST_INLIERS, _SMALLEST_SHARE * len(pixels)):
            return None
        return invert_rigid(left_from_world), inliers

    def _frames_to_placed(self, name: str) -> int:
        position = self.scene.names.index(name)
        return min(abs(position - self.scene.names.index(other)) for other in self.poses)

    def _correspondences(self, name: str) -> tuple[FloatArray, FloatArray]:
        """Return points of placed neighbours, world (m, 3), and where this frame sees them, pixels (m, 2)."""
        position = self.scene.names.index(name)
        near = sorted(self.poses, key=lambda other: abs(self.scene.names.index(other) - position))
        pixels, descriptors = self.features(name)
        points_world: list[FloatArray] = [np.zeros((0, 3))]
        seen: list[FloatArray] = [np.zeros((0, 2))]
        for other in near[:_NEIGHBOURS]:
            pixels_other, descriptors_other = self.features(other)
            mine, theirs, _ = mutual_matches(descriptors, descriptors_other)
            landmarks = self.landmarks(other)
            if len(mine) == 0 or len(landmarks.pixels) == 0:
                continue
            distance_px, nearest = cKDTree(landmarks.pixels).query(pixels_other[theirs])
            same = distance_px <= _SAME_FEATURE_PX
            points_world.append(transform(self.poses[other], landmarks.points_left[nearest[same]]))
            seen.append(pixels[mine[same]])
        return np.concatenate(points_world), np.concatenate(seen)

    def _features(self, name: str) -> tuple[FloatArray, np.ndarray]:
        image = self.scene.image("left", name)
        margin_px = max(1, round(_MARGIN * image.shape[1]))
        return detect(image, usable_pixels(*self.scene.masks("left", name), margin_px))

    def _landmarks(self, name: str) -> Landmarks:
        """Return a frame's triangulated stereo matches and the sparse points that it observes."""
        pixels: list[FloatArray] = [np.zeros((0, 2))]
        points_left: list[FloatArray] = [np.zeros((0, 3))]
        if self.matches is not None:
            stereo = stereo_landmarks(self.scene, self.matches, name)
            pixels.append(stereo.pixels)
            points_left.append(stereo.points_left)
        if self.sparse is not None and name in self.sparse.placed:
            frame = self.sparse.names.index(name)
            observed = (self.sparse.frame == frame) & (self.sparse.side == 0)
            left_from_world = invert_rigid(self.sparse.world_from_left[frame])
            pixels.append(self.sparse.pixels[observed])
            points_left.append(transform(left_from_world, self.sparse.points_world[self.sparse.point[observed]]))
        return Landmarks(np.concatenate(pixels), np.concatenate(points_left))


def solve_pose(matrix: FloatArray, points_world: FloatArray, pixels: FloatArray) -> tuple[FloatArray | None, int]:
    """Return left_from_world (4, 4) that explains most pixels, refined robustly, and the inlier count.

    Args:
        matrix: (3, 3) intrinsics, px.
        points_world: (m, 3).
        pixels: (m, 2), some of them wrong.
    """
    found, rotation, translation, inliers = cv2.solvePnPRansac(
        points_world,
        pixels,
        matrix,
        None,
        iterationsCount=2000,
        reprojectionError=_INLIER_PX,
        confidence=0.9999,
        flags=cv2.SOLVEPNP_SQPNP,
    )
    if not found or inliers is None or len(inliers) < 6:
        return None, 0
    chosen = inliers.ravel()
    start = np.concatenate([np.ravel(rotation), np.ravel(translation)])

    def residuals(values: FloatArray) -> FloatArray:
        points_left = points_world[chosen] @ cv2.Rodrigues(values[:3])[0].T + values[3:]
        projected = points_left[:, :2] / points_left[:, 2:] * [matrix[0, 0], matrix[1, 1]]
        return np.asarray((projected + matrix[:2, 2] - pixels[chosen]).ravel())

    refined = least_squares(residuals, start, loss="soft_l1", x_scale="jac", max_nfev=30).x
    left_from_world = rigid(cv2.Rodrigues(refined[:3])[0], refined[3:])
    projected, _ = project(matrix, transform(left_from_world, points_world))
    with np.errstate(invalid="ignore"):
        agreeing = np.linalg.norm(projected - pixels, axis=1) < _INLIER_PX
    return left_from_world, int(agreeing.sum())
