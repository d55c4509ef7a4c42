"""Render whole images from a trained model, in two passes: find the surface, then look closely."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from nerf.model import SceneModel
from nerf.rays import Cameras, Rays
from nerf.sampling import Guide, guided_samples
from nerf.views import smooth_normals
from utils.types import FloatArray

SEARCH = (8, 4)
CLOSE = (7, 1)
# The search may find the surface somewhere in a gap too wide for the close look (its spread is above this share of
# the depth), or nothing: a sheet thinner than the gap between two samples is passed unseen.
NARROWER = (20, 20)
THOROUGH = (48, 47)
WIDEST_SPREAD = 0.02
FEWEST_RAYS = 256


@dataclass(frozen=True)
class RenderedImage:
    """One view: rgb (h, w, 3) uint8; z-depth, its median and spread in mm; opacity; (h, w) float32."""

    rgb: NDArray[np.uint8]
    depth_mm: FloatArray
    depth_median_mm: FloatArray
    depth_std_mm: FloatArray
    opacity: FloatArray


@torch.no_grad()
def render_image(
    model: SceneModel,
    cameras: Cameras,
    view: int,
    guide_mm: FloatArray,
    unrefined_mm: FloatArray,
    gain: float,
    chunk: int,
) -> RenderedImage:
    """Render one view of `cameras`.

    Args:
        guide_mm: (h, w) where the surface is expected, mm; NaN: search the whole ray. It steers the samples only.
        unrefined_mm: (h, w) the same from priors before any refinement, mm: its normals tell how light reflects.
        gain: exposure of the frame.
        chunk: rays at a time.
    """
    device = model.lamp_left.device
    height, width = guide_mm.shape
    flat = torch.from_numpy(np.ascontiguousarray(guide_mm, np.float32)).ravel()
    rotation = cameras.world_from_camera[view, :, :3]
    normals = (
        torch.from_numpy(smooth_normals(unrefined_mm, cameras.matrices[view]).astype(np.float32)).reshape(-1, 3)
        @ rotation.T
    )
    parts = []
    for start in range(0, height * width, chunk):
        pixels = torch.arange(start, min(start + chunk, height * width))
        places = (pixels % width).float(), (pixels // width).float()
        rays = cameras.rays(torch.full_like(pixels, view), *places, normals[pixels])
        parts.append(render_rays(model, rays.to(device), flat[pixels].to(device), gain).cpu())
    values = torch.cat(parts).numpy().reshape(height, width, 7)
    rgb = np.rint(values[..., :3].clip(0.0, 1.0) * 255.0).astype(np.uint8)
    depth, median, spread, opacity = (np.ascontiguousarray(values[..., 3 + k]) for k in range(4))
    return RenderedImage(rgb, depth, median, spread, opacity)


@torch.no_grad()
def render_rays(model: SceneModel, rays: Rays, guide: torch.Tensor, gain: float | None) -> torch.Tensor:
    """Return (n, 7): rgb, depth, median depth, spread, opacity of rays whose surface is expected at `guide` (n,).

    `gain` is the exposure; None: the learned one of the rays' training frames.
    """
    surface, spread, bounds = _located(model, rays, guide)
    sigma = torch.maximum(torch.minimum(spread, WIDEST_SPREAD * surface), 0.003 * surface)
    z = guided_samples(Guide(surface, sigma, 2.0 * sigma), *bounds, CLOSE, None)
    gains = None if gain is None else torch.full_like(bounds[0], gain)
    final = model.render(rays, z, bounds, gains)
    geometry = final.geometry
    extra = torch.stack([geometry.depth, geometry.median, geometry.spread, geometry.opacity], dim=1)
    # Where hardly anything was found there is no colour either: dark, as what no surface sends back.
    rgb = final.rgb * (2.0 * geometry.opacity).clamp(max=1.0)[:, None]
    return torch.cat([rgb, extra], dim=1)


@torch.no_grad()
def find_surface(model: SceneModel, rays: Rays, guide: torch.Tensor) -> torch.Tensor:
    """Return the z-depth (n,) at which rays stop, without the last look and without colour.

    Where nothing stops a ray it is `guide` (n,), around which the surface is expected.
    """
    surface, _, _ = _located(model, rays, guide)
    return surface


def _located(
    model: SceneModel, rays: Rays, guide: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """Return depth and spread (n,) of the surface, searched for around `guide` and again where that was not
    enough, and the bounds of the rays.
    """
    bounds = model.box.bounds(rays)
    surface, spread = _search(model, rays, Guide(guide, 0.02 * guide, 0.06 * guide), bounds, SEARCH)
    missed = torch.isnan(surface)
    surface, spread = _search_again(
        model, rays, bounds, (surface, spread), ~missed & (spread > WIDEST_SPREAD * surface)
    )
    expected = torch.where(missed, guide, surface), torch.where(missed, 0.02 * guide, spread)
    surface, spread = _search_again(model, rays, bounds, expected, missed, THOROUGH)
    return surface, spread, bounds


def _search(
    model: SceneModel,
    rays: Rays,
    guide: Guide,
    bounds: tuple[torch.Tensor, torch.Tensor],
    counts: tuple[int, int],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the z-depth (n,) at which rays stop, NaN where they do not, and its spread."""
    # The far side of the box is looked at too: a surface that no sample has passed cannot be found.
    z = torch.cat([guided_samples(guide, *bounds, counts, None), bounds[1][:, None]], dim=1)
    found, _, _ = model.geometry(rays, z, bounds)
    return torch.where(found.opacity > 0.5, found.depth, torch.nan), found.spread


def _search_again(
    model: SceneModel,
    rays: Rays,
    bounds: tuple[torch.Tensor, torch.Tensor],
    expected: tuple[torch.Tensor, torch.Tensor],
    which: torch.Tensor,
    counts: tuple[int, int] = NARROWER,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Search again along some rays, within three spreads of where their surface is expected.

    Args:
        expected: z-depth and spread (n,) of all rays, mm.
        which: (n,) bool, the rays to search along.

    Returns:
        z-depth and spread (n,): what was found along those rays; elsewhere, and where nothing was, `expected`.
    """
    surface, spread = expected
    chosen = torch.nonzero(which)[:, 0]
    if not len(chosen):
        return surface, spread
    # Filled up with rays done twice: products of very few rows round differently from run to run.
    chosen = torch.cat([chosen, chosen[:1].expand(-len(chosen) % FEWEST_RAYS)])
    guide = Guide(surface[chosen], spread[chosen], 3.0 * spread[chosen])
    found = _search(model, rays.chosen(chosen), guide, (bounds[0][chosen], bounds[1][chosen]), counts)
    hit = torch.isfinite(found[0])
    nearer, narrower = (torch.where(hit, new, old[chosen]) for new, old in zip(found, expected, strict=True))
    return surface.index_copy(0, chosen, nearer), spread.index_copy(0, chosen, narrower)
