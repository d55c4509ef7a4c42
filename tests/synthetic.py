"""A plane and a sphere whose images, depth and disparity have closed forms, and datasets made of them.

World: mm, OpenCV axes; the left camera of the first frame stands in the origin and looks along z.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.geometry import directions, invert_rigid, pixel_grid, rigid
from utils.images import write_rgb
from utils.types import BoolArray, Camera, FloatArray, Rig, Side

FOLDER: dict[Side, str] = {"left": "l", "right": "r"}
DEPTH_PNG_MM = 0.01


class Surface(Protocol):
    """Something that a ray can hit."""

    def hit(self, origin_world: FloatArray, rays_world: FloatArray) -> FloatArray:
        """Return the ray parameter (...) where rays (..., 3) first hit; NaN where they miss."""
        ...


@dataclass(frozen=True)
class Plane:
    """The points X with normal . X = offset."""

    normal: tuple[float, float, float] = (0.0, 0.0, 1.0)
    offset_mm: float = 80.0

    def hit(self, origin_world: FloatArray, rays_world: FloatArray) -> FloatArray:
        """Return (offset - normal . origin) / (normal . ray)."""
        normal = np.array(self.normal)
        slope = rays_world @ normal
        along = (self.offset_mm - origin_world @ normal) / np.where(slope == 0, np.nan, slope)
        return np.where(along > 0, along, np.nan)


@dataclass(frozen=True)
class Sphere:
    """A ball seen from outside."""

    centre_world: tuple[float, float, float] = (0.0, 0.0, 80.0)
    radius_mm: float = 15.0

    def hit(self, origin_world: FloatArray, rays_world: FloatArray) -> FloatArray:
        """Return the smaller root of |origin + s ray - centre|^2 = radius^2."""
        offset = origin_world - np.array(self.centre_world)
        a, b = (rays_world**2).sum(-1), rays_world @ offset
        discriminant = b**2 - a * (offset @ offset - self.radius_mm**2)
        along = (-b - np.sqrt(np.where(discriminant >= 0, discriminant, np.nan))) / a
        return np.where(along > 0, along, np.nan)


@dataclass(frozen=True)
class Nearest:
    """Several surfaces, of which a ray sees the nearest."""

    parts: tuple[Surface, ...]

    def hit(self, origin_world: FloatArray, rays_world: FloatArray) -> FloatArray:
        """Return the smallest of the parts' ray parameters."""
        along = np.stack([part.hit(origin_world, rays_world) for part in self.parts])
        nearest = np.where(np.isfinite(along), along, np.inf).min(axis=0)
        return np.where(np.isfinite(nearest), nearest, np.nan)


BALL_ON_WALL = Nearest((Plane((0.1, -0.05, 1.0), 85.0), Sphere((4.0, -3.0, 82.0), 16.0)))


@dataclass(frozen=True)
class View:
    """One image: `rgb` (h, w, 3) uint8, z-depth (h, w) mm with NaN where nothing is seen."""

    rgb: NDArray[np.uint8]
    depth_mm: FloatArray


def parallel_rig(width: int = 160, height: int = 128, baseline_mm: float = 5.0) -> Rig:
    """Return a rectified rig whose eyes have different principal columns."""
    left = Camera(0.9 * width, 0.9 * width, (width - 1) / 2 - 0.02 * width, (height - 1) / 2 + 1, width, height)
    right = Camera(left.fx, left.fy, (width - 1) / 2 + 0.03 * width, left.cy, width, height)
    return Rig(left, right, rigid(np.eye(3), np.array([-baseline_mm, 0.0, 0.0])))


def verged_rig(
    width: int = 160, height: int = 128, *, vergence_degrees: float = 30.0, distance_mm: float = 80.0
) -> Rig:
    """Return a rig whose axes cross `distance_mm` in front of both eyes."""
    left = Camera(1.2 * width, 1.2 * width, (width - 1) / 2, (height - 1) / 2, width, height)
    right = Camera(1.2 * width, 1.2 * width, (width - 1) / 2 + 2, (height - 1) / 2 - 1, width, height)
    angle = np.radians(vergence_degrees)
    rotation = turn((0, vergence_degrees, 0))
    centre_mm = distance_mm * np.array([np.sin(angle), 0.0, 1 - np.cos(angle)])
    return Rig(left, right, rigid(rotation, -rotation @ centre_mm))


def reference_flags() -> dict[str, Any]:
    """Return the calibration flags of the reference system's rig, as printed: MATLAB's row-vector form."""
    return {
        "cam_l": (942.05, 181.44, 156.68),
        "cam_r": (950.56, 215.83, 154.01),
        "R_matrix": (0.76, 0, -0.65, 0, 1, 0, 0.65, 0, 0.76),
        "t_vec": (-406.05, 1.26, 152.08),
    }


def texture(points_world: FloatArray, *, wavelength_mm: float = 5.0, seed: int = 0) -> FloatArray:
    """Return colours (..., 3) in [0, 1] of points (..., 3): waves in random directions, fixed in space.

    Wavelengths spread over a factor of ten around `wavelength_mm`, so that every scale has something to match.
    """
    rng = np.random.default_rng(seed)
    light, tint = np.zeros(points_world.shape[:-1]), np.zeros(points_world.shape[:-1])
    for wavelength in np.geomspace(0.5, 5.0, 28) * wavelength_mm:
        waves = rng.normal(size=(3, 2))
        waves *= 2 * np.pi / wavelength / np.linalg.norm(waves, axis=0)
        phases = points_world @ waves + rng.uniform(0, 2 * np.pi, 2)
        light += np.sin(phases[..., 0])
        tint += np.sin(phases[..., 1])
    mean = np.array([0.55, 0.32, 0.29])  # reddish, as tissue is
    per_tint = np.array([0.0, 0.009, -0.009])
    return np.clip(mean * (1 + 0.075 * light[..., None]) + per_tint * tint[..., None], 0, 1)


def render(
    surface: Surface,
    camera: Camera,
    world_from_camera: FloatArray,
    *,
    distortion: Sequence[float] = (),
    wavelength_mm: float = 5.0,
) -> View:
    """Return what a camera, with OpenCV distortion if given, sees of a surface: 2 x 2 rays a pixel."""
    colour = np.zeros((camera.height, camera.width, 3))
    for shift in (np.array([x, y]) for x in (-0.25, 0.25) for y in (-0.25, 0.25)):
        along, points = _trace(surface, camera, world_from_camera, distortion, shift)
        seen = np.isfinite(along)
        colour[seen] += texture(points[seen], wavelength_mm=wavelength_mm) / 4
    depth_mm, _ = _trace(surface, camera, world_from_camera, distortion, np.zeros(2))
    return View(np.rint(255 * colour).astype(np.uint8), depth_mm)


def _trace(
    surface: Surface,
    camera: Camera,
    world_from_camera: FloatArray,
    distortion: Sequence[float],
    shift: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Return z-depth (h, w) and world points (h, w, 3) seen at the pixel centres moved by `shift` px."""
    pixels = pixel_grid(camera.width, camera.height) + shift
    if any(distortion):
        straight = cv2.undistortPointsIter(
            pixels.reshape(-1, 1, 2),
            camera.matrix,
            np.array(distortion, float),
            np.eye(3),
            camera.matrix,
            (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 100, 1e-12),
        )
        pixels = np.asarray(straight, float).reshape(pixels.shape)
    # rays have unit z in the camera, so the ray parameter is z-depth
    rays_world = directions(camera.matrix, pixels) @ world_from_camera[:3, :3].T
    along = surface.hit(world_from_camera[:3, 3], rays_world)
    return along, world_from_camera[:3, 3] + along[..., None] * rays_world


def disparity(rig: Rig, depth_mm: FloatArray) -> FloatArray:
    """Return x_left - x_right (px) of a rectified rig: fx B / z + cx_left - cx_right."""
    assert rig.right is not None
    return rig.left.fx * rig.baseline_mm / depth_mm + rig.left.cx - rig.right.cx


def path(count: int, *, distance_mm: float = 80.0, travel_mm: float = 8.0) -> FloatArray:
    """Return world_from_left (n, 4, 4): a circle around the origin; every camera looks at one point."""
    poses = []
    for turn in np.linspace(0, 2 * np.pi, count, endpoint=False):
        centre = travel_mm * np.array([np.cos(turn) - 1, 0.8 * np.sin(turn), 0.2 * np.sin(2 * turn)])
        forward = np.array([0.0, 0.0, distance_mm]) - centre
        forward /= np.linalg.norm(forward)
        right = np.cross([0.0, 1.0, 0.0], forward)
        right /= np.linalg.norm(right)
        poses.append(rigid(np.stack([right, np.cross(forward, right), forward], axis=1), centre))
    return np.stack(poses)


def world_from(rig: Rig, side: Side, world_from_left: FloatArray) -> FloatArray:
    """Return the pose of one eye from that of the left one."""
    return world_from_left @ rig.left_from(side)


def turn(degrees: Sequence[float]) -> FloatArray:
    """Return the (3, 3) rotation of a rotation vector in degrees."""
    return np.asarray(cv2.Rodrigues(np.radians(np.asarray(degrees, float)))[0], float)


def write_calibration(
    file: Path,
    rig: Rig,
    *,
    distortion: Mapping[Side, Sequence[float]] | None = None,
    changes: Mapping[str, Any] | None = None,
) -> None:
    """Write calib.yaml; `changes` replaces values by key, None leaves a key out."""
    terms = distortion or {}
    values: dict[str, Any] = {"M1": rig.left.matrix, "D1": np.array([[*terms.get("left", (0.0,) * 5)]])}
    if rig.right is not None and rig.right_from_left is not None:
        values |= {"M2": rig.right.matrix, "D2": np.array([[*terms.get("right", (0.0,) * 5)]])}
        values |= {"R": rig.right_from_left[:3, :3], "T": rig.right_from_left[:3, 3:]}
    values["image_size"] = np.array([[rig.left.width, rig.left.height]], np.int32)
    storage = cv2.FileStorage(str(file), cv2.FILE_STORAGE_WRITE)
    for key, value in (values | dict(changes or {})).items():
        if value is not None:
            storage.write(key, value)
    storage.release()


def write_dataset(
    folder: Path,
    rig: Rig | None = None,
    *,
    frames: int = 3,
    surface: Surface = BALL_ON_WALL,
    ending: str = ".png",
    masks: bool = False,
    depth: bool = False,
    distortion: Mapping[Side, Sequence[float]] | None = None,
) -> Rig:
    """Write a dataset with frames 1, 2, ... in the data layout and return its rig; poses are `path(frames)`.

    `masks` writes mask_l and mask_r (everything but an 8 px border), `depth` writes l/depth and r/depth in
    units of DEPTH_PNG_MM, `poses.npz` is not part of the layout and not written.
    """
    rig = rig or parallel_rig()
    for number, world_from_left in enumerate(path(frames), start=1):
        for side in rig.sides:
            pose, terms = world_from(rig, side, world_from_left), (distortion or {}).get(side, ())
            view = render(surface, rig.camera(side), pose, distortion=terms)
            eye = folder / FOLDER[side]
            write_rgb(eye / "images" / f"{number}{ending}", view.rgb)
            if masks:
                mask = 255 * border_mask(rig.camera(side)).astype(np.uint8)
                write_rgb(folder / f"mask_{FOLDER[side]}" / f"{number}.png", mask)
            if depth:
                (eye / "depth").mkdir(exist_ok=True)
                units = np.nan_to_num(view.depth_mm / DEPTH_PNG_MM).round().astype(np.uint16)
                cv2.imwrite(str(eye / "depth" / f"{number}.png"), units)
    write_calibration(folder / "calib.yaml", rig, distortion=distortion)
    return rig


def border_mask(camera: Camera, border_px: int = 8) -> BoolArray:
    """Return (h, w): all but the outermost pixels."""
    mask = np.zeros((camera.height, camera.width), bool)
    mask[border_px:-border_px, border_px:-border_px] = True
    return mask


def right_pixels(rig: Rig, pixels_left: FloatArray, depth_mm: FloatArray) -> FloatArray:
    """Return where the right eye sees points (..., 2) that the left one sees at a z-depth (...)."""
    assert rig.right is not None
    points_left = directions(rig.left.matrix, pixels_left) * depth_mm[..., None]
    right_from_left = invert_rigid(rig.left_from("right"))
    points = points_left @ right_from_left[:3, :3].T + right_from_left[:3, 3]
    x = rig.right.fx * points[..., 0] / points[..., 2] + rig.right.cx
    y = rig.right.fy * points[..., 1] / points[..., 2] + rig.right.cy
    return np.stack([x, y], axis=-1)
