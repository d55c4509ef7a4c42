"""Complete a view: the field's render where tissue was seen, imagination elsewhere, and which is which."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nerf.finished_field import FinishedField
from novel_view.carrying import carry, merged
from novel_view.denoising import Known, sample
from novel_view.imagination import Imagination
from novel_view.targets import Condition, Target
from utils.types import BoolArray, FloatArray

NOTHING, REAL, RENDERED, GENERATED = 0, 1, 2, 3
KEEPS = ("render", "real")


@dataclass(frozen=True)
class Sampling:
    """How the unseen part is sampled: steps, eta of the sampler, what is kept of the seen part, seed.

    `keep` render: all seen pixels are the field's; real: those that an input image shows are that image's.
    """

    steps: int = 30
    eta: float = 1.0
    keep: str = "render"
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Completed:
    """A completed view: `rgb` (h, w, 3) uint8, and what each pixel is, `provenance` (h, w) uint8.

    0 nothing, 1 a pixel of a real image, carried here, 2 rendered from tissue that was seen, 3 generated.
    """

    rgb: NDArray[np.uint8]
    provenance: NDArray[np.uint8]


def complete(
    field: FinishedField, target: Target, chosen: list[Condition], imagination: Imagination, sampling: Sampling
) -> Completed:
    """Return a target whose unseen pixels are sampled from a prior, given the seen ones.

    Args:
        target: of the size that the imagination wants.
        chosen: the input views that it is imagined from.
        imagination: what makes the prior.
        sampling: how.
    """
    prior, conditions = imagination.about(field, target, chosen)
    device = conditions.images.device
    provenance = np.where(target.seen, RENDERED, GENERATED).astype(np.uint8)
    kept = target.rgb.astype(np.float32) / 255.0
    if sampling.keep == "real":
        real, there = merged([carry(field, target, condition) for condition in chosen], target)
        kept[there], provenance[there] = real[there], REAL
    mask = torch.from_numpy(target.seen)[None, None].to(device)
    generator = torch.Generator(device).manual_seed(sampling.seed)
    image = sample(
        prior, conditions, sampling.steps, sampling.eta, generator, Known(as_image(kept).to(device), mask)
    )
    return Completed(as_rgb(image), provenance)


def known_depth(depth_mm: FloatArray, provenance: NDArray[np.uint8]) -> FloatArray:
    """Return depth (h, w) mm with NaN wherever a pixel is not real or rendered from seen tissue."""
    return np.where(measured(provenance), depth_mm, np.nan).astype(np.float32)


def measured(provenance: NDArray[np.uint8]) -> BoolArray:
    """Return (h, w): pixels that show tissue which was seen."""
    return (provenance == REAL) | (provenance == RENDERED)


def as_image(rgb: FloatArray) -> Tensor:
    """Return (1, 3, h, w) in [-1, 1] of an image (h, w, 3) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(2.0 * rgb.transpose(2, 0, 1)[None] - 1.0, np.float32))


def as_rgb(image: Tensor) -> NDArray[np.uint8]:
    """Return (h, w, 3) uint8 of an image (1, 3, h, w) in [-1, 1]."""
    values = (image[0].detach().cpu().numpy().transpose(1, 2, 0) + 1.0) * 127.5
    return np.rint(values.clip(0.0, 255.0)).astype(np.uint8)
