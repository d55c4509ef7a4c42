"""Distil a view prior into a finished field: unseen parts of views are coloured, real pixels hold the rest."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from tqdm import tqdm

from nerf.distillation import Distillation
from novel_view.imagination import Imagination
from novel_view.sds import Pull, sds_loss
from novel_view.targets import conditions_of, fitted, look
from utils.errors import InputError
from utils.types import Camera, FloatArray

LAST_RATE = 0.05  # the learning rate falls to this share of itself
WIDTH = 96
CHECKED = 8192  # real pixels whose loss tells whether what was seen has changed


@dataclass(frozen=True)
class Distilling:
    """How long and how: `hold` weighs the loss of `rays` real pixels a step against the pull of the prior.

    `width` of the views that are pulled, px, where the prior leaves it open.
    """

    steps: int = 300
    rate: float = 0.02
    hold: float = 20.0
    rays: int = 1024
    width: int = WIDTH
    seed: int = 0
    pull: Pull = field(default_factory=Pull)

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.rate > 0 or not self.hold >= 0 or self.rays < 1 or self.width < 16:
            raise InputError(
                "a field cannot be distilled like this",
                found=f"steps {self.steps}, rate {self.rate}, hold {self.hold}, rays {self.rays}, "
                f"width {self.width}",
                expected="steps and rays from 1, rate above 0, hold from 0, width from 16",
                do="correct the value",
            )


def distil(
    door: Distillation, poses: FloatArray, camera: Camera, imagination: Imagination, asked: Distilling
) -> tuple[float, float]:
    """Pull a field's colours towards what a prior expects of the unseen parts of views.

    Args:
        door: the field, changed in place; its surface stays.
        poses: (n, 4, 4) the views, mm.
        camera: of all of them.
        imagination: what makes the priors.
        asked: steps, rates, weights.

    Returns:
        The colour loss of the same real pixels before and after: what was seen should not have changed.

    Raises:
        InputError: a view that sees nothing of the reconstruction.
    """
    width = min(asked.width, camera.width)
    small = camera.resized(width, max(round(camera.height * width / camera.width), 1))
    small, _ = fitted(small, *imagination.size(small))
    device = door.model.lamp_left.device
    views, free, priors = [], [], []
    for number, pose in enumerate(poses, 1):
        target = look(door.field, str(number), small, pose)
        views.append(door.prepare(small, pose))
        free.append(torch.from_numpy(~target.seen)[None, None].to(device))
        priors.append(imagination.about(door.field, target, conditions_of(door.field, target)))
    generator = torch.Generator(device).manual_seed(asked.seed)
    order, optimiser = np.random.default_rng(asked.seed), door.optimiser(asked.rate)
    before = held(door)
    for step in tqdm(range(asked.steps), desc="sds", unit="step", disable=None):
        optimiser.param_groups[0]["lr"] = asked.rate * LAST_RATE ** (step / asked.steps)
        chosen = int(order.integers(len(views)))
        image = 2.0 * door.render(views[chosen]) - 1.0
        real = door.real_pixels_loss(asked.rays, generator)
        prior, conditions = priors[chosen]
        loss = sds_loss(prior, image, conditions, asked.pull, generator, free[chosen]) + asked.hold * real
        optimiser.zero_grad(set_to_none=False)
        loss.backward()
        optimiser.step()
    return before, held(door)


@torch.no_grad()
def held(door: Distillation) -> float:
    """Return the colour loss of some thousand real pixels, always the same."""
    generator = torch.Generator(door.model.lamp_left.device).manual_seed(0)
    return float(door.real_pixels_loss(CHECKED, generator))
