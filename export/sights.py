"""What each training view shows of the tissue: depth, how far it is to be trusted, and the image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.artifacts import has_maps, load_maps
from utils.errors import NotApplicable
from utils.geometry import normals_from_depth, pixel_grid, unproject
from utils.scene import Scene, load_poses
from utils.stages import skipped
from utils.types import ARBITRARY_UNITS, BoolArray, Camera, FloatArray, Side

FRAME = "first left camera that was placed: x right, y down, z forward"
# A pixel takes 35 bytes.
KEPT_PIXELS = 20_000_000
# Relative to the depth, from one pixel to the next: more is a jump to another surface.
JUMP = 0.05
# A field whose depth spreads over this share of it is trusted by half.
HALF_TRUSTED_SPREAD = 0.02


@dataclass(frozen=True)
class Sight:
    """One training view; maps are (h, w), float32, NaN where unknown.

    `depth_mm` is z-depth, of all that is known; `plain` marks known depth inside eroded tissue, outside highlights
    and away from jumps; `confidence` is in [0, 1]; `cosine` is that of the angle between the surface's normal and
    the ray; `normals` (h, w, 3) are in the camera's frame, towards it; `sigma_mm` is the depth's spread; `image`
    is what the camera saw and `rgb` what the field shows, the image without a field.
    """

    side: Side
    name: str
    camera: Camera
    world_from_camera: FloatArray
    depth_mm: NDArray[np.float32]
    sigma_mm: NDArray[np.float32]
    plain: BoolArray
    confidence: NDArray[np.float32]
    normals: NDArray[np.float32]
    cosine: NDArray[np.float32]
    image: NDArray[np.uint8]
    rgb: NDArray[np.uint8]

    @property
    def points(self) -> FloatArray:
        """Points (h, w, 3) of the depth in the camera's frame, mm."""
        return unproject(self.camera.matrix, pixel_grid(self.camera.width, self.camera.height), self.depth_mm)


@dataclass(frozen=True)
class Sights:
    """All training views that have depth; those that fit into `KEPT_PIXELS` are read once, others each time."""

    dataset: Scene
    prior: Path
    render: Path | None
    filter: Path | None
    views: list[tuple[Side, str]]
    poses: dict[tuple[Side, str], FloatArray]
    metric: bool
    kept: dict[tuple[Side, str], Sight] = field(default_factory=dict)

    @staticmethod
    def find(scene: Path, poses: Path, prior: Path, nerf: Path, render: Path, filter: Path) -> Sights:
        """Find them: filtered depth of the field, or the prior where there is none.

        Raises NotApplicable: there is neither.
        """
        dataset = Scene.load(scene)
        rendered = not skipped(filter)
        if not rendered and skipped(prior):
            raise NotApplicable(f"there is no depth to make points from ({skipped(prior)})")
        placed = load_poses(poses, nerf) if not skipped(poses) else None
        depths = filter if rendered else prior
        names = [name for name in dataset.train if has_maps(depths, "left", name)]
        sides = dataset.sides
        if placed is not None and placed.world_from_right is None:
            sides = dataset.sides[:1]
        views: list[tuple[Side, str]] = [
            (side, name) for side in sides for name in names if has_maps(depths, side, name)
        ]
        if placed is None:
            # The left eye of one frame is the world: the right eye's map shows the same surface again, and how
            # the other frames lie to it is not known.
            views = views[:1]
        where = {view: placed.world_from(*view) if placed else np.eye(4) for view in views}
        metric = placed.metric if placed else "right" in dataset.sides
        fields = (render, filter) if rendered else (None, None)
        return Sights(dataset, prior, fields[0], fields[1], views, where, metric)

    @property
    def unit(self) -> str:
        """What lengths mean: `mm`, or a warning in words."""
        return "mm" if self.metric else ARBITRARY_UNITS

    @property
    def source(self) -> str:
        """Where the depth comes from, in words."""
        if self.filter:
            return "filtered depth of the field"
        return "fused prior" if len(self.views) != 1 else f"prior of frame {self.views[0][1]} alone, left eye"

    def __iter__(self) -> Iterator[Sight]:
        for view in self.views:
            sight = self.kept.get(view) or self._read(*view)
            if (len(self.kept) + 1) * sight.depth_mm.size <= KEPT_PIXELS:
                self.kept[view] = sight
            yield sight

    def __len__(self) -> int:
        return len(self.views)

    def _read(self, side: Side, name: str) -> Sight:
        camera, image = self.dataset.rig.camera(side), self.dataset.image(side, name)
        known = load_maps(self.prior, side, name) if has_maps(self.prior, side, name) else {}
        depth, rgb = known.get("depth_mm"), image
        confidence, sigma = known.get("confidence"), known.get("sigma_mm")
        if self.render is not None and self.filter is not None:
            depth, maps = load_maps(self.filter, side, name)["depth_mm"], load_maps(self.render, side, name)
            rgb, sigma, confidence = maps["rgb"], maps["depth_std_mm"], trust(maps)
        assert depth is not None
        depth = np.asarray(depth, np.float32)
        normals = normals_from_depth(depth, camera.matrix)
        points = unproject(camera.matrix, pixel_grid(camera.width, camera.height), depth)
        cosine = -(normals * points).sum(-1) / np.linalg.norm(points, axis=-1)
        tissue, highlight = self.dataset.masks(side, name)
        return Sight(
            side=side,
            name=name,
            camera=camera,
            world_from_camera=self.poses[side, name],
            depth_mm=depth,
            sigma_mm=np.full_like(depth, np.nan) if sigma is None else np.asarray(sigma, np.float32),
            plain=plain(depth, tissue, highlight),
            confidence=np.nan_to_num(np.asarray(confidence, np.float32)),
            normals=normals.astype(np.float32),
            cosine=cosine.astype(np.float32),
            image=image,
            rgb=rgb,
        )


def trust(maps: dict[str, NDArray[Any]]) -> FloatArray:
    """Return (h, w) in [0, 1] how sure a field is of its depth: opaque and thin."""
    depth, spread = np.asarray(maps["depth_mm"], float), np.asarray(maps["depth_std_mm"], float)
    with np.errstate(divide="ignore", invalid="ignore"):  # clear rays have no depth
        thin = 1.0 / (1.0 + (spread / (HALF_TRUSTED_SPREAD * depth)) ** 2)
        return np.nan_to_num(np.asarray(maps["opacity"], float) * thin)


def plain(depth_mm: NDArray[np.float32], tissue: BoolArray, highlight: BoolArray) -> BoolArray:
    """Return (h, w): known depth inside eroded tissue, outside highlights and away from jumps."""
    inside = cv2.erode(tissue.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1) > 0
    filled = np.nan_to_num(depth_mm, nan=0.0).astype(np.float32)
    kernel = np.ones((3, 3), np.uint8)
    jump = (cv2.dilate(filled, kernel) - cv2.erode(filled, kernel)) > JUMP * filled
    return inside & ~highlight & np.isfinite(depth_mm) & ~jump
