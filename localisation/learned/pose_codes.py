"""The pose side of the flow: a camera pose as an image of six channels, and back.

`rays`: direction and moment of the Plücker line of every pixel. `repeated`: the twelve numbers of [R | t] over
and over.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from localisation.learned.pose_from_rays import fit_pose
from utils.geometry import directions, nearest_rotation, pixel_grid
from utils.types import Camera, FloatArray

_NUMBERS = 12
_ENOUGH = 2000  # poses to standardise over


@dataclass(frozen=True, eq=False)
class Decoded:
    """Poses read from codes.

    Attributes:
        world_from_camera: (n, 4, 4), mm.
        residual: (n,) rms difference between the code and that of the pose, in standard deviations of the training
            poses: 0 for a perfect code, sigma for one with that much noise.
        eigenvalues: (n, 3) how well each centre is fixed (`pose_from_rays.RayFit`); NaN where it is plainly read.
    """

    world_from_camera: FloatArray
    residual: FloatArray
    eigenvalues: FloatArray


class PoseCode(Protocol):
    """A way to write poses as images; `mean` and `std` standardise over the training poses."""

    @property
    def mean(self) -> FloatArray:
        """Of the training poses' codes."""
        ...

    @property
    def std(self) -> FloatArray:
        """Of what is left without the mean."""
        ...

    def encode(self, world_from_camera: FloatArray) -> FloatArray:
        """Return the standardised codes (n, 6, h, w), float32, of poses (n, 4, 4), mm."""
        ...

    def decode(self, codes: FloatArray) -> Decoded:
        """Return the poses of codes (n, 6, h, w)."""
        ...

    def record(self) -> dict[str, Any]:
        """Return what `read_code` needs beside `mean` and `std`, ready for JSON."""
        ...


@dataclass(frozen=True, eq=False)
class RayCode:
    """Plücker rays [d; m], d = R normalise(K^-1 p), m = ((c - origin) / scene_mm) x d.

    Attributes:
        camera: of the small image.
        origin: (3,) mm, the mean centre of the training cameras.
        scene_mm: a fixed length of the scene.
        mean: (6, h, w) over the training poses.
        std: (6, 1, 1) of what is left, one a channel.
    """

    camera: Camera
    origin: FloatArray
    scene_mm: float
    mean: FloatArray
    std: FloatArray

    @staticmethod
    def fit(camera: Camera, world_from_camera: FloatArray, scene_mm: float) -> RayCode:
        """Return the code that is standardised over training poses (n, 4, 4), over some of very many."""
        some = world_from_camera[:: -(-len(world_from_camera) // _ENOUGH)]
        origin = some[:, :3, 3].mean(0)
        plain = RayCode(camera, origin, scene_mm, np.zeros(1), np.ones(1))
        return RayCode(camera, origin, scene_mm, *_moments(plain.lines(some), (0, 2, 3)))

    def lines(self, world_from_camera: FloatArray) -> FloatArray:
        """Return the lines (n, 6, h, w), float64, of poses (n, 4, 4), not standardised."""
        d = np.einsum("nij,hwj->nhwi", world_from_camera[:, :3, :3], _rays(self.camera))
        centre = (world_from_camera[:, :3, 3] - self.origin) / self.scene_mm
        m = np.cross(centre[:, None, None], d)
        return np.moveaxis(np.concatenate([d, m], axis=-1), -1, 1)

    def encode(self, world_from_camera: FloatArray) -> FloatArray:
        """Return the standardised codes (n, 6, h, w), float32."""
        return ((self.lines(world_from_camera) - self.mean) / self.std).astype(np.float32)

    def decode(self, codes: FloatArray) -> Decoded:
        """Return the poses that fit the rays best."""
        lines = np.moveaxis(np.asarray(codes, np.float64) * self.std + self.mean, 1, -1)
        lines = lines.reshape(len(codes), -1, 6)
        fit = fit_pose(lines[..., :3], lines[..., 3:], _rays(self.camera).reshape(-1, 3))
        pose = fit.world_from_camera.copy()
        pose[:, :3, 3] = self.origin + self.scene_mm * pose[:, :3, 3]
        return Decoded(pose, _residual(self, codes, pose), fit.eigenvalues)

    def record(self) -> dict[str, Any]:
        """Return what `read_code` needs beside `mean` and `std`."""
        places = {"origin_mm": self.origin.tolist(), "scene_mm": self.scene_mm}
        return {"pose_code": "rays", "camera": asdict(self.camera)} | places


@dataclass(frozen=True, eq=False)
class RepeatedCode:
    """[R | t], row by row, repeated over the slots of an image; read back as the mean over the slots.

    Attributes:
        camera: of the small image; its slots, 6 h w, are a multiple of 12.
        mean, std: (12,) over the training poses.
    """

    camera: Camera
    mean: FloatArray
    std: FloatArray

    @staticmethod
    def fit(camera: Camera, world_from_camera: FloatArray) -> RepeatedCode:
        """Return the code that is standardised over training poses (n, 4, 4)."""
        numbers = world_from_camera[:, :3].reshape(-1, _NUMBERS)
        return RepeatedCode(camera, *_moments(numbers, (0,)))

    def encode(self, world_from_camera: FloatArray) -> FloatArray:
        """Return the standardised codes (n, 6, h, w), float32."""
        numbers = (world_from_camera[:, :3].reshape(-1, _NUMBERS) - self.mean) / self.std
        height, width = self.camera.height, self.camera.width
        repeated = np.tile(numbers, (1, 6 * height * width // _NUMBERS))
        return repeated.reshape(-1, 6, height, width).astype(np.float32)

    def decode(self, codes: FloatArray) -> Decoded:
        """Return the poses: the mean over the slots, its rotation made orthonormal."""
        numbers = np.asarray(codes, np.float64).reshape(len(codes), -1, _NUMBERS).mean(1)
        pose = np.tile(np.eye(4), (len(codes), 1, 1))
        pose[:, :3] = (numbers * self.std + self.mean).reshape(-1, 3, 4)
        pose[:, :3, :3] = [nearest_rotation(matrix) for matrix in pose[:, :3, :3]]
        return Decoded(pose, _residual(self, codes, pose), np.full((len(codes), 3), np.nan))

    def record(self) -> dict[str, Any]:
        """Return what `read_code` needs beside `mean` and `std`."""
        return {"pose_code": "repeated", "camera": asdict(self.camera)}


POSE_CODES = ("rays", "repeated")


def fit_code(kind: str, camera: Camera, world_from_camera: FloatArray, scene_mm: float) -> PoseCode:
    """Return the code called `kind`, standardised over training poses (n, 4, 4)."""
    if kind == "repeated":
        return RepeatedCode.fit(camera, world_from_camera)
    return RayCode.fit(camera, world_from_camera, scene_mm)


def read_code(record: dict[str, Any], mean: FloatArray, std: FloatArray) -> PoseCode:
    """Return the code that `PoseCode.record` wrote."""
    camera = Camera(**record["camera"])
    if record["pose_code"] == "repeated":
        return RepeatedCode(camera, mean, std)
    return RayCode(camera, np.array(record["origin_mm"], float), float(record["scene_mm"]), mean, std)


def _rays(camera: Camera) -> FloatArray:
    """Return the unit viewing directions (h, w, 3) of a camera's pixels."""
    rays = directions(camera.matrix, pixel_grid(camera.width, camera.height))
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def _moments(values: FloatArray, pooled: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
    """Return the mean over the first axis, and the standard deviation of the rest over the axes `pooled`."""
    mean = values.mean(0)
    std = (values - mean).std(axis=pooled, keepdims=True)[0]
    return mean, np.maximum(std, 1e-6 * max(float(std.max()), 1e-12))


def _residual(code: PoseCode, codes: FloatArray, world_from_camera: FloatArray) -> FloatArray:
    difference = codes - code.encode(world_from_camera)
    return np.asarray(np.sqrt((difference**2).mean(axis=(1, 2, 3))), np.float64)
