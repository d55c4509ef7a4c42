"""Periodic refinement of the prior: rendered depth replaces it where the field knows better."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from nerf.agreement import Agreement
from nerf.images import render_rays
from nerf.trainer import Trainer
from utils.types import BoolArray, FloatArray

log = logging.getLogger("specula")

STRIDE = 2
RING_PX = 11
STEEP_PERCENTILE = 80
DIFFERENT_PERCENTILE = 20
# Differences are in units of local contrast; the rendered depth must be better by more than their noise.
MARGIN = 0.02


@dataclass(frozen=True)
class Change:
    """What a refinement did: share of the tissue looked at and replaced, median |change| / depth of the latter."""

    looked_at: float
    replaced: float
    median_change: float


def refinement_area(depth_mm: FloatArray, tissue: BoolArray, highlight: BoolArray) -> BoolArray:
    """Return (h, w) where a prior is likely wrong: steep, unknown or highlighted, and within tissue."""
    known = np.isfinite(depth_mm)
    filled = np.where(known, depth_mm, np.nanmedian(depth_mm) if known.any() else 0.0).astype(np.float32)
    slope = np.hypot(cv2.Sobel(filled, cv2.CV_32F, 1, 0), cv2.Sobel(filled, cv2.CV_32F, 0, 1))
    steep = slope > np.percentile(slope[tissue], STEEP_PERCENTILE) if tissue.any() else np.zeros_like(tissue)
    grown = cv2.dilate((steep | highlight | ~known).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return grown & tissue


@dataclass(frozen=True)
class Evidence:
    """What speaks for a rendered depth, (h, w) each, NaN where nothing was rendered.

    `rendered_mm`: depth of the field; `residual`: colour difference between render and image; `gain`: by how much
    the other training images agree better with the rendered depth than with the prior (NaN: they cannot tell).
    """

    rendered_mm: FloatArray
    residual: FloatArray
    gain: FloatArray


def refined(depth_mm: FloatArray, evidence: Evidence, area: BoolArray, quantile: float) -> FloatArray:
    """Return the refined prior (h, w) of one view.

    Args:
        depth_mm: the prior, NaN unknown.
        evidence: the rendered depth and what speaks for it.
        area: where the prior may be changed.
        quantile: share of what still disagrees with its ring that is set to the ring's median.

    Rendered depth is taken where the colours fit better than their median in the area, the depth differs by
    more than the 20th percentile of its differences, and the other training images agree better with it than with
    the prior; an unknown prior always takes it. Where the images cannot tell, in highlights, what disagrees most
    with its surroundings takes their median.
    """
    rendered_mm, residual = evidence.rendered_mm, evidence.residual
    usable = area & np.isfinite(rendered_mm)
    if not usable.any():
        return depth_mm
    unknown = usable & ~np.isfinite(depth_mm)
    both = usable & np.isfinite(depth_mm)
    result = depth_mm.copy()
    result[unknown] = rendered_mm[unknown]
    if both.any():
        difference = np.where(both, np.abs(rendered_mm - depth_mm), 0.0)
        fits = residual <= np.median(residual[both])
        differs = difference >= np.percentile(difference[both], DIFFERENT_PERCENTILE)
        accepted = both & fits & differs & (np.nan_to_num(evidence.gain, nan=-1.0) > 0.0)
        result[accepted] = rendered_mm[accepted]
        result = _smooth_worst(result, both & ~accepted & np.isnan(evidence.gain), quantile)
    return result


def refine_pool(trainer: Trainer, chunk: int) -> Change:
    """Refine the prior of every training view in the trainer's pool; the next step already samples around it."""
    pool, looked, replaced, tissue_px = trainer.pool, 0, 0, 0
    agreement = Agreement(pool)
    changes: list[FloatArray] = []
    for view in tqdm(range(len(pool.views)), desc="refine", unit="view", leave=False):
        where = pool.view_slice(view)
        width = int(pool.widths[view])
        before = pool.depth[where].numpy().reshape(-1, width).copy()
        tissue = pool.tissue[where].numpy().reshape(-1, width)
        highlight = pool.highlight[where].numpy().reshape(-1, width)
        area = refinement_area(before, tissue, highlight)
        rendered, residual = _render_area(trainer, view, area, chunk)
        gain = agreement.difference(view, before) - agreement.difference(view, rendered) - MARGIN
        evidence = Evidence(rendered, residual, gain)
        after = refined(before, evidence, area, trainer.options.depth_refine_quantile)
        changed = (after != before) & np.isfinite(after)
        _write_back(trainer, where, before, after, changed)
        looked, replaced, tissue_px = looked + area.sum(), replaced + changed.sum(), tissue_px + tissue.sum()
        compared = changed & np.isfinite(before)
        changes.append((np.abs(after - before) / after)[compared])
    every = np.concatenate(changes)
    median = float(np.median(every)) if len(every) else 0.0
    return Change(float(looked / tissue_px), float(replaced / tissue_px), median)


def _smooth_worst(depth_mm: FloatArray, candidates: BoolArray, quantile: float) -> FloatArray:
    if not candidates.any() or quantile <= 0:
        return depth_mm
    ring = _ring_median(depth_mm)
    difference = np.where(candidates & np.isfinite(ring), np.abs(depth_mm - ring), 0.0)
    some = difference[difference > 0]
    if not len(some):
        return depth_mm
    worst = difference >= np.percentile(some, 100.0 * (1.0 - quantile))
    return np.where(worst, ring, depth_mm)


def _ring_median(depth_mm: FloatArray) -> FloatArray:
    """Return the median over eight directions at the radius of the ring, NaN where fewer than four are known."""
    height, width = depth_mm.shape
    reach = RING_PX // 2
    padded = np.pad(depth_mm, reach, constant_values=np.nan)
    steps = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]
    around = np.stack(
        [
            padded[reach + r * reach : reach + r * reach + height, reach + c * reach : reach + c * reach + width]
            for r, c in steps
        ]
    )
    ordered = np.sort(around, axis=0)
    count = np.isfinite(around).sum(axis=0)
    middle = np.maximum(count - 1, 0) // 2
    return np.where(count >= 4, np.take_along_axis(ordered, middle[None], axis=0)[0], np.nan)


def _render_area(trainer: Trainer, view: int, area: BoolArray, chunk: int) -> tuple[FloatArray, FloatArray]:
    """Render every second pixel of the area; the others take the ratio to the prior of their neighbour."""
    pool, start = trainer.pool, int(trainer.pool.starts[view])
    height, width = area.shape
    coarse = np.zeros_like(area)
    coarse[::STRIDE, ::STRIDE] = True
    pixels = torch.from_numpy(np.flatnonzero(area & coarse)) + start
    rendered = np.full(height * width, np.nan, np.float32)
    residual = np.full(height * width, np.nan, np.float32)
    for part in pixels.split(chunk):
        rays = pool.rays(part).to(trainer.device)
        values = render_rays(trainer.model, rays, pool.depth[part].to(trainer.device), None).cpu()
        error = (values[:, :3].clamp(max=1.0) - pool.rgb[part].float() / 255.0).abs().mean(1)
        opaque = values[:, 6] > 0.5
        rendered[part.numpy() - start] = torch.where(opaque, values[:, 3], torch.nan).numpy()
        residual[part.numpy() - start] = error.numpy()
    return _spread(rendered.reshape(height, width)), _spread(residual.reshape(height, width))


def _spread(values: FloatArray) -> FloatArray:
    """Interpolate what was computed at every second pixel to all of them (bilinear where all four are known)."""
    height, width = values.shape
    coarse = np.ascontiguousarray(values[::STRIDE, ::STRIDE])
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    smooth = cv2.remap(coarse, columns / STRIDE, rows / STRIDE, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.where(np.isfinite(values), values, np.asarray(smooth, np.float32))


def _write_back(trainer: Trainer, where: slice, before: FloatArray, after: FloatArray, changed: BoolArray) -> None:
    pool, flat = trainer.pool, torch.from_numpy(changed.ravel())
    pool.depth[where] = torch.from_numpy(np.ascontiguousarray(after, np.float32)).ravel()
    new = flat & ~torch.isfinite(torch.from_numpy(before).ravel())
    _fill(pool.half_width, where, new, trainer.options.far)
    _fill(pool.sigma, where, new, trainer.options.far / 2)


def _fill(values: Tensor, where: slice, chosen: Tensor, value: float) -> None:
    values[where] = torch.where(chosen, torch.tensor(value, dtype=values.dtype), values[where])
