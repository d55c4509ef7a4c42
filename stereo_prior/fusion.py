"""Fuse depth maps of several views in one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from stereo_prior.pair import fill_unknown
from utils.multi_view import RaysInView
from utils.types import BoolArray, Camera, FloatArray
from utils.warping import sample_map, warp_depth

Map = NDArray[np.float32]

_ROUNDS = 3
_OUTLIER_SIGMAS = 3.0
_OUTLIER_SHARE = 0.03  # of the depth: whatever sigma says, this is another surface
_LEAST_SHARE = 0.003  # of the depth: differences below are never outliers
_JUMP = 0.03  # neighbouring pixels farther apart (share of the depth) lie on two surfaces
_POSE_SHARE = 0.001  # of the depth: what errors of the poses add to another view's depth
_CORRELATED = 0.3  # share of the variance that more views do not average away
_SAME_IMAGES = 0.8  # the same between sources that match the same pair: measured, between SGBM and PASMnet
_WINDOW_PX = 2.5  # deviation of the window over which a depth is a mean: finer relief is rounded off
_BEND_PX = 3  # second differences are taken between pixels so far apart: nearer ones are mostly noise
_FAR_MM = 1e9
_INITIAL_VIEWS = 5  # views that fill the holes of the first guess
_REACH_SHARE = 0.06  # of the width: holes are continued this far from what is known
_FILLED_SHARE, _FILLED_SLOPE = 0.01, 0.3  # relative sigma of a filled pixel, and its growth per image width


@dataclass(frozen=True, eq=False)
class DepthMap:
    """z-depth (h, w) mm of one view and its standard deviation, NaN unknown."""

    depth_mm: Map
    sigma_mm: Map


@dataclass(frozen=True, eq=False)
class Neighbour:
    """Another view's depth, its camera, and `other_from_view` (4, 4), mm."""

    camera: Camera
    other_from_view: FloatArray
    depth: DepthMap


@dataclass(frozen=True, eq=False)
class Fused:
    """Fused depth and sigma (h, w) mm, NaN unknown; `agreement` is the share of the maps that agree."""

    depth_mm: Map
    sigma_mm: Map
    agreement: Map


def without_jumps(depth: DepthMap) -> DepthMap:
    """Return a depth map whose pixels at steps are unknown: there another view lands beside the surface."""
    kernel = np.ones((3, 3), np.uint8)
    low = cv2.erode(np.nan_to_num(depth.depth_mm, nan=_FAR_MM), kernel)
    high = cv2.dilate(np.nan_to_num(depth.depth_mm, nan=0.0), kernel)
    with np.errstate(invalid="ignore"):
        smooth = high - low <= _JUMP * depth.depth_mm
    return DepthMap(
        np.where(smooth, depth.depth_mm, np.nan).astype(np.float32),
        np.where(smooth, depth.sigma_mm, np.nan).astype(np.float32),
    )


def fuse(camera: Camera, own: DepthMap | None, neighbours: Sequence[Neighbour]) -> Fused:
    """Fuse a view's own depth with that of other views, by inverse variance and without outliers.

    Each round moves every pixel along its ray to where the other views say that the surface is; the median of
    all says who is wrong. The maps agree on what all of them round off: sigma counts that once, undivided.

    Args:
        camera: the view's camera.
        own: its own depth; None where it has none.
        neighbours: other views; their maps should come through `without_jumps`. Nearest first.
    """
    depth_mm = _first_guess(camera, own, neighbours)
    rays = [RaysInView(camera, other.camera, other.other_from_view) for other in neighbours]
    found = Fused(depth_mm, np.full_like(depth_mm, np.nan), np.zeros_like(depth_mm))
    for _ in range(_ROUNDS if neighbours else 1):
        candidates = [] if own is None else [(own.depth_mm, own.sigma_mm**2)]
        candidates += [
            _candidate(one, found.depth_mm, other.depth) for one, other in zip(rays, neighbours, strict=True)
        ]
        if not candidates:
            break
        depths_mm, variances = (np.stack(parts) for parts in zip(*candidates, strict=True))
        found = _robust_mean(depths_mm, variances, own_first=own is not None)
    return replace(found, sigma_mm=np.hypot(found.sigma_mm, rounded_off(found.depth_mm)))


def rounded_off(depth_mm: Map) -> Map:
    """Return how far (h, w), mm, a mean over the matching window misses a surface that bends; 0 where unknown.

    A mean over a window of deviation s misses by s^2 / 2 times the second derivative. It is the disparity that is
    averaged, so inverse depth, in which planes do not bend. At a step this grows with its height: there a pixel
    may have got the depth of the other surface.
    """
    height, width = depth_mm.shape
    inverse, far = 1.0 / depth_mm, _BEND_PX
    padded = np.pad(inverse, far, constant_values=np.nan)

    def moved(down: int, right: int) -> Map:
        return padded[far + down :, far + right :][:height, :width]

    bend = np.zeros_like(depth_mm)
    for down, right in ((0, far), (far, 0), (far, far), (far, -far)):
        bend = np.fmax(bend, np.abs(moved(down, right) + moved(-down, -right) - 2 * inverse))
    missed = 0.5 * (_WINDOW_PX / far) ** 2 * bend * depth_mm**2
    return np.nan_to_num(missed, nan=0.0).astype(np.float32)


def fill_holes(fused: Fused, tissue: BoolArray) -> tuple[DepthMap, BoolArray]:
    """Continue the surface into small holes of the tissue, with a sigma that grows with the distance.

    Returns:
        Depth and sigma, and (h, w) which pixels were filled rather than measured.
    """
    known = np.isfinite(fused.depth_mm)
    if not known.any() or known[tissue].all():
        return DepthMap(fused.depth_mm, fused.sigma_mm), np.zeros_like(known)
    distance_px = cv2.distanceTransform((~known).astype(np.uint8), cv2.DIST_L2, 5)
    filled = tissue & ~known & (distance_px <= _REACH_SHARE * tissue.shape[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        continued = 1.0 / fill_unknown(np.where(known, 1.0 / fused.depth_mm, 0), known)
    doubt = continued * (_FILLED_SHARE + _FILLED_SLOPE * distance_px / tissue.shape[1])
    return (
        DepthMap(
            np.where(filled, continued, fused.depth_mm).astype(np.float32),
            np.where(filled, doubt, fused.sigma_mm).astype(np.float32),
        ),
        filled,
    )


def merge(maps: Sequence[DepthMap]) -> Fused:
    """Merge maps of one view by different sources.

    Where two contradict each other no median tells who is wrong: the surer one counts, with half their difference
    in its sigma, and an agreement of one half.
    """
    if len(maps) == 1:
        return Fused(maps[0].depth_mm, maps[0].sigma_mm, np.isfinite(maps[0].depth_mm).astype(np.float32))
    depths_mm, sigmas_mm = np.stack([one.depth_mm for one in maps]), np.stack([one.sigma_mm for one in maps])
    merged = _robust_mean(depths_mm, sigmas_mm**2, shared=_SAME_IMAGES)
    torn = (np.isfinite(depths_mm).sum(axis=0) == 2) & (merged.agreement < 1)
    if not torn.any():
        return merged
    surer = np.argmin(np.where(np.isfinite(depths_mm), sigmas_mm, np.inf), axis=0)[None]
    depth_mm, sigma_mm = (np.take_along_axis(stack, surer, axis=0)[0] for stack in (depths_mm, sigmas_mm))
    with np.errstate(invalid="ignore"):
        apart_mm = np.fmax.reduce(depths_mm) - np.fmin.reduce(depths_mm)
    return Fused(
        np.where(torn, depth_mm, merged.depth_mm),
        np.where(torn, np.hypot(sigma_mm, 0.5 * apart_mm), merged.sigma_mm),
        merged.agreement,
    )


def _candidate(rays: RaysInView, depth_mm: Map, seen: DepthMap) -> tuple[Map, Map]:
    """Return the z-depth at which the surface that another view saw is met, and its variance."""
    z, columns, rows = rays.land(depth_mm)
    found = sample_map(seen.depth_mm, columns, rows)
    sigma = sample_map(seen.sigma_mm, columns, rows, cv2.INTER_NEAREST)
    with np.errstate(invalid="ignore", divide="ignore"):
        along = rays.along
        candidate = depth_mm + (found - z) / along
        variance = (sigma / along) ** 2 + (_POSE_SHARE * depth_mm) ** 2
    return candidate.astype(np.float32), variance.astype(np.float32)


def _first_guess(camera: Camera, own: DepthMap | None, neighbours: Sequence[Neighbour]) -> Map:
    """Return the own depth, its holes filled by the median of what the nearest views show there."""
    unknown = np.full((camera.height, camera.width), np.nan, np.float32)
    guess = unknown if own is None else own.depth_mm
    if np.isfinite(guess).all():
        return guess
    warped = [
        warp_depth(other.depth.depth_mm, other.camera, camera, np.linalg.inv(other.other_from_view))
        for other in neighbours[:_INITIAL_VIEWS]
    ]
    if not warped:
        return guess
    return np.where(np.isfinite(guess), guess, _lower_median(np.stack(warped))).astype(np.float32)


def _lower_median(stack: Map) -> Map:
    """Return the median over axis 0 of what is known; of an even number the lower (nearer) one."""
    ordered = np.sort(stack, axis=0)  # NaN last
    count = np.isfinite(stack).sum(axis=0)
    middle = np.maximum(count - 1, 0) // 2
    return np.asarray(np.take_along_axis(ordered, middle[None], axis=0)[0], np.float32)


def _robust_mean(
    candidates_mm: Map, variances: Map, *, own_first: bool = False, shared: float = _CORRELATED
) -> Fused:
    """Return the inverse-variance mean of the candidates (n, h, w) that agree with their median.

    `shared` is the share of their variance that they have in common: more of them do not average it away.

    Where the first candidate is the view's own, and more agree with it than with the median or as many, it
    takes the median's place: a tie between two camps must not make both adopt one of them and hide the
    contradiction.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        agree = _agreeing(candidates_mm, variances, _lower_median(candidates_mm))
        if own_first and len(candidates_mm) > 1:
            with_own = _agreeing(candidates_mm, variances, candidates_mm[0])
            agree = np.where(with_own.sum(axis=0) >= agree.sum(axis=0), with_own, agree)
        weights = np.where(agree, 1.0 / variances, 0)
        total = weights.sum(axis=0)
        mean = np.where(agree, candidates_mm * weights, 0).sum(axis=0) / total
        spread = np.where(agree, weights * (candidates_mm - mean) ** 2, 0).sum(axis=0) / total
        count = agree.sum(axis=0)
        single = count / total  # harmonic mean of the variances
        sigma = np.sqrt(np.maximum(single, spread) * (shared + (1 - shared) / count))
        share = count / np.isfinite(candidates_mm).sum(axis=0)
    known = count > 0
    return Fused(
        np.where(known, mean, np.nan).astype(np.float32),
        np.where(known, sigma, np.nan).astype(np.float32),
        np.where(known, share, 0).astype(np.float32),
    )


def _agreeing(candidates_mm: Map, variances: Map, middle_mm: Map) -> BoolArray:
    """Return which candidates (n, h, w) lie within their own uncertainty of a map (h, w)."""
    limit = np.clip(_OUTLIER_SIGMAS * np.sqrt(variances), _LEAST_SHARE * middle_mm, _OUTLIER_SHARE * middle_mm)
    return np.asarray(np.abs(candidates_mm - middle_mm) <= limit)
