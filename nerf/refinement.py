"""Periodic refinement of the prior: the depth that all other training images agree with best replaces it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from nerf.agreement import Agreement
from nerf.images import find_surface
from nerf.trainer import Trainer
from utils.parallel import each
from utils.types import BoolArray, FloatArray

log = logging.getLogger("specula")

# Depths that are tried around the prior, in steps that move a point by `STEP_PX` in a judging image.
SWEEP = np.array([-8.0, -6.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0])
STEP_PX = 0.35
# A rival (the rendered depth, the nearest and the farthest depth around) must correlate better by this much.
MARGIN = 0.03
LARGEST_COST = 0.65  # ... and by itself: uncorrelated images agree by chance on any depth
UNKNOWN_COST = 9.0
# How much worse than its best a sweep's depths must be (their upper quartile) to say anything: below the first
# number it says nothing, from the second on all. Smooth white mucosa stays below, vessels and texture lie above.
SILENT, CLEAR = 0.02, 0.06
# Lengths in the image are shares of its width: 5, 9 and 7 px of 320.
RING_SHARES = (0.0156, 0.028)
GUIDE_SHARE, GUIDE_CONTRAST = 0.022, 25.0
STRIDE = 2
SURE = 0.5  # correlation from which on a depth is trusted as far as it correlates


@dataclass(frozen=True)
class Change:
    """What a refinement did: shares of the tissue judged and replaced, median |change| / depth of the latter.

    A change counts from half a step of the sweep on, or where there was no prior.
    """

    judged: float
    replaced: float
    median_change: float


@dataclass(frozen=True)
class Refined:
    """The refined prior (h, w), mm, and the doubt in it, 0 to 1; NaN: no image judges it.

    1 - doubt is the correlation with the judging images, times how clearly they prefer one depth.
    """

    depth_mm: FloatArray
    doubt: FloatArray


def refine_pool(trainer: Trainer, chunk: int) -> Change:
    """Refine the prior of every training view in the trainer's pool; the next step already samples around it."""
    pool, agreement = trainer.pool, Agreement(trainer.pool)

    def one(view: int) -> tuple[int, int, int, FloatArray]:
        where, width = pool.view_slice(view), int(pool.widths[view])
        before = pool.depth[where].numpy().reshape(-1, width).copy()
        tissue = pool.tissue[where].numpy().reshape(-1, width)
        image = pool.rgb[where].numpy().reshape(-1, width, 3)
        step = agreement.step(view, STEP_PX) if agreement.judges(view) else 0.0
        rivals = [_render(trainer, view, tissue, chunk), *surroundings(before)]
        tried = hypotheses(before, step, rivals)
        costs = smooth_costs(agreement.cost(view, tried), image, tissue)
        found = choose(tried, costs, step)
        depth_mm = smooth_unjudged(found, tissue, trainer.options.depth_refine_quantile)
        depth_mm = np.where(tissue, depth_mm, before)
        _write_back(trainer, view, before, Refined(depth_mm, found.doubt))
        with np.errstate(invalid="ignore"):
            relative = np.abs(depth_mm / before - 1.0)
        changed = tissue & np.isfinite(depth_mm) & ~(relative <= 0.5 * step)
        judged = tissue & np.isfinite(found.doubt)
        return int(tissue.sum()), int(judged.sum()), int(changed.sum()), relative[changed & np.isfinite(before)]

    results = each(range(len(pool.views)), "refine", one)
    trainer.pool_changed()
    counts = np.array([result[:3] for result in results], dtype=float).sum(axis=0)
    tissue_px, judged_px, changed_px = (float(count) for count in counts)
    changes = np.concatenate([result[3] for result in results])
    median = float(np.median(changes)) if len(changes) else 0.0
    return Change(judged_px / max(tissue_px, 1.0), changed_px / max(tissue_px, 1.0), median)


def surroundings(depth_mm: FloatArray) -> list[FloatArray]:
    """Return the nearest and the farthest depth on two rings around every pixel, four maps (h, w).

    Beside an edge of the surface a prior often holds the depth of the wrong side: the right one is near.
    """
    radii = [max(2, round(share * depth_mm.shape[1])) for share in RING_SHARES]
    rings = [_ring(depth_mm, radius) for radius in radii]
    return [pick(ring) for ring, pick in product(rings, (_lowest, _highest))]


def hypotheses(prior_mm: FloatArray, step: float, rivals: list[FloatArray]) -> FloatArray:
    """Return (k, h, w): the sweep around the prior, then its rivals."""
    return np.stack([*(prior_mm * (1.0 + step * number) for number in SWEEP), *rivals])


def smooth_costs(costs: NDArray[np.float32], image: NDArray[np.uint8], tissue: BoolArray) -> NDArray[np.float32]:
    """Smooth costs (k, h, w) within surfaces of one colour, so that a depth wins together with its surroundings.

    Cost-volume filtering (Rhemann et al. 2011): a guided filter whose guide is the image (h, w, 3). What no judge
    sees takes its surroundings' cost; NaN remains where there is none.
    """
    radius = max(3, round(GUIDE_SHARE * image.shape[1]))
    guided = cv2.ximgproc.createGuidedFilter(image.astype(np.float32), radius, GUIDE_CONTRAST**2)
    smooth = np.full(costs.shape, np.nan, np.float32)
    for index, cost in enumerate(costs):
        known = np.isfinite(cost) & tissue
        weight = guided.filter(known.astype(np.float32))
        total = guided.filter(np.where(known, cost, 0.0).astype(np.float32))
        smooth[index] = np.where(weight > 0.05, total / np.maximum(weight, 1e-3), np.nan)
    return smooth


def choose(tried_mm: FloatArray, costs: NDArray[np.float32], step: float) -> Refined:
    """Return the depth of least cost among hypotheses (k, h, w): the sweep's, between its depths, or a rival's.

    A sweep whose best depth is its first or last has not found any: the prior stands. Where all its depths fit
    about as well, as without texture, it moves the prior less or not at all.
    """
    count = len(SWEEP)
    prior, filled = tried_mm[count // 2], np.nan_to_num(costs, nan=UNKNOWN_COST)
    number, cost = _between(filled[:count])
    judged = np.isfinite(costs[count // 2])
    contrast = np.partition(filled[:count], -(count // 4) - 1, axis=0)[-(count // 4) - 1] - filled[:count].min(
        axis=0
    )
    clear = np.clip((contrast - SILENT) / (CLEAR - SILENT), 0.0, 1.0)
    depth_mm = np.where(judged, prior * (1.0 + step * clear * number), prior)
    cost = np.where(judged, cost, UNKNOWN_COST)
    for rival, rival_cost in zip(tried_mm[count:], filled[count:], strict=True):
        better = np.isfinite(rival) & (rival_cost < np.minimum(cost - MARGIN, LARGEST_COST))
        depth_mm, cost = np.where(better, rival, depth_mm), np.where(better, rival_cost, cost)
        clear = np.where(better, 1.0, clear)
    # Where nothing is known and no image can tell, what was rendered is the best guess.
    rendered = tried_mm[count]
    depth_mm = np.where(np.isfinite(depth_mm), depth_mm, rendered)
    doubt = np.where(cost < UNKNOWN_COST, 1.0 - clear * np.clip(1.0 - cost, 0.0, 1.0), np.nan)
    return Refined(depth_mm.astype(np.float32), doubt.astype(np.float32))


def smooth_unjudged(found: Refined, tissue: BoolArray, quantile: float) -> FloatArray:
    """Return depth (h, w) whose worst outliers, among pixels that no image judges, take their ring's median.

    Args:
        found: depth and doubt.
        tissue: (h, w).
        quantile: share of what disagrees with its ring that is replaced.
    """
    depth_mm = found.depth_mm
    candidates = tissue & ~np.isfinite(found.doubt)
    if not candidates.any() or quantile <= 0:
        return depth_mm
    ring = _middle(_ring(depth_mm, max(2, round(RING_SHARES[0] * depth_mm.shape[1]))))
    known = candidates & np.isfinite(ring) & np.isfinite(depth_mm)
    difference = np.where(known, np.abs(depth_mm - ring), 0.0)
    some = difference[difference > 0]
    if not len(some):
        return depth_mm
    return np.where(known & (difference >= np.percentile(some, 100.0 * (1.0 - quantile))), ring, depth_mm)


def _between(costs: NDArray[np.float32]) -> tuple[FloatArray, FloatArray]:
    """Return (h, w) the place of least cost in steps, by a parabola through three neighbours, and that cost."""
    least = costs.argmin(axis=0)
    inner = np.clip(least, 1, len(SWEEP) - 2)
    before, here, after = (np.take_along_axis(costs, (inner + k)[None], axis=0)[0] for k in (-1, 0, 1))
    left, middle, right = SWEEP[inner - 1], SWEEP[inner], SWEEP[inner + 1]
    rise, fall = (after - here) / (right - middle), (here - before) / (middle - left)
    bend = rise - fall
    # The parabola's slope is `fall` half-way to the left and `rise` half-way to the right.
    place = 0.5 * (left + middle) - fall * 0.5 * (right - left) / np.where(bend > 1e-9, bend, 1.0)
    place = np.clip(np.where(bend > 1e-9, place, middle), left, right)
    found = least == inner
    prior_cost = costs[len(SWEEP) // 2]
    return np.where(found, place, 0.0), np.where(found, here, prior_cost)


def _ring(depth_mm: FloatArray, radius: int) -> FloatArray:
    """Return (8, h, w): the depths in eight directions at a radius, sorted, NaN last."""
    height, width = depth_mm.shape
    padded = np.pad(depth_mm, radius, constant_values=np.nan)
    angles = np.arange(8) * (np.pi / 4)
    places = [(radius + round(radius * np.sin(a)), radius + round(radius * np.cos(a))) for a in angles]
    return np.sort(np.stack([padded[r : r + height, c : c + width] for r, c in places]), axis=0)


def _lowest(ring: FloatArray) -> FloatArray:
    return np.asarray(ring[0])


def _highest(ring: FloatArray) -> FloatArray:
    return _ranked(ring, np.isfinite(ring).sum(axis=0) - 1)


def _middle(ring: FloatArray) -> FloatArray:
    """Return the ring's median, NaN where fewer than four of its depths are known."""
    count = np.isfinite(ring).sum(axis=0)
    return np.where(count >= 4, _ranked(ring, (count - 1) // 2), np.nan)


def _ranked(ring: FloatArray, rank: NDArray[np.intp]) -> FloatArray:
    return np.asarray(np.take_along_axis(ring, np.maximum(rank, 0)[None], axis=0)[0])


def _render(trainer: Trainer, view: int, tissue: BoolArray, chunk: int) -> FloatArray:
    """Return (h, w) depth where rays stop, else the prior; half of the rows and columns are interpolated."""
    pool, start = trainer.pool, int(trainer.pool.starts[view])
    height, width = tissue.shape
    coarse = np.zeros_like(tissue)
    coarse[::STRIDE, ::STRIDE] = True
    rendered = np.full(height * width, np.nan, np.float32)
    for part in torch.from_numpy(np.flatnonzero(tissue & coarse) + start).split(chunk):
        rays = pool.rays(part).to(trainer.device)
        found = find_surface(trainer.model, rays, pool.depth[part].to(trainer.device))
        rendered[part.numpy() - start] = found.cpu().numpy()
    return _spread(rendered.reshape(height, width))


def _spread(values: FloatArray) -> FloatArray:
    """Interpolate what was computed at every second pixel to all of them (bilinear where all four are known)."""
    height, width = values.shape
    coarse = np.ascontiguousarray(values[::STRIDE, ::STRIDE])
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    smooth = cv2.remap(coarse, columns / STRIDE, rows / STRIDE, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.where(np.isfinite(values), values, np.asarray(smooth, np.float32))


def _write_back(trainer: Trainer, view: int, before: FloatArray, after: Refined) -> None:
    """Give the pool the new depth, and the trust that agreeing images deserve.

    The normals stay the prior's: what they say about highlights suffers more from noise than from bias.
    """
    pool, where = trainer.pool, trainer.pool.view_slice(view)
    pool.depth[where] = torch.from_numpy(np.ascontiguousarray(after.depth_mm, np.float32)).ravel()
    trust = np.nan_to_num(1.0 - after.doubt, nan=0.0).ravel()
    known = pool.confidence[where].float().numpy()
    trusted = np.where(trust >= SURE, np.maximum(known, trust), known)
    pool.confidence[where] = torch.from_numpy(trusted).to(pool.confidence.dtype)
    new = torch.from_numpy((~np.isfinite(before) & np.isfinite(after.depth_mm)).ravel())
    far = trainer.options.far
    pool.half_width[where] = pool.half_width[where].masked_fill(new, far)
    pool.sigma[where] = pool.sigma[where].masked_fill(new, far / 2)
