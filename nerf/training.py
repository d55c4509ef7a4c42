"""The stage `nerf`: fit the field to the training images, from a checkpoint where there is one."""

from __future__ import annotations

import contextlib
import csv
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from nerf.checkpoints import CHECKPOINT, save_checkpoint, start_from, weights_files
from nerf.losses import Losses
from nerf.model import SceneModel, Shape
from nerf.options import NerfOptions as NerfOptions
from nerf.rays import Box
from nerf.refinement import refine_pool
from nerf.trained import save_corrected_poses, save_model
from nerf.trainer import Trainer
from nerf.views import PixelPool, View, cameras_of
from utils.artifacts import save_maps
from utils.devices import choose_device
from utils.errors import InputError, NotApplicable
from utils.scene import Scene, load_poses
from utils.stages import Stage, skipped
from utils.types import FloatArray, Poses

# Nearly parallel eyes share one lamp between them; on a verged rig the lamp starts at the left eye.
SMALL_BASELINE_MM = 20.0
BOX_MARGIN = 0.08
CHUNK = 16384

log = logging.getLogger("specula")


def files(options: NerfOptions) -> list[Path]:
    """Return the files outside the run that the training depends on. Raises InputError where they are missing."""
    return weights_files(Path(options.ft_path)) if options.ft_path else []


def check(options: NerfOptions) -> None:
    """Raise InputError for options that cannot work together."""
    if options.N_samples < 2 or options.N_rand < 1 or options.N_iters < 1:
        raise InputError(
            "the training cannot run with these numbers",
            found=f"N_samples {options.N_samples}, N_rand {options.N_rand}, N_iters {options.N_iters}",
            expected="N_samples of 2 or more, N_rand and N_iters of 1 or more",
            do="correct the configuration",
        )
    if not 0.0 < options.near <= options.far < 1.0:
        raise InputError(
            "--near and --far are no relative half-widths",
            found=f"near {options.near}, far {options.far}",
            expected="0 < near <= far < 1, as shares of the prior's depth (not distances)",
            do="take 0.01 and 0.1, or leave them out",
        )
    whole = (options.depth_refine_period, options.i_print, options.i_weights)
    shares = (options.mask_guide_sample_rate, options.free_samples, options.depth_refine_quantile)
    if min(whole) < 1 or min(shares) < 0.0 or max(shares) > 1.0:
        raise InputError(
            "an interval or a share of the training is out of range",
            found=f"depth_refine_period, i_print, i_weights {whole}; mask_guide_sample_rate, free_samples, "
            f"depth_refine_quantile {shares}",
            expected="intervals of 1 and more, shares between 0 and 1",
            do="correct the configuration",
        )
    hashed = (options.hash_levels, options.hash_log2_rows, options.hash_finest)
    if options.field == "hash" and (options.hash_levels < 1 or not 8 <= options.hash_log2_rows <= 24):
        raise InputError(
            "the hashed grids cannot be made with these numbers",
            found=f"hash_levels, hash_log2_rows, hash_finest {hashed}",
            expected="hash_levels of 1 or more, hash_log2_rows from 8 to 24",
            do="correct the configuration",
        )
    choose_device(options.device)
    files(options)


def run(options: NerfOptions, *, out: Path, scene: Path, poses: Path, prior: Path) -> str:
    """Train and write weights, light, progress and refined priors; `checkpoint.pt` makes it resumable."""
    if skipped(poses):
        raise NotApplicable(f"no field without camera poses ({skipped(poses)})")
    dataset, placed = Scene.load(scene), load_poses(poses)
    device = choose_device(options.device)
    checkpoint = out / CHECKPOINT
    with threads_of_training(options):
        trainer = build_trainer(options, dataset, placed, prior, device)
        if checkpoint.exists():
            _resume(trainer, checkpoint, out)
        elif options.ft_path:
            start_from(trainer, Path(options.ft_path))
        began = time.monotonic()
        first = trainer.step
        last = _train(trainer, out)
        seconds = time.monotonic() - began
    save_model(trainer, out, save_corrected_poses(trainer, placed, _trained_frames(dataset, placed), out))
    checkpoint.unlink(missing_ok=True)
    rate = (trainer.step - first) * options.N_rand / max(seconds, 1e-9)
    return f"{trainer.step} steps, training PSNR {last:.2f} dB, {rate / 1000:.1f} thousand rays/s on {device}"


@contextlib.contextmanager
def threads_of_training(options: NerfOptions) -> Iterator[None]:
    """Take one thread of torch for a surface, whose steps leave torch only small operations, else all."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if options.surface else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def training_views(dataset: Scene, placed: Poses, binocular: bool) -> list[View]:
    """Return the views whose images train the field: training frames with a pose, left or both eyes."""
    sides = dataset.sides if binocular else dataset.sides[:1]
    return [(side, name) for side in sides for name in _trained_frames(dataset, placed)]


def _trained_frames(dataset: Scene, placed: Poses) -> list[str]:
    return [name for name in dataset.train if placed.placed(name)]


def build_trainer(
    options: NerfOptions, dataset: Scene, placed: Poses, prior: Path, device: torch.device
) -> Trainer:
    """Put model, pixels and optimiser together; the same seed gives the same start."""
    views = training_views(dataset, placed, options.train_binocular)
    frames = _trained_frames(dataset, placed)
    if len(frames) < 2:
        raise InputError(
            "too few training frames with a pose",
            found=f"{len(frames)} of {len(dataset.train)}",
            expected="2 or more",
            do="see poses/report.json for the frames that could not be placed",
        )
    cameras = cameras_of(dataset, placed, views, frames)
    pool = PixelPool.load(dataset, cameras, views, prior, (options.near, options.far))
    axes = _mean_axes(np.array([placed.world_from(*view)[:3, :3] for view in views]))
    depth = pool.depth[pool.some]
    reference = float(depth[torch.isfinite(depth) & pool.tissue[pool.some]].median())
    surface = _surface_points(pool)
    box = Box.around(surface, axes, BOX_MARGIN)
    rig = dataset.rig
    between = placed.world_from_right is not None and rig.baseline_mm < SMALL_BASELINE_MM
    lamp = (rig.left_from("right")[:3, 3] / 2) if between else np.zeros(3)
    shape = Shape(
        box=box.to(device),
        cell_mm=reference / max(rig.left.fx, rig.left.fy),
        reference_mm=reference,
        training_positions=tuple(float(dataset.names.index(name)) for name in frames),
        lamp_start_mm=(float(lamp[0]), float(lamp[1]), float(lamp[2])),
    )
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        model = SceneModel(options, options, shape)
    model.field.start_from(box.points(torch.from_numpy(surface).float()))
    return Trainer(options, model, pool, device)


def _surface_points(pool: PixelPool) -> FloatArray:
    """Return about 200,000 points (n, 3) of the prior's surface in the world, mm."""
    usable = torch.isfinite(pool.depth[pool.some]) & pool.tissue[pool.some]
    sure = usable & (pool.confidence[pool.some] > 0)
    inside = torch.nonzero(sure if sure.any() else usable)[:, 0]
    pixels = inside[:: max(len(inside) // 200_000, 1)] * pool.some.step
    rays = pool.rays(pixels)
    return (rays.origins + rays.directions * pool.depth[pixels][:, None]).numpy().astype(float)


def _mean_axes(world_from_cameras: FloatArray) -> FloatArray:
    """Return the rotation (3, 3) nearest to the mean of rotations (n, 3, 3)."""
    u, _, vt = np.linalg.svd(world_from_cameras.sum(0))
    return u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt


def _train(trainer: Trainer, out: Path) -> float:
    """Run the remaining steps; return the PSNR of the last printed window."""
    options, window = trainer.options, []
    psnr = float("nan")
    began, from_step = time.monotonic(), trainer.step
    bar = tqdm(total=options.N_iters, initial=trainer.step, desc="nerf", unit="step")
    try:
        while trainer.step < options.N_iters:
            losses = trainer.advance()
            _require_finite(losses, trainer.step)
            window.append(losses.psnr)
            bar.update()
            if trainer.step % options.i_print == 0 or trainer.step == options.N_iters:
                psnr = float(torch.stack(window).mean())
                window.clear()
                bar.set_postfix_str(f"train PSNR {psnr:.2f} dB")
                rate = (trainer.step - from_step) * options.N_rand / (time.monotonic() - began)
                _write_progress(out, trainer, losses, psnr, rate)
            number = options.refine_round_after(trainer.step)
            if number is not None:
                _refine(trainer, out, number)
            if trainer.step % options.i_weights == 0 and trainer.step < options.N_iters:
                save_checkpoint(trainer, out)
    finally:
        bar.close()
    return psnr


def _require_finite(losses: Losses, step: int) -> None:
    # Looked at rarely: on a GPU every look waits for the device.
    if step % 50 == 0 and not math.isfinite(float(losses.total.detach())):
        raise InputError(
            f"the training diverged at step {step}",
            found="a loss that is not a number",
            expected="a finite loss",
            do="lower --lrate, then run again: the stages before are kept",
        )


def _refine(trainer: Trainer, out: Path, number: int) -> None:
    trainer.take_over_poses()
    change = refine_pool(trainer, CHUNK)
    log.info(
        "nerf: refinement %d: other images judge %.1f %% of the tissue, %.1f %% replaced, median change %.2f %%",
        number,
        100 * change.judged,
        100 * change.replaced,
        100 * change.median_change,
    )
    folder = out / f"refinement{number}"
    for index, (side, name) in enumerate(trainer.pool.views):
        depth = trainer.pool.depth[trainer.pool.view_slice(index)].numpy()
        save_maps(folder, side, name, depth_mm=depth.reshape(-1, int(trainer.pool.widths[index])))


def _resume(trainer: Trainer, checkpoint: Path, out: Path) -> None:
    trainer.restore(torch.load(checkpoint, weights_only=True, map_location="cpu"))
    _cut_progress(out / "train.csv", trainer.step)
    log.info("nerf: resumed at step %d", trainer.step)


def _write_progress(out: Path, trainer: Trainer, losses: Losses, psnr: float, rate: float) -> None:
    path = out / "train.csv"
    new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["step", "psnr_db", "colour_loss", "depth_loss", "learning_rate", "rays_per_s"])
        numbers = (psnr, float(losses.colour), float(losses.depth), trainer.optimiser.param_groups[0]["lr"])
        writer.writerow([trainer.step, *(f"{number:.6g}" for number in numbers), f"{rate:.0f}"])


def _cut_progress(path: Path, step: int) -> None:
    """Drop the lines that were written after the checkpoint: those steps are done again."""
    if path.exists():
        lines = path.read_text().splitlines()
        kept = [line for line in lines[1:] if int(line.split(",")[0]) <= step]
        path.write_text("\n".join([lines[0], *kept]) + "\n")


READS = ("scene", "poses", "prior")
STAGE = Stage("nerf", run, NerfOptions, READS, version=3, files=files, check=check, resumable=True)
