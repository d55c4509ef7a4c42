"""Take back depth that other views see through: what stands before a surface, and is not there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stereo_prior.fusion import Fused
from utils.multi_view import RaysInView
from utils.types import BoolArray, Camera, FloatArray
from utils.warping import sample_map

Map = NDArray[np.float32]

_BEYOND = 0.015  # a view sees through a point where its surface is farther by more than this share
_SLOPE_PX = 0.5  # poses and rounding move a place by so much: on slopes its depth differs
_GHOST_SHARE = 0.1  # of the views that look at a point: so many see through it, and it is not there
_FEWEST_VIEWS, _FEWEST_WITNESSES = 3, 2  # that look there, and that see through: one view may be wrong
_MOST = 0.25  # of what is known: where more is seen through, poses or rig are wrong, and the error shall show
_STEP = 0.01  # of the depth: how finely the ray is followed behind a ghost
_FARTHER = 1.05  # no surface is looked for beyond this share of the view's greatest depth
_FOUND = 0.015  # views whose surface lies within this share of the place say where exactly it is
_LEAST_SHARE = 0.015  # relative sigma of what was moved, however well the views agree
_UNSURE_SHARE = 0.03  # relative sigma where nobody says so


@dataclass(frozen=True, eq=False)
class Watcher:
    """Another view: its camera, `other_from_view` (4, 4) mm, and its measured depth (h, w), NaN unknown."""

    camera: Camera
    other_from_view: FloatArray
    depth_mm: Map


def seen_through(camera: Camera, fused: Fused, watchers: Sequence[Watcher]) -> Map:
    """Return which share of the views that look at each point (h, w) sees a surface behind it; 0 if few do."""
    rays = [RaysInView(camera, one.camera, one.other_from_view) for one in watchers]
    looks = _looks(rays, watchers, fused.depth_mm)
    return _share_through(looks, fused.depth_mm, _beyond(fused))


def _looks(rays: Sequence[RaysInView], watchers: Sequence[Watcher], depth_mm: Map) -> Iterator[tuple[Map, Map]]:
    """Yield for every view the z-depth of points and that of the surface it shows there, NaN unknown."""
    for ray, other in zip(rays, watchers, strict=True):
        z, columns, rows = ray.land(depth_mm)
        yield z, sample_map(other.depth_mm, columns, rows)


def _share_through(looks: Iterable[tuple[Map, Map]], depth_mm: Map, beyond: Map) -> Map:
    looking, through = np.zeros(depth_mm.shape, np.int16), np.zeros(depth_mm.shape, np.int16)
    for z, found in looks:
        with np.errstate(invalid="ignore"):
            looking += np.isfinite(found)
            through += found > (1 + beyond) * z
    enough = (looking >= _FEWEST_VIEWS) & (through >= _FEWEST_WITNESSES)
    return np.where(enough, through / np.maximum(looking, 1), 0.0).astype(np.float32)


def _beyond(fused: Fused) -> Map:
    """Return by which share of the depth (h, w) a view must see farther: by more than doubt and slope explain.

    The slope is that to the smoother side: at the edge of a ghost it is steep to one side only.
    """
    depth = fused.depth_mm
    slope = np.zeros_like(depth)
    with np.errstate(invalid="ignore", divide="ignore"):
        for axis in (0, 1):
            step = np.abs(np.diff(depth, axis=axis))
            nothing = np.full_like(depth.take([0], axis=axis), np.inf)
            before, after = (np.concatenate(pair, axis=axis) for pair in ((nothing, step), (step, nothing)))
            smoother = np.fmin(before, after)
            slope = np.fmax(slope, np.where(np.isfinite(smoother), smoother, 0.0))
        return np.fmax(np.fmax(fused.sigma_mm, _SLOPE_PX * slope) / depth, np.float32(_BEYOND))


def carve(camera: Camera, fused: Fused, watchers: Sequence[Watcher]) -> Fused:
    """Move ghosts along their rays to where no view sees through them any more.

    A surface that stereo draws too wide beside an edge, or that fills a hole with the nearer side, stands in space
    that other views look through (Kutulakos and Seitz, A theory of shape by space carving, IJCV 2000). Where the
    views then show a surface the depth is theirs; else it is the nearest that all of them allow. Where whole parts
    of the image are seen through it is not ghosts that are wrong, and the depth stays as it is.

    Args:
        camera: the view's camera.
        fused: its depth; unknown pixels stay unknown.
        watchers: other views with what they measured.

    Returns:
        The depth without ghosts.
    """
    depth_mm = fused.depth_mm
    ghost = seen_through(camera, fused, watchers) > _GHOST_SHARE
    if not ghost.any() or ghost.sum() > _MOST * np.isfinite(depth_mm).sum():
        return fused
    start = depth_mm[ghost]
    places = _Places(camera, ghost, watchers)
    moved = places.behind(start, _beyond(fused)[ghost], _FARTHER * float(np.nanmax(depth_mm)))
    found, sigma, agreeing = places.surface(moved, fused.sigma_mm[ghost])
    depth, sigmas, agreement = (values.copy() for values in (depth_mm, fused.sigma_mm, fused.agreement))
    depth[ghost], sigmas[ghost], agreement[ghost] = found, sigma, agreeing
    return Fused(depth, sigmas, agreement)


class _Places:
    """Some pixels of a view, and the other views that look along their rays."""

    def __init__(self, camera: Camera, chosen: BoolArray, watchers: Sequence[Watcher]) -> None:
        self.watchers = watchers
        self.rays = [RaysInView(camera, other.camera, other.other_from_view, chosen) for other in watchers]

    def behind(self, start_mm: Map, beyond: Map, farthest_mm: float) -> Map:
        """Return the smallest depths (n,) from the start on that few views see through; the start if none is."""
        depth, open_ = start_mm.copy(), np.ones(len(start_mm), bool)
        while open_.any():
            looks = _looks(self.rays, self.watchers, depth)
            open_ &= _share_through(looks, depth, beyond) > _GHOST_SHARE
            lost = open_ & (depth >= farthest_mm)
            depth[lost], open_[lost] = start_mm[lost], False
            depth[open_] *= 1 + _STEP
        return depth

    def surface(self, depth_mm: Map, sigma_mm: Map) -> tuple[Map, Map, Map]:
        """Return depth, sigma and share of agreeing views (n,): of the surface that views show near a place.

        Where they show none it is the place itself, no surer than before.
        """
        candidates, looking = [], np.zeros(len(depth_mm), np.int16)
        for ray, (z, found) in zip(self.rays, _looks(self.rays, self.watchers, depth_mm), strict=True):
            with np.errstate(invalid="ignore", divide="ignore"):
                near = np.abs(found / z - 1) < _FOUND
                candidates.append(np.where(near, depth_mm + (found - z) / ray.along, np.nan))
            looking += np.isfinite(found)
        stack = np.stack(candidates)
        count = np.isfinite(stack).sum(axis=0)
        sure = count >= _FEWEST_VIEWS
        middle = np.full(len(depth_mm), np.nan, np.float32)
        spread = middle.copy()
        middle[sure] = np.nanmedian(stack[:, sure], axis=0)
        spread[sure] = 1.4826 * np.nanmedian(np.abs(stack[:, sure] - middle[sure]), axis=0)
        depth = np.where(sure, middle, depth_mm).astype(np.float32)
        doubted = np.fmax(sigma_mm, _UNSURE_SHARE * depth)
        sigma = np.where(sure, np.maximum(spread, _LEAST_SHARE * depth), doubted).astype(np.float32)
        agreement = np.where(sure, count / np.maximum(looking, 1), 0.0).astype(np.float32)
        return depth, sigma, agreement
