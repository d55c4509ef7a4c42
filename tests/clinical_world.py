"""A coloured plane seen by cameras with real lenses: what the clinical datasets' test folders are made of.

Lenses are inverted here by other means than the readers use, and the texture tells where a pixel really looks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from utils.datasets.samples import decode
from utils.datasets.source import Source
from utils.errors import InputError
from utils.geometry import invert_rigid, pixel_grid, rigid, transform
from utils.types import FloatArray, Side

NORMAL = np.array([0.25, -0.15, -1.0]) / np.linalg.norm([0.25, -0.15, -1.0])
OFFSET_MM = -58.0  # the plane: NORMAL . X = OFFSET, some 58 mm in front of the world's origin
TOOL_X_MM = 6.0  # what lies to the right of it counts as an instrument


def texture(points_world: FloatArray) -> FloatArray:
    """Return the colour (..., 3), 0 to 255, of points of the plane: waves of 7 to 19 mm, other ones a channel."""
    x, y = points_world[..., 0], points_world[..., 1]
    waves = [
        np.sin(2 * np.pi * x / 9.0) + np.cos(2 * np.pi * y / 13.0),
        np.sin(2 * np.pi * (x + y) / 11.0) + np.cos(2 * np.pi * (x - 2 * y) / 19.0),
        np.cos(2 * np.pi * x / 17.0) * np.sin(2 * np.pi * y / 7.0) * 2,
    ]
    return 128 + 45 * np.stack(waves, axis=-1)


@dataclass(frozen=True)
class Seen:
    """What a camera saw: (h, w, 3) RGB, z-depth in mm, points in its own frame, what is the instrument."""

    image: NDArray[np.uint8]
    depth_mm: FloatArray
    points: FloatArray
    tool: NDArray[np.bool_]


def look(rays: FloatArray, world_from_camera: FloatArray) -> Seen:
    """Let rays (h, w, 3) of a camera hit the plane."""
    directions = rays @ world_from_camera[:3, :3].T
    along = (OFFSET_MM - world_from_camera[:3, 3] @ NORMAL) / (directions @ NORMAL)
    along = np.where(along > 0, along, np.nan)
    points = rays * along[..., None]
    world = transform(world_from_camera, points)
    image = np.nan_to_num(np.rint(np.clip(texture(world), 0, 255))).astype(np.uint8)
    return Seen(image, points[..., 2], points, world[..., 0] > TOOL_X_MM)


def brown_rays(matrix: FloatArray, terms: tuple[float, ...], size: tuple[int, int]) -> FloatArray:
    """Return rays (h, w, 3), z = 1, of a lens with k1 k2 p1 p2 k3, by fixed-point iteration of Brown's formula."""
    pixels = pixel_grid(*size)
    k1, k2, p1, p2, k3 = terms
    distorted = (pixels - matrix[:2, 2]) / [matrix[0, 0], matrix[1, 1]]
    ideal = distorted.copy()
    for _ in range(60):
        x, y = ideal[..., 0], ideal[..., 1]
        r2 = x**2 + y**2
        radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
        shift = np.stack([2 * p1 * x * y + p2 * (r2 + 2 * x**2), p1 * (r2 + 2 * y**2) + 2 * p2 * x * y], axis=-1)
        ideal = (distorted - shift) / radial[..., None]
    return np.concatenate([ideal, np.ones_like(ideal[..., :1])], axis=-1)


def pose(degrees: tuple[float, float, float], place_mm: tuple[float, float, float]) -> FloatArray:
    """Return `world_from_camera` (4, 4) of Euler angles about x, y, z and a place."""
    x, y, z = np.radians(degrees)
    about = [cv2.Rodrigues(np.array(vector))[0] for vector in ((x, 0, 0), (0, y, 0), (0, 0, z))]
    return rigid(about[2] @ about[1] @ about[0], np.array(place_mm))


PATH = [pose((0, 0, 0), (0, 0, 0)), pose((1, -2, 1.5), (1.5, -1, 0.5)), pose((-2, 3, -4), (4, 2, -3)),
        pose((3, 5, 8), (-5, 3, 4))]  # fmt: skip


def write_video(
    path: Path, pairs: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]], *, in_rows: bool = True
) -> None:
    """Write a lossless video of both eyes, the left above the right or left of it."""
    frames = [np.concatenate(pair, axis=0 if in_rows else 1) for pair in pairs]
    height, width = frames[0].shape[:2]
    lossless = path.with_suffix(".avi")  # OpenCV decodes by content, whatever the ending
    writer = cv2.VideoWriter(str(lossless), cv2.VideoWriter.fourcc(*"png "), 30, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    lossless.replace(path)


def decode_everything(source: Source) -> None:
    """Decode all images, masks and depth maps of a source, as a conversion does."""
    for frame in source.frames:
        for picture in frame.images.values():
            decode(picture)
        for read in (*frame.tissue.values(), *frame.depth_mm.values()):
            read()


def assert_refused(reading: Callable[[], Source], words: str) -> None:
    """Check that reading, or decoding what was read, is refused with all that a user needs, and these words."""
    with pytest.raises(InputError) as caught:
        decode_everything(reading())
    assert words in str(caught.value)
    assert all((caught.value.what, caught.value.found, caught.value.expected, caught.value.do))


@dataclass(frozen=True)
class Misses:
    """How far from the truth what a source says lies: mm from the plane (largest), grey levels (median, 99 %)."""

    plane_mm: float
    colour: float
    colour_99: float
    known: float  # share of the pixels


def misses(source: Source, index: int, side: Side, world_from_left: FloatArray | None = None) -> Misses:
    """Unproject one eye's depth with the source's own lens and poses, and look the points up in the true world.

    Args:
        source: as a reader gives it.
        index: of the frame.
        side: the eye.
        world_from_left: (4, 4) instead of the source's; for datasets without poses.
    """
    frame = source.frames[index]
    image, depth_mm = decode(frame.images[side]).astype(float), frame.depth_mm[side]()
    if world_from_left is None:
        assert source.world_from_left is not None
        world_from_left = source.world_from_left[index]
    world_from_eye = world_from_left
    if side == "right":
        assert source.right_from_left is not None
        world_from_eye = world_from_left @ invert_rigid(source.right_from_left)
    return _misses(image, depth_mm, _directions(source, side), world_from_eye)


def looks_where(source: Source, index: int, side: Side) -> Misses:
    """As `misses`, for a dataset without depth: the rays of lens and pose are followed to the true plane."""
    assert source.world_from_left is not None
    world_from_eye = source.world_from_left[index]
    if side == "right":
        assert source.right_from_left is not None
        world_from_eye = world_from_eye @ invert_rigid(source.right_from_left)
    directions = _directions(source, side)
    image = decode(source.frames[index].images[side]).astype(float)
    return _misses(image, look(directions, world_from_eye).depth_mm, directions, world_from_eye)


def _directions(source: Source, side: Side) -> FloatArray:
    lens = source.lenses[side]
    width, height = source.image_size
    terms = np.array(lens.distortion) if lens.distortion else np.zeros(5)
    precise = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-10)
    pixels = pixel_grid(width, height).reshape(-1, 1, 2)
    flat = cv2.undistortPointsIter(pixels, lens.matrix, terms, np.eye(3), np.eye(3), precise)
    flat = np.asarray(flat, float).reshape(height, width, 2)
    return np.concatenate([flat, np.ones((height, width, 1))], axis=-1)


def _misses(image: FloatArray, depth_mm: FloatArray, rays: FloatArray, world_from_eye: FloatArray) -> Misses:
    known = np.isfinite(depth_mm)
    world = transform(world_from_eye, rays[known] * depth_mm[known][:, None])
    colour = np.abs(texture(world).clip(0, 255) - image[known]).max(axis=-1)
    return Misses(
        plane_mm=float(np.abs(world @ NORMAL - OFFSET_MM).max()),
        colour=float(np.median(colour)),
        colour_99=float(np.quantile(colour, 0.99)),
        known=float(known.mean()),
    )
