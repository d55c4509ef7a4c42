"""The compiled step and view give what the plain operations of torch give: losses, gradients, colours."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nerf.compositing import Composite, composite_surface
from nerf.losses import GAP_LOSS_WEIGHT, LossWeights
from nerf.model import SceneModel, Shape
from nerf.options import NerfOptions
from nerf.rays import Box, Cameras, Rays
from nerf.trainer import Trainer
from nerf.views import PixelPool
from utils import compiled

CPU = torch.device("cpu")
FRAMES, WIDTH, HEIGHT, DEPTH_MM = 3, 20, 16, 80.0
VARIANTS: dict[str, dict[str, Any]] = {
    "planes": {},
    "hash": {"field": "hash", "hash_log2_rows": 9},
    "no lamp": {"lamp": False},
    "no directions": {"use_viewdirs": False},
    "no lobes": {"lobes": 0},
    "one exposure": {"exposure": False},
    "middles": {"perturb": 0.0},
    "uniform": {"no_depth_sampling": True},
    "guided alone": {"free_samples": 0.0},
    "odd widths": {"planes_width": 7, "radiance_width": 9, "N_samples": 5, "N_rand": 75, "lobes": 1},
    "dim highlights": {"highlight_weight": 0.0, "depth_loss_weight": 0.0},
}


def pool() -> PixelPool:
    """Return three frames of two eyes before a wavy wall, with unknown depth and highlights here and there."""
    random = np.random.default_rng(0)
    views = [(side, str(frame)) for side in ("left", "right") for frame in range(FRAMES)]
    poses, lefts = [], []
    for side, frame in views:
        pose = np.eye(4, dtype=np.float32)
        pose[:3, 3] = [float(frame), 0.3 * float(frame), 0.0]
        lefts.append(pose[:3].copy())
        pose[0, 3] += 4.0 if side == "right" else 0.0
        poses.append(pose[:3])
    frames = torch.tensor([int(frame) for _, frame in views])
    lens = torch.tensor([[30.0, 30.0, 9.5, 7.5]]).repeat(len(views), 1)
    cameras = Cameras(lens, torch.from_numpy(np.array(poses)), torch.from_numpy(np.array(lefts)), frames)
    count = len(views) * WIDTH * HEIGHT
    depth = (DEPTH_MM + 0.4 * np.sin(np.arange(count) / 7)).astype(np.float32)
    depth[random.random(count) < 0.1] = np.nan
    normal = np.rint(127 * np.array([0.1, -0.2, -0.97])).astype(np.int8)
    starts = torch.arange(len(views) + 1) * WIDTH * HEIGHT
    return PixelPool(
        views=views,  # type: ignore[arg-type]
        cameras=cameras,
        starts=starts,
        widths=torch.full((len(views),), WIDTH),
        rgb=torch.from_numpy(random.integers(0, 256, (count, 3), dtype=np.uint8)),
        depth=torch.from_numpy(depth),
        sigma=torch.full((count,), 0.004, dtype=torch.float16),
        half_width=torch.full((count,), 0.015, dtype=torch.float16),
        confidence=torch.from_numpy(random.random(count).astype(np.float16)),
        importance=torch.ones(count, dtype=torch.float16),
        normal=torch.from_numpy(np.tile(normal, (count, 1))),
        tissue=torch.ones(count, dtype=torch.bool),
        highlight=torch.from_numpy(random.random(count) < 0.2),
    )


def trainer(**changes: Any) -> Trainer:
    options = NerfOptions(**{"N_rand": 300, "planes_finest": 32, "planes_levels": 2, "seed": 3, **changes})
    box = Box.around(np.array([[-30.0, -25, 70], [36.0, 25, 92]]), np.eye(3), 0.1)
    shape = Shape(box, 2.0, DEPTH_MM, tuple(float(frame) for frame in range(FRAMES)), (2.0, 0.5, -1.0))
    torch.manual_seed(0)
    model = SceneModel(options, options, shape)
    grid = torch.linspace(-1, 1, 40)
    x, y = torch.meshgrid(grid, grid, indexing="xy")
    wavy = torch.stack([40 * x, 30 * y, DEPTH_MM + 0.3 * torch.sin(4 * x)], dim=-1)
    model.field.start_from(box.points(wavy.reshape(-1, 3)))
    with torch.no_grad():
        model.exposure.log_gain.copy_(torch.tensor([0.1, -0.2, 0.05]))
        for table in model.field.tables:
            table.mul_(3.0)
    return Trainer(options, model, pool(), CPU)


@pytest.fixture(autouse=True)
def composites_in_double_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the digits that torch loses in single precision where pieces of a ray are weighed."""

    def exact(distance: Tensor, z: Tensor, blur: Tensor) -> Composite:
        found = composite_surface(distance.double(), z.double(), blur.double())
        return Composite(*(getattr(found, field.name).float() for field in fields(Composite)))

    monkeypatch.setattr("nerf.model.composite_surface", exact)


def gradients(model: SceneModel) -> dict[str, Tensor]:
    return {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        for name, parameter in model.named_parameters()
    }


def plain_and_compiled(one: Trainer, progress: float) -> tuple[Any, dict[str, Tensor], Any, dict[str, Tensor]]:
    """Return losses and gradients of the same batch, with operations of torch and compiled."""
    assert one.compiled is not None
    one.compiled.asleep = 0.0
    one.step = int(progress * one.options.N_iters)
    one.model.sharpen(progress)
    pixels, state = one._draw(), one.device_generator.get_state()
    plain = one.losses(pixels)
    plain.total.backward()
    expected = gradients(one.model)
    for parameter in one.model.parameters():
        parameter.grad = None
    one.device_generator.set_state(state)
    found = one._compiled_losses(one.compiled, pixels)
    return plain, expected, found, gradients(one.model)


@pytest.mark.parametrize("progress", [0.1, 0.9])
@pytest.mark.parametrize("variant", VARIANTS)
def test_losses_and_gradients_are_those_of_autograd(variant: str, progress: float) -> None:
    plain, expected, found, given = plain_and_compiled(trainer(**VARIANTS[variant]), progress)
    for name in ("total", "colour", "depth", "psnr"):
        expected_loss = float(getattr(plain, name).detach())
        assert float(getattr(found, name)) == pytest.approx(expected_loss, rel=1e-5, abs=1e-7), name
    for name, gradient in expected.items():
        assert float((given[name] - gradient).norm()) <= 1e-4 * float(gradient.norm()) + 1e-9, name
    assert float(expected["field.hidden.weight"].norm()) > 0


def test_rays_that_miss_the_surface_are_brought_back_alike() -> None:
    one = trainer(free_samples=0.0)
    one.model.field.base.add_(0.3)  # type: ignore[operator, union-attr]
    one.model.sharpen(0.5)
    pixels, state = one._draw(), one.device_generator.get_state()
    rendered = one._render(pixels).geometry
    gap = (rendered.gap / one.model.unit_mm).mean()
    assert float(gap.detach()) > 0.5
    gap.backward()
    expected = gradients(one.model)
    for parameter in one.model.parameters():
        parameter.grad = None
    assert one.compiled is not None
    one.compiled.asleep = 0.0
    one.device_generator.set_state(state)
    nothing_else = LossWeights(depth=0.0, depth_scale_mm=DEPTH_MM, highlight=0.0)
    one.pool.highlight.fill_(True)  # nor colours
    parts = one.compiled.run(one.pool, pixels, one._jitter(len(pixels)), nothing_else)
    assert parts["gap"] == pytest.approx(float(gap.detach()), rel=1e-5)
    through = (1.0 - rendered.opacity.detach()).square().mean()
    assert parts["see_through"] == pytest.approx(float(through), rel=1e-5)
    found = gradients(one.model)["field.hidden.weight"] / GAP_LOSS_WEIGHT
    torch.testing.assert_close(found, expected["field.hidden.weight"], atol=1e-5, rtol=1e-3)


def test_leaving_out_what_sleeps_hardly_changes_the_gradient() -> None:
    one = trainer()
    _, expected, _, _ = plain_and_compiled(one, 0.9)
    assert one.compiled is not None
    one.compiled.asleep = trainer().compiled.asleep  # type: ignore[union-attr]
    one.device_generator.manual_seed(5)
    state, pixels = one.device_generator.get_state(), one._draw()
    results = []
    for asleep in (0.0, one.compiled.asleep):
        one.compiled.asleep = asleep
        for parameter in one.model.parameters():
            parameter.grad = None
        one.device_generator.set_state(state)
        one._compiled_losses(one.compiled, pixels)
        results.append(gradients(one.model))
    assert set(results[0]) == set(expected)
    table = [result["field.table"] for result in results]
    left_out = (one.compiled.of_features.abs().sum(1) == 0).float().mean()
    assert 0.05 < float(left_out) < 0.9
    assert float((table[0] - table[1]).norm()) < 0.01 * float(table[0].norm())


def test_any_number_of_cores_gives_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = []
    monkeypatch.setattr("nerf.table.WORTH_SHARING", 100)
    for count in (1, 2, 3):
        monkeypatch.setattr(compiled, "cores", lambda count=count: count)
        one = trainer()
        for _ in range(3):
            one.advance()
        weights.append({name: value.clone() for name, value in one.model.state_dict().items()})
    for other in weights[1:]:
        assert all(torch.equal(value, other[name]) for name, value in weights[0].items())


def test_any_number_of_cores_sees_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, (some, bounds) = trainer().model, rays(500)
    z, images = torch.linspace(76, 84, 6).expand(500, 6), []
    for count in (1, 3, 7):
        monkeypatch.setattr(compiled, "cores", lambda count=count: count)
        with torch.no_grad():
            images.append(model.render(some, z, bounds, None).rgb)
    assert torch.equal(images[0], images[1])
    assert torch.equal(images[0], images[2])


def test_a_batch_of_another_size_is_refused() -> None:
    one = trainer()
    assert one.compiled is not None
    with pytest.raises(ValueError, match="found 7 pixels; there is room for 300"):
        one.compiled.run(one.pool, torch.arange(7), one._jitter(7), one.loss_weights())


def test_a_field_of_densities_takes_the_plain_step() -> None:
    assert trainer(field="mlp", netdepth=2, netwidth=8).compiled is None
    assert trainer(distortion_loss_weight=0.1).compiled is None
    assert trainer().compiled is not None


def rays(count: int) -> tuple[Rays, tuple[Tensor, Tensor]]:
    pixels = torch.arange(count) % (2 * FRAMES * WIDTH * HEIGHT)
    found = pool().rays(pixels)
    return found, trainer().model.box.bounds(found)


@pytest.mark.parametrize("variant", ["planes", "hash", "no lamp", "no directions", "no lobes", "odd widths"])
def test_what_is_seen_without_gradients_is_what_is_seen_with_them(variant: str) -> None:
    model = trainer(**VARIANTS[variant]).model
    model.sharpen(0.7)
    some, bounds = rays(500)
    z = torch.sort(75 + 12 * torch.rand(500, 9, generator=torch.Generator().manual_seed(1)), dim=1).values
    gain = torch.linspace(0.5, 1.5, 500)
    plain = model.render(some, z, bounds, gain)
    with torch.no_grad():
        found, searched = model.render(some, z, bounds, gain), model.search(some, z, bounds)
    assert not found.rgb.requires_grad
    torch.testing.assert_close(found.rgb, plain.rgb.detach(), atol=2e-4, rtol=1e-3)
    hit = plain.geometry.opacity > 1e-3
    assert 0.3 < float(hit.float().mean()) <= 1.0
    for name in ("opacity", "depth", "median", "spread", "gap"):
        expected, ours = getattr(plain.geometry, name).detach(), getattr(found.geometry, name)
        torch.testing.assert_close(ours[hit], expected[hit], atol=2e-3, rtol=1e-4)
        assert torch.equal(ours, getattr(searched, name))
    torch.testing.assert_close(found.geometry.weights, plain.geometry.weights.detach(), atol=2e-5, rtol=0)


def test_a_batch_larger_than_a_tile_is_seen_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    model, (some, bounds) = trainer().model, rays(500)
    z = torch.linspace(76, 84, 6).expand(500, 6)
    with torch.no_grad():
        whole = model.render(some, z, bounds, None)
        monkeypatch.setattr("nerf.compiled_view.TILE", 64)
        tiled = model.render(some, z, bounds, None)
    assert torch.equal(whole.rgb, tiled.rgb)
    assert torch.equal(whole.geometry.depth, tiled.geometry.depth)


def test_a_diverged_step_is_seen() -> None:
    one = trainer()
    with torch.no_grad():
        one.model.field.table.fill_(torch.nan)  # type: ignore[operator, union-attr]
    assert torch.isnan(one.advance().total)
