"""Rectification of any stereo rig, built from its baseline: equal rows in both eyes, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.errors import InputError
from utils.geometry import FloatArray, directions, pixel_grid
from utils.types import BoolArray, Camera, Rig, Side

# A ray this close to the rectified image plane means that the baseline runs along the view.
_SMALLEST_COSINE = 0.2
# Neighbouring depths that differ by more than this share belong to different surfaces.
_SAME_SURFACE = 0.03
_LARGEST_GROWTH = 1.6  # rectified side / original side; what is farther out is stretched border
_ALREADY_RECTIFIED = 1e-9


@dataclass(frozen=True, eq=False)
class Rectification:
    """Two virtual cameras with parallel axes whose rows correspond; px and mm.

    `left`, `right` are the rectified cameras (same fx, fy, cy and size; cx differs), `original` is the rig
    that was rectified, `rotation_left` and `rotation_right` (3, 3) map directions of each eye to the common
    rectified axes. `baseline_mm` is positive where the right eye is on the right side.
    """

    original: Rig
    left: Camera
    right: Camera
    rotation_left: FloatArray
    rotation_right: FloatArray
    baseline_mm: float
    identity: bool

    @staticmethod
    def of(rig: Rig) -> Rectification:
        """Rectify a rig; one that is rectified already keeps its images pixel for pixel.

        Raises:
            InputError: no baseline, a baseline along the view, or eyes that share no rectified row.
        """
        if rig.right is None or rig.right_from_left is None:
            raise ValueError("this rig has no right eye")
        if rig.baseline_mm == 0:
            _refuse("a baseline of 0 mm", "two eyes at different places", "correct T in calib.yaml, or --t_vec")
        if _is_rectified(rig):
            baseline_mm = -float(rig.right_from_left[0, 3])
            return Rectification(rig, rig.left, rig.right, np.eye(3), np.eye(3), baseline_mm, True)
        rotation_left, baseline_mm = _common_axes(rig.right_from_left)
        rotation_right = rotation_left @ rig.right_from_left[:3, :3].T
        left, right = _rectified_cameras(rig.left, rig.right, rotation_left, rotation_right)
        return Rectification(rig, left, right, rotation_left, rotation_right, baseline_mm, False)

    def camera(self, side: Side) -> Camera:
        """Return the rectified camera of one eye."""
        return self.left if side == "left" else self.right

    def rotation(self, side: Side) -> FloatArray:
        """Return `rectified_from_<side>` (3, 3)."""
        return self.rotation_left if side == "left" else self.rotation_right

    @property
    def disparity_offset_px(self) -> float:
        """Disparity of a point at infinity: cx_left - cx_right."""
        return self.left.cx - self.right.cx

    def rectify(
        self, image: NDArray[Any], side: Side, *, nearest: bool = False, outside: float = 0.0
    ) -> NDArray[Any]:
        """Bring an image or map (h, w[, c]) of one eye into its rectified image.

        Args:
            image: uint8, float32 or bool, of the original camera's size.
            side: which eye.
            nearest: pick the nearest value (masks, maps with NaN) instead of cubic interpolation.
            outside: the value where the rectified image sees past the original one.
        """
        if self.identity:
            return image.copy()
        how = cv2.INTER_NEAREST if nearest or image.dtype == bool else cv2.INTER_CUBIC
        source = image.astype(np.uint8) if image.dtype == bool else image
        rectified = cv2.remap(source, *self._maps[side], how, borderMode=cv2.BORDER_REPLICATE)
        rectified[~self.valid(side)] = outside
        return rectified.astype(image.dtype)

    def valid(self, side: Side) -> BoolArray:
        """Return (h, w): whether a rectified pixel sees a pixel of the original image."""
        return self._valid[side]

    def rectify_pixels(self, pixels: FloatArray, side: Side) -> FloatArray:
        """Return rectified pixels (..., 2) of original pixels (..., 2)."""
        if self.identity:
            return np.array(pixels, float)
        return _move(pixels, self.original.camera(side), self.camera(side), self.rotation(side))

    def unrectify_pixels(self, pixels: FloatArray, side: Side) -> FloatArray:
        """Return original pixels (..., 2) of rectified pixels (..., 2)."""
        if self.identity:
            return np.array(pixels, float)
        return _move(pixels, self.camera(side), self.original.camera(side), self.rotation(side).T)

    def disparity_from_depth(self, depth_rectified_mm: FloatArray) -> FloatArray:
        """Return column_left - column_right, px, of z-depth along the rectified axis; NaN stays NaN."""
        return self.left.fx * self.baseline_mm / depth_rectified_mm + self.disparity_offset_px

    def depth_from_disparity(self, disparity_px: FloatArray) -> FloatArray:
        """Return z-depth along the rectified axis, mm; NaN where the disparity puts the point behind."""
        parallax_px = np.asarray(disparity_px - self.disparity_offset_px)
        in_front = parallax_px * np.sign(self.baseline_mm) > 0
        return self.left.fx * self.baseline_mm / np.where(in_front, parallax_px, np.nan)

    def unrectify_depth(self, depth_rectified_mm: FloatArray, side: Side) -> FloatArray:
        """Return z-depth (h, w) in the original eye's pixels and along its axis; NaN is unknown.

        Inverse depth is interpolated, which is exact on planes, and only between neighbours that lie on one
        surface; at steps the nearest pixel decides, so that no depth between two surfaces is made up.
        """
        if self.identity:
            return depth_rectified_mm.copy()
        inverse = self.unrectify_map(1.0 / depth_rectified_mm, side)
        return self.depth_scale(side) / inverse

    def unrectify_map(self, values: FloatArray, side: Side) -> FloatArray:
        """Sample a rectified map (h, w), NaN unknown, at every pixel of the original eye.

        Linear between four neighbours that are known and within 3 % of each other, the nearest otherwise.
        """
        if self.identity:
            return values.copy()
        return _sample(values, self._rectified_positions[side])

    def depth_scale(self, side: Side) -> FloatArray:
        """Return (h, w): z-depth along the original axis / z-depth along the rectified one, per pixel."""
        original = self.original.camera(side)
        rays = directions(original.matrix, pixel_grid(original.width, original.height))
        return np.asarray(1.0 / (rays @ self.rotation(side)[2]))

    @cached_property
    def _maps(self) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
        maps = {}
        for side in self.original.sides:
            camera = self.camera(side)
            pixels = self.unrectify_pixels(pixel_grid(camera.width, camera.height), side)
            maps[side] = (pixels[..., 0].astype(np.float32), pixels[..., 1].astype(np.float32))
        return {str(side): pair for side, pair in maps.items()}

    @cached_property
    def _valid(self) -> dict[str, BoolArray]:
        if self.identity:
            return {
                side: np.ones((self.camera(side).height, self.camera(side).width), bool)
                for side in self.original.sides
            }
        valid = {}
        for side in self.original.sides:
            columns, rows = self._maps[side]
            original = self.original.camera(side)
            inside_columns = (columns >= -0.5) & (columns <= original.width - 0.5)
            valid[str(side)] = inside_columns & (rows >= -0.5) & (rows <= original.height - 0.5)
        return valid

    @cached_property
    def _rectified_positions(self) -> dict[str, FloatArray]:
        positions = {}
        for side in self.original.sides:
            original = self.original.camera(side)
            positions[str(side)] = self.rectify_pixels(pixel_grid(original.width, original.height), side)
        return positions


def _refuse(found: str, expected: str, do: str) -> None:
    raise InputError("the stereo rig cannot be rectified", found=found, expected=expected, do=do)


def _is_rectified(rig: Rig) -> bool:
    """Whether rows correspond already: parallel axes, baseline along x, equal focal lengths, cy and size."""
    left, right, right_from_left = rig.left, rig.right, rig.right_from_left
    if right is None or right_from_left is None:
        return False
    turned = np.abs(right_from_left[:3, :3] - np.eye(3)).max()
    off_row = np.abs(right_from_left[1:3, 3]).max() / rig.baseline_mm
    same = [left.fx - right.fx, left.fy - right.fy, left.cy - right.cy]
    same_size = (left.width, left.height) == (right.width, right.height)
    return bool(same_size and max(turned, off_row, *np.abs(same)) < _ALREADY_RECTIFIED)


def _common_axes(right_from_left: FloatArray) -> tuple[FloatArray, float]:
    """Return `rectified_from_left` (3, 3) and the signed baseline, mm.

    x runs along the baseline in the sense of the images' columns (no image is turned upside down), z is the
    mean optical axis made orthogonal to it.
    """
    left_from_right = right_from_left[:3, :3].T
    centre_right = -left_from_right @ right_from_left[:3, 3]
    baseline_mm = float(np.linalg.norm(centre_right))
    columns_mean = np.array([1.0, 0.0, 0.0]) + left_from_right[:, 0]
    sign = 1.0 if columns_mean @ centre_right >= 0 else -1.0
    x = sign * centre_right / baseline_mm
    axis_mean = np.array([0.0, 0.0, 1.0]) + left_from_right[:, 2]
    z = axis_mean - (axis_mean @ x) * x
    if np.linalg.norm(z) < 0.3 * np.linalg.norm(axis_mean) or np.linalg.norm(axis_mean) < 0.3:
        _refuse(
            "a baseline along the line of sight, or eyes that look in opposite directions",
            "eyes beside each other that look at one place",
            "check R and T in calib.yaml (or --R_matrix, --t_vec, --rotation_convention)",
        )
    z = z / np.linalg.norm(z)
    return np.stack([x, np.cross(z, x), z]), sign * baseline_mm


def _rectified_cameras(
    left: Camera, right: Camera, rotation_left: FloatArray, rotation_right: FloatArray
) -> tuple[Camera, Camera]:
    """Choose focal length, principal points and size.

    The focal length keeps the mean resolution at the image centres, the columns of each eye are centred in
    its own image (small disparities, whatever the vergence), the rows are those that both eyes see.
    """
    eyes = ((left, rotation_left), (right, rotation_right))
    focal = float(np.exp(np.mean([np.log(_focal_at_centre(camera, turn)) for camera, turn in eyes])))
    boxes = [_content(camera, turn, focal) for camera, turn in eyes]
    limit = _LARGEST_GROWTH * max(left.width, right.width)
    width = int(min(np.ceil(max(box[1][0] - box[0][0] for box in boxes)) + 1, limit))
    top, bottom = max(box[0][1] for box in boxes), min(box[1][1] for box in boxes)
    if bottom - top < 16:
        _refuse(
            f"eyes that share {max(bottom - top, 0):.0f} rows after rectification",
            "eyes that see the same place",
            "check R and T in calib.yaml (or --R_matrix, --t_vec, --rotation_convention)",
        )
    limit = _LARGEST_GROWTH * max(left.height, right.height)
    height = int(min(np.ceil(bottom - top) + 1, limit))
    cy = (height - 1) / 2 - (top + bottom) / 2
    cameras = [
        Camera(focal, focal, float((width - 1) / 2 - (box[0][0] + box[1][0]) / 2), float(cy), width, height)
        for box in boxes
    ]
    return cameras[0], cameras[1]


def _focal_at_centre(camera: Camera, rectified_from_eye: FloatArray) -> float:
    """Return the focal length that keeps the area of a pixel at the image centre.

    The determinant of a homography's Jacobian is det(H) / w^3; here f^2 / (fx fy) / w^3 = 1.
    """
    centre = np.array([(camera.width - 1) / 2, (camera.height - 1) / 2])
    cosine = float(rectified_from_eye[2] @ directions(camera.matrix, centre))
    if cosine < _SMALLEST_COSINE:
        _refuse(
            "an eye that looks along the baseline or away from it",
            "eyes beside each other that look at one place",
            "check R and T in calib.yaml (or --R_matrix, --t_vec, --rotation_convention)",
        )
    return float(np.sqrt(camera.fx * camera.fy) * cosine**1.5)


def _content(camera: Camera, rectified_from_eye: FloatArray, focal: float) -> tuple[FloatArray, FloatArray]:
    """Return the smallest and largest (column, row) of an eye's border, relative to the principal point."""
    columns, rows = np.linspace(0, camera.width - 1, 33), np.linspace(0, camera.height - 1, 33)
    sides = [np.stack([columns, np.full(33, row)], -1) for row in (0.0, camera.height - 1.0)]
    sides += [np.stack([np.full(33, column), rows], -1) for column in (0.0, camera.width - 1.0)]
    rays = directions(camera.matrix, np.concatenate(sides)) @ rectified_from_eye.T
    seen = focal * rays[:, :2] / np.maximum(rays[:, 2:], _SMALLEST_COSINE)
    return seen.min(axis=0), seen.max(axis=0)


def _move(pixels: FloatArray, source: Camera, target: Camera, target_from_source: FloatArray) -> FloatArray:
    """Map pixels (..., 2) between two cameras with one centre; NaN where a ray leaves the target's front."""
    rays = directions(source.matrix, np.asarray(pixels, float)) @ target_from_source.T
    z = np.where(rays[..., 2] > 0, rays[..., 2], np.nan)
    columns = target.fx * rays[..., 0] / z + target.cx
    return np.stack([columns, target.fy * rays[..., 1] / z + target.cy], axis=-1)


def _sample(values: FloatArray, positions: FloatArray) -> FloatArray:
    """Sample a map (h, w) at positions (..., 2): linear on one surface, nearest at steps, NaN outside."""
    height, width = values.shape
    columns, rows = np.nan_to_num(positions[..., 0], nan=-9.0), np.nan_to_num(positions[..., 1], nan=-9.0)
    inside = (columns >= -0.5) & (columns <= width - 0.5) & (rows >= -0.5) & (rows <= height - 0.5)
    columns, rows = np.clip(columns, 0, width - 1), np.clip(rows, 0, height - 1)
    left = np.minimum(columns.astype(int), max(width - 2, 0))
    top = np.minimum(rows.astype(int), max(height - 2, 0))
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    dx, dy = columns - left, rows - top
    corners = np.stack([values[top, left], values[top, right], values[bottom, left], values[bottom, right]])
    weights = np.stack([(1 - dx) * (1 - dy), dx * (1 - dy), (1 - dx) * dy, dx * dy])
    smallest, largest = corners.min(axis=0), corners.max(axis=0)  # NaN where any corner is unknown
    one_surface = largest - smallest <= _SAME_SURFACE * np.maximum(np.abs(smallest), np.abs(largest))
    nearest = np.take_along_axis(corners, weights.argmax(axis=0)[None], axis=0)[0]
    sampled = np.where(one_surface, (corners * weights).sum(axis=0), nearest)
    return np.where(inside, sampled, np.nan)
