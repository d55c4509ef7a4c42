"""Features of the training images with their places on the surface, and a pose from those that an image shows."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from localisation.query import Eye
from nerf.finished_field import FinishedField
from utils.geometry import invert_rigid, rigid, transform, unproject
from utils.sift import detect, mutual_matches
from utils.types import Camera, FloatArray
from utils.warping import sample_depth

FEATURES = 1500  # of one image
RATIO = 0.85
FEWEST = 12  # inliers of a pose
REPROJECTION = 0.01  # of the longer side: what an inlier may be off
TRIALS, SURE = 1000, 0.999


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Points of the surface (n, 3), world, mm, with their descriptors (n, 128)."""

    points_world: FloatArray
    descriptors: NDArray[np.float32]

    @staticmethod
    def of(
        image: NDArray[np.uint8], camera: Camera, world_from_camera: FloatArray, depth_mm: FloatArray
    ) -> Landmarks:
        """Find the features of an image (h, w, 3) that lie on its depth (h, w), NaN where it is unknown."""
        pixels, descriptors = detect(image, np.isfinite(depth_mm), max_features=FEATURES)
        if not len(pixels):
            return Landmarks(np.zeros((0, 3)), descriptors)
        depth = sample_depth(depth_mm, pixels)
        known = np.isfinite(depth)
        points = unproject(camera.matrix, pixels[known], depth[known])
        return Landmarks(transform(world_from_camera, points), descriptors[known])


@dataclass(frozen=True, eq=False)
class LandmarkMap:
    """Landmarks of training views, found when they are asked for."""

    field: FinishedField
    _found: dict[int, Landmarks] = dataclasses.field(default_factory=dict)

    def of_view(self, index: int) -> Landmarks:
        """Return those of a training view, by its place in `field.seen`."""
        if index not in self._found:
            seen, (side, name) = self.field.seen[index], self.field.views[index]
            self._found[index] = Landmarks.of(
                self.field.dataset.image(side, name), seen.camera, seen.world_from_camera, seen.depth_mm
            )
        return self._found[index]


@dataclass(frozen=True, eq=False)
class FeaturePose:
    """A pose (4, 4) of the left camera from `inliers` of its features."""

    world_from_left: FloatArray
    inliers: int


def pose_from_landmarks(eye: Eye, maps: list[Landmarks]) -> FeaturePose | None:
    """Return the pose of an eye from matches with some views' landmarks; None where too few agree on one.

    Perspective-n-point inside RANSAC (OpenCV's SQPnP), then least squares over the inliers.
    """
    pixels, descriptors = detect(eye.image, eye.usable, max_features=FEATURES)
    places, points = [], []
    for landmarks in maps:
        mine, theirs, _ = mutual_matches(descriptors, landmarks.descriptors, ratio=RATIO)
        places.append(pixels[mine])
        points.append(landmarks.points_world[theirs])
    seen, world = (np.concatenate(parts) if parts else np.zeros((0, 2)) for parts in (places, points))
    if len(seen) < FEWEST:
        return None
    origin = world.mean(axis=0)  # far from zero, single precision inside OpenCV would cost digits
    try:
        found, rotation, shift, inliers = cv2.solvePnPRansac(
            world - origin, seen, eye.camera.matrix, None, iterationsCount=TRIALS, confidence=SURE,
            reprojectionError=REPROJECTION * max(eye.camera.width, eye.camera.height), flags=cv2.SOLVEPNP_SQPNP,
        )  # fmt: skip
    except cv2.error:  # all points in one place
        return None
    if not found or inliers is None or len(inliers) < FEWEST:
        return None
    chosen = inliers.ravel()
    rotation, shift = cv2.solvePnPRefineLM(
        world[chosen] - origin, seen[chosen], eye.camera.matrix, None, rotation, shift
    )
    turn, place = np.asarray(cv2.Rodrigues(rotation)[0], float), np.asarray(shift, float)
    world_from_eye = invert_rigid(rigid(turn, place))
    world_from_eye[:3, 3] += origin
    return FeaturePose(world_from_eye @ eye.eye_from_left, len(np.unique(np.rint(seen[chosen]), axis=0)))
