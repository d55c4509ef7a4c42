"""Finding the surface of a ray, and how much of a prior is trusted."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nerf import images
from nerf.compositing import Composite, composite_surface
from nerf.images import _between_coarse, render_rays
from nerf.rays import Rays
from nerf.views import DOUBTFUL, View, usual_confidence
from utils.artifacts import save_maps

COUNT = 400


class Sheet:
    """A model whose only surface is a sheet at 80 mm, nearer to the rays than the box's far side."""

    def __init__(self, thickness_mm: float) -> None:
        self.thickness_mm = thickness_mm
        self.box = SimpleNamespace(bounds=lambda _: (torch.full((COUNT,), 40.0), torch.full((COUNT,), 140.0)))

    def search(self, _: Rays, z: Tensor, bounds: tuple[Tensor, Tensor]) -> Composite:
        del bounds
        return composite_surface((z - 80.0).abs() - 0.5 * self.thickness_mm, z, torch.tensor(0.02))

    def render(self, rays: Rays, z: Tensor, bounds: tuple[Tensor, Tensor], _: Tensor | None) -> Any:
        return SimpleNamespace(rgb=torch.ones(COUNT, 3), geometry=self.search(rays, z, bounds), z=z)


def rays() -> Rays:
    zeros = torch.zeros(COUNT, 3)
    forward = torch.tensor([0.0, 0.0, 1.0]).expand(COUNT, 3)
    return Rays(
        zeros, forward, torch.ones(COUNT), torch.zeros(COUNT, 3, 4), torch.zeros(COUNT, dtype=torch.long), zeros
    )


def test_a_sheet_thinner_than_the_gaps_between_samples_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    guide = torch.linspace(77.0, 83.0, COUNT)
    found = render_rays(Sheet(0.3), rays(), guide, None)  # type: ignore[arg-type]
    monkeypatch.setattr(images, "THOROUGH", images.SEARCH)
    once = render_rays(Sheet(0.3), rays(), guide, None)  # type: ignore[arg-type]
    assert (once[:, 6] > 0.5).float().mean() < 0.8
    assert (found[:, 6] > 0.5).float().mean() > 0.97
    hit = found[:, 6] > 0.5
    torch.testing.assert_close(found[hit, 3], torch.full_like(found[hit, 3], 79.85), atol=0.1, rtol=0.0)


def test_a_ray_without_any_surface_stays_clear_and_dark() -> None:
    found = render_rays(Sheet(-1.0), rays(), torch.full((COUNT,), 80.0), None)  # type: ignore[arg-type]
    assert float(found[:, 6].max()) < 0.05
    assert float(found[:, :3].max()) < 0.1


@pytest.mark.parametrize("level", [0.97, 0.5])
def test_confidence_is_judged_beside_what_is_usual(tmp_path: Path, level: float) -> None:
    views: list[View] = [("left", str(number)) for number in range(3)]
    confidence = np.full((8, 10), level, np.float32)
    confidence[0] = 0.3 * level
    tissue = np.ones((8, 10), bool)
    confidence[-1], tissue[-1] = 1.0, False
    for side, name in views:
        save_maps(tmp_path, side, name, confidence=confidence, tissue=tissue)
    usual = usual_confidence(tmp_path, views)
    assert usual == pytest.approx(level)
    assert 0.3 * level < DOUBTFUL * usual < level


def test_between_coarse_pixels_a_smooth_surface_is_known_and_an_edge_is_searched() -> None:
    height, width = 41, 60
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    plane = 80.0 + 0.1 * columns - 0.05 * rows
    depth, spread = (part.reshape(height, width) for part in _between_coarse(plane[::2, ::2], (height, width)))
    inner = (slice(4, -4), slice(4, -4))
    np.testing.assert_allclose(depth[inner], plane[inner], rtol=1e-5)
    assert (spread[inner] >= 0.29).all(), "it covers the slope over the pixels around"
    edge = plane.copy()
    edge[:, 30:] += 20.0
    edge[10:14, 10:14] = np.nan
    found = torch.isfinite(_between_coarse(edge[::2, ::2], (height, width))[0].reshape(height, width))
    assert not found[2:-2, 28:32].any()
    assert not found[10:14, 10:14].any()
    assert found[20:-2, 2:24].all()
    assert found[2:-2, 36:-2].all()
