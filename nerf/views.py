"""The training views as one pool of pixels, from which rays are drawn as indices."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nerf.rays import Cameras, Rays
from nerf.sampling import Guide
from utils.artifacts import load_maps
from utils.geometry import normals_from_depth
from utils.scene import Scene
from utils.types import FloatArray, Poses, Side

View = tuple[Side, str]
NORMAL_SMOOTHING_PX = 2.0
# A prior below this share of its usual confidence (the upper quartile over tissue: 0.97 of stereo, 0.5 of sparse
# points) says where to look, over the widest interval, and nothing more: it fills holes, and what it fills them
# with may stand before the surface and hide it. Highlights lower the confidence without that.
DOUBTFUL, DOUBTFUL_HIGHLIGHT = 0.41, 0.195
ENOUGH = 5_000_000


def cameras_of(scene: Scene, poses: Poses, views: list[View], frames: list[str]) -> Cameras:
    """Return the cameras of views; `frames` numbers the training frames, others get -1."""
    intrinsics, world_from_camera, world_from_left, frame = [], [], [], []
    for side, name in views:
        camera = scene.rig.camera(side)
        intrinsics.append([camera.fx, camera.fy, camera.cx, camera.cy])
        world_from_camera.append(poses.world_from(side, name)[:3])
        world_from_left.append(poses.world_from("left", name)[:3])
        frame.append(frames.index(name) if name in frames else -1)
    return Cameras(
        torch.tensor(intrinsics, dtype=torch.float32),
        torch.tensor(np.array(world_from_camera), dtype=torch.float32),
        torch.tensor(np.array(world_from_left), dtype=torch.float32),
        torch.tensor(frame),
    )


def half_width(depth_mm: FloatArray, error: FloatArray, near: float, far: float) -> FloatArray:
    """Return where the guided samples are cut off, mm: depth times the error clamped to [near, far]."""
    return depth_mm * np.clip(np.nan_to_num(error, nan=far), near, far)


def guide_sigma(half_width_mm: FloatArray, confidence: FloatArray, depth_mm: FloatArray) -> FloatArray:
    """Return the standard deviation of the guided samples, mm.

    A quarter of the half-width where the prior is sure and smooth; it grows with doubt and with the prior's own
    gradient (2 % of the depth from one pixel to the next counts in full) up to the half-width itself.
    """
    rows, columns = np.gradient(depth_mm)
    gradient = np.nan_to_num(np.hypot(rows, columns) / (0.02 * depth_mm), nan=1.0).clip(0.0, 1.0)
    doubt = 1.0 - np.nan_to_num(confidence, nan=0.0)
    return half_width_mm * np.clip(0.25 + 0.5 * doubt + 0.25 * gradient, 0.25, 1.0)


def smooth_normals(depth_mm: FloatArray, matrix: FloatArray) -> FloatArray:
    """Return unit normals (h, w, 3) in the camera frame of a slightly smoothed depth map; 0 where unknown."""
    known = np.isfinite(depth_mm)
    weight = cv2.GaussianBlur(known.astype(np.float32), (0, 0), NORMAL_SMOOTHING_PX)
    inverse = np.where(known, 1.0 / np.where(known, depth_mm, 1.0), 0.0).astype(np.float32)
    smooth = weight / np.maximum(cv2.GaussianBlur(inverse, (0, 0), NORMAL_SMOOTHING_PX), 1e-12)
    normals = normals_from_depth(np.where(weight > 0.3, smooth, np.nan), matrix)
    return np.nan_to_num(normals, nan=0.0)


def usual_confidence(prior: Path, views: list[View]) -> float:
    """Return the upper quartile of a prior's confidence on tissue over some views; 0 where nothing has any."""
    found = []
    for side, name in views[:: max(len(views) // 16, 1)]:
        maps = load_maps(prior, side, name)
        found.append(np.nan_to_num(maps["confidence"])[maps["tissue"]])
    pooled = np.concatenate(found)
    return float(np.percentile(pooled, 75)) if len(pooled) else 0.0


@dataclass
class PixelPool:
    """All pixels of the training views in one row; draws give flat indices, rays are made for the batch.

    `rgb` (p, 3) uint8; `depth` (p,) mm; `sigma`, `half_width` relative to depth; `confidence`, `importance` in
    [0, 1]; `normal` (p, 3) int8, 127 times the world's unit normal; `tissue`, `highlight` bool; `starts` (v + 1,)
    where each view begins; `widths` (v,).
    """

    views: list[View]
    cameras: Cameras
    starts: Tensor
    widths: Tensor
    rgb: Tensor
    depth: Tensor
    sigma: Tensor
    half_width: Tensor
    confidence: Tensor
    importance: Tensor
    normal: Tensor
    tissue: Tensor
    highlight: Tensor

    @staticmethod
    def load(
        scene: Scene, cameras: Cameras, views: list[View], prior: Path, limits: tuple[float, float]
    ) -> PixelPool:
        """Read images and prior of the views; `limits` are the smallest and largest relative half-width."""
        sizes = [(camera.height, camera.width) for camera in (scene.rig.camera(side) for side, _ in views)]
        starts = np.concatenate([[0], np.cumsum([height * width for height, width in sizes])])
        # Room for all at once: joining what was read view by view would take twice as much.
        columns = {
            key: np.empty((starts[-1], 3) if key in _TRIPLES else starts[-1], kind)
            for key, kind in _COLUMNS.items()
        }
        usual = usual_confidence(prior, views)
        for index, (side, name) in enumerate(views):
            maps = load_maps(prior, side, name)
            depth, confidence = maps["depth_mm"], np.nan_to_num(maps["confidence"])
            sure = confidence >= usual * np.where(maps["highlight"], DOUBTFUL_HIGHLIGHT, DOUBTFUL)
            half = half_width(depth, np.where(sure, maps["error"], np.nan), *limits)
            sigma = guide_sigma(half, maps["confidence"], depth)
            rotation = cameras.world_from_camera[index, :, :3].numpy()
            normals = smooth_normals(depth, scene.rig.camera(side).matrix) @ rotation.T
            values: dict[str, NDArray[Any]] = {
                "rgb": scene.image(side, name),
                "depth": depth,
                "sigma": sigma / depth,
                "half_width": half / depth,
                "confidence": np.where(sure, maps["confidence"], 0.0),
                "importance": np.nan_to_num(maps["importance"]),
                "normal": np.rint(127 * normals),
                "tissue": maps["tissue"],
                "highlight": maps["highlight"],
            }
            for key, value in values.items():
                columns[key][starts[index] : starts[index + 1]] = value.reshape(-1, *columns[key].shape[1:])
        tensors = {key: torch.from_numpy(column) for key, column in columns.items()}
        widths = torch.tensor([width for _, width in sizes])
        return PixelPool(views, cameras, torch.from_numpy(starts), widths, **tensors)

    @property
    def some(self) -> slice:
        """Pixels enough for a median: all of a small pool, every n-th of a large one."""
        return slice(None, None, max(len(self.depth) // ENOUGH, 1))

    def to(self, device: torch.device) -> PixelPool:
        """Return the pool on a device; itself where it is there."""
        if device.type == "cpu":
            return self
        moved = {
            field.name: getattr(self, field.name).to(device)
            for field in fields(self)
            if isinstance(getattr(self, field.name), Tensor)
        }
        return PixelPool(views=self.views, cameras=self.cameras.to(device), **moved)

    def rays(self, pixels: Tensor) -> Rays:
        """Return the rays of flat pixel indices (n,)."""
        view = torch.searchsorted(self.starts, pixels.contiguous(), right=True) - 1
        inside, width = pixels - self.starts[view], self.widths[view]
        normal = self.normal[pixels].float() / 127.0
        return self.cameras.rays(view, (inside % width).float(), (inside // width).float(), normal)

    def guide(self, pixels: Tensor) -> Guide:
        """Return the depth prior of flat pixel indices (n,)."""
        depth = self.depth[pixels]
        return Guide(depth, self.sigma[pixels].float() * depth, self.half_width[pixels].float() * depth)

    def view_slice(self, view: int) -> slice:
        """Return where the pixels of one view lie."""
        return slice(int(self.starts[view]), int(self.starts[view + 1]))


_COLUMNS: dict[str, Any] = {
    "rgb": np.uint8,
    "depth": np.float32,
    "sigma": np.float16,
    "half_width": np.float16,
    "confidence": np.float16,
    "importance": np.float16,
    "normal": np.int8,
    "tissue": np.bool_,
    "highlight": np.bool_,
}
_TRIPLES = ("rgb", "normal")
