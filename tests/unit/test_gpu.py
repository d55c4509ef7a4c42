"""Training and rendering on a GPU: as on the CPU, and without the host waiting for it; drawing there by sums."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nerf.drawing import Drawing
from nerf.images import render_image
from nerf.model import SceneModel, Shape
from nerf.options import NerfOptions
from nerf.rays import Box
from nerf.trainer import Trainer
from nerf.warm_up import DEPTH_MM, SIZE, wall

needs_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]


def trainer(device: str, field: str = "planes") -> Trainer:
    options = NerfOptions(field=field, N_rand=256, N_iters=100, planes_finest=32, hash_finest=32, perturb=0.0)
    points = np.array([[-40.0, -30, DEPTH_MM - 5], [60.0, 30, DEPTH_MM + 5]])
    box = Box.around(points, np.eye(3), 0.1).to(torch.device(device))
    shape = Shape(box, 5.0, DEPTH_MM, (0.0, 1.0, 2.0), (0.0, 0.0, 0.0))
    torch.manual_seed(0)
    return Trainer(options, SceneModel(options, options, shape), wall(), torch.device(device))


@pytest.mark.parametrize("field", ["planes", "hash"])
class TestGpu:
    pytestmark = needs_gpu

    def test_losses_are_those_of_the_cpu(self, field: str) -> None:
        pixels = torch.arange(256) * 7 % len(wall().depth)
        ours = trainer("cuda", field).losses(pixels.cuda())
        theirs = trainer("cpu", field).losses(pixels)
        for name in ("total", "colour", "depth", "psnr"):
            assert float(getattr(ours, name)) == pytest.approx(float(getattr(theirs, name)), rel=1e-3, abs=1e-5)

    def test_training_gets_better_and_never_waits_for_the_gpu(self, field: str) -> None:
        one = trainer("cuda", field)
        first = float(one.advance().total.detach())
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(60):
                last = one.advance()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert float(last.total.detach()) < 0.9 * first

    def test_an_image_is_that_of_the_cpu(self, field: str) -> None:
        known, pool = np.full(SIZE, DEPTH_MM, np.float32), wall()
        ours, theirs = (
            render_image(trainer(device, field).model, pool.cameras, 1, known, known, 1.0, 1024)
            for device in ("cuda", "cpu")
        )
        np.testing.assert_allclose(ours.depth_mm, theirs.depth_mm, rtol=1e-3)
        assert np.abs(ours.rgb.astype(int) - theirs.rgb).max() <= 2


def test_the_draw_by_sums_follows_the_weights_too() -> None:
    weights = torch.zeros(4000)
    weights[1000:2000], weights[2000:3000], weights[3000:3100] = 0.25, 0.5, 1.0
    drawing = Drawing(weights)
    drawing.sums = torch.cumsum(weights, 0, dtype=torch.float64)  # as on a GPU
    drawn = drawing.draw(40_000, torch.Generator().manual_seed(0))
    counts, _ = np.histogram(drawn.numpy(), bins=[0, 1000, 2000, 3000, 3100, 4000])
    np.testing.assert_allclose(counts / 40_000, np.array([0, 250, 500, 100, 0]) / 850, atol=0.01)
    assert counts[0] == counts[4] == 0


def test_the_wall_of_the_warm_up_can_be_learned() -> None:
    one = trainer("cpu")
    first = float(one.advance().total)
    for _ in range(60):
        last = one.advance()
    assert float(last.total) < 0.9 * first
