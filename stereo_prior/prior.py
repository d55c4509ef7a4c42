"""Stage `prior`: one fused metric depth for every view, how far views agree, and which rays are worth casting."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from stereo_prior.alignment import write_table
from stereo_prior.carving import Watcher, carve, seen_through
from stereo_prior.filling import fill_by_shape
from stereo_prior.fusion import Fused, Neighbour, fill_holes, fuse
from stereo_prior.importance import confidence, importance
from stereo_prior.pictures import beside, coloured, limits
from stereo_prior.prior_sources import CACHED, Input, gather
from stereo_prior.relative_depth import align_relative
from utils.artifacts import load_maps, save_maps
from utils.errors import InputError
from utils.images import write_rgb
from utils.multi_view import multi_view_error
from utils.options import option
from utils.parallel import each
from utils.scene import Scene, load_poses
from utils.sparse_points import training_points
from utils.stages import Stage
from utils.views import View, Views

log = logging.getLogger("specula")

_HELPERS = 12  # views that a view is fused with
_CARVINGS = 2  # rounds: the second sees what the first cleared
_WATCHERS, _APART = 20, 2  # views that may see through a point: of the nearest training views up to every second
_CHECKED = 64  # at most so many nearest training views enter the multi-view error
_AGREEMENT_WARN = 0.6  # of the maps that see a point


@dataclass(frozen=True)
class PriorOptions:
    """How sources are fused, and what makes a ray worth casting."""

    no_fusion: bool = option(False, "leave every view with its own measurement alone: for comparison")
    topk: int = option(4, "multi-view error: how many of the best other training views count")
    w_mask: float = option(1.0, "importance: penalty of the background")
    w_grad: float = option(1.0, "importance: penalty of the image gradient (0 to 1 over the image)")
    w_reflect: float = option(0.3, "importance: penalty of highlights")


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


def run(
    options: PriorOptions,
    *,
    out: Path,
    scene: Path,
    matches: Path,
    stereo: Path,
    poses: Path,
    monocular: Path | None = None,
) -> str:
    """Fuse the depth of all sources and training views into every view.

    Test frames enter nothing but their own prior, which is there to be scored.

    Raises:
        NotApplicable: neither stereo depth nor sparse points.
        InputError: poses and stereo contradict each other in scale.
    """
    check(options)
    loaded = Scene.load(scene)
    views = Views(loaded, load_poses(poses) if (poses / "poses.npz").exists() else None)
    points = training_points(views, poses) if views.poses is not None else None
    shapes = align_relative(views, points, matches, monocular)
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        given = gather(views, points, shapes, stereo, Path(scratch))
        write_table(out / "alignment.csv", given.rows)
        fused = Path(scratch) / "fused"
        helpers, carvings = (0, 0) if options.no_fusion else (_HELPERS, _CARVINGS)
        filled = each(views.all(), "prior, fusing", lambda view: _fuse_view(given, view, helpers, fused))
        by = "along monocular depth" if shapes.fits else "from around"
        log.info(
            "prior: %.1f %% of the tissue was measured by no view; it is filled %s", 100 * np.mean(filled), by
        )

        read = _reader(fused)
        for number in range(carvings):
            carved = Path(scratch) / f"carved{number}"
            each(views.all(), "prior, carving", partial(_carve_view, given, read, carved))
            read = _reader(carved)
        finished = each(views.all(), "prior, checking", lambda view: _finish_view(options, given, view, read, out))
    share, error, agreement = _means(finished)
    if agreement < _AGREEMENT_WARN:
        log.warning(
            "prior: only %.0f %% of the views that see a point agree on its depth: check poses and rig",
            100 * agreement,
        )
    checked = f", fused views agree to {100 * error:.2f} %" if np.isfinite(error) else ""
    unit = "" if views.poses is None or views.poses.metric else f" ({views.poses.unit})"
    return f"{len(finished)} views, {100 * share:.1f} % of the tissue known{checked}{unit}"


def _reader(folder: Path) -> Callable[[View], Fused]:
    """Return what reads the fused depth of a view from a folder, and keeps it for a while."""

    @lru_cache(maxsize=CACHED)
    def read(view: View) -> Fused:
        found = load_maps(folder, view.side, view.name)
        return Fused(found["depth_mm"], found["sigma_mm"], found["agreement"])

    return read


def _means(values: Sequence[tuple[float, float, float]]) -> list[float]:
    """Return the means of what is known; NaN where nothing is."""
    columns = np.array(values, float).T
    return [float(np.mean(one[np.isfinite(one)])) if np.isfinite(one).any() else float("nan") for one in columns]


def _fuse_view(given: Input, view: View, count: int, fused: Path) -> float:
    """Fuse a view's own depth with that of `count` views that may help it, and the other eye; 0: with none.

    Returns:
        Which share of the tissue none of them measured, so that it was filled.
    """
    views, own = given.views, given.own(view)
    neighbours = []
    for other in views.helpers(view, _typical_depth(given, view), count) if count else ():
        other_from_view, depth = views.other_from_view(other, view), given.steady(other)
        if depth is not None and other_from_view is not None:
            neighbours.append(Neighbour(views.camera(other), other_from_view, depth))
    found = fuse(views.camera(view), own, neighbours)
    tissue, _ = views.scene.masks(view.side, view.name)
    shape = given.shape(view)
    depth, filled = fill_holes(found, tissue) if shape is None else fill_by_shape(found, shape, tissue)
    agreement = np.where(filled, 0, found.agreement)
    depth_mm, sigma_mm = (np.where(tissue, values, np.nan) for values in (depth.depth_mm, depth.sigma_mm))
    save_maps(fused, view.side, view.name, depth_mm=depth_mm, sigma_mm=sigma_mm, agreement=agreement)
    return float(filled[tissue].mean()) if tissue.any() else 0.0


def _carve_view(given: Input, fused: Callable[[View], Fused], carved: Path, view: View) -> None:
    """Move what the training views around see through to where they do not."""
    found = carve(given.views.camera(view), fused(view), _watchers(given, fused, view))
    save_maps(carved, view.side, view.name, **asdict(found))


def _watchers(given: Input, fused: Callable[[View], Fused], view: View) -> list[Watcher]:
    """Return training views around, with the depth that was measured rather than continued into holes."""
    views, found = given.views, []
    others = views.ordered(view, views.training(), _typical_depth(given, view))[: _APART * _WATCHERS]
    for other in others[:: -(-len(others) // _WATCHERS) or 1]:
        other_from_view, seen = views.other_from_view(other, view), fused(other)
        if other_from_view is not None:
            measured = np.where(seen.agreement > 0, seen.depth_mm, np.nan).astype(np.float32)
            found.append(Watcher(views.camera(other), other_from_view, measured))
    return found


def _typical_depth(given: Input, view: View) -> float:
    """Return the median depth of a view, or of any training view where it has none itself."""
    for one in [view, *given.views.training()]:
        found = given.own(one)
        if found is not None and np.isfinite(found.depth_mm).any():
            return float(np.nanmedian(found.depth_mm))
    return 1.0  # nothing has depth: any length does


def _finish_view(
    options: PriorOptions, given: Input, view: View, fused: Callable[[View], Fused], out: Path
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
    through = seen_through(camera, depth, _watchers(given, fused, view))
    own_confidence = given.stereo_confidence(view)
    with np.errstate(invalid="ignore"):
        trust = confidence(
            depth.sigma_mm / depth.depth_mm,
            error,
            highlight,
            np.zeros(tissue.shape) if own_confidence is None else own_confidence,
            depth.agreement,
            through,
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


_READS = ("scene", "matches", "poses", "stereo", "monocular")
STAGE = Stage("prior", run, PriorOptions, _READS, version=4, check=check)
