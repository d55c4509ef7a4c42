"""Train PASMnet on the scene's own pairs: both eyes must show the same surface, no truth enters.

Wang et al., Parallax Attention for Unsupervised Stereo Correspondence Learning, PAMI 2022, section 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stereo_prior.networks.inputs import Framing
from stereo_prior.networks.pasmnet import SIDE_MULTIPLE_PX, PASMnet
from stereo_prior.networks.pasmnet_losses import (
    attention_cycle,
    attention_photometric,
    attention_smoothness,
    photometric,
    smoothness,
    warp,
)
from stereo_prior.pair import Pair
from utils.training import Schedule, run_steps

_SMOOTHNESS_WEIGHT = 0.1


@dataclass(frozen=True, eq=False)
class Example:
    """A framed pair: images (1, 3, h, w), where they may be compared (1, 1, h, w), disparities searched."""

    left: Tensor
    right: Tensor
    usable_left: Tensor
    usable_right: Tensor
    range_px: int

    def to(self, device: torch.device) -> Example:
        """Return the same on a device."""
        tensors = [one.to(device) for one in (self.left, self.right, self.usable_left, self.usable_right)]
        return Example(tensors[0], tensors[1], tensors[2], tensors[3], self.range_px)


def example(pair: Pair) -> Example:
    """Frame a pair; what is no tissue or a highlight is not compared."""
    framing = Framing.of(pair, SIDE_MULTIPLE_PX)
    left, right = framing.images(pair)
    masks = framing.masks(pair.reference.usable, pair.other.usable)
    return Example(left, right, masks[0], masks[1], framing.range_px)


def losses(network: PASMnet, given: Example) -> Tensor:
    """Return the published sum: photometric, 0.1 smoothness, and the attention's three terms."""
    disparity_px, attention = network(given.left, given.right, given.range_px)
    seen = functional.interpolate(attention[-1].valid_left, given.left.shape[-2:])
    weights = (given.usable_left, given.usable_right)
    compared = photometric(given.left, warp(given.right, disparity_px), seen * given.usable_left)
    smooth = _SMOOTHNESS_WEIGHT * smoothness(disparity_px, given.left)
    carried = attention_photometric(given.left, given.right, attention, weights)
    return compared + smooth + carried + attention_cycle(attention) + attention_smoothness(attention)


def train(network: PASMnet, pairs: Sequence[Pair], schedule: Schedule, work: Path) -> None:
    """Train in place; go on from the checkpoint in `work` where there is one, and leave one there.

    Args:
        network: on its device.
        pairs: rectified training pairs, all with the same disparities to search. Each is used from either eye.
        schedule: steps, learning rate, seed.
        work: folder of the checkpoint and of `train.csv`.
    """
    device = next(network.parameters()).device

    def loss_of(step: int) -> Tensor:
        drawn = int(np.random.default_rng((schedule.seed, step)).integers(2 * len(pairs)))
        pair = pairs[drawn // 2]
        return losses(network, example(pair.exchanged() if drawn % 2 else pair).to(device))

    run_steps(network, "pam", loss_of, schedule, work)
