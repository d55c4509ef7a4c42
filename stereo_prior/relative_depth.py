"""Monocular depth in the metric frame: scale and shift of every view's map against its sparse depth."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stereo_prior.alignment import Alignment
from stereo_prior.fusion import DepthMap
from stereo_prior.relative_fit import Fit, fit_relative, relative_residuals, shift_needed, steadied
from utils.relative_maps import load_relative
from utils.sparse_depth import cleaned, sparse_depth
from utils.sparse_points import Observations
from utils.types import FloatArray
from utils.views import View, Views
from utils.warping import sample_depth

log = logging.getLogger("specula")

_ANY_JUMP = 1e9  # depth may be read across edges
_WINDOW = 2  # frames to either side steady the scale

Sample = tuple[FloatArray, FloatArray]  # (m,) relative, and true inverse depth, 1/mm, at the points


@dataclass(frozen=True, eq=False)
class RelativeDepth:
    """The maps of the stage `monocular`, and how those of the views that could be aligned become metric."""

    folder: Path | None
    fits: dict[View, Fit]
    rows: list[Alignment]

    def depth(self, view: View) -> DepthMap | None:
        """Return depth and sigma (h, w) mm of a view; None where it has no map or could not be aligned."""
        fit = self.fits.get(view)
        relative = load_relative(self.folder, view.side, view.name) if fit and self.folder else None
        if fit is None or relative is None:
            return None
        with np.errstate(invalid="ignore", divide="ignore"):
            inverse = fit.scale * relative + fit.shift
            depth_mm = np.where(inverse > 0, 1.0 / inverse, np.nan).astype(np.float32)
        return DepthMap(depth_mm, (fit.spread * depth_mm).astype(np.float32))


def align_relative(
    views: Views, points: Observations | None, matches: Path, monocular: Path | None
) -> RelativeDepth:
    """Bring the monocular map of every view to the metric frame.

    A training view is aligned by training points and its own matches, its scale steadied by the training views
    around it; a test view likewise, for its own prior alone. A view that cannot be aligned is left out.
    """
    samples: dict[View, Sample] = {}
    for view in views.all():
        relative = None if monocular is None else load_relative(monocular, view.side, view.name)
        if relative is not None:
            sparse, _ = cleaned(sparse_depth(views, view, points, matches))
            at_points = sample_depth(relative, sparse.pixels, jump=_ANY_JUMP)
            known = np.isfinite(at_points) & (at_points > 0)
            samples[view] = at_points[known], 1.0 / sparse.depth_mm[known]
    training = set(views.training())
    with_shift = shift_needed([sample for view, sample in samples.items() if view in training])
    first = {view: fit_relative(*sample, with_shift=with_shift) for view, sample in samples.items()}
    fits = {
        view: steadied(fit, *samples[view], _around(views, view, first))
        for view, fit in first.items()
        if fit is not None
    }
    _report(samples, fits)
    return RelativeDepth(monocular, fits, [_row(view, fits.get(view), samples[view]) for view in samples])


def _around(views: Views, view: View, fits: Mapping[View, Fit | None]) -> list[float]:
    """Return the scales of the training views of the same eye that stand beside a view in the sequence."""
    names = views.scene.names
    index = names.index(view.name)
    near = names[max(0, index - _WINDOW) : index] + names[index + 1 : index + 1 + _WINDOW]
    found = [fits.get(View(view.side, name)) for name in near if name in views.scene.train]
    return [fit.scale for fit in found if fit is not None]


def _report(samples: Mapping[View, Sample], fits: Mapping[View, Fit]) -> None:
    """Log how well the maps fit, and which views were left out."""
    if not samples:
        return
    left_out = [f"{view.name} ({view.side})" for view in samples if view not in fits]
    if left_out:
        shown = ", ".join(left_out[:10]) + (", ..." if len(left_out) > 10 else "")
        log.warning("prior: monocular depth of %d views fits no points and is left out: %s", len(left_out), shown)
    if fits:
        spread = float(np.median([fit.spread for fit in fits.values()]))
        log.info("prior: monocular depth of %d views aligned, median spread %.1f %%", len(fits), 100 * spread)


def _row(view: View, fit: Fit | None, sample: Sample) -> Alignment:
    """Return the line of alignment.csv."""
    relative, inverse = sample
    if fit is None:
        unknown = float("nan")
        row = Alignment("monocular", unknown, unknown, unknown, unknown, len(relative), applied=False)
        return replace(row, side=view.side, frame=view.name)
    off = float(np.median(np.abs(relative_residuals(relative, inverse, fit.scale, fit.shift))))
    with np.errstate(divide="ignore"):
        off_mm = float(np.median(np.abs(1.0 / (fit.scale * relative + fit.shift) - 1.0 / inverse)))
    return Alignment(
        "monocular",
        fit.scale,
        fit.shift,
        fit.spread,
        off,
        fit.n_points,
        applied=True,
        side=view.side,
        frame=view.name,
        inliers=fit.inliers,
        residual_mm=off_mm,
    )
