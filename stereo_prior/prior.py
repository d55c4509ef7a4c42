"""Stage `prior`: one fused metric depth for every view, how far views agree, and which rays are worth casting."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from stereo_prior.alignment import Alignment, align_scale, write_table
from stereo_prior.fusion import (
    DepthMap,
    Fused,
    Neighbour,
    fill_holes,
    fuse,
    merge,
    multi_view_error,
    without_jumps,
)
from stereo_prior.importance import confidence, importance
from stereo_prior.pictures import beside, coloured, limits
from stereo_prior.sparse import Observations, interpolate, points_in_view, training_points
from stereo_prior.views import View, Views
from utils.artifacts import has_maps, load_maps, save_maps
from utils.errors import InputError, NotApplicable
from utils.images import write_rgb
from utils.options import option
from utils.parallel import each
from utils.scene import Scene, load_poses
from utils.stages import Stage
from utils.types import FloatArray

log = logging.getLogger("specula")

_HELPERS = 12  # views that a view is fused with
_SPARSE_HELPERS = 6  # views whose points a view is given
_CHECKED = 64  # at most so many nearest training views enter the multi-view error
_CACHED = 96  # maps kept in memory
_SCALE_WARN, _SCALE_REFUSE = 0.03, 0.10
_AGREEMENT_WARN = 0.6  # of the maps that see a point


@dataclass(frozen=True)
class PriorOptions:
    """How sources are fused, and what makes a ray worth casting."""

    topk: int = option(4, "multi-view error: how many of the best other training views count")
    w_mask: float = option(1.0, "importance: penalty of the background")
    w_grad: float = option(1.0, "importance: penalty of the image gradient (0 to 1 over the image)")
    w_reflect: float = option(0.3, "importance: penalty of highlights")


@dataclass(frozen=True, eq=False)
class _Input:
    """The views, the sparse training points, and the depth that each view measured itself."""

    views: Views
    points: Observations | None
    own: Callable[[View], DepthMap | None]
    steady: Callable[[View], DepthMap | None]  # the same without its steps, as other views may use it
    stereo_confidence: Callable[[View], FloatArray | None]


def check(options: PriorOptions) -> None:
    """Raise InputError for options without sense."""
    weights = (options.w_mask, options.w_grad, options.w_reflect)
    if options.topk < 1 or min(weights) < 0 or not np.isfinite(weights).all():
        raise InputError(
            "--topk or a weight of the importance is out of range",
            found=f"topk {options.topk}, w_mask {weights[0]:g}, w_grad {weights[1]:g}, w_reflect {weights[2]:g}",
            expected="topk of 1 and more, weights of 0 and more",
            do="correct the flag",
        )


def run(options: PriorOptions, *, out: Path, scene: Path, matches: Path, stereo: Path, poses: Path) -> str:
    """Fuse the depth of all sources and training views into every view.

    Test frames enter nothing but their own prior, which is there to be scored.

    Raises:
        NotApplicable: neither stereo depth nor sparse points.
        InputError: poses and stereo contradict each other in scale.
    """
    del matches  # an input of the stage: sources that need matches for their scale read them
    check(options)
    loaded = Scene.load(scene)
    views = Views(loaded, load_poses(poses) if (poses / "poses.npz").exists() else None)
    points = training_points(views, poses) if views.poses is not None else None
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        sources = sorted(folder for folder in stereo.iterdir() if folder.is_dir())
        if sources:
            given = _stereo_input(views, points, sources, out)
        elif points is not None and len(points.points_world):
            given = _sparse_input(views, points, Path(scratch) / "sparse", out)
        else:
            raise NotApplicable("there is neither stereo depth nor a sparse cloud to make a prior from")
        fused = Path(scratch) / "fused"
        each(views.all(), "prior, fusing", lambda view: _fuse_view(given, view, fused))

        @lru_cache(maxsize=_CACHED)
        def read(view: View) -> Fused:
            found = load_maps(fused, view.side, view.name)
            return Fused(found["depth_mm"], found["sigma_mm"], found["agreement"])

        finished = each(views.all(), "prior, checking", lambda view: _finish_view(options, given, view, read, out))
    share, error, agreement = _means(finished)
    if agreement < _AGREEMENT_WARN:
        log.warning(
            "prior: only %.0f %% of the views that see a point agree on its depth: check poses and rig",
            100 * agreement,
        )
    checked = f", median multi-view error {100 * error:.2f} %" if np.isfinite(error) else ""
    unit = "" if views.poses is None or views.poses.metric else f" ({views.poses.unit})"
    return f"{len(finished)} views, {100 * share:.1f} % of the tissue known{checked}{unit}"


def _means(values: Sequence[tuple[float, float, float]]) -> list[float]:
    """Return the means of what is known; NaN where nothing is."""
    columns = np.array(values, float).T
    return [float(np.mean(one[np.isfinite(one)])) if np.isfinite(one).any() else float("nan") for one in columns]


def _stereo_input(views: Views, points: Observations | None, sources: list[Path], out: Path) -> _Input:
    """Take the depth of all stereo sources, after a look at their scale."""

    def maps(source: Path, view: View) -> dict[str, Any] | None:
        return load_maps(source, view.side, view.name) if has_maps(source, view.side, view.name) else None

    rows = []
    for source in sources:

        def depth_of(view: View, source: Path = source) -> FloatArray | None:
            found = maps(source, view)
            return None if found is None else found["depth_mm"]

        rows.append(align_scale(source.name, views, points, depth_of))
        _judge_scale(rows[-1])
    write_table(out / "alignment.csv", rows)

    @lru_cache(maxsize=_CACHED)
    def own(view: View) -> DepthMap | None:
        found = [one for one in (maps(source, view) for source in sources) if one is not None]
        return merge([DepthMap(one["depth_mm"], one["sigma_mm"]) for one in found]) if found else None

    def stereo_confidence(view: View) -> FloatArray | None:
        found = [one["confidence"] for one in (maps(source, view) for source in sources) if one is not None]
        return np.max(found, axis=0) if found else None

    return _Input(views, points, own, _steady(own), stereo_confidence)


def _steady(own: Callable[[View], DepthMap | None]) -> Callable[[View], DepthMap | None]:
    @lru_cache(maxsize=_CACHED)
    def steady(view: View) -> DepthMap | None:
        found = own(view)
        return None if found is None else without_jumps(found)

    return steady


def _judge_scale(row: Alignment) -> None:
    """Warn or refuse where poses and a metric source contradict each other."""
    if not np.isfinite(row.scale):
        return
    off = abs(row.scale - 1.0)
    line = f"the poses make {row.source} depth {row.scale:.4f} times as long ({row.n_points} points)"
    if off > _SCALE_REFUSE:
        raise InputError(
            "the poses and the stereo calibration contradict each other in scale",
            found=line,
            expected="1: both in mm",
            do="give poses in mm that belong to this rig, correct T in calib.yaml, or use --poses colmap",
        )
    if off > _SCALE_WARN:
        log.warning("prior: %s; expected 1. Check the scale of the poses and the baseline", line)
    else:
        log.info("prior: %s, spread %.4f", line, row.spread)


def _sparse_input(views: Views, points: Observations, scratch: Path, out: Path) -> _Input:
    """Interpolate depth between the sparse points of every view."""

    def one(view: View) -> None:
        if not views.placed(view):
            return
        depth_mm = float(np.median(np.linalg.norm(points.points_world - views.world_from(view)[:3, 3], axis=1)))
        helpers = views.ordered(view, views.training(), depth_mm)[:_SPARSE_HELPERS]
        pixels, z = points_in_view(views, view, points, helpers)
        tissue, _ = views.scene.masks(view.side, view.name)
        depth, sigma = interpolate(views.camera(view), pixels, z, tissue)
        if np.isfinite(depth).any():
            save_maps(scratch, view.side, view.name, depth_mm=depth, sigma_mm=sigma)

    each(views.all(), "prior, interpolating", one)

    @lru_cache(maxsize=_CACHED)
    def own(view: View) -> DepthMap | None:
        if not has_maps(scratch, view.side, view.name):
            return None
        found = load_maps(scratch, view.side, view.name)
        return DepthMap(found["depth_mm"], found["sigma_mm"])

    def depth_of(view: View) -> FloatArray | None:
        found = own(view)
        return None if found is None else found.depth_mm

    write_table(out / "alignment.csv", [align_scale("sparse", views, points, depth_of)])
    return _Input(views, points, own, _steady(own), lambda _: None)


def _fuse_view(given: _Input, view: View, fused: Path) -> None:
    """Fuse a view's own depth with that of the views that may help it."""
    views, own = given.views, given.own(view)
    neighbours = []
    for other in views.helpers(view, _typical_depth(given, view), _HELPERS):
        other_from_view, depth = views.other_from_view(other, view), given.steady(other)
        if depth is not None and other_from_view is not None:
            neighbours.append(Neighbour(views.camera(other), other_from_view, depth))
    found = fuse(views.camera(view), own, neighbours)
    tissue, _ = views.scene.masks(view.side, view.name)
    depth, filled = fill_holes(found, tissue)
    agreement = np.where(filled, 0, found.agreement)
    depth_mm, sigma_mm = (np.where(tissue, values, np.nan) for values in (depth.depth_mm, depth.sigma_mm))
    save_maps(fused, view.side, view.name, depth_mm=depth_mm, sigma_mm=sigma_mm, agreement=agreement)


def _typical_depth(given: _Input, view: View) -> float:
    """Return the median depth of a view, or of any training view where it has none itself."""
    for one in [view, *given.views.training()]:
        found = given.own(one)
        if found is not None and np.isfinite(found.depth_mm).any():
            return float(np.nanmedian(found.depth_mm))
    return 1.0  # nothing has depth: any length does


def _finish_view(
    options: PriorOptions, given: _Input, view: View, fused: Callable[[View], Fused], out: Path
) -> tuple[float, float, float]:
    """Check a view against the others and write it.

    Returns:
        The share of tissue known, the median error, the median share of views that agree; NaN where unknown.
    """
    scene, camera, depth = given.views.scene, given.views.camera(view), fused(view)
    tissue, highlight = scene.masks(view.side, view.name)
    others = []
    for other in given.views.ordered(view, given.views.training(), _typical_depth(given, view))[:_CHECKED]:
        other_from_view = given.views.other_from_view(other, view)
        if other_from_view is not None:
            others.append((given.views.camera(other), other_from_view, fused(other).depth_mm))
    error = multi_view_error(camera, depth.depth_mm, others, options.topk)
    own_confidence = given.stereo_confidence(view)
    with np.errstate(invalid="ignore"):
        trust = confidence(
            depth.sigma_mm / depth.depth_mm,
            error,
            highlight,
            np.zeros(tissue.shape) if own_confidence is None else own_confidence,
            depth.agreement,
        )
    image = scene.image(view.side, view.name)
    worth = importance(image, tissue, highlight, error, (options.w_mask, options.w_grad, options.w_reflect))
    save_maps(
        out,
        view.side,
        view.name,
        depth_mm=depth.depth_mm,
        sigma_mm=depth.sigma_mm,
        error=error,
        confidence=trust,
        tissue=tissue,
        highlight=highlight,
        importance=worth,
    )
    maps = [coloured(depth.depth_mm, *limits(depth.depth_mm)), coloured(error, 0, 0.03), coloured(trust, 0, 1)]
    write_rgb(out / f"{view.side}_{view.name}.png", beside([image, *maps]))
    share = float(np.isfinite(depth.depth_mm)[tissue].mean()) if tissue.any() else float("nan")
    measured = depth.agreement > 0
    agreement = float(np.median(depth.agreement[measured])) if measured.any() else float("nan")
    known = np.isfinite(error) & measured
    return share, float(np.median(error[known])) if known.any() else float("nan"), agreement


STAGE = Stage("prior", run, PriorOptions, reads=("scene", "matches", "poses", "stereo"), check=check)
