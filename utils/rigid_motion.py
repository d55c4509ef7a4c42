"""How much of the motion between two frames one rigid motion of the camera explains, from matched points."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from utils.geometry import directions, invert_rigid, project, rigid, rotation_angle_degrees, transform, unproject
from utils.types import BoolArray, Camera, FloatArray

FEWEST_POINTS = 30  # of a pair of frames; below, six parameters and a share are not to be had from them
# The least motion that counts. SIFT's own noise where nothing moves is 0.28 px in the median, and 95 % are within
# 1 px (phantoms of 320 px of width); a field shows as much of an image of any size.
SMALLEST_PX, SMALLEST_SHARE = 1.0, 1 / 300  # at least so many px, and of the image's width
# What the depth of a point may be off by: the noise of a stereo match, and a match that is px away on a slope.
MATCH_PX, SLOPE_ERROR = 0.2, 0.005
_NEIGHBOURS = 9  # wrong matches are alone, tissue moves with its surroundings
_ROUNDS = 3


@dataclass(frozen=True)
class PairMotion:
    """What happened between two frames; NaN is what one eye cannot tell.

    Attributes:
        points: how many points were matched.
        image_motion_px: median way of a point in the image.
        still_share: share of points that stand still in the image.
        moved_share: share of points that move in the image together with their surroundings.
        still_beside_rigid: how many points stand still for one that the best rigid motion brings to its place,
            both within half the least motion: near 1 where the camera stands, near 0 where it travels.
        rigid_share: share of points that one rigid motion (one eye: one epipolar geometry) explains.
        off_share: share of points that move with their surroundings, but not as that motion says.
        residual_px: median distance of the points from that motion.
        travel: way of the camera, in shares of the median distance of the tissue; `travel_mm` the same in mm.
        turn_degrees: how far the camera turned.
        parallax_px: median motion that no turning of the camera explains.
        off_mm: median distance of the points that are off from where that motion brings them.
        moved_mm: median way of the points that move, where the camera stands.
    """

    points: int
    image_motion_px: float
    still_share: float
    moved_share: float
    still_beside_rigid: float
    rigid_share: float
    off_share: float
    residual_px: float
    travel: float
    travel_mm: float
    turn_degrees: float
    parallax_px: float
    off_mm: float
    moved_mm: float


def smallest_px(camera: Camera) -> float:
    """Return the least image motion that counts, px."""
    return max(SMALLEST_PX, SMALLEST_SHARE * camera.width)


def motion_of_points(
    camera: Camera,
    baseline_mm: float,
    pixels: tuple[FloatArray, FloatArray],
    depth_mm: tuple[FloatArray, FloatArray],
) -> PairMotion:
    """Compare the motion of points with known depth with the rigid motion that explains most of them.

    A point is off where the median residual of its surroundings exceeds `smallest_px` and what an error of its
    depth makes of the camera's travel: f * travel / depth * error, error = MATCH_PX * depth / (f * baseline) +
    SLOPE_ERROR.

    Args:
        camera: of the eye, in the size of the images that were matched.
        baseline_mm: between the two eyes that measured depth.
        pixels: (m, 2) matches, px in the first and in the second frame, some of them wrong.
        depth_mm: (m,) z-depth in the first frame; the same in the second, NaN where unknown.
    """
    matrix, focal, least_px = camera.matrix, camera.fx, smallest_px(camera)
    (pixels_a, pixels_b), (depth_a_mm, depth_b_mm) = pixels, depth_mm
    points_a = unproject(matrix, pixels_a, depth_a_mm)
    b_from_a = best_rigid(matrix, points_a, pixels_b, least_px)
    expected_px, expected_mm = project(matrix, transform(b_from_a, points_a))
    residual_px = np.nan_to_num(expected_px - pixels_b, nan=1e3)
    residual_mm = expected_mm - depth_b_mm
    travel_mm = float(np.linalg.norm(invert_rigid(b_from_a)[:3, 3]))
    error = MATCH_PX * depth_a_mm / (focal * baseline_mm) + SLOPE_ERROR
    allowed_px = least_px + error * focal * travel_mm / depth_a_mm
    off, off_mm = _off(pixels_a, residual_px, residual_mm, allowed_px, depth_a_mm / focal)
    way_px, way_mm = pixels_b - pixels_a, depth_b_mm - depth_a_mm
    moved, moved_mm = _off(pixels_a, way_px, way_mm, np.full(len(pixels_a), least_px), depth_a_mm / focal)
    return PairMotion(
        **_seen(pixels_a, pixels_b, least_px),
        moved_share=moved,
        still_beside_rigid=_beside(way_px, residual_px, least_px / 2),
        rigid_share=float((np.linalg.norm(residual_px, axis=1) < allowed_px).mean()),
        off_share=off,
        residual_px=float(np.median(np.linalg.norm(residual_px, axis=1))),
        travel=travel_mm / float(np.median(depth_a_mm)),
        travel_mm=travel_mm,
        turn_degrees=float(rotation_angle_degrees(b_from_a[:3, :3])),
        parallax_px=_parallax_px(matrix, pixels_a, pixels_b),
        off_mm=off_mm,
        moved_mm=moved_mm,
    )


def _beside(first_px: FloatArray, second_px: FloatArray, within_px: float) -> float:
    """Return how many of some distances (m, 2) are short for one of others that is; 1 where none are."""
    short, others = ((np.linalg.norm(one, axis=1) < within_px).sum() for one in (first_px, second_px))
    return float(short / others) if others else 1.0


def _off(
    pixels: FloatArray, off_px: FloatArray, off_mm: FloatArray, allowed_px: FloatArray, mm_per_px: FloatArray
) -> tuple[float, float]:
    """Return the share of points whose surroundings are off by more than allowed, and their median mm.

    Args:
        pixels: (m, 2).
        off_px: (m, 2) across the rays, px; `off_mm` (m,) along them, NaN where unknown.
        allowed_px, mm_per_px: (m,).
    """
    around = _surroundings(pixels, np.column_stack([off_px, off_mm]))
    off = np.linalg.norm(around[:, :2], axis=1) > allowed_px
    across_mm = np.linalg.norm(around[:, :2], axis=1) * mm_per_px
    way_mm = np.hypot(across_mm, np.nan_to_num(around[:, 2]))
    return float(off.mean()), float(np.median(way_mm[off])) if off.any() else 0.0


def motion_of_pixels(camera: Camera, pixels_a: FloatArray, pixels_b: FloatArray) -> PairMotion:
    """Compare the motion of points of unknown depth with the epipolar geometry that explains most of them.

    Weaker than with depth: motion along the epipolar lines is taken for depth.

    Args:
        camera: of the eye, in the size of the images that were matched.
        pixels_a, pixels_b: (m, 2) matches of two frames, some of them wrong.
    """
    matrix, least_px = camera.matrix, smallest_px(camera)
    essential, _ = cv2.findEssentialMat(pixels_a, pixels_b, matrix, cv2.USAC_MAGSAC, 0.999, least_px)
    if essential is None or essential.shape != (3, 3):
        distance_px = np.full(len(pixels_a), 1e3)
    else:
        inverse = np.linalg.inv(matrix)
        distance_px = epipolar_distance(inverse.T @ essential @ inverse, pixels_a, pixels_b)
    around = _surroundings(pixels_a, np.column_stack([distance_px, pixels_b - pixels_a]))
    return PairMotion(
        **_seen(pixels_a, pixels_b, least_px),
        moved_share=float((np.linalg.norm(around[:, 1:], axis=1) > least_px).mean()),
        still_beside_rigid=float("nan"),
        rigid_share=float((np.abs(distance_px) < least_px).mean()),
        off_share=float((np.abs(around[:, 0]) > least_px).mean()),
        residual_px=float(np.median(np.abs(distance_px))),
        travel=float("nan"),
        travel_mm=float("nan"),
        turn_degrees=float("nan"),
        parallax_px=_parallax_px(matrix, pixels_a, pixels_b),
        off_mm=float("nan"),
        moved_mm=float("nan"),
    )


def best_rigid(matrix: FloatArray, points_a: FloatArray, pixels_b: FloatArray, within_px: float) -> FloatArray:
    """Return b_from_a (4, 4) that brings most points (m, 3) within some px of their pixels (m, 2).

    It starts from what a sample consensus finds and from no motion at all, and keeps the better of the two.
    """
    starts: list[FloatArray] = [np.eye(4)]
    found, turn, shift, _ = cv2.solvePnPRansac(
        points_a,
        pixels_b,
        matrix,
        None,
        iterationsCount=300,
        reprojectionError=within_px,
        confidence=0.999,
        flags=cv2.SOLVEPNP_SQPNP,
    )
    if found:
        starts.append(_rigid(turn, shift))
    refined = [_refined(matrix, points_a, pixels_b, start, within_px) for start in starts]
    return max(refined, key=lambda one: int(_explained(matrix, points_a, pixels_b, one, within_px).sum()))


def _rigid(turn: Any, shift: Any) -> FloatArray:
    """Return the (4, 4) transform of OpenCV's rotation vector and translation."""
    return rigid(np.asarray(cv2.Rodrigues(turn)[0], float), np.asarray(shift, float))


def _refined(
    matrix: FloatArray, points_a: FloatArray, pixels_b: FloatArray, b_from_a: FloatArray, within_px: float
) -> FloatArray:
    for _ in range(_ROUNDS):
        chosen = _explained(matrix, points_a, pixels_b, b_from_a, within_px)
        if chosen.sum() < 6:
            return b_from_a
        start = cv2.Rodrigues(b_from_a[:3, :3])[0], b_from_a[:3, 3:].copy()
        b_from_a = _rigid(*cv2.solvePnPRefineLM(points_a[chosen], pixels_b[chosen], matrix, None, *start))
    return b_from_a


def _explained(
    matrix: FloatArray, points_a: FloatArray, pixels_b: FloatArray, b_from_a: FloatArray, within_px: float
) -> BoolArray:
    expected_px, _ = project(matrix, transform(b_from_a, points_a))
    with np.errstate(invalid="ignore"):
        return np.asarray(np.linalg.norm(expected_px - pixels_b, axis=1) < within_px)


def epipolar_distance(fundamental: FloatArray, pixels_a: FloatArray, pixels_b: FloatArray) -> FloatArray:
    """Return the signed Sampson distance (m,), px (Hartley and Zisserman 2004, equation 11.9)."""
    flat_a = np.column_stack([pixels_a, np.ones(len(pixels_a))])
    flat_b = np.column_stack([pixels_b, np.ones(len(pixels_b))])
    lines_b, lines_a = flat_a @ fundamental.T, flat_b @ fundamental
    slope = (lines_b[:, :2] ** 2).sum(1) + (lines_a[:, :2] ** 2).sum(1)
    return np.asarray((flat_b * lines_b).sum(1) / np.sqrt(np.maximum(slope, 1e-12)))


def _parallax_px(matrix: FloatArray, pixels_a: FloatArray, pixels_b: FloatArray) -> float:
    """Return the median distance (px) of the points from where the best turning of the camera brings them.

    The turning is that of the rays (Kabsch 1976) nearest to what it explains best, in a few rounds.
    """
    rays_a, rays_b = directions(matrix, pixels_a), directions(matrix, pixels_b)
    unit_a = rays_a / np.linalg.norm(rays_a, axis=1, keepdims=True)
    unit_b = rays_b / np.linalg.norm(rays_b, axis=1, keepdims=True)
    chosen, distance_px = np.ones(len(rays_a), bool), np.zeros(len(rays_a))
    for _ in range(_ROUNDS):
        u, _, vt = np.linalg.svd(unit_b[chosen].T @ unit_a[chosen])
        turned = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
        expected_px, _ = project(matrix, rays_a @ turned.T)
        distance_px = np.nan_to_num(np.linalg.norm(expected_px - pixels_b, axis=1), nan=1e3)
        chosen = distance_px <= np.median(distance_px)
    return float(np.median(distance_px))


def _seen(pixels_a: FloatArray, pixels_b: FloatArray, least_px: float) -> dict[str, Any]:
    moved_px = np.linalg.norm(pixels_b - pixels_a, axis=1)
    return {
        "points": len(pixels_a),
        "image_motion_px": float(np.median(moved_px)),
        "still_share": float((moved_px < least_px).mean()),
    }


def _surroundings(pixels: FloatArray, values: FloatArray) -> FloatArray:
    """Return the medians (m, c) of values (m, c) over each point's nearest neighbours, itself included."""
    squared = ((pixels[:, None] - pixels[None]) ** 2).sum(-1)
    count = min(_NEIGHBOURS, len(pixels))
    nearest = np.argpartition(squared, count - 1, axis=1)[:, :count]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a median of unknown values is unknown
        return np.asarray(np.nanmedian(values[nearest], axis=1))
