"""What a prior is made of: the depth that each view measured itself, and the shape that one eye sees."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from stereo_prior.alignment import Alignment, align_scale
from stereo_prior.fusion import DepthMap, merge, without_jumps
from stereo_prior.relative_depth import RelativeDepth
from stereo_prior.sparse import interpolate
from utils.artifacts import has_maps, load_maps, save_maps
from utils.errors import InputError, NotApplicable
from utils.parallel import each
from utils.sparse_depth import cleaned, sparse_depth
from utils.sparse_points import Observations
from utils.types import FloatArray
from utils.views import View, Views

log = logging.getLogger("specula")

CACHED = 96  # maps kept in memory
_SCALE_WARN, _SCALE_REFUSE = 0.03, 0.10

Own = Callable[[View], DepthMap | None]


@dataclass(frozen=True, eq=False)
class Input:
    """The views, and what is known of each before they are fused.

    Attributes:
        own: the depth that a view measured itself.
        steady: the same without its steps, as other views may use it.
        shape: monocular depth, in the metric frame: for what nothing else knows.
        stereo_confidence: of the view's own stereo depth.
        rows: the lines of alignment.csv.
    """

    views: Views
    own: Own
    steady: Own
    shape: Own
    stereo_confidence: Callable[[View], FloatArray | None]
    rows: list[Alignment]


def gather(views: Views, points: Observations | None, shapes: RelativeDepth, stereo: Path, scratch: Path) -> Input:
    """Return what the prior is made of: stereo depth where there is any, else depth between sparse points.

    Raises:
        NotApplicable: neither stereo depth nor sparse points.
        InputError: poses and stereo contradict each other in scale.
    """
    sources = sorted(folder for folder in stereo.iterdir() if folder.is_dir())
    if sources:
        return _from_stereo(views, points, shapes, sources)
    if points is not None and len(points.points_world):
        return _from_points(views, points, shapes, scratch / "sparse")
    raise NotApplicable("there is neither stereo depth nor a sparse cloud to make a prior from")


def _from_stereo(views: Views, points: Observations | None, shapes: RelativeDepth, sources: list[Path]) -> Input:
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

    @lru_cache(maxsize=CACHED)
    def measured(view: View) -> tuple[DepthMap, FloatArray] | None:
        found = [one for one in (maps(source, view) for source in sources) if one is not None]
        if not found:
            return None
        merged = merge([DepthMap(one["depth_mm"], one["sigma_mm"]) for one in found])
        confidence = np.max([one["confidence"] for one in found], axis=0) * merged.agreement
        return DepthMap(merged.depth_mm, merged.sigma_mm), confidence

    def own(view: View) -> DepthMap | None:
        found = measured(view)
        return None if found is None else found[0]

    def stereo_confidence(view: View) -> FloatArray | None:
        found = measured(view)
        return None if found is None else found[1]

    return Input(views, own, _steady(own), shapes.depth, stereo_confidence, [*rows, *shapes.rows])


def _from_points(views: Views, points: Observations, shapes: RelativeDepth, scratch: Path) -> Input:
    """Interpolate depth between the sparse points of every view, along the shape that one eye sees."""

    def one(view: View) -> None:
        if not views.placed(view):
            return
        sparse, _ = cleaned(sparse_depth(views, view, points, None))
        tissue, _ = views.scene.masks(view.side, view.name)
        depth, sigma = interpolate(views.camera(view), sparse.pixels, sparse.depth_mm, tissue, shapes.depth(view))
        if np.isfinite(depth).any():
            save_maps(scratch, view.side, view.name, depth_mm=depth, sigma_mm=sigma)

    each(views.all(), "prior, interpolating", one)

    @lru_cache(maxsize=CACHED)
    def own(view: View) -> DepthMap | None:
        if not has_maps(scratch, view.side, view.name):
            return shapes.depth(view)
        found = load_maps(scratch, view.side, view.name)
        return DepthMap(found["depth_mm"], found["sigma_mm"])

    def depth_of(view: View) -> FloatArray | None:
        found = own(view)
        return None if found is None else found.depth_mm

    rows = [align_scale("sparse", views, points, depth_of), *shapes.rows]
    return Input(views, own, _steady(own), shapes.depth, lambda _: None, rows)


def _steady(own: Own) -> Own:
    @lru_cache(maxsize=CACHED)
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
