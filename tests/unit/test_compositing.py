"""Volume rendering: transmittance by hand, surfaces found between samples, distortion against a slow version."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from nerf.compositing import Composite, composite, composite_surface, distortion, interval_edges

ONE = torch.ones(1)


def evenly(near: float, far: float, samples: int) -> Tensor:
    return torch.linspace(near, far, samples)[None]


def surface(depth: float, z: Tensor, blur: float, slope: float = 1.0) -> Composite:
    """Return what a ray sees of a flat surface at z-depth `depth`."""
    return composite_surface(slope * (depth - z), z, torch.tensor(blur))


def test_transmittance_by_hand() -> None:
    # alpha 0.4, 0.8, 0.5 over pieces of 1 mm: transmittance 1.0, 0.6, 0.12, weights 0.4, 0.48, 0.06
    density = -torch.log(1 - torch.tensor([[0.4, 0.8, 0.5]]))
    z = torch.tensor([[10.5, 11.5, 12.5]])
    found = composite(density, z, torch.tensor([[10.0, 11.0, 12.0, 13.0]]), ONE)
    np.testing.assert_allclose(found.weights, [[0.4, 0.48, 0.06]], rtol=1e-5)
    np.testing.assert_allclose(found.opacity, [0.94], rtol=1e-5)
    # (0.4 * 10.5 + 0.48 * 11.5 + 0.06 * 12.5) / 0.94
    np.testing.assert_allclose(found.depth, [11.13830], rtol=1e-6)
    np.testing.assert_allclose(found.median, [11.5])  # 0.4 < 0.47 <= 0.88
    variance = (0.4 * 0.6383**2 + 0.48 * 0.3617**2 + 0.06 * 1.3617**2) / 0.94
    np.testing.assert_allclose(found.spread, [np.sqrt(variance)], rtol=1e-4)


def test_a_slanted_ray_is_longer_than_its_z_depth() -> None:
    # at x = y = 0.9 a step of z-depth is sqrt(1 + 1.62) = 1.6186 times as long
    z, edges = evenly(10, 14, 5), evenly(9.5, 14.5, 6)
    density = torch.full((1, 5), 0.3)
    norm = torch.sqrt(torch.tensor([1 + 0.9**2 + 0.9**2]))
    slanted = composite(density, z, edges, norm)
    np.testing.assert_allclose(slanted.opacity, 1 - np.exp(-0.3 * 5 * 1.61864), rtol=1e-5)
    denser = composite(density * norm, z, edges, ONE)
    np.testing.assert_allclose(slanted.weights, denser.weights, rtol=1e-6)


def test_fog_of_constant_density_does_not_depend_on_the_number_of_samples() -> None:
    for samples in (2, 7, 64):
        edges = evenly(10, 20, samples + 1)
        z = 0.5 * (edges[:, 1:] + edges[:, :-1])
        found = composite(torch.full((1, samples), 0.2), z, edges, ONE)
        np.testing.assert_allclose(found.opacity, 1 - np.exp(-2), rtol=1e-5)


def test_nothing_gives_no_opacity_and_a_wall_all_of_it() -> None:
    z, edges = evenly(10, 14, 5), evenly(9.5, 14.5, 6)
    empty = composite(torch.zeros(1, 5), z, edges, ONE)
    assert float(empty.opacity) == 0.0
    assert torch.isfinite(empty.depth).all()
    wall = composite(torch.tensor([[0.0, 0.0, 1e6, 5.0, 0.0]]), z, edges, ONE)
    np.testing.assert_allclose(wall.weights, [[0, 0, 1, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(wall.depth, [12.0])


def test_pieces_meet_between_samples() -> None:
    z = torch.tensor([[10.0, 12.0, 13.0]])
    edges = interval_edges(z, torch.tensor([5.0]), torch.tensor([30.0]))
    np.testing.assert_allclose(edges, [[9.0, 11.0, 12.5, 13.5]])
    edges = interval_edges(z, torch.tensor([9.5]), torch.tensor([13.2]))
    np.testing.assert_allclose(edges, [[9.5, 11.0, 12.5, 13.2]])


def test_pieces_never_have_a_negative_length() -> None:
    z = torch.sort(torch.rand(200, 8, generator=torch.Generator().manual_seed(0)) * 50 + 10, dim=1).values
    z = z.clamp(20.0, 50.0)  # several samples at one place, at the ends too
    edges = interval_edges(z, torch.full((200,), 20.0), torch.full((200,), 50.0))
    assert float((edges[:, 1:] - edges[:, :-1]).min()) >= 0
    assert float(edges.min()) >= 20
    assert float(edges.max()) <= 50


@pytest.mark.parametrize("samples", [6, 12, 33])
@pytest.mark.parametrize("blur", [0.001, 0.05, 0.5])
@pytest.mark.parametrize("place", [0.0, 0.13, 0.5, 0.77])
def test_a_flat_surface_is_found_between_samples(samples: int, blur: float, place: float) -> None:
    z = evenly(70.0, 90.0, samples)
    spacing = float(z[0, 1] - z[0, 0])
    depth = float(z[0, samples // 2]) + place * spacing
    found = surface(depth, z, blur)
    # float32 counts in steps of 8e-6 mm at 80 mm
    assert abs(float(found.depth) - depth) < 1e-3 * spacing
    np.testing.assert_allclose(found.opacity, 1.0, atol=1e-4)
    assert abs(float(found.median) - depth) <= spacing


def test_a_surface_is_found_with_uneven_samples() -> None:
    z = torch.sort(torch.rand(50, 10, generator=torch.Generator().manual_seed(1)) * 18 + 71, dim=1).values
    z[:, 0], z[:, -1] = 70.0, 90.0
    for blur in (0.01, 0.2):
        found = surface(80.3, z, blur)
        assert float((found.depth - 80.3).abs().max()) < 2e-3


def test_a_surface_seen_obliquely_is_found_too() -> None:
    # its distance falls slower than z-depth grows
    found = surface(80.3, evenly(70, 90, 12), 0.05, slope=0.4)
    assert abs(float(found.depth) - 80.3) < 2e-3


def test_the_spread_of_a_blurred_surface_is_that_of_the_logistic_distribution() -> None:
    # standard deviation of a logistic distribution: scale * pi / sqrt 3
    found = surface(80.0, evenly(60, 100, 2001), 0.5)
    np.testing.assert_allclose(found.spread, 0.5 * np.pi / np.sqrt(3), rtol=1e-3)


def test_a_ray_that_ends_before_the_surface_is_clear() -> None:
    clear = surface(80.0, evenly(60, 70, 9), 0.1)
    assert float(clear.opacity) < 1e-6
    # ends at the surface itself: half of the light is through
    half = surface(80.0, evenly(60, 80, 9), 0.1)
    np.testing.assert_allclose(half.opacity, 0.5, atol=1e-5)


def test_the_back_of_a_surface_stops_nothing() -> None:
    z = evenly(60, 100, 41)
    leaving = composite_surface(z - 80.0, z, torch.tensor(0.1))
    assert float(leaving.opacity) < 1e-6


def test_the_first_of_two_surfaces_hides_the_second() -> None:
    z = evenly(60, 100, 81)
    distance = torch.where(z < 82, 75.0 - z, torch.where(z < 86, z - 86, 90.0 - z).clamp(min=-3))
    found = composite_surface(distance, z, torch.tensor(0.05))
    assert abs(float(found.depth) - 75.0) < 0.01


@pytest.mark.parametrize("kind", ["density", "surface"])
def test_weights_are_positive_and_sum_to_the_opacity(kind: str) -> None:
    generator = torch.Generator().manual_seed(2)
    z = torch.sort(torch.rand(300, 9, generator=generator) * 40 + 50, dim=1).values
    values = torch.randn(300, 9, generator=generator)
    if kind == "surface":
        found = composite_surface(values, z, torch.tensor(0.3))
    else:
        edges = interval_edges(z, torch.full((300,), 45.0), torch.full((300,), 95.0))
        found = composite(values.exp(), z, edges, torch.full((300,), 1.2))
    assert float(found.weights.min()) >= 0
    assert float(found.opacity.max()) <= 1 + 1e-5
    np.testing.assert_allclose(found.weights.sum(1), found.opacity, rtol=1e-6)
    inside = found.opacity > 1e-3
    assert bool(((found.depth >= z[:, 0] - 1e-3) & (found.depth <= z[:, -1] + 1e-3))[inside].all())


def test_gradients_stay_finite_from_blurred_to_sharp() -> None:
    z = evenly(70, 90, 12)
    for blur in (1e-3, 0.05, 5.0):
        distance = (80.3 - z).requires_grad_()
        found = composite_surface(distance, z, torch.tensor(blur))
        (found.depth + found.opacity + found.spread).sum().backward()
        assert distance.grad is not None
        assert torch.isfinite(distance.grad).all()


def test_raising_the_distance_moves_the_surface_away() -> None:
    z = evenly(70, 90, 12)
    distance = (80.3 - z).requires_grad_()
    composite_surface(distance, z, torch.tensor(0.3)).depth.sum().backward()
    assert distance.grad is not None
    # all distances raised by 1 mm move the surface by 1 mm
    np.testing.assert_allclose(distance.grad.sum(), 1.0, rtol=2e-3)


def test_distortion_equals_the_double_sum() -> None:
    generator = torch.Generator().manual_seed(3)
    z = torch.sort(torch.rand(40, 7, generator=generator) * 30 + 60, dim=1).values
    edges = interval_edges(z, torch.full((40,), 55.0), torch.full((40,), 95.0))
    weights = torch.rand(40, 7, generator=generator) / 7
    slow = torch.zeros(40)
    for i in range(7):
        for j in range(7):
            slow += weights[:, i] * weights[:, j] * (z[:, i] - z[:, j]).abs()
        slow += weights[:, i] ** 2 * (edges[:, i + 1] - edges[:, i]) / 3
    found = distortion(weights, z, edges, torch.tensor(0.8))
    np.testing.assert_allclose(found, slow / 0.8, rtol=2e-4)


def test_distortion_by_hand() -> None:
    # two halves 4 mm apart in pieces of 2 mm: 2 * 0.25 * 4 + 2 * 0.25 * 2 / 3
    z, edges = torch.tensor([[10.0, 14.0]]), torch.tensor([[10.0, 12.0, 14.0]])
    found = distortion(torch.tensor([[0.5, 0.5]]), z, edges, torch.tensor(1.0))
    np.testing.assert_allclose(found, [2 + 1 / 3], rtol=1e-6)


def test_the_gap_is_how_far_a_ray_stays_from_the_surface() -> None:
    z = torch.linspace(70.0, 90.0, 9)[None].repeat(2, 1)
    distance = torch.stack([(z[0] - 82.0).abs() + 1.5, 80.0 - z[1]]).requires_grad_()
    found = composite_surface(distance, z, torch.tensor(0.05))
    torch.testing.assert_close(found.gap, torch.tensor([2.0, 0.0]))
    (slope,) = torch.autograd.grad(found.gap.sum(), distance)
    assert float(slope[0].sum()) == 1.0, "a ray that misses still has a slope"
    assert float(slope[1].abs().sum()) == 0.0, "a ray that hits has none"
