"""Rays: unit z in the camera, the scene's box, the pool of training pixels and how it is drawn from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from nerf.drawing import Drawing
from nerf.rays import Box, Cameras, Rays
from nerf.views import PixelPool, guide_sigma, half_width
from tests.synthetic import turn
from utils.geometry import directions, invert_rigid, project, rigid, transform
from utils.types import Camera, FloatArray

EYES = (Camera(100.0, 120.0, 31.5, 23.5, 64, 48), Camera(90.0, 95.0, 20.0, 10.5, 40, 24))
POSES = np.stack([rigid(turn((3, -8, 20)), np.array([5.0, -2.0, 7.0])), rigid(turn((0, 30, 0)), np.ones(3))])


def cameras() -> Cameras:
    intrinsics = [[eye.fx, eye.fy, eye.cx, eye.cy] for eye in EYES]
    world_from_camera = torch.tensor(POSES[:, :3], dtype=torch.float32)
    return Cameras(torch.tensor(intrinsics), world_from_camera, world_from_camera.flip(0), torch.tensor([0, 1]))


def pool() -> PixelPool:
    """Return the pixels of both eyes; the depth of a pixel is its number."""
    sizes = [eye.width * eye.height for eye in EYES]
    count = sum(sizes)
    half = torch.full((count,), 0.1, dtype=torch.float16)
    return PixelPool(
        views=[("left", "1"), ("right", "1")],
        cameras=cameras(),
        starts=torch.tensor([0, sizes[0], count]),
        widths=torch.tensor([eye.width for eye in EYES]),
        rgb=torch.zeros(count, 3, dtype=torch.uint8),
        depth=torch.arange(count, dtype=torch.float32),
        sigma=half / 2,
        half_width=half,
        confidence=half,
        importance=half,
        normal=torch.zeros(count, 3, dtype=torch.int8),
        tissue=torch.ones(count, dtype=torch.bool),
        highlight=torch.zeros(count, dtype=torch.bool),
    )


def some_rays(count: int = 200) -> tuple[Rays, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    view = torch.randint(2, (count,), generator=generator)
    columns, rows = 40 * torch.rand(count, generator=generator), 24 * torch.rand(count, generator=generator)
    return cameras().rays(view, columns, rows, torch.zeros(count, 3)), view, columns, rows


def straight(directions_world: list[list[float]]) -> Rays:
    """Return rays from the origin of the world."""
    count = len(directions_world)
    return Rays(
        origins=torch.zeros(count, 3),
        directions=torch.tensor(directions_world),
        direction_norm=torch.tensor(directions_world).norm(dim=-1),
        lamp_anchor=torch.zeros(count, 3, 4),
        frame=torch.zeros(count, dtype=torch.long),
        normal=torch.zeros(count, 3),
    )


def box_around(points: FloatArray, margin: float = 0.0) -> Box:
    return Box.around(points, turn((0, 0, 30)), margin)


def test_the_parameter_of_a_ray_is_z_depth() -> None:
    rays, view, columns, rows = some_rays()
    for z_depth in (0.5, 30.0, 600.0):
        points = (rays.origins + z_depth * rays.directions).double().numpy()
        for index in (0, 1):
            mine = (view == index).numpy()
            pixels, z = project(EYES[index].matrix, transform(invert_rigid(POSES[index]), points[mine]))
            np.testing.assert_allclose(z, z_depth, rtol=1e-4)
            np.testing.assert_allclose(pixels[:, 0], columns[mine], atol=0.02)
            np.testing.assert_allclose(pixels[:, 1], rows[mine], atol=0.02)


def test_directions_are_as_long_as_they_say() -> None:
    rays, view, columns, rows = some_rays()
    np.testing.assert_allclose(rays.directions.norm(dim=-1), rays.direction_norm, rtol=1e-5)
    mine = view == 0
    expected = np.linalg.norm(
        directions(EYES[0].matrix, torch.stack([columns, rows], -1)[mine].double().numpy()), axis=-1
    )
    np.testing.assert_allclose(rays.direction_norm[mine], expected, rtol=1e-5)
    assert float(rays.direction_norm.min()) >= 1.0


def test_rays_carry_their_frame_and_the_left_eye() -> None:
    rays, view, _, _ = some_rays()
    assert torch.equal(rays.frame, view)
    np.testing.assert_allclose(rays.lamp_anchor[view == 0][0], POSES[1][:3], rtol=1e-6)
    np.testing.assert_allclose(rays.origins[view == 1][0], POSES[1][:3, 3], rtol=1e-6)


def test_a_box_holds_its_points_and_turns_with_the_axes() -> None:
    points = np.random.default_rng(0).uniform(-1, 1, (20_000, 3)) * [30, 20, 10] @ turn((0, 0, 30)).T + [5, 0, 80]
    box = box_around(points)
    np.testing.assert_allclose(box.size_mm, [60, 40, 20], rtol=0.01)
    inside = box.points(torch.tensor(points, dtype=torch.float32))
    assert float((inside.abs() <= 1).all(1).float().mean()) > 0.985  # the outermost 0.2 % on each side may be out
    np.testing.assert_allclose(inside.mean(0), 0, atol=0.02)
    wider = box_around(points, margin=0.1)
    np.testing.assert_allclose(np.subtract(wider.size_mm, box.size_mm), 2 * 0.1 * 60, rtol=0.01)


def test_outliers_do_not_blow_the_box_up() -> None:
    points = np.random.default_rng(0).uniform(-10, 10, (20_000, 3))
    points[:20] *= 1000
    assert max(box_around(points).size_mm) < 35


def test_box_bounds_by_hand() -> None:
    # a box from z = 70 to 90 and 20 mm wide each way, seen from the origin
    matrix = torch.eye(4)
    matrix[:3, :3] /= 10
    matrix[2, 3] = -8
    box = Box(matrix, (20.0, 20.0, 20.0))
    rays = straight([[0.0, 0.0, 1.0], [0.125, 0.0, 1.0], [0.0, 0.0, -1.0], [1.0, 0.0, 1.0]])
    near, far = box.bounds(rays)
    # straight; leaves through the side at x = 10, z = 80
    np.testing.assert_allclose(near[:2], [70, 70], rtol=1e-5)
    np.testing.assert_allclose(far[:2], [90, 80], rtol=1e-5)
    # behind the camera, and past the box: an interval that is thin, in front and not empty
    assert bool((near > 0).all())
    assert bool((far > near).all())
    assert float((far / near)[2:].max()) < 1.02


def test_a_camera_inside_the_box_starts_in_front_of_itself() -> None:
    box = Box(torch.diag(torch.tensor([0.1, 0.1, 0.1, 1.0])), (20.0, 20.0, 20.0))
    near, far = box.bounds(straight([[0.0, 0.0, 1.0]]))
    assert 0 < float(near) < 1
    np.testing.assert_allclose(far, [10], rtol=1e-5)


def test_between_the_bounds_a_ray_is_inside_the_box() -> None:
    rays, _, _, _ = some_rays()
    points = (rays.origins + 60 * rays.directions).double().numpy()
    box = box_around(points, margin=0.05)
    near, far = box.bounds(rays)
    hit = far > near * 1.02
    assert float(hit.float().mean()) > 0.9
    for share in (0.001, 0.5, 0.999):
        z = near + share * (far - near)
        inside = box.points(rays.origins + z[:, None] * rays.directions)[hit]
        assert float(inside.abs().max()) < 1 + 1e-3


def test_flat_numbers_become_pixels_of_their_view() -> None:
    # views of different widths: pixel (9, 4) of the first, (3, 2) of the second
    numbers = torch.tensor([4 * 64 + 9, 64 * 48 + 2 * 40 + 3, 64 * 48 - 1, 64 * 48])
    found = pool().rays(numbers)
    expected = cameras().rays(
        torch.tensor([0, 1, 0, 1]),
        torch.tensor([9.0, 3.0, 63.0, 0.0]),
        torch.tensor([4.0, 2.0, 47.0, 0.0]),
        torch.zeros(4, 3),
    )
    assert torch.equal(found.directions, expected.directions)
    assert torch.equal(found.origins, expected.origins)
    guide = pool().guide(numbers)
    np.testing.assert_array_equal(guide.depth, numbers)
    np.testing.assert_allclose(guide.half_width, 0.1 * numbers, rtol=1e-3)  # relative, and stored in 16 bit
    assert pool().view_slice(1) == slice(64 * 48, 64 * 48 + 40 * 24)


def test_draws_follow_the_weights() -> None:
    count = len(pool().depth)
    weights = torch.zeros(count, dtype=torch.float16)
    weights[1000:2000], weights[2000:3000], weights[3000:3100] = 0.25, 0.5, 1.0
    drawn = Drawing(weights).draw(40_000, torch.Generator().manual_seed(0))
    assert len(drawn) == 40_000
    counts, _ = np.histogram(drawn.numpy(), bins=[1000, 2000, 3000, 3100])
    shares = counts / 40_000
    # 250 : 500 : 100
    np.testing.assert_allclose(shares, np.array([250, 500, 100]) / 850, atol=0.01)
    assert sum(shares) == pytest.approx(1.0), "where the weight is zero nothing is drawn"


def test_draws_repeat_with_the_seed() -> None:
    weights = torch.rand(len(pool().depth), generator=torch.Generator().manual_seed(1))
    draws = [Drawing(weights).draw(500, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_a_few_worthwhile_pixels_are_found_and_repeated() -> None:
    weights = torch.zeros(len(pool().depth))
    weights[77] = 1.0
    drawn = Drawing(weights).draw(300, torch.Generator().manual_seed(0))
    assert len(drawn) == 300
    assert set(drawn.tolist()) == {77}


def test_half_width_is_the_error_between_near_and_far() -> None:
    depth, error = np.full(4, 80.0), np.array([0.0, 0.03, 0.5, np.nan])
    np.testing.assert_allclose(half_width(depth, error, 0.01, 0.1), [0.8, 2.4, 8.0, 8.0])


def test_sigma_grows_with_doubt_and_steepness_up_to_the_half_width() -> None:
    flat = np.full((5, 6), 80.0)
    half = np.full((5, 6), 4.0)
    np.testing.assert_allclose(guide_sigma(half, np.ones((5, 6)), flat), 1.0)  # a quarter
    np.testing.assert_allclose(guide_sigma(half, np.full((5, 6), 0.5), flat), 2.0)
    np.testing.assert_allclose(guide_sigma(half, np.full((5, 6), np.nan), flat), 3.0)
    steep = flat + 4.0 * np.arange(6)  # more than 2 % from one pixel to the next
    np.testing.assert_allclose(guide_sigma(half, np.ones((5, 6)), steep), 2.0)
    np.testing.assert_allclose(guide_sigma(half, np.zeros((5, 6)), steep), 4.0)
