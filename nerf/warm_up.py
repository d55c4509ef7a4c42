"""Compile the kernels of training and rendering in a process of its own, while earlier stages have cores to spare.

`python -m nerf.warm_up planes` does the same at once. Compiled kernels are kept until their sources change.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import torch
from llvmlite import binding

from nerf.images import render_image
from nerf.model import SceneModel, Shape
from nerf.options import NerfOptions
from nerf.rays import Box, Cameras
from nerf.refinement import refine_pool
from nerf.trainer import Trainer
from nerf.views import PixelPool, View
from utils.compiled import cache_folder

ROOT = Path(__file__).resolve().parents[1]
DEPTH_MM, SIZE = 80.0, (24, 32)
log = logging.getLogger("specula")


def start(options: NerfOptions) -> subprocess.Popen[bytes] | None:
    """Start compiling what a training needs, unless that was done or begun before; None where it was.

    The process does not outlive its use: it ends by itself after about half a minute, and what it has not finished
    is compiled where it is needed.
    """
    if not options.surface or (options.device != "cpu" and torch.cuda.is_available()):
        return None
    quiet = subprocess.DEVNULL
    command = [sys.executable, "-m", "nerf.warm_up", options.field]
    try:
        os.close(os.open(_mark(options.field), os.O_CREAT | os.O_EXCL))
        # A session of its own: Ctrl-C on the run does not leave it half done.
        started = subprocess.Popen(
            command, cwd=ROOT, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
        )
    except OSError:
        return None
    log.info("compiling kernels in the background: this is done once")
    return started


def _mark(field: str) -> Path:
    """Return the file that says that compiling has begun: for this version of numba and this processor."""
    made_for = f"{numba.__version__}-{binding.get_host_cpu_name()}"
    return cache_folder() / f"warmed_up_{field}-{made_for}"


def compile_all(field: str) -> None:
    """Train, refine and render a tiny wall, by the code that does it for any scene."""
    options = NerfOptions(field=field, N_rand=64, N_iters=2, planes_finest=16, hash_finest=16, device="cpu")
    pool = wall()
    points = np.array([[-40.0, -30, DEPTH_MM - 5], [60.0, 30, DEPTH_MM + 5]])
    shape = Shape(Box.around(points, np.eye(3), 0.1), 5.0, DEPTH_MM, (0.0, 1.0, 2.0), (0.0, 0.0, 0.0))
    trainer = Trainer(options, SceneModel(options, options, shape), pool, torch.device("cpu"))
    trainer.advance()
    refine_pool(trainer, 1024)
    known = np.full(SIZE, DEPTH_MM, np.float32)
    render_image(trainer.model, pool.cameras, 0, known, known, 1.0, 1024)


def wall() -> PixelPool:
    """Return three views of a wall, 6 mm apart."""
    views: list[View] = [("left", str(number)) for number in range(3)]
    poses = np.tile(np.eye(4, dtype=np.float32)[:3], (len(views), 1, 1))
    poses[:, 0, 3] = 6.0 * np.arange(len(views))
    height, width = SIZE
    lens = torch.tensor([[40.0, 40.0, width / 2, height / 2]]).repeat(len(views), 1)
    world = torch.from_numpy(poses)
    count = len(views) * height * width
    grey = np.random.default_rng(0).integers(0, 256, (count, 1), dtype=np.uint8)
    towards = torch.tensor([0, 0, -127], dtype=torch.int8)
    return PixelPool(
        views=views,
        cameras=Cameras(lens, world, world, torch.arange(len(views))),
        starts=torch.arange(len(views) + 1) * (height * width),
        widths=torch.full((len(views),), width),
        rgb=torch.from_numpy(np.repeat(grey, 3, axis=1)),
        depth=torch.full((count,), DEPTH_MM),
        sigma=torch.full((count,), 0.01, dtype=torch.float16),
        half_width=torch.full((count,), 0.02, dtype=torch.float16),
        confidence=torch.ones(count, dtype=torch.float16),
        importance=torch.ones(count, dtype=torch.float16),
        normal=towards.repeat(count, 1),
        tissue=torch.ones(count, dtype=torch.bool),
        highlight=torch.zeros(count, dtype=torch.bool),
    )


if __name__ == "__main__":
    if hasattr(os, "nice"):
        os.nice(10)
    try:
        compile_all(sys.argv[1])
    except BaseException:
        _mark(sys.argv[1]).unlink(missing_ok=True)
        raise
