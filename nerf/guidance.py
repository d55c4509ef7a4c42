"""Where to sample in a view: its own prior if it trained the field, else depth projected from training views."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np

from nerf.views import View
from utils.geometry import invert_rigid
from utils.scene import Scene
from utils.types import BoolArray, Camera, FloatArray, Poses
from utils.warping import nearest_views, warp_depth

NEIGHBOURS = 6


@dataclass(frozen=True)
class TrainingDepth:
    """The (refined) prior of every training view: depth (h, w) mm by (side, name)."""

    scene: Scene
    poses: Poses
    depth_mm: dict[View, FloatArray]

    def guide(self, view: View) -> FloatArray:
        """Return (h, w) where to look for the surface in any view: its own prior, or what others project."""
        if view not in self.depth_mm:
            return self.projected(view)
        own = self.depth_mm[view]
        known = np.isfinite(own)
        return own if known.all() else np.where(known, own, self.projected(view))

    def projected(self, view: View) -> FloatArray:
        """Return `projected_to` the camera of a view."""
        return self.projected_to(self.scene.rig.camera(view[0]), self.poses.world_from(*view))

    def projected_to(self, camera: Camera, world_from_camera: FloatArray) -> FloatArray:
        """Return (h, w) depth for a camera, made from the training views that see most alike; no holes.

        The median over the projected maps; what none of them reaches takes the nearest known pixel. Nothing of
        an image of that camera enters.
        """
        own = world_from_camera
        sources = list(self.depth_mm)
        others = np.array([self.poses.world_from(*source) for source in sources])
        chosen = [sources[index] for index in nearest_views(own, others, self._typical_mm, NEIGHBOURS)]
        maps = [self._warp(source, camera, own) for source in chosen]
        with np.errstate(all="ignore"):
            merged = _nanmedian(np.stack(maps))
        return fill_nearest(merged, np.isfinite(merged))

    @functools.cached_property
    def _typical_mm(self) -> float:
        medians = [np.nanmedian(depth) for depth in self.depth_mm.values() if np.isfinite(depth).any()]
        return float(np.median(medians))

    def _warp(self, source: View, camera: Camera, world_from_camera: FloatArray) -> FloatArray:
        return warp_depth(
            self.depth_mm[source],
            self.scene.rig.camera(source[0]),
            camera,
            invert_rigid(world_from_camera) @ self.poses.world_from(*source),
        )


def _nanmedian(maps: FloatArray) -> FloatArray:
    """Return the median over the first axis without the warning that an all-NaN column brings."""
    ordered = np.sort(maps, axis=0)
    count = np.isfinite(maps).sum(axis=0)
    middle = np.maximum(count - 1, 0) // 2
    return np.take_along_axis(ordered, middle[None], axis=0)[0]


def fill_nearest(values: FloatArray, known: BoolArray) -> FloatArray:
    """Give every unknown pixel the value of the nearest known one; unchanged where nothing is known."""
    if known.all() or not known.any():
        return values
    unknown = (~known).astype(np.uint8)
    _, labels = cv2.distanceTransformWithLabels(unknown, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    by_label = np.zeros(int(labels.max()) + 1, values.dtype)
    by_label[labels[known]] = values[known]
    return np.where(known, values, by_label[labels])
