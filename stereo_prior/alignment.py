"""How the scale of a depth source agrees with the sparse points of the poses."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.geometry import invert_rigid, transform
from utils.sparse_points import Observations
from utils.types import FloatArray
from utils.views import View, Views
from utils.warping import sample_depth

FEWEST_POINTS = 20


@dataclass(frozen=True)
class Alignment:
    """How a source agrees with the sparse points: one line for a metric source, one a view for a relative one.

    `scale` is points / source for depth; for relative inverse depth, inverse depth (1/mm) = scale * relative +
    shift. `spread` is 1.4826 times the median absolute deviation of the points' ratios (of the relative
    differences, for one view), `residual` the median relative difference after alignment, `residual_mm` the same
    in mm; NaN where too few points tell. `applied` says whether scale and shift entered the prior.
    """

    source: str
    scale: float
    shift: float
    spread: float
    residual: float
    n_points: int
    applied: bool
    side: str = ""
    frame: str = ""
    inliers: int | None = None
    residual_mm: float = float("nan")


def align_scale(
    source: str, views: Views, seen: Observations | None, depth_of: Callable[[View], FloatArray | None]
) -> Alignment:
    """Estimate a source's scale against the sparse points at the pixels where training views saw them.

    Args:
        source: its name, for the table.
        views: cameras and poses.
        seen: sparse points of training views; None where there are none.
        depth_of: returns the source's depth (h, w) in a view, None where it has none.
    """
    ratios = [] if seen is None else [_ratios(views, seen, index, depth_of) for index in range(len(seen.views))]
    pooled = np.concatenate([np.zeros(0), *ratios])
    if len(pooled) < FEWEST_POINTS:
        nothing = float("nan")
        return Alignment(source, nothing, 0.0, nothing, nothing, len(pooled), False)
    scale = float(np.median(pooled))
    off = np.abs(pooled / scale - 1.0)
    spread = float(1.4826 * np.median(np.abs(pooled - scale)))
    return Alignment(source, scale, 0.0, spread, float(np.median(off)), len(pooled), applied=False)


def _ratios(
    views: Views, seen: Observations, index: int, depth_of: Callable[[View], FloatArray | None]
) -> NDArray[np.float64]:
    """Return depth of the points / depth of the source in one view."""
    view, mine = seen.views[index], seen.view == index
    depth_mm = depth_of(view)
    if depth_mm is None or not mine.any():
        return np.zeros(0)
    points_view = transform(invert_rigid(views.world_from(view)), seen.points_world[seen.point[mine]])
    ratio = points_view[:, 2] / sample_depth(depth_mm, seen.pixels[mine])
    return np.asarray(ratio[np.isfinite(ratio) & (ratio > 0)], float)


def write_table(path: Path, rows: Sequence[Alignment]) -> None:
    """Write alignment.csv; what could not be estimated is an empty cell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(Alignment)])
        for row in rows:
            writer.writerow([_cell(value) for value in asdict(row).values()])


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}" if np.isfinite(value) else ""
    return "" if value is None else str(value)
