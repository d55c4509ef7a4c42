"""A fixed random set of held-out tissue pixels, and a model's scores on them: PSNR, and depth against truth."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from evaluation.depth_metrics import depth_metrics
from evaluation.image_metrics import psnr, unit_range
from evaluation.options import EvaluationOptions
from evaluation.truth import load_lenses, read_truth
from nerf.guidance import TrainingDepth
from nerf.images import render_rays
from nerf.sampling import Guide, guided_samples, uniform
from nerf.trainer import Trainer
from nerf.views import PixelPool, View, cameras_of
from utils.artifacts import save_maps
from utils.errors import InputError
from utils.scene import Scene
from utils.types import FloatArray, Poses

# (trainer, pool of the test views, its pixels (n,), exposure) to rgb, z-depth in mm and opacity (n, 5).
Render = Callable[[Trainer, PixelPool, Tensor, float], Tensor]
OPAQUE = 0.5  # a ray that is less opaque has met no surface: its depth is unknown, as in the evaluation


@dataclass(frozen=True)
class Scores:
    """Means over the views, as in the evaluation: PSNR of 8-bit colours, dB, and raw depth; NaN: not known."""

    psnr_tissue: float
    psnr_no_highlight: float
    abs_rel: float
    coverage: float


class HeldOut:
    """Pixels of the test views of both eyes, as many of each view, the same for every model."""

    def __init__(
        self, dataset: Scene, placed: Poses, count: int, evaluation: EvaluationOptions | None = None
    ) -> None:
        """Choose about `count` tissue pixels; `evaluation` says where the truth of their depth is.

        Raises InputError where there is no test view to score.
        """
        self.dataset, self.placed = dataset, placed
        self.views: list[View] = [
            (side, name) for side in dataset.sides for name in dataset.test if placed.placed(name)
        ]
        if not self.views:
            raise InputError(
                "nothing is held out",
                found="no test frame with a pose",
                expected="1 or more",
                do="add to test.txt",
            )
        random = np.random.default_rng(0)
        self.pixels = []
        for view in self.views:
            tissue = np.flatnonzero(dataset.masks(*view)[0])
            chosen = random.choice(tissue, min(count // len(self.views), len(tissue)), replace=False)
            self.pixels.append(torch.from_numpy(chosen))
        self.truth_mm = [np.full(len(chosen), np.nan) for chosen in self.pixels]
        if evaluation is not None:
            self.truth_mm = [self._truth_mm(evaluation, index) for index in range(len(self.views))]
        self._pool: PixelPool | None = None

    def _truth_mm(self, evaluation: EvaluationOptions, index: int) -> FloatArray:
        """Return the true depth (n,) of one view's pixels, mm; NaN where it is unknown."""
        truth_mm = read_truth(evaluation, self.dataset, load_lenses(self.dataset.folder), *self.views[index])
        chosen = self.pixels[index].numpy()
        return np.full(len(chosen), np.nan) if truth_mm is None else truth_mm.ravel()[chosen]

    def score(self, trainer: Trainer, render: Render) -> float:
        """Return PSNR on tissue in dB of 8-bit colours, the mean over views as in the evaluation."""
        return self.scores(trainer, render).psnr_tissue

    @torch.no_grad()
    def scores(self, trainer: Trainer, render: Render) -> Scores:
        """Return all scores of a model as it is now."""
        pool = self._pool_for(trainer)
        tissue, no_highlight, depths = [], [], []
        for index, (_, name) in enumerate(self.views):
            pixels = self.pixels[index] + pool.starts[index]
            model, position = trainer.model, float(self.dataset.names.index(name))
            gain = model.exposure.gain_at(position) if model.use_exposure else 1.0
            found = render(trainer, pool, pixels, gain).cpu().double().numpy()
            stored = np.rint(found[:, :3].clip(0.0, 1.0) * 255.0) / 255.0
            recorded, plain = unit_range(pool.rgb[pixels].numpy()), ~pool.highlight[pixels].numpy()
            everywhere = np.ones_like(plain)
            tissue.append(psnr(stored, recorded, everywhere))
            no_highlight += [psnr(stored, recorded, plain)] if plain.any() else []
            depth_mm = np.where(found[:, 4] < OPAQUE, np.nan, found[:, 3])
            depths.append(depth_metrics(depth_mm, self.truth_mm[index], everywhere))
        errors, coverages = ([one[key] for one in depths if key in one] for key in ("abs_rel", "coverage"))
        return Scores(*(_mean(values) for values in (tissue, no_highlight, errors, coverages)))

    def _pool_for(self, trainer: Trainer) -> PixelPool:
        """Return the test views with depth projected from the training views, as it was at the first call."""
        if self._pool is None:
            with tempfile.TemporaryDirectory() as folder:
                self._write_guidance(trainer, Path(folder))
                cameras = cameras_of(self.dataset, self.placed, self.views, [])
                limits = trainer.options.near, trainer.options.far
                self._pool = PixelPool.load(self.dataset, cameras, self.views, Path(folder), limits)
        return self._pool

    def _write_guidance(self, trainer: Trainer, folder: Path) -> None:
        """Write projected depth in the place of the test views' own prior, which has seen their images."""
        pool = trainer.pool
        maps = {
            view: pool.depth[pool.view_slice(index)].numpy().reshape(-1, int(pool.widths[index]))
            for index, view in enumerate(pool.views)
        }
        trained = TrainingDepth(self.dataset, self.placed, maps)
        # What a projection cannot tell is taken to be as at a typical training pixel.
        error, confidence = (float(part.float().nanmedian()) for part in (pool.half_width, pool.confidence))
        for view in self.views:
            depth_mm = trained.guide(view)
            tissue, highlight = self.dataset.masks(*view)
            save_maps(
                folder,
                *view,
                depth_mm=depth_mm,
                error=_like(depth_mm, error),
                confidence=_like(depth_mm, confidence),
                importance=_like(depth_mm, 1.0),
                tissue=tissue,
                highlight=highlight,
            )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _like(depth_mm: FloatArray, value: float) -> FloatArray:
    return np.full(depth_mm.shape, value, np.float32)


def as_product(trainer: Trainer, pool: PixelPool, pixels: Tensor, gain: float) -> Tensor:
    """Render as the stage `render` does: find the surface, then look closely."""
    rays, expected = pool.rays(pixels).to(trainer.device), pool.depth[pixels].to(trainer.device)
    values = render_rays(trainer.model, rays, expected, gain)
    return torch.cat([values[:, :4], values[:, 6:]], dim=1)


def as_trained(trainer: Trainer, pool: PixelPool, pixels: Tensor, gain: float) -> Tensor:
    """Render with the samples that the training takes, without jitter."""
    rays = pool.rays(pixels).to(trainer.device)
    bounds = trainer.model.box.bounds(rays)
    guided, free = trainer.options.sample_counts
    if guided:
        on_host = pool.guide(pixels)
        guide = Guide(*(part.to(trainer.device) for part in (on_host.depth, on_host.sigma, on_host.half_width)))
        z = guided_samples(guide, *bounds, (guided, free), None)
    else:
        z = uniform(*bounds, free, None)
    found = trainer.model.render(rays, z, bounds, torch.full_like(bounds[0], gain))
    return torch.cat([found.rgb, found.geometry.depth[:, None], found.geometry.opacity[:, None]], dim=1)
