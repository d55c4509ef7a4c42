"""Pool tissue pixels of the judged views: how wrong the depth is, and how wrong it was said to be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluation.depth_metrics import known, median_ratio
from evaluation.report.run import Run
from evaluation.scores import DEPTH_FOLDERS, View
from utils.types import BoolArray, FloatArray

_MOST_VIEWS = 40
_MOST_PIXELS = 400_000


@dataclass(frozen=True, eq=False)
class Pixels:
    """Pixels (n,) with known truth on tissue, evenly spaced over the judged views.

    Lengths of a run in arbitrary units are multiplied by one median ratio a method, `final_ratio` for the last one
    (1 in a metric run), so that they compare with the truth; NaN where a method says nothing.
    """

    truth_mm: FloatArray
    prior_mm: FloatArray
    prior_sigma_mm: FloatArray
    prior_confidence: FloatArray
    field_mm: FloatArray
    field_spread_mm: FloatArray
    final_mm: FloatArray
    final_ratio: float

    def relative_error(self, depth_mm: FloatArray) -> FloatArray:
        """Return |depth / truth - 1| (n,)."""
        return np.abs(depth_mm / self.truth_mm - 1.0)


def pool(run: Run) -> Pixels | None:
    """Return the pooled pixels; None where no judged view has truth and depth."""
    parts = [part for view in _spread(run) if (part := _of_view(run, view)) is not None]
    if not parts:
        return None
    columns = np.concatenate(parts, axis=1)
    columns = columns[:, :: max(1, -(-columns.shape[1] // _MOST_PIXELS))]
    truth_mm, prior, sigma, confidence, field, spread, final = columns
    ratios = [1.0 if run.metric else _ratio(depth, truth_mm) for depth in (prior, field, final)]
    return Pixels(
        truth_mm,
        prior * ratios[0],
        sigma * ratios[0],
        confidence,
        field * ratios[1],
        spread * ratios[1],
        final * ratios[2],
        ratios[2],
    )


def tissue_covered(run: Run) -> float | None:
    """Return the share of the judged views' tissue that has depth, by the last method; None without any map."""
    shares = []
    for view in _spread(run):
        depth = run.depth(run.method, view) if run.method else None
        tissue, _ = run.scene.masks(view.side, view.name)
        if depth is not None and tissue.any():
            shares.append(float(np.mean(known(depth)[tissue])))
    return float(np.mean(shares)) if shares else None


def _spread(run: Run) -> list[View]:
    """Return the judged views that have depth; evenly spaced ones of many."""
    views = [view for view in run.views() if run.method and run.has(DEPTH_FOLDERS[run.method], view)]
    return views[:: max(1, -(-len(views) // _MOST_VIEWS))]


def _ratio(depth: FloatArray, truth_mm: FloatArray) -> float:
    valid = known(depth)
    return median_ratio(depth[valid], truth_mm[valid])


def _of_view(run: Run, view: View) -> FloatArray | None:
    """Return (7, n): the columns of `Pixels` for one view; None without truth."""
    truth_mm = run.truth(view)
    if truth_mm is None or run.method is None:
        return None
    tissue, _ = run.scene.masks(view.side, view.name)
    chosen: BoolArray = tissue & known(truth_mm)
    unknown = np.full(truth_mm.shape, np.nan)
    prior, render = run.maps("prior", view), run.maps("render", view)
    maps = (
        truth_mm,
        prior.get("depth_mm", unknown),
        prior.get("sigma_mm", unknown),
        prior.get("confidence", unknown),
        run.depth("nerf", view) if render else unknown,
        render.get("depth_std_mm", unknown),
        run.depth(run.method, view),
    )
    stacked = np.stack([np.asarray(unknown if one is None else one, float)[chosen] for one in maps])
    return stacked[:, :: max(1, stacked.shape[1] // (_MOST_PIXELS // _MOST_VIEWS))]
