"""Render whole images from a trained model, in two passes: find the surface, then look closely."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from nerf.model import Rendered, SceneModel
from nerf.rays import Cameras, Rays
from nerf.sampling import Guide, guided_samples
from nerf.views import smooth_normals
from utils.types import FloatArray

SEARCH = (8, 4)
CLOSE = (7, 0)
# The search may find the surface somewhere in a gap too wide for the close look (its spread is above this share of
# the depth), or nothing: a sheet thinner than the gap between two samples is passed unseen.
NARROWER = (20, 20)
THOROUGH = (48, 47)
WIDEST_SPREAD = 0.02
FEWEST_RAYS = 256
# Images are searched at every second row and column first. Where the surface found there is smooth, its depth
# differing by less than this share, the pixels between look closely at once; elsewhere each searches for itself.
STRIDE, SMOOTH = 2, 0.015


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
    rays_of = view_rays(cameras, view, unrefined_mm, device)
    known = _between_coarse(_coarse_surface(model, rays_of, guide_mm, chunk), (height, width))
    parts = []
    for pixels in torch.arange(height * width).split(chunk):
        found = known[0][pixels].to(device), known[1][pixels].to(device)
        parts.append(render_rays(model, rays_of(pixels), flat[pixels].to(device), gain, found).cpu())
    values = torch.cat(parts).numpy().reshape(height, width, 7)
    rgb = np.rint(values[..., :3].clip(0.0, 1.0) * 255.0).astype(np.uint8)
    depth, median, spread, opacity = (np.ascontiguousarray(values[..., 3 + k]) for k in range(4))
    return RenderedImage(rgb, depth, median, spread, opacity)


def view_rays(
    cameras: Cameras, view: int, unrefined_mm: FloatArray, device: torch.device
) -> Callable[[torch.Tensor], Rays]:
    """Return what makes rays of flat pixel indices (n,) of a view; see `render_image`."""
    width = unrefined_mm.shape[1]
    rotation = cameras.world_from_camera[view, :, :3]
    normals = (
        torch.from_numpy(smooth_normals(unrefined_mm, cameras.matrices[view]).astype(np.float32)).reshape(-1, 3)
        @ rotation.T
    )

    def rays_of(pixels: torch.Tensor) -> Rays:
        places = (pixels % width).float(), (pixels // width).float()
        return cameras.rays(torch.full_like(pixels, view), *places, normals[pixels]).to(device)

    return rays_of


def _coarse_surface(
    model: SceneModel, rays_of: Callable[[torch.Tensor], Rays], guide_mm: FloatArray, chunk: int
) -> FloatArray:
    """Return the depth of the surface at every second row and column, mm; NaN where nothing was found."""
    height, width = guide_mm.shape
    pixels = torch.arange(height * width).view(height, width)[::STRIDE, ::STRIDE].reshape(-1)
    flat = torch.from_numpy(np.ascontiguousarray(guide_mm, np.float32)).ravel()
    device = model.lamp_left.device
    found = []
    for part in pixels.split(chunk):
        rays, guide = rays_of(part), flat[part].to(device)
        found.append(_search(model, rays, _around(guide), model.box.bounds(rays), SEARCH)[0].cpu())
    shape = -(-height // STRIDE), -(-width // STRIDE)
    return torch.cat(found).numpy().reshape(shape)


def _between_coarse(coarse_mm: FloatArray, shape: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return depth and spread (n,) of all pixels where the coarse surface around is smooth; NaN elsewhere."""
    kernel = np.ones((3, 3), np.uint8)
    depth = np.nan_to_num(coarse_mm, nan=0.0).astype(np.float32)
    range_mm = cv2.dilate(depth, kernel) - cv2.erode(depth, kernel)  # 0 beside an unknown one makes it large
    columns, rows = np.meshgrid(*(np.arange(size, dtype=np.float32) / STRIDE for size in shape[::-1]))
    fine, spread = (
        cv2.remap(values, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for values in (depth, 0.5 * range_mm)
    )
    smooth = (fine > 0) & (spread < SMOOTH * fine)
    return tuple(
        torch.from_numpy(np.where(smooth, values, np.nan).astype(np.float32)).ravel() for values in (fine, spread)
    )  # type: ignore[return-value]


@torch.no_grad()
def render_rays(
    model: SceneModel,
    rays: Rays,
    guide: torch.Tensor,
    gain: float | None,
    known: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    """Return (n, 7): rgb, depth, median depth, spread, opacity of rays whose surface is expected at `guide` (n,).

    Args:
        gain: the exposure; None: the learned one of the rays' training frames.
        known: depth and spread (n,) of the surface where a search for it can be left out, NaN elsewhere.
    """
    z, bounds = close_look(model, rays, guide, known)
    gains = None if gain is None else torch.full_like(bounds[0], gain)
    final = model.render(rays, z, bounds, gains)
    geometry = final.geometry
    extra = torch.stack([geometry.depth, geometry.median, geometry.spread, geometry.opacity], dim=1)
    return torch.cat([colour_of(final), extra], dim=1)


def colour_of(rendered: Rendered) -> torch.Tensor:
    """Return colours (n, 3): dark where hardly anything was found, as what no surface sends back."""
    return rendered.rgb * (2.0 * rendered.geometry.opacity).clamp(max=1.0)[:, None]


@torch.no_grad()
def close_look(
    model: SceneModel,
    rays: Rays,
    guide: torch.Tensor,
    known: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """Return z-depths (n, s) of samples close to the surface, and the bounds of the rays; see `render_rays`."""
    surface, spread, bounds = _located(model, rays, guide, known)
    sigma = torch.maximum(torch.minimum(spread, WIDEST_SPREAD * surface), 0.003 * surface)
    return guided_samples(Guide(surface, sigma, 2.0 * sigma), *bounds, CLOSE, None), bounds


@torch.no_grad()
def find_surface(model: SceneModel, rays: Rays, guide: torch.Tensor) -> torch.Tensor:
    """Return the z-depth (n,) at which rays stop, without the last look and without colour.

    Where nothing stops a ray it is `guide` (n,), around which the surface is expected.
    """
    surface, _, _ = _located(model, rays, guide)
    return surface


def _located(
    model: SceneModel, rays: Rays, guide: torch.Tensor, known: tuple[torch.Tensor, torch.Tensor] | None = None
) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """Return depth and spread (n,) of the surface, and the bounds of the rays.

    It is searched for around `guide` where it is not known, and again where that was not enough.
    """
    bounds = model.box.bounds(rays)
    if known is None:
        return *_searched(model, rays, guide, bounds), bounds
    unknown = torch.nonzero(torch.isnan(known[0]))[:, 0]
    if not len(unknown):
        return *known, bounds
    unknown = _filled_up(unknown)
    part = bounds[0][unknown], bounds[1][unknown]
    found = _searched(model, rays.chosen(unknown), guide[unknown], part)
    surface, spread = (old.index_copy(0, unknown, new) for old, new in zip(known, found, strict=True))
    return surface, spread, bounds


def _searched(
    model: SceneModel, rays: Rays, guide: torch.Tensor, bounds: tuple[torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    surface, spread = _search(model, rays, _around(guide), bounds, SEARCH)
    missed = torch.isnan(surface)
    surface, spread = _search_again(
        model, rays, bounds, (surface, spread), ~missed & (spread > WIDEST_SPREAD * surface)
    )
    expected = torch.where(missed, guide, surface), torch.where(missed, 0.02 * guide, spread)
    return _search_again(model, rays, bounds, expected, missed, THOROUGH)


def _around(guide: torch.Tensor) -> Guide:
    return Guide(guide, 0.02 * guide, 0.06 * guide)


def _filled_up(chosen: torch.Tensor) -> torch.Tensor:
    """Return indices of rays, some of them twice: products of very few rows round differently from run to run."""
    return torch.cat([chosen, chosen[:1].expand(-len(chosen) % FEWEST_RAYS)])


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
    found = model.search(rays, z, bounds)
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
    chosen = _filled_up(chosen)
    guide = Guide(surface[chosen], spread[chosen], 3.0 * spread[chosen])
    found = _search(model, rays.chosen(chosen), guide, (bounds[0][chosen], bounds[1][chosen]), counts)
    hit = torch.isfinite(found[0])
    nearer, narrower = (torch.where(hit, new, old[chosen]) for new, old in zip(found, expected, strict=True))
    return surface.index_copy(0, chosen, nearer), spread.index_copy(0, chosen, narrower)
