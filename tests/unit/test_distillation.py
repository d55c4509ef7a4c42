"""A field whose colours can be changed: its surface stays, gradients are true, its folder is never the run's."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from nerf.distillation import CHANGE, REACH, Distillation, PreparedView, recolourable
from nerf.finished_field import FinishedField
from nerf.images import close_look
from nerf.model import SceneModel, Shape
from nerf.options import NerfOptions
from nerf.rays import Box, Cameras, Rays
from nerf.views import PixelPool
from utils.artifacts import read_json
from utils.errors import InputError
from utils.geometry import rigid
from utils.types import Camera

pytestmark = pytest.mark.usefixtures("one_thread")
SIZE_MM = (40.0, 40.0, 20.0)
CAMERA = Camera(30.0, 30.0, 15.5, 11.5, 32, 24)


def toy(field: str = "planes") -> SceneModel:
    """Return an untrained model of a plane 60 mm before the camera, its box 40 x 40 x 20 mm."""
    matrix = torch.diag(torch.tensor([2 / 40, 2 / 40, 2 / 20, 1.0]))
    matrix[2, 3] = -60 * 2 / 20
    options = NerfOptions(
        field=field, planes_finest=32, hash_finest=32, hash_log2_rows=10, netdepth=2, netwidth=16
    )
    torch.manual_seed(0)
    shape = Shape(Box(matrix, SIZE_MM), 1.0, 60.0, (0.0, 1.0), (0.0, 0.0, 0.0))
    model = SceneModel(options, options, shape)
    grid = torch.stack(torch.meshgrid(*2 * [torch.linspace(-1, 1, 50)], indexing="xy"), -1).reshape(-1, 2)
    model.field.start_from(torch.cat([grid, torch.zeros(len(grid), 1)], 1))
    model.sharpen(1.0)
    return model.eval()


def all_rays(shift_mm: float = 0.0) -> Rays:
    pose = torch.tensor(rigid(np.eye(3), np.array([shift_mm, 0, 0]))[None, :3], dtype=torch.float32)
    lens = torch.tensor([[CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy]])
    cameras = Cameras(lens, pose, pose, torch.tensor([0]))
    pixels = torch.arange(CAMERA.width * CAMERA.height)
    normal = torch.tensor([0.0, 0.0, -1.0]).expand(len(pixels), 3)
    places = (pixels % CAMERA.width).float(), (pixels // CAMERA.width).float()
    return cameras.rays(torch.zeros_like(pixels), *places, normal)


def looked(model: SceneModel, rays: Rays) -> PreparedView:
    z, bounds = close_look(model, rays, torch.full((len(rays.origins),), 60.0))
    return PreparedView(rays, z, bounds, (CAMERA.height, CAMERA.width))


def door(model: SceneModel, run: Path, pool: PixelPool | None = None) -> Distillation:
    trained, changed = recolourable(model)
    field = FinishedField(None, None, model, (None, None), [], 100)  # type: ignore[arg-type]
    return Distillation(field, trained, changed, pool, run)  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["planes", "hash"])
def test_it_starts_as_it_was_trained_and_its_surface_stays(field: str, tmp_path: Path) -> None:
    model = toy(field)
    before = copy.deepcopy(model.state_dict())
    both = door(model, tmp_path)
    view = looked(both.trained, all_rays())
    with torch.no_grad():
        plain = model.render(view.rays, view.z, view.bounds, torch.ones(len(view.z)))
    rgb, depth = both.picture(view)
    np.testing.assert_allclose(rgb.reshape(-1, 3), 255 * plain.rgb.clamp(max=1), atol=1.0)
    np.testing.assert_allclose(depth.ravel(), plain.geometry.depth, rtol=1e-5)
    optimiser = both.optimiser(0.05)
    first = both.render(view).detach()
    for _ in range(80):
        (both.render(view) - 0.25).square().mean().backward()
        optimiser.step()
    after = both.render(view).detach()
    assert (after - 0.25).abs().mean() < 0.5 * (first - 0.25).abs().mean()
    with torch.no_grad():
        moved = both.model.render(view.rays, view.z, view.bounds, torch.ones(len(view.z)))
    torch.testing.assert_close(moved.geometry.depth, plain.geometry.depth, atol=1e-3, rtol=1e-5)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_gradient_is_that_of_small_differences(tmp_path: Path) -> None:
    both = door(toy(), tmp_path)
    view = looked(both.trained, all_rays())
    weights = torch.randn(1, 3, *view.size, generator=torch.Generator().manual_seed(1))
    (shift,) = both.model.field.tables
    (both.render(view) * weights).sum().backward()
    assert shift.grad is not None
    gradient = shift.grad.clone()
    for row, channel in torch.nonzero(gradient.abs() > 0.5 * gradient.abs().max())[:6].tolist():
        with torch.no_grad():
            sums = []
            for step in (0.01, -0.01):
                shift[row, channel] += step
                sums.append(float((both.render(view).double() * weights).sum()))
                shift[row, channel] -= step
        assert (sums[0] - sums[1]) / 0.02 == pytest.approx(float(gradient[row, channel]), rel=0.03)


def test_the_canvas_goes_on_where_the_box_ends(tmp_path: Path) -> None:
    model = toy()
    both = door(model, tmp_path)
    aside = all_rays(shift_mm=25.0)
    inside = looked(model, aside)
    with torch.no_grad():
        plain = model.render(inside.rays, inside.z, inside.bounds, None).geometry.opacity
    assert 0.1 < (plain > 0.5).float().mean() < 0.7
    view = looked(both.trained, aside)
    _, depth = both.picture(view)
    edge = 20.0 * REACH - 25.0  # mm to the right of the camera, where the canvas ends
    reached = 60.0 * (np.arange(CAMERA.width) - CAMERA.cx) / CAMERA.fx < edge - 2
    np.testing.assert_allclose(depth[:, reached], 60.0, atol=3.0)
    optimiser = both.optimiser(0.05)
    target = torch.rand(1, 3, 1, 1, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.2
    seen = torch.from_numpy(np.isfinite(depth))
    for _ in range(60):
        (both.render(view) - target)[..., seen].square().mean().backward()
        optimiser.step()
    assert (both.render(view) - target)[..., seen].abs().mean() < 0.05


def pool_of(view: PreparedView, rgb: torch.Tensor) -> PixelPool:
    """Return one training view whose real pixels are `rgb` (p, 3) uint8."""
    count = len(rgb)
    pose = torch.eye(4)[None, :3]
    cameras = Cameras(torch.tensor([[CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy]]), pose, pose, torch.tensor([0]))
    half, whole = torch.full((count,), 0.01, dtype=torch.half), torch.ones(count, dtype=torch.bool)
    normal = torch.tensor([0, 0, -127], dtype=torch.int8).expand(count, 3).contiguous()
    depth, sure = torch.full((count,), 60.0), torch.ones(count, dtype=torch.half)
    return PixelPool(
        [("left", "1")], cameras, torch.tensor([0, count]), torch.tensor([view.size[1]]),
        rgb, depth, half, half, sure, sure, normal, whole, ~whole,
    )  # fmt: skip


def test_real_pixels_hold_what_they_saw_while_another_view_is_painted(tmp_path: Path) -> None:
    model = toy()
    view, beside = looked(door(model, tmp_path).trained, all_rays()), all_rays(shift_mm=30.0)
    real, _ = door(model, tmp_path).picture(view)
    pool = pool_of(view, torch.from_numpy(real).reshape(-1, 3))
    drift = {}
    for hold in (0.0, 30.0):
        both = door(model, tmp_path, pool)
        painted, generator = looked(both.trained, beside), torch.Generator().manual_seed(0)
        optimiser = both.optimiser(0.02)
        for _ in range(60):
            loss = (both.render(painted) - 0.1).square().mean() + hold * both.real_pixels_loss(256, generator)
            loss.backward()
            optimiser.step()
        drift[hold] = float(np.abs(both.picture(view)[0].astype(float) - real).mean())
    assert drift[30.0] < 0.3 * drift[0.0]
    assert drift[30.0] < 2.5


def finished(tmp_path: Path) -> Path:
    run = tmp_path / "run"
    (run / "nerf").mkdir(parents=True)
    (run / "nerf" / "stamp.json").write_text("{}")
    (run / "nerf" / "field.safetensors").write_bytes(b"weights")
    return run


def test_changed_colours_are_kept_beside_the_run_and_come_back(tmp_path: Path) -> None:
    run = finished(tmp_path)
    both = door(toy(), run)
    view = looked(both.trained, all_rays())
    with torch.no_grad():
        both.model.field.tables[0].normal_(0, 0.3, generator=torch.Generator().manual_seed(0))
    out = run / "novel_view" / "sds"
    both.save(out, {"prior": "warp", "steps": 3})
    record = read_json(out / CHANGE)
    assert (record["prior"], record["changed"]) == ("warp", "colours, not the surface")
    again = door(toy(), run)
    again.restore(out)
    assert torch.equal(again.render(view), both.render(view))
    assert (run / "nerf" / "field.safetensors").read_bytes() == b"weights"
    (run / "nerf" / "field.safetensors").write_bytes(b"trained again")
    with pytest.raises(InputError, match="from another training"):
        again.restore(out)
    with pytest.raises(InputError, match="holds no changed colours"):
        again.restore(run)
    for own in (run, run / "nerf", run / "nerf" / "sds"):
        with pytest.raises(InputError, match="belongs to the run"):
            both.save(own, {})


def test_a_damaged_change_is_refused(tmp_path: Path) -> None:
    run = finished(tmp_path)
    both = door(toy(), run)
    both.save(tmp_path / "out", {})
    (tmp_path / "out" / "colours.safetensors").write_bytes(b"half a file")
    with pytest.raises(InputError, match="cannot be read"):
        both.restore(tmp_path / "out")


def test_a_field_of_one_network_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be changed alone"):
        recolourable(toy("mlp"))
