"""Rays: from pixels of several views to origins and directions in the world, and the scene's box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from utils.types import FloatArray

# Where each part of a ray's record begins: see `RayBatch`. The first nine numbers are those of any ray.
ORIGIN, DIRECTION, NORMAL, TARGET, WEIGHT, PLAIN, PRIOR, CONFIDENCE, RECORD = 0, 3, 6, 9, 12, 13, 14, 15, 16


@dataclass(frozen=True)
class Rays:
    """A batch of rays in the world frame, mm, (n, 3) each unless said.

    `directions` have z = 1 in their camera, so that the ray parameter is z-depth; `direction_norm` (n,) is their
    length; `origins` are camera centres, `lamp_anchor` (n, 3, 4) is world-from-left of their frame, which carries
    the lamp; `frame` (n,) numbers training frames for the exposure; `normal` (n, 3) is the unit normal of the
    prior's surface, which says where the lamp is mirrored, zero where unknown.
    """

    origins: Tensor
    directions: Tensor
    direction_norm: Tensor
    lamp_anchor: Tensor
    frame: Tensor
    normal: Tensor

    def to(self, device: torch.device) -> Rays:
        """Return the rays on a device."""
        parts = (self.origins, self.directions, self.direction_norm, self.lamp_anchor, self.frame, self.normal)
        return Rays(*(part.to(device, non_blocking=True) for part in parts))

    def chosen(self, indices: Tensor | slice) -> Rays:
        """Return some of the rays."""
        parts = (self.origins, self.directions, self.direction_norm, self.lamp_anchor, self.frame, self.normal)
        return Rays(*(part[indices] for part in parts))


@dataclass(frozen=True)
class Cameras:
    """Cameras of several views as tensors: (v, 4) fx fy cx cy px, (v, 3, 4) camera-to-world and left-to-world."""

    intrinsics: Tensor
    world_from_camera: Tensor
    world_from_left: Tensor
    frame: Tensor

    @property
    def matrices(self) -> FloatArray:
        """The intrinsics as (v, 3, 3) matrices, px."""
        fx, fy, cx, cy = self.intrinsics.double().numpy().T
        matrices = np.tile(np.eye(3), (len(self.intrinsics), 1, 1))
        matrices[:, 0, 0], matrices[:, 1, 1] = fx, fy
        matrices[:, 0, 2], matrices[:, 1, 2] = cx, cy
        return matrices

    def to(self, device: torch.device) -> Cameras:
        """Return the cameras on a device."""
        parts = (self.intrinsics, self.world_from_camera, self.world_from_left, self.frame)
        return Cameras(*(part.to(device) for part in parts))

    def rays(self, view: Tensor, columns: Tensor, rows: Tensor, normal: Tensor) -> Rays:
        """Return the rays of pixels (n,) of views (n,), with the prior's normals (n, 3) in the world."""
        fx, fy, cx, cy = self.intrinsics[view].unbind(-1)
        x, y = (columns - cx) / fx, (rows - cy) / fy
        camera = torch.stack([x, y, torch.ones_like(x)], dim=-1)
        pose = self.world_from_camera[view]
        directions = (pose[:, :, :3] * camera[:, None, :]).sum(-1)
        norm = torch.sqrt(1.0 + x * x + y * y)
        return Rays(pose[:, :, 3], directions, norm, self.world_from_left[view], self.frame[view], normal)


@dataclass(frozen=True)
class Box:
    """The box that the field lives in: `box_from_world` (4, 4) maps it to [-1, 1]^3; sizes in mm."""

    box_from_world: Tensor
    size_mm: tuple[float, float, float]

    @staticmethod
    def around(points_world: FloatArray, view_axes: FloatArray, margin: float) -> Box:
        """Return the box around points (n, 3) whose z axis is the mean viewing axis.

        Args:
            points_world: surface points, mm; the outermost 0.2 % on each side do not count.
            view_axes: (3, 3) columns: axes of the box in the world.
            margin: widening, as a share of the largest extent.
        """
        inside = points_world @ view_axes
        low, high = np.percentile(inside, [0.2, 99.8], axis=0)
        widening = margin * float((high - low).max())
        low, high = low - widening, high + widening
        scale = 2.0 / (high - low)
        matrix = np.eye(4)
        matrix[:3, :3] = scale[:, None] * view_axes.T
        matrix[:3, 3] = -scale * (high + low) / 2
        x, y, z = (float(value) for value in high - low)
        return Box(torch.tensor(matrix, dtype=torch.float32), (x, y, z))

    def to(self, device: torch.device) -> Box:
        """Return the box on another device."""
        return Box(self.box_from_world.to(device), self.size_mm)

    def points(self, points_world: Tensor) -> Tensor:
        """Map points (..., 3) of the world, mm, to box coordinates."""
        return points_world @ self.box_from_world[:3, :3].T + self.box_from_world[:3, 3]

    def bounds(self, rays: Rays) -> tuple[Tensor, Tensor]:
        """Return z-depths (n,) where each ray enters and leaves the box; a miss gives a thin far interval."""
        origins = self.points(rays.origins)
        slopes = rays.directions @ self.box_from_world[:3, :3].T
        slopes = torch.where(slopes.abs() < 1e-9, torch.full_like(slopes, 1e-9), slopes)
        one, other = (-1.0 - origins) / slopes, (1.0 - origins) / slopes
        near = torch.minimum(one, other).amax(-1).clamp_min(1e-2 * self.size_mm[2])
        far = torch.maximum(one, other).amin(-1)
        return near, torch.maximum(far, near * 1.01)
